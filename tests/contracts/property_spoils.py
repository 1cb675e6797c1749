"""Ways to spoil one argument of a call, by what the argument is."""

from collections.abc import Callable
from typing import Any

import numpy as np

_Spoil = tuple[str, Callable[[], Any]]


def spoils_of(value: Any) -> list[_Spoil]:
    """Return the names of the ways to spoil a value, each with a function that does it."""
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if isinstance(value, bool):
        return _values(0, None, "yes", not value)
    if isinstance(value, int):
        return [
            *_values(0, -1, True, value + 1, float(value), value + 0.5, str(value), None),
            ("NaN", lambda: float("nan")),
            ("NumPy integer", lambda: np.int64(value)),
            ("an array", lambda: np.full(2, value)),
        ]
    if isinstance(value, float):
        return [
            *_values(0.0, -value, None, str(value), 1j, True, 1),
            ("NaN", lambda: float("nan")),
            ("infinity", lambda: float("inf")),
            ("NumPy float32", lambda: np.float32(value)),
            ("an array", lambda: np.full(2, value)),
            ("huge", lambda: 1e30 * value),
            ("tiny", lambda: 1e-30 * value),
        ]
    if isinstance(value, tuple):
        return _of_tuple(value)
    return _values(None, "x", 7)


def _values(*values: Any) -> list[_Spoil]:
    return [(repr(value), lambda value=value: value) for value in values]


def _of_tuple(value: tuple) -> list[_Spoil]:
    found: list[_Spoil] = [
        ("empty", lambda: ()),
        ("a list", lambda: list(value)),
        ("one more", lambda: (*value, value[-1]) if value else (1,)),
        ("one less", lambda: value[:-1]),
        ("only one", lambda: value[0] if value else 1),
        *_values(None, "ab"),
    ]
    if value:
        for how, spoiled in spoils_of(value[0]):
            found.append((f"first {how}", lambda spoiled=spoiled: (spoiled(), *value[1:])))
    return found


def _of_array(a: np.ndarray) -> list[_Spoil]:
    found: list[_Spoil] = [
        ("zeros", lambda: np.zeros_like(a)),
        ("as integers", lambda: a.astype(np.int32)),
        ("as booleans", lambda: a.astype(bool)),
        ("as objects", lambda: a.astype(object)),
        ("as strings", lambda: a.astype(str)),
        ("as a list", a.tolist),
        ("an axis more", lambda: a[None]),
        ("strides", lambda: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a),
        ("read-only", lambda: _read_only(a)),
        ("big endian", lambda: a.astype(a.dtype.newbyteorder(">"))),
        *_values(None, "abc", 1.5),
    ]
    if a.ndim:
        found += [
            ("an axis less", lambda: a[0] if a.shape[0] else np.zeros(a.shape[1:], a.dtype)),
            ("empty first axis", lambda: a[:0]),
            ("empty last axis", lambda: a[..., :0]),
            ("one longer", lambda: np.concatenate([a, a[:1]])),
            ("one shorter", lambda: a[:-1]),
            ("size 1", lambda: a[..., :1]),
            ("ragged list", lambda: [a[:1].tolist(), 1.0]),
        ]
    if a.ndim > 1:
        found.append(("axes reversed", lambda: a.T))
    if a.dtype.kind in "fc":
        found += [
            ("NaN", lambda: _with(a, np.nan)),
            ("infinity", lambda: _with(a, np.inf)),
            ("minus infinity", lambda: _with(a, -np.inf)),
            ("NaN everywhere", lambda: np.full_like(a, np.nan)),
            ("huge", lambda: a * a.dtype.type(1e30)),
            ("tiny", lambda: a * a.dtype.type(1e-30)),
            ("negative", lambda: -abs(a)),
            ("as float16", lambda: a.astype(np.float16) if a.dtype.kind == "f" else a),
            ("as float64", lambda: a.astype(np.float64) if a.dtype.kind == "f" else a),
            ("as complex", lambda: a.astype(np.complex64)),
        ]
    if a.dtype.kind in "iu":
        found += [
            ("beyond", lambda: a + 1000),
            ("below", lambda: a - 1000),
            ("as floats", lambda: a.astype(np.float32)),
            ("as int64", lambda: a.astype(np.int64)),
        ]
    return found


def _with(a: np.ndarray, value: float) -> np.ndarray:
    spoiled = a.copy()
    if spoiled.size:
        spoiled.flat[spoiled.size // 2] = value
    return spoiled


def _read_only(a: np.ndarray) -> np.ndarray:
    spoiled = a.copy()
    spoiled.setflags(write=False)
    return spoiled
