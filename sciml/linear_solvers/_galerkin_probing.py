"""The coarse operator ``R A P``, read off its action on a few coloured vectors.

Two coarse points interact only if they are neighbours. So one vector that is 1 on every third
point along each axis shows a whole column of the product around each of them at once: 9 vectors do
in two dimensions, 27 in three (one or two more along a periodic axis that 3 does not divide).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ..numerics import StencilOperator
from ..numerics._stencil import shifted
from ..numerics._unrolled_stencil import UnrolledStencil
from ._interpolation import Interpolation, coarse_points


def probed_galerkin_operator(
    operator: StencilOperator, interpolation: Interpolation
) -> StencilOperator:
    """Return ``P^T A P`` on the coarse grid; for grids with periodic axes, too.

    Parameters
    ----------
    operator
        The fine operator ``A``.
    interpolation
        ``P``, with its transpose as restriction.
    """
    n_points = coarse_points(operator.n_points, interpolation.coarsened)
    # On an axis of two points both neighbours are one cell; the seam would count it twice.
    periodic = tuple(p and n > 2 for p, n in zip(operator.periodic, n_points, strict=True))
    offsets = half_offsets(len(n_points))
    colours = [_axis_colours(n, wraps) for n, wraps in zip(n_points, periodic, strict=True)]
    grids = jnp.meshgrid(*(jnp.asarray(c) for c in colours), indexing="ij")
    grid = jnp.stack(grids)
    every = np.array(list(itertools.product(*(range(int(c.max()) + 1) for c in colours))), np.int32)

    matrix = UnrolledStencil(operator)

    def show_column(entries, colour):
        chosen = (grid == colour.reshape(-1, *(1,) * len(n_points))).all(axis=0)
        indicator = chosen.astype(operator.dtype)
        response = interpolation.restrict(matrix.mv(interpolation.prolong(indicator)))
        entries = {
            offset: entry + response * shifted(indicator, offset, periodic)
            for offset, entry in entries.items()
        }
        return entries, None

    zero = (0,) * len(n_points)
    start = {o: jnp.zeros(n_points, operator.dtype) for o in (zero, *offsets)}
    entries, _ = jax.lax.scan(show_column, start, every)
    couplings = jnp.stack([entries[offset] for offset in offsets])
    return StencilOperator(entries[zero], couplings, offsets, periodic)


def half_offsets(n_axes: int) -> tuple[tuple[int, ...], ...]:
    """Return one of each pair of opposite offsets to the ``3^d - 1`` neighbours."""
    every = itertools.product((-1, 0, 1), repeat=n_axes)
    return tuple(o for o in every if o > tuple(-k for k in o))


def _axis_colours(n: int, periodic: bool) -> np.ndarray:
    colours = np.arange(n, dtype=np.int32) % 3
    if periodic and n % 3:
        # The last one or two would meet their own colour across the seam.
        rest = n % 3
        colours[-rest:] = 3 + np.arange(rest)
    return colours
