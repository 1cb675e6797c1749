"""Public dotted names of classes and functions, and the way back without importing strangers.

A saved file names a class such as ``sciml.neural_operators.SpatiotemporalFNO``. Only public names
of sciml's own packages, the classes that the caller passes, and functions of `jax.nn` and
`jax.numpy` are looked up: no file makes Python import anything else.
"""

import enum
import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

_PUBLIC_NAME = re.compile(r"sciml\.[a-z][a-z0-9_]*\.[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_FUNCTIONS = {"jax.nn": jax.nn, "jax.numpy": jnp}


def name_of_class(cls: type) -> str:
    """Return the name by which a file refers to ``cls``: the public one for a class of sciml.

    Raises
    ------
    TypeError
        If ``cls`` belongs to sciml and its package does not export it.
    """
    if cls.__module__.partition(".")[0] != "sciml":
        return f"{cls.__module__}.{cls.__qualname__}"
    name = f"{_package(cls)}.{cls.__qualname__}"
    if _public(name) is not cls:
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__} is private to sciml; `load` would "
            "not find it again."
        )
    return name


def class_by_name(name: str, classes: Iterable[type]) -> type:
    """Return the class called ``name``: one of ``classes``, or a public one of sciml.

    Raises
    ------
    ValueError
        If there is none.
    """
    for cls in classes:
        if name_of_class(cls) == name:
            return cls
    cls = _public(name)
    if isinstance(cls, type) and issubclass(cls, eqx.Module | enum.Enum):
        return cls
    if name.startswith("sciml."):
        raise ValueError(f"sciml has no public class {name!r}; a newer version may have it.")
    last = name.rpartition(".")[2]
    alike = [name_of_class(cls) for cls in classes if cls.__name__ == last]
    if alike:
        raise ValueError(
            f"unknown class {name!r}: the one passed is {alike[0]!r}, of another module. Pass the "
            "one that was saved, or load with `like=model`."
        )
    raise ValueError(
        f"unknown class {name!r}. Classes from outside sciml must be passed: "
        f"`load(path, classes=({last},))`; the command line cannot."
    )


def name_of_function(function: Callable) -> str:
    """Return the dotted name of a function of `jax.nn`, `jax.numpy` or a package of sciml.

    Raises
    ------
    TypeError
        If it has none, as lambdas, partial applications and functions from elsewhere.
    """
    name = getattr(function, "__name__", "")
    for namespace, module in _FUNCTIONS.items():
        if getattr(module, name, None) is function:
            return f"{namespace}.{name}"
    public_name = f"{_package(function)}.{name}"
    if _public(public_name) is function:
        return public_name
    raise TypeError(
        f"{function!r} is not a function that jax.nn, jax.numpy or sciml export under its name."
    )


def function_by_name(name: str) -> Callable:
    """Return the function called ``name``; see `name_of_function`.

    Raises
    ------
    ValueError
        If there is none, or the name is not in the list of places to look.
    """
    namespace, _, last = name.rpartition(".")
    if namespace in _FUNCTIONS and re.fullmatch(r"[A-Za-z]\w*", last, re.ASCII):
        function = getattr(_FUNCTIONS[namespace], last, None)
    else:
        function = _public(name)
    if not callable(function) or isinstance(function, type):
        raise ValueError(
            f"unknown function {name!r}; only functions of jax.nn, jax.numpy and sciml are loaded."
        )
    return function


def _public(name: str) -> Any:
    """Return what sciml exports as ``sciml.<package>.<name>``, or None."""
    if not _PUBLIC_NAME.fullmatch(name):
        return None
    package, _, last = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(package), last, None)
    except ModuleNotFoundError:
        return None
    # A package's namespace also shows what it imported; only what sciml defines counts.
    return found if _package(found).partition(".")[0] == "sciml" else None


def _package(thing: Any) -> str:
    """Return the package that exports ``thing``: its module without the private file name."""
    return str(getattr(thing, "__module__", "")).partition("._")[0]
