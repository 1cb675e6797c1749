"""What the docstrings of all public names must say, and what must be cited."""

import enum
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable

import pytest

import sciml
from sciml.core import citation


def _public() -> dict[int, tuple[str, object]]:
    """Return the public classes and functions by identity: an alias is tested once."""
    found = {}
    for package in pkgutil.iter_modules(sciml.__path__):
        if not package.ispkg or package.name == "cli":
            continue
        module = importlib.import_module(f"sciml.{package.name}")
        for name in dir(module):  # some load on first use
            value = getattr(module, name)
            is_api = inspect.isclass(value) or inspect.isfunction(value)
            if is_api and not name.startswith("_") and value.__module__.startswith("sciml."):
                found[id(value)] = (f"{package.name}.{name}", value)
    return found


PUBLIC = [pytest.param(value, id=name) for name, value in _public().values()]
CLASSES = [parameter for parameter in PUBLIC if inspect.isclass(parameter.values[0])]
each = pytest.mark.parametrize("value", PUBLIC)


def _parameters(function: Callable) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def _documented(docstring: str, section: str) -> list[str]:
    """Return the names that a numpydoc section describes."""
    found = re.search(rf"^{section}\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)", docstring, re.S | re.M)
    if found is None:
        return []
    names = [line for line in found.group(1).splitlines() if line and not line.startswith(" ")]
    return [n.lstrip("*").strip() for line in names for n in line.partition(" : ")[0].split(",")]


@each
def test_docstring(value):
    docstring = inspect.getdoc(value)
    assert docstring, "no docstring"
    assert docstring.splitlines()[0].endswith((".", ":")), "the first line is no sentence"
    if inspect.isfunction(value):
        parameters = _parameters(value)
        sections = ["Parameters"]
    elif issubclass(value, enum.Enum | BaseException) or inspect.isabstract(value):
        return
    else:
        parameters = [n for n in _parameters(value.__init__) if n not in ("args", "kwargs")]
        # Records that users read describe attributes, what users build describes parameters.
        sections = ["Parameters", "Attributes"]
    described = [name for section in sections for name in _documented(docstring, section)]
    assert [name for name in parameters if name not in described] == []


@pytest.mark.parametrize("cls", CLASSES)
def test_methods_have_docstrings(cls):
    for name, member in vars(cls).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if name.startswith("_") and name != "__call__":
            continue
        if inspect.isfunction(function) and not _is_protocol(cls):
            assert inspect.getdoc(getattr(cls, name)), f"{cls.__name__}.{name} has no docstring"


def _is_protocol(cls: type) -> bool:
    return getattr(cls, "_is_protocol", False)


@each
def test_a_method_from_a_paper_has_its_citation(value):
    if re.search(r"^References\n-+$", inspect.getdoc(value) or "", re.M):
        assert citation(value).startswith("@")
