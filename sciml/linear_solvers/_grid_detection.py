"""Find the grid that a sparse matrix comes from by looking at its diagonals."""

import itertools
from typing import Any

import numpy as np

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
    pairs = zip(np.unravel_index(rows, n_points), np.unravel_index(columns, n_points), strict=True)
    for (row, column), size in zip(pairs, n_points, strict=True):
        steps = np.abs(column - row)
        far = steps > 1
        wraps = bool(far.any())
        if wraps and (size < 4 or not np.all(steps[far] == size - 1)):
            return None
        periodic.append(wraps)
    return tuple(periodic)
