"""Read a sparse matrix on a grid diagonal by diagonal, checking it on the way.

SciPy's compiled search for one diagonal takes a nanosecond an entry. All checks that conjugate
gradients ask for are then sums and comparisons of whole diagonals, which is five times as fast as
looking at each entry's row and column. Whatever is not as it should be, or only unusual, is left to
the general path, which says what is wrong.
"""

import itertools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..numerics._stencil import StencilOperator

# Rounding that an entry and its mirror image may differ by, in units of the largest entry.
_ROUNDINGS = 1000
_SAMPLE = 256


def read_grid(
    matrix: Any, n_points: tuple[int, ...], distances: np.ndarray
) -> StencilOperator | None:
    """Return a matrix as an operator on a grid without periodic axes, or None if it is not one.

    Parameters
    ----------
    matrix
        Square scipy.sparse CSR matrix.
    n_points
        Points along each axis; the unknowns are numbered row-major.
    distances
        Column less row of its entries above the diagonal, each once.

    Returns
    -------
    StencilOperator or None
        None unless the matrix is real, in canonical form without stored zeros, finite, symmetric,
        has a positive diagonal and non-negative ``2 x 2`` minors in all rows that are not empty,
        and couples neighbours only.
    """
    size = math.prod(n_points)
    strides = [math.prod(n_points[axis + 1 :]) for axis in range(len(n_points))]
    if matrix.dtype.char not in "fd" or min(n_points[1:], default=3) < 3:
        return None  # on a very narrow grid two offsets can be the same distance apart
    offset_at = {
        sum(o * s for o, s in zip(offset, strides, strict=True)): offset
        for offset in itertools.product((-1, 0, 1), repeat=len(n_points))
    }
    known = all(0 < distance < size and distance in offset_at for distance in distances)
    if not (known and matrix.has_canonical_format):
        return None
    diagonal = matrix.diagonal()
    if not (diagonal.min() >= 0 and np.isfinite(diagonal.max())):
        return None
    tolerance = _ROUNDINGS * np.finfo(diagonal.dtype).eps
    # A little more, once for both factors.
    root = np.sqrt(diagonal * (1 + tolerance))
    n_entries = np.count_nonzero(diagonal)
    couplings = np.zeros((len(distances), size), diagonal.dtype)
    offsets = tuple(offset_at[int(distance)] for distance in distances)
    for entries, distance, offset in zip(couplings, distances, offsets, strict=True):
        upper, lower = matrix.diagonal(distance), matrix.diagonal(-distance)
        there = np.count_nonzero(upper)
        n_entries += 2 * there
        same = np.array_equal(upper, lower)
        with np.errstate(invalid="ignore"):
            difference = 0 if same else np.abs(upper - lower).max()
        # A NaN compares as false, here and below.
        if not difference <= tolerance * diagonal.max():
            return None
        if not same and np.count_nonzero(lower) != there:
            return None
        if not np.all(np.abs(upper) <= root[:-distance] * root[distance:]):
            return None
        entries[:-distance] = upper
        if leaves_the_grid(entries.reshape(n_points), offset):
            return None
    if n_entries != matrix.nnz:
        return None
    return StencilOperator(
        jnp.asarray(diagonal.reshape(n_points)),
        jnp.asarray(couplings.reshape(-1, *n_points)),
        offsets,
    )


def leaves_the_grid(coupling: Float[np.ndarray, "*space"], offset: tuple[int, ...]) -> bool:
    """Return whether an entry of a diagonal couples to a point beyond an edge of the grid.

    Parameters
    ----------
    coupling
        The entry in each point.
    offset
        Where it leads to: -1, 0 or 1 along each axis.
    """
    edges = {1: -1, -1: 0}
    return any(
        step != 0 and bool(np.take(coupling, edges[step], axis=axis).any())
        for axis, step in enumerate(offset)
    )


def sampled_distances(matrix: Any) -> np.ndarray:
    """Return how far from the diagonal, to its right, the entries of a sample of rows are.

    Sorted and without repetition. The rows are those of entries at equal distance in storage, so
    that empty ones are not among them.

    Parameters
    ----------
    matrix
        Square scipy.sparse CSR matrix.
    """
    entries = np.linspace(0, max(matrix.nnz - 1, 0), _SAMPLE).astype(np.int64)
    rows = np.unique(np.searchsorted(matrix.indptr, entries, side="right") - 1)
    starts, lengths = matrix.indptr[rows], np.diff(matrix.indptr)[rows]
    places = starts[:, None] + np.arange(lengths.max(initial=0))
    distances = matrix.indices[np.minimum(places, matrix.nnz - 1)] - rows[:, None]
    return np.unique(distances[(places < (starts + lengths)[:, None]) & (distances > 0)])
