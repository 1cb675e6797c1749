r"""Exact linear conditions :math:`C w = d`, eliminated by the null space of :math:`C`.

The null space is that of the singular value decomposition, taken as a constant and projected:
:math:`Z = (I - C^+ C) Z_0` satisfies :math:`C Z = 0` for every :math:`C` near by, so that
derivatives with respect to :math:`C` are right although those of :math:`Z_0` are not formed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class LinearConditions(NamedTuple):
    """Rows of unit length, and the factors of their constant copy."""

    matrix: Float[Array, "p n"]
    target: Float[Array, " p"]
    left: Float[Array, "p k"]
    inverse: Float[Array, " k"]
    null_space: Float[Array, "n n"]
    is_free: Bool[Array, " n"]

    def least_norm(self, b: Float[Array, " p"]) -> Float[Array, " n"]:
        """Return the shortest ``x`` with ``C x = b``; in the sense of least squares if none."""

        def solve(matvec, right):
            def once(r):
                return self.left @ (self.inverse**2 * (self.left.T @ r))

            found = once(right)
            return found + once(right - matvec(found))

        multipliers = jax.lax.custom_linear_solve(
            lambda v: self.matrix @ (self.matrix.T @ v), b, solve, symmetric=True
        )
        return self.matrix.T @ multipliers

    def correct(self, w: Float[Array, " n"]) -> Float[Array, " n"]:
        """Return the nearest point that satisfies the conditions."""
        return w + self.least_norm(self.target - self.matrix @ w)

    def projected_null_space(self) -> Float[Array, "n n"]:
        """Return columns that span the null space; the others are zero."""
        start = jnp.where(self.is_free[None, :], self.null_space, 0)
        lift = jax.vmap(self.least_norm, in_axes=1, out_axes=1)
        return start - lift(self.matrix @ start)

    def defect(self, w: Float[Array, " n"], rows: Float[Array, " p"]) -> Float[Array, ""]:
        """Return the largest row of the residual, over the size of the terms in it."""
        size = jnp.abs(self.matrix) @ jnp.abs(w) + jnp.abs(self.target)
        return jnp.max(jnp.abs(rows) / jnp.where(size > 0, size, 1), initial=0.0)


def linear_conditions(
    matrix: Float[Array, "p n"], target: Float[Array, " p"]
) -> tuple[LinearConditions, Float[Array, " p"]]:
    """Factor conditions; return them with the lengths that divided their rows."""
    p, n = matrix.shape
    length = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(matrix**2, axis=1)))
    length = jnp.where(length > 0, length, 1)
    matrix, target = matrix / length[:, None], target / length
    left, values, right = jnp.linalg.svd(jax.lax.stop_gradient(matrix), full_matrices=True)
    k = min(p, n)
    kept = values > 10 * max(p, n) * jnp.finfo(matrix.dtype).eps * jnp.max(values, initial=0.0)
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    is_free = jnp.concatenate([~kept, jnp.ones(n - k, bool)])
    return LinearConditions(matrix, target, left[:, :k], inverse, right.T, is_free), length


def whitening(
    gram: Float[Array, "n n"], null_space: Float[Array, "n n"]
) -> tuple[Float[Array, "n n"], Int[Array, ""]]:
    """Return combinations of the columns that are orthonormal in ``gram``, and how many there are.

    Those at round-off are left out: their columns are zero.
    """
    inner = null_space.T @ gram @ null_space
    values, vectors = jnp.linalg.eigh(0.5 * (inner + inner.T))
    floor = 10 * gram.shape[0] * jnp.finfo(gram.dtype).eps * jnp.max(values)
    kept = values > jnp.maximum(floor, 0)
    scale = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1)), 0)
    return vectors * scale[None, :], jnp.sum(kept)
