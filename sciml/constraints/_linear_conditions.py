r"""Exact linear conditions :math:`C w = d`, eliminated by the null space of :math:`C`.

The null space is that of the singular value decomposition, taken as a constant and projected:
:math:`Z = (I - C^+ C) Z_0` satisfies :math:`C Z = 0` for every :math:`C` near by, so that
derivatives with respect to :math:`C` are right although those of :math:`Z_0` are not formed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ._least_squares._rows import NormalForm


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

    def hold(self, w: Float[Array, " n"], rows: Float[Array, " p"]) -> Bool[Array, ""]:
        """Return whether the rows at ``w`` are zero to the rounding of the terms in them."""
        size = jnp.abs(self.matrix) @ jnp.abs(w) + jnp.abs(self.target)
        worst = 1e4 * jnp.finfo(w.dtype).eps
        return jnp.all(jnp.abs(rows) <= worst * size)


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
    total: Float[Array, "n n"], null_space: Float[Array, "n n"], form: NormalForm
) -> tuple[Float[Array, "n n"], Float[Array, "n n"], Int[Array, ""]]:
    """Return combinations of the columns whose values on the points are orthonormal.

    ``total`` is the triangle, or the Gram matrix, of the values of the functions. Combinations at
    round-off are left out: their columns are zero. With the triangle that is what is smaller than
    ``10 n`` rounding units beside the largest; the Gram matrix tells no more than their root.

    Returns
    -------
    transform
        The combinations, a column each.
    inverse
        What takes the coefficients of a function to those of its combinations.
    rank
        How many combinations there are.
    """
    unit = 10 * total.shape[0] * jnp.finfo(total.dtype).eps
    is_finite = jnp.all(jnp.isfinite(total))
    total = jnp.where(is_finite, total, jnp.eye(total.shape[0], dtype=total.dtype))
    if form is NormalForm.gram:
        inner = null_space.T @ total @ null_space
        values, vectors = jnp.linalg.eigh(0.5 * (inner + inner.T))
        kept = values > jnp.maximum(unit * jnp.max(values), 0)
        scale = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1)), 0)
        transform = vectors * scale[None, :]
        inverse = transform.T @ (null_space.T @ total)
    else:
        left, values, right = jnp.linalg.svd(total @ null_space)
        kept = values > unit * values[0]
        scale = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
        transform = right.T * scale[None, :]
        inverse = jnp.where(kept[:, None], left.T @ total, 0)
    return transform, inverse, jnp.sum(kept)
