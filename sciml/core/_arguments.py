"""Constructor arguments of a module as JSON, and the module made from them again.

The convention: a module keeps every parameter of its ``__init__``, except ``key``, as an
attribute of the same name. What JSON cannot say is an object with one key that starts with ``$``:
``{"$tuple": [...]}``, ``{"$function": "jax.nn.gelu"}``, ``{"$array": ".mean"}`` for an array, which
is stored under that name among the arrays.
"""

import enum
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ._names import class_by_name, function_by_name, name_of_class, name_of_function

_REMEDY = (
    "Arguments of constructors can be None, numbers, strings, tuples, lists, dictionaries with "
    "string keys, enumeration members, dtypes, functions of jax.nn, jax.numpy or sciml, modules, "
    "and arrays."
)
_EXTRA = "argument:"


def is_extra(name: str) -> bool:
    """Return whether a stored array is an argument of the constructor and no leaf of the module."""
    return name.startswith(_EXTRA)


def encode_module(module: eqx.Module, arrays: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Return class and constructor arguments of ``module`` as JSON values.

    Parameters
    ----------
    module
        The module.
    arrays
        The array leaves of the tree that is saved, by path. Arrays that are arguments and not
        leaves (a property of the module, say) are added here.
    where
        The path of ``module`` in that tree.

    Raises
    ------
    TypeError
        If the module does not follow the convention, or an argument cannot be stored.
    """
    cls = type(module)
    arguments = {}
    for name in _parameters(cls):
        if not hasattr(module, name):
            raise TypeError(
                f"{cls.__name__} cannot be saved: its constructor takes {name!r} and does not keep "
                f"it. Every parameter except `key` must be an attribute of the same name."
            )
        path = f"{where}.{name}"
        try:
            arguments[name] = _encode(getattr(module, name), arrays, path)
        except _NotEncodableError as error:
            raise TypeError(
                f"{cls.__name__} cannot be saved: its argument {path.lstrip('.')!r} {error}. "
                f"{_REMEDY}"
            ) from None
    return {"class": name_of_class(cls), "arguments": arguments}


def build_module(
    encoded: Any, arrays: Mapping[str, Any], classes: Iterable[type], key: jax.Array
) -> eqx.Module:
    """Call the constructor that `encode_module` described.

    Raises
    ------
    ValueError
        If the class or a function is unknown, or the arguments do not fit the constructor.
    """
    if not isinstance(encoded, dict) or set(encoded) != {"class", "arguments"}:
        raise ValueError("a module must be described by exactly 'class' and 'arguments'.")
    name, given = encoded["class"], encoded["arguments"]
    if not isinstance(name, str) or not isinstance(given, dict):
        raise ValueError("'class' must be a string and 'arguments' an object.")
    cls = class_by_name(name, classes)
    if not issubclass(cls, eqx.Module):
        raise ValueError(f"{name!r} is not a module.")
    parameters = _parameters(cls)
    for argument in given:
        if argument not in parameters:
            raise ValueError(f"{name} has no argument {argument!r}; it has {sorted(parameters)}.")
    for argument, parameter in parameters.items():
        # An argument that a later version added may be absent if it has a default.
        if argument not in given and parameter.default is inspect.Parameter.empty:
            raise ValueError(f"the argument {argument!r} of {name} is missing.")
    arguments = {k: _decode(v, arrays, classes, key) for k, v in given.items()}
    takes_key = "key" in inspect.signature(cls.__init__).parameters
    try:
        return cls(**arguments, **({"key": key} if takes_key else {}))
    except Exception as error:
        raise ValueError(f"{name} refuses its stored arguments: {error}") from error


def classes_in(value: Any) -> tuple[type, ...]:
    """Return the classes of modules and enumerations that the arguments of a module name."""
    if isinstance(value, enum.Enum):
        return (type(value),)
    found: tuple[type, ...] = ()
    inner: Iterable[Any] = ()
    if isinstance(value, eqx.Module):
        found, inner = (type(value),), (getattr(value, name) for name in _parameters(type(value)))
    elif isinstance(value, tuple | list):
        inner = value
    elif isinstance(value, dict):
        inner = value.values()
    for item in inner:
        found += classes_in(item)
    return tuple(dict.fromkeys(found))


class _NotEncodableError(Exception):
    """Says what the value is; `encode_module` adds where it is."""


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    parameters = dict(list(inspect.signature(cls.__init__).parameters.items())[1:])
    parameters.pop("key", None)
    for parameter in parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(
                f"{cls.__name__} cannot be saved: its constructor takes {parameter}, which cannot "
                "be passed by name."
            )
    return parameters


def _encode(value: Any, arrays: dict[str, Any], where: str) -> Any:
    if value is not None and arrays.get(where) is value:
        return {"$array": where}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        value = value.item()
    if isinstance(value, enum.Enum):
        return {"$enum": [name_of_class(type(value)), value.name]}
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if type(value) is tuple or type(value) is list:
        items = [_encode(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]
        return {"$tuple": items} if type(value) is tuple else items
    if type(value) is dict and all(type(key) is str for key in value):
        items = {key: _encode(item, arrays, f"{where}[{key!r}]") for key, item in value.items()}
        return {"$dict": items}
    if isinstance(value, np.dtype):
        return {"$dtype": value.name}
    if isinstance(value, eqx.Module):
        return {"$module": encode_module(value, arrays, where)}
    if isinstance(value, jax.Array | np.ndarray):
        arrays[_EXTRA + where] = value
        return {"$array": _EXTRA + where}
    if callable(value):
        try:
            return {"$function": name_of_function(value)}
        except TypeError as error:
            raise _NotEncodableError(f"cannot be stored: {error}".rstrip(".")) from None
    raise _NotEncodableError(f"is of type {type(value).__name__}")


def _decode(value: Any, arrays: Mapping[str, Any], classes: Iterable[type], key: jax.Array) -> Any:
    def inner(item: Any) -> Any:
        return _decode(item, arrays, classes, key)

    if isinstance(value, list):
        return [inner(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$tuple": list(items), **rest} if not rest:
            return tuple(inner(item) for item in items)
        case {"$dict": dict(items), **rest} if not rest:
            return {name: inner(item) for name, item in items.items()}
        case {"$array": str(name), **rest} if not rest and name in arrays:
            return arrays[name]
        case {"$float": "inf" | "-inf" | "nan" as number, **rest} if not rest:
            return float(number)
        case {"$dtype": str(name), **rest} if not rest:
            return _decode_dtype(name)
        case {"$function": str(name), **rest} if not rest:
            return function_by_name(name)
        case {"$enum": [str(name), str(member)], **rest} if not rest:
            cls = class_by_name(name, classes)
            if issubclass(cls, enum.Enum) and member in cls.__members__:
                return cls[member]
        case {"$module": encoded, **rest} if not rest:
            return build_module(encoded, arrays, classes, key)
    raise ValueError(f"a stored argument cannot be understood: {str(value)[:200]}.")


def _decode_dtype(name: str) -> np.dtype:
    try:
        return jax.numpy.dtype(name)
    except TypeError:
        raise ValueError(f"unknown dtype {name!r}.") from None
