"""A small matrix applied along one axis of a large array, in the layout that processors like."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import check_array, check_count, check_shape
from ._full_precision import full_precision


def matmul_along(
    matrix: Float[Array, "rows n"],
    v: Float[Array, "..."],
    axis: int,
    *,
    dtype: DTypeLike | None = None,
) -> Array:
    r"""Multiply one axis of ``v`` by a matrix: :math:`w_{a r b} = \sum_j M_{r j} v_{a j b}`.

    The axes before ``axis`` are the batch of a batched matrix product and those behind it are its
    columns, so that nothing is ever transposed, neither here nor in the derivatives. Under
    `jax.vmap` the mapped axis joins the batch, where JAX alone would put it among the columns and
    copy the whole array twice (on CPU that is four to ten times as slow). That takes a look at
    ``v``, which `jax.linear_transpose` does not allow; `jax.vjp` and `jax.grad` do.

    Parameters
    ----------
    matrix
        The matrix; it pays if it is small beside ``v``.
    v
        Array of any number of axes.
    axis
        The axis of ``v`` that has as many entries as ``matrix`` has columns.
    dtype
        Precision of sums and result, that of the arguments by default: float32 for factors in half
        precision, for instance.

    Returns
    -------
    Array
        ``v`` with ``rows`` entries on that axis.

    Raises
    ------
    ValueError
        If the sizes do not fit.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> matmul_along(jnp.ones((2, 5)), jnp.ones((3, 5, 4)), 1).shape
    (3, 2, 4)
    """
    check_array("v", v)
    check_array("matrix", matrix)
    check_shape("matrix", matrix, ("rows", "columns"))
    axis = check_count("axis", axis, minimum=-v.ndim)
    if not -v.ndim <= axis < v.ndim:
        raise ValueError(f"`axis` must be one of the {v.ndim} axes of `v`, got {axis}.")
    axis = axis % v.ndim
    rows, n = matrix.shape
    before, behind = v.shape[:axis], v.shape[axis + 1 :]
    if v.shape[axis] != n:
        raise ValueError(f"axis {axis} of `v` must have size {n}, got shape {v.shape}.")
    shape = (*before, rows, *behind)
    if not behind and before:
        return _plain(v.reshape(-1, n), matrix.T, dtype).reshape(shape)
    matrix = _mapped_as(v, matrix)
    if before:
        matrix = jnp.broadcast_to(matrix, (math.prod(before), rows, n))
        v = v.reshape(-1, n, math.prod(behind))
    else:
        v = v.reshape(n, -1)
    return _product(matrix, v, dtype).reshape(shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _product(matrix: Array, columns: Array, dtype: DTypeLike | None) -> Array:
    return _plain(matrix, columns, dtype)


@functools.partial(_product.defjvp, symbolic_zeros=True)
def _product_jvp(dtype, primals, tangents):
    """Give the product of rules, so that the derivative in reverse mode is as fast as the value.

    By default it would contract the rows of the matrix as they lie, for which XLA has but a slow
    product on CPU. Here the matrix in it is the transpose of a copy that is transposed once more.
    """
    (matrix, columns), (d_matrix, d_columns) = primals, tangents
    out = _product(matrix, columns, dtype)
    d_out = None
    if not isinstance(d_columns, SymbolicZero):
        turned = lax.optimization_barrier(jnp.swapaxes(matrix, -1, -2))
        d_out = _plain(jnp.swapaxes(turned, -1, -2), d_columns, dtype)
    if not isinstance(d_matrix, SymbolicZero):
        part = _plain(d_matrix, columns, dtype)
        d_out = part if d_out is None else d_out + part
    return out, jnp.zeros_like(out) if d_out is None else d_out


@full_precision
def _plain(matrix: Array, columns: Array, dtype: DTypeLike | None) -> Array:
    return jnp.matmul(matrix, columns, preferred_element_type=dtype)


def _mapped_as(v: Array, matrix: Array) -> Array:
    # The matrix unchanged, but mapped by `jax.vmap` wherever `v` is, which makes the product a
    # batched one. XLA sees that the condition never holds and removes it.
    if v.size == 0:
        return matrix
    first = v[(0,) * v.ndim]
    never = jnp.logical_and(first != first, False)
    return jnp.where(never, jnp.zeros((), matrix.dtype), matrix)
