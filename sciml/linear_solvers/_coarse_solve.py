"""The exact solve on the last grid of a multigrid cycle, by elimination of one slab after another.

Cut along its first axis into slabs, the operator is block tridiagonal. With ``A_k`` the diagonal
blocks and ``B_k`` the blocks below them,

    D_0 = A_0,   L_k = B_k D_k^-1,   D_{k+1} = A_{k+1} - L_k B_k^T,

and a solve goes once down and once up. Eight slabs of 64 unknowns cost a twentieth of the dense
inverse of 512, which would take most of the set-up of a cycle.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..numerics import StencilOperator
from ..numerics._stencil import full_row

# Smaller slabs are put together: below this the number of steps counts, not their size.
_UNKNOWNS_IN_SLAB = 64
_EXACT = jax.lax.Precision.HIGHEST


class CoarseSolve(eqx.Module):
    """The inverse of an operator on a small grid.

    Parameters
    ----------
    operator
        Symmetric positive semidefinite, of at most some hundred unknowns. Cells that take no part
        give 0. A little is added to the diagonal, so that it is definite where constants are in
        the nullspace; that is no harm, since the solver projects them out (the rest keeps two
        digits there, which costs no iterations).

    Attributes
    ----------
    scale
        One over the root of the diagonal, shape ``(*space)``; 0 in cells that take no part. The
        factors are those of the operator scaled by it to a unit diagonal.
    inverses
        ``D_k^-1``, shape ``(n_slabs, m, m)``.
    multipliers
        ``L_k``, shape ``(n_slabs - 1, m, m)``.
    is_definite
        Whether the operator is positive definite: all factors exist.
    """

    scale: Float[Array, "*space"]
    inverses: Float[Array, "n_slabs m m"]
    multipliers: Float[Array, "n_slabs-1 m m"]
    is_definite: Bool[Array, ""]

    def __init__(self, operator: StencilOperator):
        diagonal = operator.diagonal
        used = diagonal > 0
        self.scale = jnp.where(
            used, jax.lax.rsqrt(jnp.where(used, diagonal, 1)), jnp.zeros_like(diagonal)
        )
        n_slabs, n_planes = _slabs(operator)
        plane = math.prod(operator.n_points[1:])
        size = n_slabs * n_planes * plane
        missing = size - diagonal.size
        scale = self.scale.reshape(-1)
        matrix = scale[:, None] * _dense_matrix(operator) * scale[None, :]
        shift = 20 * jnp.finfo(operator.dtype).eps
        matrix += jnp.diag(jnp.where(used, shift, 1).reshape(-1).astype(operator.dtype))
        matrix = jnp.pad(matrix, [(0, missing)] * 2)
        matrix += jnp.diag(jnp.where(np.arange(size) < diagonal.size, 0, 1).astype(matrix.dtype))
        blocks = matrix.reshape(n_slabs, size // n_slabs, n_slabs, size // n_slabs)
        number = np.arange(n_slabs)
        diagonals, below = blocks[number, :, number], blocks[number[1:], :, number[:-1]]

        def eliminate(block, following):
            diagonal, below = following
            inverse = _inverse(block)
            multiplier = jnp.matmul(below, inverse, precision=_EXACT)
            product = jnp.matmul(multiplier, below.T, precision=_EXACT)
            return diagonal - product, (inverse, multiplier)

        last, (inverses, self.multipliers) = jax.lax.scan(
            eliminate, diagonals[0], (diagonals[1:], below)
        )
        self.inverses = jnp.concatenate([inverses, _inverse(last)[None]])
        self.is_definite = jnp.isfinite(self.inverses).all()

    def __call__(self, r: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """Return the solution for the right-hand side ``r``."""
        n_slabs, width, _ = self.inverses.shape
        parts = jnp.pad((self.scale * r).reshape(-1), (0, n_slabs * width - r.size))
        parts = list(parts.reshape(n_slabs, width))
        for k, multiplier in enumerate(self.multipliers):
            parts[k + 1] -= jnp.matmul(multiplier, parts[k], precision=_EXACT)
        parts = list(jnp.einsum("kij,kj->ki", self.inverses, jnp.stack(parts), precision=_EXACT))
        for k in reversed(range(n_slabs - 1)):
            parts[k] -= jnp.matmul(parts[k + 1], self.multipliers[k], precision=_EXACT)
        return self.scale * jnp.concatenate(parts)[: r.size].reshape(r.shape)


def _slabs(operator: StencilOperator) -> tuple[int, int]:
    """Return the number of slabs, and how many planes across the first axis each holds."""
    n_planes, *across = operator.n_points
    if operator.periodic[0]:
        return 1, n_planes  # the last plane is coupled to the first
    held = min(n_planes, max(1, round(_UNKNOWNS_IN_SLAB / math.prod(across))))
    return math.ceil(n_planes / held), held


def _inverse(block: Float[Array, "m m"]) -> Float[Array, "m m"]:
    factor = jnp.linalg.cholesky(block, symmetrize_input=False)
    units = jnp.eye(len(block), dtype=block.dtype)
    half = jax.lax.linalg.triangular_solve(factor, units, left_side=True, lower=True)
    return jnp.matmul(half.T, half, precision=_EXACT)


def _dense_matrix(operator: StencilOperator) -> Float[Array, "n n"]:
    n_points = np.array(operator.n_points)
    cells = np.indices(operator.n_points).reshape(len(n_points), -1)
    rows = np.arange(cells.shape[1])
    matrix = jnp.zeros((len(rows), len(rows)), operator.dtype)
    for offset, entries in full_row(operator).items():
        beside = (cells + np.array(offset)[:, None]) % n_points[:, None]
        # Entries that would lead out of the grid are 0.
        columns = np.ravel_multi_index(tuple(beside), operator.n_points)
        matrix = matrix.at[rows, columns].add(entries.reshape(-1))
    return matrix
