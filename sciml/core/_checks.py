"""Checks of what users pass in: each error says which argument, what was expected, what came."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh


def check_positive(name: str, value: Any, *, unit: str = "") -> None:
    """Raise ``ValueError`` unless ``value`` is a finite real number above zero.

    Traced values pass: they have no value to look at.

    Parameters
    ----------
    name
        How the caller calls the value.
    value
        A Python number or a NumPy or JAX scalar.
    unit
        The physical unit, named in the error.

    Raises
    ------
    TypeError
        If ``value`` is not a real number (a boolean, an array with axes, a string).
    """
    number = _concrete_number(name, value)
    if number is not None and not (np.isfinite(number) and number > 0):
        suffix = f" {unit}" if unit else ""
        raise ValueError(f"`{name}` must be positive and finite{suffix}, got {number!r}.")


def check_non_negative(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite real number, zero or above.

    Parameters
    ----------
    name
        How the caller calls the value.
    value
        A Python number or a NumPy or JAX scalar. Traced values pass.

    Raises
    ------
    TypeError
        If ``value`` is not a real number.
    """
    number = _concrete_number(name, value)
    if number is not None and not (np.isfinite(number) and number >= 0):
        raise ValueError(f"`{name}` must be zero or positive, and finite; got {number!r}.")


def check_real(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is a finite real number, of any sign.

    Parameters
    ----------
    name
        How the caller calls the value.
    value
        A Python number or a NumPy or JAX scalar. Traced values pass.

    Raises
    ------
    TypeError
        If ``value`` is not a real number.
    """
    number = _concrete_number(name, value)
    if number is not None and not np.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number, got {number!r}.")


def check_count(name: str, value: Any, *, minimum: int = 1) -> int:
    """Return ``value`` as an ``int``; raise unless it is an integer of at least ``minimum``.

    Parameters
    ----------
    name
        How the caller calls the number.
    value
        A Python or NumPy integer.
    minimum
        The least value that passes.

    Raises
    ------
    TypeError
        If ``value`` is not an integer (booleans are refused too).
    ValueError
        If it is smaller than ``minimum``.
    """
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be an integer, got the boolean {value!r}.")
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
        ) from None
    if count < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {count}.")
    return count


def check_flags(name: str, flags: Any, n: int | None = None) -> tuple[bool, ...]:
    """Return a boolean of each axis; raise for anything else.

    Words and numbers are refused: ``"no"`` would count as true.

    Parameters
    ----------
    name
        How the caller calls them.
    flags
        A sequence or an array of booleans.
    n
        How many there must be; at least one if left out.

    Raises
    ------
    TypeError
        If it is no sequence of booleans.
    ValueError
        If there are more or fewer.
    """
    found = np.asarray(flags).tolist() if isinstance(flags, np.ndarray | jax.Array) else flags
    found = tuple(found) if np.iterable(found) else (None,)
    if not all(isinstance(flag, bool | np.bool_) for flag in found):
        raise TypeError(f"`{name}` must hold a boolean of each axis, got {flags!r}.")
    if len(found) != n if n is not None else not found:
        wanted = "at least one boolean" if n is None else f"{n} booleans, one of each axis"
        raise ValueError(f"`{name}` must hold {wanted}, got {flags!r}.")
    return tuple(bool(flag) for flag in found)


def check_mesh(mesh: Any) -> Mesh:
    """Return the mesh of devices that the user passed as ``mesh``, with axes of the type Auto.

    Whatever their types were: XLA is to find out how inner arrays lie.

    Parameters
    ----------
    mesh
        What the user passed.

    Raises
    ------
    TypeError
        If it is none.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"`mesh` must be a mesh of devices (`jax.make_mesh`), got {type(mesh).__name__}."
        )
    return Mesh(mesh.devices, mesh.axis_names)


def check_array(name: str, array: Any) -> None:
    """Raise ``TypeError`` unless ``array`` is a NumPy or JAX array of numbers that JAX can take.

    Traced arrays pass. For functions that go on to ask for ``ndim`` and ``dtype``: lists, None and
    strings would end there in errors that name nothing.

    Parameters
    ----------
    name
        How the caller calls the array.
    array
        What came.
    """
    if not (hasattr(array, "shape") and hasattr(array, "dtype")):
        raise TypeError(
            f"`{name}` must be an array, got {type(array).__name__}. "
            "Convert it first, for instance with `jax.numpy.asarray`."
        )
    _check_dtype(name, array.dtype)


def check_not_traced(name: str, value: Any, what: str) -> None:
    """Raise ``TypeError`` if ``value`` is a tracer: for functions that read it on the host.

    JAX's own error says which line read the value, and not that the function always does.

    Parameters
    ----------
    name
        How the caller calls the value.
    value
        What came: an array, or a tree of them.
    what
        What is done on the host: ``"a dataset is made"``.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
        raise TypeError(
            f"`{name}` is traced, but {what} on the host: do it outside `jax.jit`, `jax.vmap` and "
            "`jax.grad`."
        )


def check_shape(name: str, array: Any, expected: Sequence[int | str]) -> dict[str, int]:
    """Raise ``ValueError`` unless ``array`` has the expected shape; return the named sizes.

    Parameters
    ----------
    name
        How the caller calls the array.
    array
        Anything with a ``shape``.
    expected
        One entry an axis: an integer fixes the size; a string names it, and equal names must
        have equal sizes.

    Examples
    --------
    >>> import numpy as np
    >>> check_shape("u", np.zeros((2, 8, 8)), ("channel", "x", "x"))
    {'channel': 2, 'x': 8}
    """
    shape = tuple(array.shape) if hasattr(array, "shape") else _as_array(name, array).shape
    wanted = "(" + ", ".join(str(e) for e in expected) + ")"
    if len(shape) != len(expected):
        raise ValueError(
            f"`{name}` must have {len(expected)} axes {wanted}, got shape {shape} "
            f"with {len(shape)}."
        )
    sizes: dict[str, int] = {}
    for axis, (size, want) in enumerate(zip(shape, expected, strict=True)):
        known = sizes.setdefault(want, size) if isinstance(want, str) else want
        if size != known:
            label = f"`{want}` = {known}" if isinstance(want, str) else str(known)
            raise ValueError(
                f"axis {axis} of `{name}` must have size {label} (expected {wanted}), "
                f"got shape {shape}."
            )
    return sizes


def check_floating(name: str, array: Any) -> None:
    """Raise ``TypeError`` unless ``array`` holds real floating-point numbers.

    Traced arrays are checked too: their dtype is known.

    Parameters
    ----------
    name
        How the caller calls the array.
    array
        A JAX or NumPy array, or what NumPy makes one of.
    """
    dtype = array.dtype if hasattr(array, "dtype") else _as_array(name, array).dtype
    # jax's question rather than `dtype.kind`: bfloat16 and its kin have the kind "V" in NumPy.
    if not jnp.issubdtype(dtype, jnp.floating):
        hint = ""
        if jnp.issubdtype(dtype, jnp.complexfloating):
            hint = " Pass real and imaginary parts as two channels."
        elif jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_):
            hint = f" Convert it first, for instance with `{name}.astype('float32')`."
        raise TypeError(f"`{name}` must be real floating-point, got dtype {dtype}.{hint}")
    _check_dtype(name, dtype)


def check_finite(name: str, array: Any) -> None:
    """Raise ``ValueError`` naming the first NaN or infinity of ``array``.

    A traced array passes: its entries are known only at run time.

    Parameters
    ----------
    name
        How the caller calls the array.
    array
        A JAX or NumPy array, or what NumPy makes one of.

    Raises
    ------
    TypeError
        If ``array`` does not hold numbers.
    """
    values = _concrete_array(name, array)
    if values is None:
        return
    if not (jnp.issubdtype(values.dtype, jnp.number) or values.dtype == np.bool_):
        raise TypeError(f"`{name}` must hold numbers, got dtype {values.dtype}.")
    bad = ~np.isfinite(values)
    if bad.any():
        where = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
        raise ValueError(
            f"`{name}` has {int(bad.sum())} non-finite entries of {values.size}; "
            f"the first is {values[where]} at index {where}."
        )


def check_key(key: Any) -> None:
    """Raise ``TypeError`` unless ``key`` is one typed PRNG key, as ``jax.random.key`` makes it.

    Parameters
    ----------
    key
        What the caller got as ``key``. Traced keys are checked too.

    Raises
    ------
    TypeError
        If it is an integer, a key of the old style, or several keys.
    """
    is_key = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_key or key.ndim:
        raise TypeError(
            f"`key` must be a typed key, as jax.random.key(seed) makes it; got {key!r}."
        )


def _check_dtype(name: str, dtype: Any) -> None:
    if not isinstance(dtype, np.dtype):  # a typed key, for instance: JAX's own
        return
    if dtype.kind not in "fciubV":  # "V": bfloat16 and its kin
        raise TypeError(f"`{name}` must hold numbers, got dtype {dtype}.")
    if not dtype.isnative:
        raise TypeError(
            f"`{name}` has dtype {dtype}, whose bytes are in the order of another machine. Convert "
            f"it first, for instance with `{name}.astype('{dtype.newbyteorder('=')}')`."
        )


def _as_array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # lists of different lengths
        kind = type(value).__name__
        raise TypeError(f"`{name}` must be an array, got a ragged {kind}.") from None


def _concrete_number(name: str, value: Any) -> float | None:
    array = _concrete_array(name, value)
    if array is None:
        return None
    is_real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if array.ndim != 0 or not is_real:
        raise TypeError(f"`{name}` must be a real number, got {value!r}.")
    return float(array)


def _concrete_array(name: str, value: Any) -> np.ndarray | None:
    return None if isinstance(value, Tracer) else _as_array(name, value)
