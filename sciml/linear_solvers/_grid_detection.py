"""Find the grid that a sparse matrix comes from by looking at its diagonals, and its stencil."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from ..numerics._stencil import StencilOperator
from ._grid_reading import read_grid, sampled_distances

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
    for n_points in candidate_grids(n, distances):
        periodic = wrapping_axes(rows, columns, n_points)
        if periodic is not None:
            return n_points, periodic
    return None


def candidate_grids(n: int, distances: np.ndarray) -> list[tuple[int, ...]]:
    """Return the points along each axis of the grids that a matrix may live on, simplest first.

    Parameters
    ----------
    n
        Number of unknowns.
    distances
        Column less row of the entries above the diagonal, each once.
    """
    if not 0 < len(distances) <= _MOST_DIAGONALS:
        return []
    # Each axis but the last is entered by a step over a whole number of rows of the grid.
    strides = [int(d) for d in distances if n % d == 0 and d > 1]
    planes = [
        (n // plane, plane // line, line)
        for line, plane in itertools.combinations(strides, 2)
        if plane % line == 0
    ]
    return [(n,), *((n // s, s) for s in strides), *planes]


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


def plain_grid_operator(matrix: Any, n_points: Sequence[int] | None) -> StencilOperator | None:
    """Find a matrix's grid and read it, checks of the matrix included, in a fraction of the time.

    Parameters
    ----------
    matrix
        Anything.
    n_points
        Points along each axis; found from a sample of its rows by default.

    Returns
    -------
    StencilOperator or None
        None if the matrix is not known to be symmetric positive definite on a grid without
        periodic axes, or is unusual in another way (`read_grid`): then the general path decides.
    """
    if not (scipy.sparse.issparse(matrix) and matrix.format == "csr") or matrix.nnz == 0:
        return None
    size = matrix.shape[0]
    if matrix.ndim != 2 or matrix.shape[1] != size:
        return None
    distances = sampled_distances(matrix)
    if n_points is None:
        candidates = candidate_grids(size, distances)
    else:
        candidates = [tuple(n_points)] if math.prod(n_points) == size else []
    for candidate in candidates:
        operator = read_grid(matrix, candidate, distances)
        if operator is not None:
            return operator
    return None
