"""Pseudo-inverses of the symmetric matrices that least squares leads to."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class PseudoInverse(NamedTuple):
    """The map ``b -> x``, and what the matrix is like.

    ``is_singular`` says whether more than columns of zeros was left out, ``is_definite`` that no
    eigenvalue that was not is negative.
    """

    solve: Callable[[Float[Array, " n"]], Float[Array, " n"]]
    is_singular: Bool[Array, ""]
    is_definite: Bool[Array, ""]


def symmetric_pseudo_inverse(
    matrix: Float[Array, "n n"], rcond: float | None = None
) -> PseudoInverse:
    """Invert, after scaling to a unit diagonal.

    Eigenvalues below ``rcond`` times the largest are left out.
    """
    if rcond is None:
        rcond = 10 * matrix.shape[0] * float(jnp.finfo(matrix.dtype).eps)
    size = jnp.sqrt(jnp.abs(jnp.diagonal(matrix)))
    size = jnp.where(size > 0, size, 1)
    inverse, kept, is_definite = _eigen_inverse(matrix / size[None, :] / size[:, None], rcond)
    dead = jnp.all(matrix == 0, axis=0)
    is_singular = jnp.sum(kept) < jnp.sum(~dead)
    return PseudoInverse(lambda b: inverse(b / size) / size, is_singular, is_definite)


def triangle_pseudo_inverse(
    triangle: Float[Array, "n n"], curvature: Float[Array, "n n"], rcond: float | None = None
) -> PseudoInverse:
    r"""Do the same for :math:`R^T R + S`, without forming it.

    In the sum, singular values of :math:`R` below the root of round-off would be lost. Here
    :math:`R = U \Sigma V^T` with unit columns, and :math:`\Sigma^2 + V^T S V` is scaled to a
    unit diagonal before it is inverted. What is left out is below round-off of :math:`R` itself,
    or below that of :math:`S`, or, of the whole, below ``rcond`` times the largest.
    """
    n = triangle.shape[0]
    norms = jnp.sqrt(jnp.sum(triangle**2, axis=0))
    dead = (norms == 0) & jnp.all(curvature == 0, axis=0)
    norms = jnp.where(norms > 0, norms, jnp.sqrt(jnp.abs(jnp.diagonal(curvature))))
    norms = jnp.where(norms > 0, norms, 1)
    _, values, right = jnp.linalg.svd(triangle / norms[None, :])
    bent = right @ (curvature / norms[None, :] / norms[:, None]) @ right.T
    unit = 10 * n * float(jnp.finfo(triangle.dtype).eps)
    resolved = unit * jnp.max(jnp.abs(bent))
    own = jnp.abs(jnp.diagonal(bent))
    square = jnp.where(values > unit * values[0], values, 0) ** 2
    diagonal = jnp.maximum(square, jnp.where(own > resolved, own, 0))
    least = resolved if rcond is None else jnp.maximum(resolved, rcond * jnp.max(diagonal))
    counts = diagonal > least
    scale = jnp.where(counts, 1 / jnp.sqrt(jnp.where(counts, diagonal, 1)), 0)
    inner = (jnp.diag(square) + bent) * scale[:, None] * scale[None, :]
    inverse, kept, is_definite = _eigen_inverse(inner, unit)

    def solve(b):
        return right.T @ (scale * inverse(scale * (right @ (b / norms)))) / norms

    return PseudoInverse(solve, jnp.sum(kept) < jnp.sum(~dead), is_definite)


def _eigen_inverse(matrix, rcond):
    values, vectors = jnp.linalg.eigh(matrix)
    kept = jnp.abs(values) > rcond * jnp.max(jnp.abs(values))
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    return lambda b: vectors @ (inverse * (vectors.T @ b)), kept, ~jnp.any(kept & (values < 0))
