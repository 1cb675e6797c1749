"""The pseudo-inverse of a symmetric matrix, with unit diagonal, small eigenvalues left out."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float


def symmetric_pseudo_inverse(
    matrix: Float[Array, "n n"], rcond: float | None = None
) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
    """Return the map ``b -> x``; eigenvalues below ``rcond`` times the largest count as zero."""
    if rcond is None:
        rcond = 10 * matrix.shape[0] * float(jnp.finfo(matrix.dtype).eps)
    size = jnp.sqrt(jnp.abs(jnp.diagonal(matrix)))
    size = jnp.where(size > 0, size, 1)
    values, vectors = jnp.linalg.eigh(matrix / size[None, :] / size[:, None])
    kept = jnp.abs(values) > rcond * jnp.max(jnp.abs(values))
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    return lambda b: vectors @ (inverse * (vectors.T @ (b / size))) / size
