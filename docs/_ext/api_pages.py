"""API pages: one for each public package, one for each class and function that it re-exports.

The pages are written before Sphinx looks for sources, so a new public name needs no edit here.
"""

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from sphinx.pycode import ModuleAnalyzer

import sciml

_HIDDEN = {"cli"}  # the command line explains itself: `sciml --help`


def write_pages(app, config) -> None:
    """Write ``generated/api/*.rst``, leaving files alone that would not change."""
    folder = Path(app.srcdir) / "generated" / "api"
    folder.mkdir(parents=True, exist_ok=True)
    pages: dict[str, str] = {}
    for found in pkgutil.iter_modules(sciml.__path__):
        if found.ispkg and not found.name.startswith("_") and found.name not in _HIDDEN:
            pages |= _package_pages(importlib.import_module(f"sciml.{found.name}"))
    for stale in set(folder.glob("*.rst")) - {folder / f"{name}.rst" for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _package_pages(package: ModuleType) -> dict[str, str]:
    classes, functions, others = [], [], []
    for name in dir(package):  # some load on first use
        value = getattr(package, name)
        if name.startswith("_") or inspect.ismodule(value):
            continue
        # jaxtyping's aliases are classes too, but not ours; functions under a jax or equinox
        # transformation are objects that wrap one.
        if inspect.isclass(value) and value.__module__.startswith("sciml."):
            classes.append(name)
        elif inspect.isroutine(value) or hasattr(value, "__wrapped__"):
            functions.append(name)
        else:
            others.append(name)

    title = package.__name__
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", ""]
    pages = {}
    for heading, names, directive in (
        ("Classes", classes, "autoclass"),
        ("Functions", functions, "autofunction"),
    ):
        if names:
            rows = [
                (f":py:obj:`~{title}.{n}`", _summary(getattr(package, n).__doc__)) for n in names
            ]
            lines += [heading, "-" * len(heading), "", *_table(rows)]
            lines += [".. toctree::", "   :hidden:", "", *(f"   {title}.{n}" for n in names), ""]
            pages |= {f"{title}.{n}": _stub(title, n, directive) for n in names}
    if others:
        rows = [(f"``{name}``", _attribute_summary(package, name)) for name in others]
        lines += ["Types and constants", "-" * 19, "", *_table(rows)]
    return pages | {title: "\n".join(lines)}


def _stub(package: str, name: str, directive: str) -> str:
    members = "   :members:\n" if directive == "autoclass" else ""
    return f"{name}\n{'=' * len(name)}\n\n.. {directive}:: {package}.{name}\n{members}"


def _table(rows: list[tuple[str, str]]) -> list[str]:
    lines = [".. list-table::", "   :widths: 30 70", ""]
    for left, right in rows:
        lines += [f"   * - {left}", f"     - {right}"]
    return [*lines, ""]


def _summary(docstring: str | None) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(inspect.cleandoc(docstring or "").partition("\n\n")[0].split())


def _attribute_summary(package: ModuleType, name: str) -> str:
    """Return the string that stands below an assignment in the module that defines it."""
    for module_name, module in list(sys.modules.items()):
        if not module_name.startswith(f"{package.__name__}._"):
            continue
        if vars(module).get(name) is getattr(package, name):
            documented = ModuleAnalyzer.for_module(module_name).find_attr_docs()
            if ("", name) in documented:
                return _summary("\n".join(documented["", name]))
    return ""


def _shorten_signature(app, what, name, obj, options, signature, returns):
    """Call JAX's array type by the name that users know."""
    return tuple(
        text and text.replace("jaxlib._jax.Array", "Array") for text in (signature, returns)
    )


def setup(app):
    app.connect("config-inited", write_pages)
    app.connect("autodoc-process-signature", _shorten_signature)
    return {"version": "1", "parallel_read_safe": True}
