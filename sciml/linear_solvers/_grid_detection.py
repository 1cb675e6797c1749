"""Find the grid that a sparse matrix comes from by looking at its diagonals, and its stencil."""

import itertools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..numerics._stencil import StencilOperator

# A stencil of neighbours in three dimensions has 27 diagonals, 63 if every axis wraps around.
_MOST_DIAGONALS = 64


def detect_grid(matrix: Any) -> tuple[tuple[int, ...], tuple[bool, ...]] | None:
    """Return the points along each axis, and which axes are periodic.

    Parameters
    ----------
    matrix
        Square scipy.sparse CSR matrix with a symmetric pattern, unknowns numbered row-major.

    Returns
    -------
    tuple or None
        ``n_points`` and ``periodic`` of the grid of fewest axes (at most three) on which every
        entry couples neighbouring points (diagonal neighbours too); None if there is none.

    Examples
    --------
    >>> import scipy.sparse
    >>> line = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(5, 5))
    >>> row = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(4, 4))
    >>> plane = scipy.sparse.kronsum(row, line).tocsr()
    >>> detect_grid(plane)
    ((5, 4), (False, False))
    """
    n = matrix.shape[0]
    coo = matrix.tocoo()
    rows, columns = coo.coords
    upper = columns > rows
    rows, columns = rows[upper].astype(np.int64), columns[upper].astype(np.int64)
    distances = np.flatnonzero(np.bincount(columns - rows, minlength=1))
    if not 0 < distances.size <= _MOST_DIAGONALS:
        return None
    # Each axis but the last is entered by a step over a whole number of rows of the grid.
    strides = [int(d) for d in distances if n % d == 0 and d > 1]
    candidates: list[tuple[int, ...]] = [(n,)]
    candidates += [(n // s, s) for s in strides]
    candidates += [
        (n // plane, plane // line, line)
        for line, plane in itertools.combinations(strides, 2)
        if plane % line == 0
    ]
    for n_points in candidates:
        periodic = wrapping_axes(rows, columns, n_points)
        if periodic is not None:
            return n_points, periodic
    return None


def wrapping_axes(
    rows: np.ndarray, columns: np.ndarray, n_points: tuple[int, ...]
) -> tuple[bool, ...] | None:
    """Return which axes must wrap around for all couplings to be between neighbours, or None.

    Parameters
    ----------
    rows, columns
        The unknowns that are coupled.
    n_points
        Points along each axis.
    """
    periodic = []
    for axis, size in enumerate(n_points):
        place = np.arange(size, dtype=np.int32).reshape(-1, *(1,) * (len(n_points) - axis - 1))
        place = np.broadcast_to(place, n_points).ravel()
        steps = np.abs(place[columns] - place[rows])
        far = steps > 1
        wraps = bool(far.any())
        if wraps and (size < 4 or not np.all(steps[far] == size - 1)):
            return None
        periodic.append(wraps)
    return tuple(periodic)


def grid_operator(
    matrix: Any, n_points: tuple[int, ...], periodic: tuple[bool, ...]
) -> StencilOperator:
    """Return a symmetric CSR matrix, which was checked to be one, as an operator on its grid.

    Without periodic axes this reads the upper triangle diagonal by diagonal, many times faster
    than `StencilOperator.from_scipy`, which looks at each entry's place.

    Parameters
    ----------
    matrix
        Real CSR matrix in canonical form; its lower triangle is not looked at.
    n_points, periodic
        What `detect_grid` returned.
    """
    offsets = [o for o in itertools.product((-1, 0, 1), repeat=len(n_points)) if o > (0,) * len(o)]
    strides = [math.prod(n_points[axis + 1 :]) for axis in range(len(n_points))]
    distances = [sum(o * s for o, s in zip(offset, strides, strict=True)) for offset in offsets]
    # On a very narrow grid two offsets can be the same distance apart.
    if any(periodic) or min(n_points[1:], default=3) < 3:
        return StencilOperator.from_scipy(matrix, n_points, periodic)
    size = matrix.shape[0]
    rows = np.repeat(np.arange(size, dtype=np.int32), np.diff(matrix.indptr))
    distance = matrix.indices - rows
    upper = distance > 0
    distance, rows = distance[upper], rows[upper]
    present = np.bincount(distance, minlength=max(distances) + 1)[distances] > 0
    table = np.zeros(max(distances) + 1, np.int32)
    table[np.array(distances)[present]] = np.arange(present.sum(), dtype=np.int32)
    kept = tuple(offset for offset, there in zip(offsets, present, strict=True) if there)
    couplings = np.zeros((len(kept), size), matrix.dtype)
    couplings.ravel()[table[distance] * np.int64(size) + rows] = matrix.data[upper]
    return StencilOperator(
        jnp.asarray(matrix.diagonal().reshape(n_points)),
        jnp.asarray(couplings.reshape(-1, *n_points)),
        kept,
        periodic,
    )
