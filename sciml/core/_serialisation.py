"""Save a module into a folder and load it again: class, constructor arguments, array leaves.

The constructor rebuilds the structure, without computing anything, and the stored arrays fill it.
Nothing is pickled, and a file cannot make Python import or call what the reader did not offer.
"""

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ._arguments import build_module, classes_in, encode_module, is_extra
from ._folder import read_folder, write_folder
from ._leaves import describe_leaf, is_array_leaf, named_arrays, named_leaves, replace_arrays
from ._types import PathLike

MODULE = "module"
"""Name of the group of arrays, and of the key of config.json, that hold the module."""

KNOWN_KEYS = (MODULE, "versions", "training", "march")


def save(path: PathLike, module: eqx.Module) -> None:
    """Save a module into a folder that `load` reads.

    The folder holds ``config.json`` (class, constructor arguments, versions, a manifest of the
    arrays) and ``arrays-<digest>.npz``. A folder saved before is replaced in one atomic step:
    whoever is interrupted leaves the old module or the new one.

    Parameters
    ----------
    path
        The folder. It is made if needed.
    module
        A module of sciml, or one of your own that keeps every parameter of its ``__init__``
        except ``key`` as an attribute of the same name.

    Raises
    ------
    TypeError
        If ``module`` does not follow that convention or an argument cannot be stored.
    ValueError
        If its constructor, called with these arguments, gives another structure (for instance
        after ``equinox.tree_at`` changed a shape), or ``path`` is a file or a folder whose
        ``config.json`` is from elsewhere.
    OSError
        If writing fails. What was there before is unchanged.

    Examples
    --------
    >>> import tempfile, equinox as eqx, jax, sciml
    >>> class Scale(eqx.Module):
    ...     size: int
    ...     weight: jax.Array
    ...     def __init__(self, size, *, key):
    ...         self.size = size
    ...         self.weight = jax.random.normal(key, (size,))
    >>> model = Scale(3, key=jax.random.key(7))
    >>> folder = tempfile.mkdtemp()
    >>> sciml.save(folder, model)
    >>> bool((sciml.load(folder, classes=(Scale,)).weight == model.weight).all())
    True
    """
    description, arrays = describe_module(module)
    write_folder(path, {MODULE: description, "versions": versions()}, {MODULE: arrays})


def load(path: PathLike, classes: Iterable[type] = (), *, like: PyTree | None = None) -> Any:
    """Load the module that `save`, or a training run, wrote into a folder.

    Parameters
    ----------
    path
        The folder, for instance ``"runs/demo/checkpoint"``.
    classes
        Your own module classes that the file may name. Those of sciml are always known; no
        other class is imported because a file says so.
    like
        A module of the same structure, whose arrays are replaced by the stored ones. Then the
        constructor is not called and ``classes`` is not needed. This is the way for modules that
        do not follow the convention of `save` and were stored by `sciml.train.fit`.

    Returns
    -------
    equinox.Module
        The module, with the dtypes that were saved.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or nothing was saved in it.
    ValueError
        If a file is truncated, altered or foreign, the class is unknown, or the arrays do not fit
        what the constructor makes. The message names the file and the leaf or key.
    """
    config, groups = read_folder(path, (MODULE,), KNOWN_KEYS)
    try:
        if like is None:
            like = _skeleton(_rebuildable(config.get(MODULE)), groups[MODULE], tuple(classes))
        leaves = {name: a for name, a in groups[MODULE].items() if not is_extra(name)}
        difference = _difference_of_leaves(leaves, named_arrays(like))
        if difference:
            raise ValueError(f"the stored arrays do not fit: {difference}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"cannot load {str(Path(path))!r}: {error}") from error
    return replace_arrays(like, groups[MODULE])


def describe_module(module: eqx.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a description in JSON and the arrays, which together rebuild ``module``: checked."""
    if not isinstance(module, eqx.Module):
        raise TypeError(
            f"only Equinox modules can be saved, got {type(module).__name__}. Wrap your arrays in "
            "a class that derives from equinox.Module."
        )
    leaves = named_arrays(module)
    arrays = dict(leaves)
    encoded = encode_module(module, arrays)
    for name, array in arrays.items():
        describe_leaf(name, array)
    rebuilt = _skeleton(encoded, arrays, classes_in(module))
    difference = (
        _difference_of_leaves(leaves, named_arrays(rebuilt))
        or _difference_of_values(named_leaves(module), named_leaves(rebuilt))
        or _difference_of_static(module, rebuilt)
    )
    if difference:
        raise ValueError(
            f"{type(module).__name__} cannot be saved: its constructor, called with the arguments "
            f"it keeps, makes another module ({difference}) Was it changed after construction?"
        )
    return encoded, arrays


def versions() -> dict[str, str]:
    """Return the versions that a saved file records."""
    import sciml

    return {
        "sciml": sciml.__version__,
        "jax": jax.__version__,
        "equinox": eqx.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _rebuildable(encoded: Any) -> Any:
    # Written by training for modules that do not follow the convention.
    if isinstance(encoded, dict) and "reason" in encoded:
        raise ValueError(
            f"its class {encoded.get('class')} cannot be rebuilt from a file. Pass a module of the "
            f"same structure: `load(path, like=model)`. The reason: {encoded['reason']}"
        )
    return encoded


def _skeleton(encoded: Any, arrays: dict[str, Any], classes: Iterable[type]) -> eqx.Module:
    """Build the module with abstract arrays: shapes and dtypes, no numbers and no memory."""
    rest = []

    def build(key: jax.Array) -> PyTree:
        # The arrays are closed over, so that constructors may look at the values of arguments.
        module = build_module(encoded, arrays, classes, key)
        traced, others = eqx.partition(module, lambda leaf: isinstance(leaf, jax.Array))
        rest.append(others)
        return traced

    abstract = jax.eval_shape(build, jax.random.key(0))
    return eqx.combine(abstract, rest[-1])


def _difference_of_leaves(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    for name in stored:
        if name not in wanted:
            return f"the leaf {name!r} has no place in the module."
    for name, leaf in wanted.items():
        if name not in stored:
            return f"the leaf {name!r} is missing."
        have, want = describe_leaf(name, stored[name]), describe_leaf(name, leaf)
        if have.shape != want.shape:
            return f"the leaf {name!r} must have shape {want.shape}, got {have.shape}."
        # The dtype may differ: a module in bfloat16 comes from a constructor that makes float32.
        if (have.kind == "key") != (want.kind == "key"):
            return f"the leaf {name!r} must be of kind {want.kind}, got {have.kind}."
    return ""


def _difference_of_values(ours: dict[str, Any], rebuilt: dict[str, Any]) -> str:
    for name, leaf in ours.items():
        if not is_array_leaf(leaf) and not (name in rebuilt and _equal(leaf, rebuilt[name])):
            return f"{name.lstrip('.')!r} would be {rebuilt.get(name)!r} instead of {leaf!r}."
    return ""


def _difference_of_static(ours: Any, rebuilt: Any, where: str = "") -> str:
    """Compare static fields; the leaves are known to agree."""
    sized = isinstance(ours, tuple | list | dict)
    if type(ours) is not type(rebuilt) or (sized and len(ours) != len(rebuilt)):
        return f"{where!r} would be {rebuilt!r} instead of {ours!r}."
    children: list[tuple[str, Any, Any]] = []
    if isinstance(ours, eqx.Module):
        for field in ours.__dataclass_fields__.values():
            path = f"{where}.{field.name}".lstrip(".")
            a, b = getattr(ours, field.name, None), getattr(rebuilt, field.name, None)
            if field.metadata.get("static", False):
                if not _equal(a, b):
                    return f"{path!r} would be {b!r} instead of {a!r}."
            else:
                children.append((path, a, b))
    elif isinstance(ours, tuple | list):
        pairs = zip(ours, rebuilt, strict=True)
        children = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(pairs)]
    elif isinstance(ours, dict):
        children = [(f"{where}[{k!r}]", v, rebuilt.get(k)) for k, v in ours.items()]
    for path, a, b in children:
        if not is_array_leaf(a) and (difference := _difference_of_static(a, b, path)):
            return difference
    return ""


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    # A function that the constructor defines is a new object at each call, with the same code.
    code = getattr(a, "__code__", None)
    if code is not None and code is getattr(b, "__code__", None):
        return True
    try:
        return type(a) is type(b) and bool(np.all(a == b))
    except ValueError:  # arrays inside containers
        return False
