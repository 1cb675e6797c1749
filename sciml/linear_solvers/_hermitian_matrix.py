"""Sparse matrices checked for what conjugate gradients need of them."""

from typing import Any

import numpy as np
import scipy.sparse


def known_to_scipy(array: Any) -> Any:
    """Return a dense or sparse array in a dtype that scipy.sparse knows: no halves, our bytes."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def checked_hermitian(A: Any) -> Any:
    """Return a matrix as CSR of floating-point numbers; refuse what is visibly not SPD.

    Raises
    ------
    ValueError
        With the reason and the place.
    """
    matrix: Any = scipy.sparse.csr_array(A)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"`A` must be a square matrix, got shape {A.shape}.")
    if matrix.shape[0] == 0:
        raise ValueError("`A` must have at least one row, got shape (0, 0).")
    if matrix.dtype.kind not in "fc":
        matrix = matrix.astype(float)
    if not matrix.has_canonical_format or not np.all(matrix.data):
        matrix = matrix.copy()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    if not np.all(np.isfinite(matrix.data)):
        raise ValueError("`A` has non-finite entries.")
    eps = np.finfo(matrix.dtype).eps
    size = np.abs(matrix.data).max(initial=0)
    difference = _asymmetry(matrix)
    if difference.nnz and difference.max() > 1000 * eps * size:
        row, column = _place_of(difference, int(np.argmax(difference.data)))
        word = "Hermitian" if matrix.dtype.kind == "c" else "symmetric"
        raise ValueError(
            f"`A` is not {word}: entries ({row}, {column}) and ({column}, {row}) differ by "
            f"{difference.max():.3g}."
        )
    diagonal = matrix.diagonal().real
    used = np.diff(matrix.indptr) > 0
    bad = used & ~(diagonal > 0)
    if bad.any():
        k = int(np.argmax(bad))
        raise ValueError(
            f"`A` is not positive definite: its diagonal entry {k} is {diagonal[k]:.3g}."
            + (" Pass -A." if np.all(diagonal[used] < 0) else "")
        )
    # Each 2 x 2 minor of a positive semidefinite matrix is non-negative.
    root = np.sqrt(diagonal)
    limit = np.repeat(root, np.diff(matrix.indptr)) * root[matrix.indices]
    bad = np.abs(matrix.data) > limit * (1 + 1000 * eps)
    if bad.any():
        row, column = _place_of(matrix, int(np.argmax(bad)))
        raise ValueError(
            f"`A` is not positive definite: its entry ({row}, {column}) exceeds the geometric "
            "mean of the diagonal entries of its row and column."
        )
    return matrix


def _asymmetry(matrix: Any) -> Any:
    """Return ``|A - A^H|`` of a CSR matrix in canonical form."""
    adjoint: Any = matrix.T.tocsr()
    same = np.array_equal(adjoint.indptr, matrix.indptr)
    if not (same and np.array_equal(adjoint.indices, matrix.indices)):
        return abs(matrix - adjoint.conj()).tocsr()
    entries = np.abs(matrix.data - adjoint.data.conj())
    return scipy.sparse.csr_array((entries, matrix.indices, matrix.indptr), shape=matrix.shape)


def with_unit_rows(matrix: Any) -> Any:
    """Put 1 on the diagonal of empty rows (solid cells)."""
    empty = np.diff(matrix.indptr) == 0
    if not empty.any():
        return matrix
    return (matrix + scipy.sparse.diags_array(empty.astype(matrix.dtype))).tocsr()


def _place_of(matrix: Any, entry: int) -> tuple[int, int]:
    row = int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
    return row, int(matrix.indices[entry])
