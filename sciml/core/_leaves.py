"""Arrays of a pytree by name, and the form in which each goes into a file.

A leaf is named by its path in the tree, for instance ``.blocks[0].weight``. Three kinds are told
apart, since each comes back as what it was: ``jax`` arrays, ``numpy`` arrays, and typed PRNG
``key`` arrays, which are stored by their ``key_data``.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ._precision import float64_enabled

# A file may name these dtypes and no other: no object arrays, strings or records.
_NATIVE = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
# The npy format has no name for these; their bits are stored as unsigned integers.
_BITS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
_NEEDS_X64 = ("float64", "int64", "uint64", "complex128")
_DTYPES = {name: jnp.dtype(name) for name in (*_NATIVE, *_BITS)}


class LeafRecord(NamedTuple):
    """What the manifest says about one array.

    Attributes
    ----------
    shape
        The shape; of a key array, that of the keys and not of their data.
    dtype
        The name of the dtype; of a key array, of its implementation, such as ``threefry2x32``.
    kind
        ``"jax"``, ``"numpy"`` or ``"key"``.
    """

    shape: tuple[int, ...]
    dtype: str
    kind: str


def is_array_leaf(leaf: Any) -> bool:
    """Return whether ``leaf`` is an array, or stands for one as `jax.eval_shape` makes it."""
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | np.ndarray | np.generic)


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Return every leaf of ``tree``, arrays and others, by its path."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in flat}
    if len(leaves) != len(flat):
        raise ValueError("two leaves of the tree have the same path; they cannot be told apart.")
    return leaves


def named_arrays(tree: PyTree) -> dict[str, Any]:
    """Return the array leaves of ``tree`` by their path."""
    return {name: leaf for name, leaf in named_leaves(tree).items() if is_array_leaf(leaf)}


def replace_arrays(tree: PyTree, arrays: dict[str, Any]) -> PyTree:
    """Return ``tree`` with each array leaf replaced by the one of the same name."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays[jax.tree_util.keystr(path)] if is_array_leaf(leaf) else leaf,
        tree,
    )


def describe_leaf(name: str, leaf: Any) -> LeafRecord:
    """Return the record of one array.

    Raises
    ------
    TypeError
        If its dtype cannot be stored.
    """
    shape = tuple(int(size) for size in leaf.shape)
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return LeafRecord(shape, _key_implementation(leaf), "key")
        kind = "jax"
    else:
        kind = "numpy"
    dtype = np.dtype(leaf.dtype)
    if dtype.name not in _DTYPES:
        raise TypeError(f"the array {name!r} has dtype {dtype}, which cannot be stored.")
    return LeafRecord(shape, dtype.name, kind)


def to_raw(leaf: Any) -> np.ndarray:
    """Return the NumPy array that is written for ``leaf``: its numbers, or their bits."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf, order="C")
    if array.dtype.name in _BITS:
        return array.view(_BITS[array.dtype.name])
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def raw_layout(name: str, record: LeafRecord) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and dtype that the stored array of ``record`` must have.

    Raises
    ------
    ValueError
        If the record names a dtype or a key implementation that is not known, or, for numbers of
        64 bits, if JAX is not set to keep them.
    """
    if record.kind == "key":
        try:
            data = jax.eval_shape(lambda: jax.random.key_data(_example_key(record.dtype)))
        except ValueError:
            raise ValueError(
                f"leaf {name!r}: unknown key implementation {record.dtype!r}."
            ) from None
        return record.shape + data.shape, np.dtype(data.dtype)
    if record.dtype not in _DTYPES:
        raise ValueError(
            f"leaf {name!r}: unknown dtype {record.dtype!r}; known are {', '.join(_DTYPES)}."
        )
    if record.kind == "jax" and record.dtype in _NEEDS_X64 and not float64_enabled():
        raise ValueError(
            f"leaf {name!r} is stored in {record.dtype}, and JAX keeps 32 bits now. Turn 64 bits "
            "on with `jax.config.update('jax_enable_x64', True)` before loading, set the "
            "environment variable JAX_ENABLE_X64=1, or load inside `with jax.enable_x64(True):`."
        )
    return record.shape, np.dtype(_BITS.get(record.dtype, record.dtype))


def from_raw(array: np.ndarray, record: LeafRecord) -> Any:
    """Return the array that `to_raw` was given."""
    if record.kind == "key":
        return jax.random.wrap_key_data(jnp.asarray(array), impl=record.dtype)
    if record.dtype in _BITS:
        array = array.view(_DTYPES[record.dtype])
    # A copy: jnp.asarray may alias NumPy's memory, which donation would then hand to XLA.
    return jnp.array(array) if record.kind == "jax" else array


def n_bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the size of an array in bytes, as an exact integer however large it is."""
    return math.prod(shape) * dtype.itemsize


def _example_key(implementation: str) -> jax.Array:
    return jax.random.key(0, impl=implementation)


def _key_implementation(key: Any) -> str:
    for name in ("threefry2x32", "rbg", "unsafe_rbg"):
        if jax.eval_shape(lambda name=name: _example_key(name)).dtype == key.dtype:
            return name
    raise TypeError(f"a key array has dtype {key.dtype}, whose implementation is not known.")
