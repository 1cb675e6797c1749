"""Which axes to coarsen, level by level, decided before anything is compiled."""

import math
from collections.abc import Sequence

import numpy as np

from ..numerics import StencilOperator
from ._interpolation import coarse_points

# The largest number of unknowns that is left to a direct solve.
N_DIRECT = 512
# An axis whose couplings are this much weaker than the strongest ones waits: smoothing works along
# strong couplings only, so coarsening goes along them (semicoarsening).
WEAK = 0.25


def coarsening_plan(
    n_points: Sequence[int], periodic: Sequence[bool], strengths: Sequence[float]
) -> tuple[tuple[bool, ...], ...]:
    """Return, for each level, along which axes every second point is left out.

    Parameters
    ----------
    n_points
        Points along each axis of the finest grid.
    periodic
        Which axes wrap around. A periodic axis keeps at least three points.
    strengths
        Mean coupling along each axis, see `axis_strengths`.

    Returns
    -------
    tuple
        The levels until a direct solve takes over; none if the grid is small already.
    """
    n_points, strengths = tuple(n_points), list(strengths)
    if not all(math.isfinite(s) for s in strengths):
        # Any plan will do: the solver is to report such an operator, not this function.
        strengths = [1.0] * len(strengths)
    plan = []
    while math.prod(n_points) > N_DIRECT:
        least = [6 if wraps else 3 for wraps in periodic]
        possible = [n >= m for n, m in zip(n_points, least, strict=True)]
        if not any(possible):
            break
        strongest = max(s for s, p in zip(strengths, possible, strict=True) if p)
        level = tuple(p and s >= WEAK * strongest for s, p in zip(strengths, possible, strict=True))
        plan.append(level)
        n_points = coarse_points(n_points, level)
        # Twice the distance along a coarsened axis, twice the area across one.
        area = 2.0 ** sum(level)
        strengths = [s * area / (4 if c else 1) for s, c in zip(strengths, level, strict=True)]
    return tuple(plan)


def axis_strengths(operator: StencilOperator) -> tuple[float, ...]:
    """Return the mean magnitude of the couplings along each axis.

    Parameters
    ----------
    operator
        With concrete entries: the plan decides what is compiled.
    """
    totals = np.zeros(len(operator.n_points))
    for offset, coupling in zip(operator.offsets, np.asarray(operator.couplings), strict=True):
        mean = np.abs(coupling).mean(dtype=np.float64)
        totals += mean * np.abs(offset) / np.abs(offset).sum()
    return tuple(float(total) for total in totals)
