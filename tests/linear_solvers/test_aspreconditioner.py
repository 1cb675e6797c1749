"""The preconditioner that a matrix gets: grid or not, Hermitian, definite, and usable anywhere."""

import importlib.util

import jax
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from sciml.linear_solvers._aspreconditioner import (
    aspreconditioner,
    jacobi,
    smoothed_aggregation,
    symmetric_gauss_seidel,
)
from sciml.linear_solvers._cg import cg
from sciml.linear_solvers._grid_detection import detect_grid, plain_grid_operator
from sciml.numerics import StencilOperator
from sciml.numerics._sparse_matrix import SparseMatrix


def _line(n, periodic=False):
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    if periodic:
        line = line.tolil()
        line[0, n - 1] = line[n - 1, 0] = -1.0
    return line.tocsr()


def _grid(*shape, periodic=()):
    total = scipy.sparse.csr_array((1, 1))
    for axis, n in enumerate(shape):
        size = scipy.sparse.eye_array(total.shape[0])
        total = scipy.sparse.kron(total, scipy.sparse.eye_array(n)) + scipy.sparse.kron(
            size, _line(n, axis in periodic)
        )
    return total.tocsr()


def _shuffled(matrix):
    order = np.random.default_rng(77).permutation(matrix.shape[0])
    return matrix[order][:, order]


@pytest.mark.parametrize(
    ("shape", "periodic"),
    [
        ((24,), ()),
        ((24,), (0,)),
        ((6, 9), ()),
        ((9, 6), (0,)),
        ((9, 6), (1,)),
        ((5, 6, 7), ()),
        ((6, 6, 6), ()),
        ((9, 2), ()),
        ((5, 2, 6), ()),
        ((7, 5, 6), (0, 1, 2)),
    ],
)
def test_grids_are_found(shape, periodic):
    matrix = _grid(*shape, periodic=periodic)
    wraps = tuple(axis in periodic for axis in range(len(shape)))
    assert detect_grid(matrix) == (shape, wraps)
    operator = plain_grid_operator(matrix, None)
    if periodic or min(shape[1:], default=3) < 3:
        assert operator is None
        return
    assert operator is not None
    assert operator.n_points == shape
    assert abs(operator.to_scipy() - matrix).max() == 0


def test_grids_with_diagonal_neighbours_and_solid_cells():
    nine, seven = (
        scipy.sparse.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(n, n)) for n in (9, 7)
    )
    nine_points = scipy.sparse.kron(nine, seven).tocsr()
    assert detect_grid(nine_points) == ((9, 7), (False, False))
    solid = np.ones(63)
    solid[[10, 11, 40]] = 0
    keep = scipy.sparse.diags_array(solid)
    masked = (keep @ nine_points @ keep).tocsr()
    masked.eliminate_zeros()
    assert detect_grid(masked) == ((9, 7), (False, False))
    for matrix in (nine_points, masked):
        operator = plain_grid_operator(matrix, (9, 7))
        assert operator is not None
        assert len(operator.offsets) == 4
        assert abs(operator.to_scipy() - matrix).max() == 0


@pytest.mark.parametrize(
    "matrix",
    [
        _shuffled(_grid(6, 9)),
        scipy.sparse.eye_array(12).tocsr(),
        (scipy.sparse.diags_array([1.0, 4.0, 1.0], offsets=[-5, 0, 5], shape=(12, 12))).tocsr(),
    ],
    ids=["shuffled", "diagonal", "far neighbours"],
)
def test_what_is_no_grid(matrix):
    assert detect_grid(matrix) is None


def _hermitian(n=40):
    rng = np.random.default_rng(3)
    off = scipy.sparse.random_array((n, n), density=0.1, rng=rng) * np.exp(2j)
    return (off + off.conj().T + 9 * scipy.sparse.eye_array(n)).tocsr()


def _with_empty_rows():
    matrix = _shuffled(_grid(6, 7)).tolil()
    matrix[[4, 30]] = 0
    matrix[:, [4, 30]] = 0
    matrix = matrix.tocsr()
    matrix.eliminate_zeros()
    return matrix


MATRICES = {
    "shuffled grid": lambda: _shuffled(_grid(6, 7)),
    "complex": _hermitian,
    "empty rows": _with_empty_rows,
    "diagonal": lambda: scipy.sparse.diags_array(np.linspace(1, 9, 12)).tocsr(),
}
MAKERS = {"jacobi": jacobi, "gauss-seidel": symmetric_gauss_seidel, "amg": smoothed_aggregation}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("case", MATRICES)
def test_classical_ones_are_linear_hermitian_and_definite(maker, case):
    if maker == "amg":
        pytest.importorskip("pyamg")
    matrix = MATRICES[case]()
    M = MAKERS[maker](matrix)
    n = matrix.shape[0]
    assert M.shape == (n, n)
    dense = np.stack([M @ e for e in np.eye(n, dtype=matrix.dtype)], axis=1)
    np.testing.assert_allclose(dense, dense.conj().T, atol=1e-12)
    assert np.linalg.eigvalsh(dense).min() > 0
    x = np.random.default_rng(9).normal(size=n).astype(matrix.dtype)
    np.testing.assert_allclose(dense @ x, M @ x, atol=1e-12)
    np.testing.assert_allclose(M @ x[:, None], (M @ x)[:, None])
    np.testing.assert_allclose(M.H @ x, M @ x)

    b = matrix @ x
    theirs = []
    scipy.sparse.linalg.cg(matrix, b, M=M, rtol=1e-8, callback=lambda _: theirs.append(1))
    ours, info, record = cg(matrix, b, M=M, rtol=1e-8, full_output=True)
    assert (info, record["num_steps"]) == (0, len(theirs))
    assert np.linalg.norm(b - matrix @ ours) <= 1e-8 * np.linalg.norm(b)


# The second is small enough for the dense solve of the last grid.
@pytest.mark.parametrize("shape", [(19, 14), (6, 7, 5)])
def test_grids_get_multigrid(shape):
    matrix = _grid(*shape)
    M = aspreconditioner(matrix)
    assert M.kind == "learned multigrid"
    assert M.n_points == shape
    assert aspreconditioner(matrix, n_points=shape).n_points == shape
    b = np.random.default_rng(10).normal(size=matrix.shape[0])
    with jax.enable_x64(True):
        operator = StencilOperator.from_scipy(matrix, shape)
    counts = set()
    for A, preconditioner in (
        (matrix, M),
        (scipy.sparse.linalg.aslinearoperator(matrix), M),
        (operator, aspreconditioner(operator)),
        (matrix, M.preconditioner),
    ):
        x, info, record = cg(A, b, M=preconditioner, rtol=1e-8, full_output=True)
        assert info == 0
        assert np.linalg.norm(b - matrix @ x) <= 1e-8 * np.linalg.norm(b)
        counts.add(record["num_steps"])
    assert max(counts) <= 10
    theirs = []
    _, info = scipy.sparse.linalg.cg(matrix, b, M=M, rtol=1e-8, callback=lambda _: theirs.append(1))
    assert info == 0
    # float32 inside: rounding may cost a step.
    assert max(counts) - min(counts) <= 1
    assert abs(len(theirs) - max(counts)) <= 1


@pytest.mark.parametrize("installed", [False, True])
def test_choice_off_the_grid(installed, monkeypatch):
    if installed:
        pytest.importorskip("pyamg")
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    matrix = _shuffled(_grid(6, 7))
    M = aspreconditioner(matrix)
    assert ("PyAMG" if installed else "Gauss-Seidel") in M.kind
    assert M.kind in repr(M)
    with jax.enable_x64(True):
        assert aspreconditioner(SparseMatrix.from_scipy(matrix)).kind == M.kind
    assert aspreconditioner(matrix.toarray()).kind == M.kind


def test_large_matrix_without_amg_warns(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sciml.linear_solvers._aspreconditioner._LARGE", 40)
    with pytest.warns(RuntimeWarning, match=r"sciml\[amg\]"):
        aspreconditioner(_shuffled(_grid(6, 7)))


def _plus(matrix, row, column, value):
    matrix = matrix.tolil()
    matrix[row, column] += value
    return matrix.tocsr()


REFUSED = {
    "rectangular": (lambda a: a[:, :5], "square"),
    "no rows": (lambda a: a[:0, :0], "one row"),
    "not symmetric": (lambda a: _plus(a, 3, 17, 0.5), r"\(3, 17\) and \(17, 3\) differ by 0.5"),
    "complex symmetric": (lambda a: _plus(_plus(a * (1 + 0j), 1, 2, 1j), 2, 1, 1j), "Hermitian"),
    "negative": (lambda a: -a, "Pass -A"),
    "negative entry": (lambda a: _plus(a, 5, 5, -9.0), "diagonal entry 5"),
    "zero on the diagonal": (lambda a: _plus(a, 5, 5, -4.0), "diagonal entry 5 is 0"),
    "large off the diagonal": (lambda a: _plus(_plus(a, 3, 17, 5.0), 17, 3, 5.0), r"\(3, 17\)"),
    "NaN": (lambda a: _plus(a, 5, 5, np.nan), "finite"),
    "NaN below the diagonal": (lambda a: _plus(a, 5, 4, np.nan), "finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    change, words = REFUSED[case]
    assert plain_grid_operator(change(_grid(6, 7)), None) is None
    with pytest.raises(ValueError, match=words):
        aspreconditioner(change(_grid(6, 7)))


def test_what_the_quick_reading_leaves_to_the_general_path():
    matrix = _grid(6, 7)
    wrapping = _plus(_plus(matrix, 6, 7, -0.5), 7, 6, -0.5)  # from the end of a row to the next
    stored_zero = matrix.copy()
    stored_zero.data[1] = 0
    infinite = matrix.copy()
    infinite.data[:] = np.inf
    not_sorted = matrix.copy()
    not_sorted.indices[:2], not_sorted.data[:2] = (
        matrix.indices[1::-1].copy(),
        matrix.data[1::-1].copy(),
    )
    not_sorted.has_canonical_format = False
    others = (matrix.tocsc(), matrix * 1j, matrix.astype(int), infinite, not_sorted, stored_zero)
    for other in (wrapping, *others):
        assert plain_grid_operator(other, None) is None
    assert plain_grid_operator(matrix, (7, 6)) is None
    # Rounding between an entry and its mirror image is no asymmetry.
    rounded = _plus(matrix, 3, 10, 1e-15)
    operator = plain_grid_operator(rounded, None)
    assert operator is not None
    assert abs(operator.to_scipy() - matrix).max() <= 2e-15
    for other in (wrapping, not_sorted, matrix.tocsc(), matrix.astype(int), rounded):
        M = aspreconditioner(other)
        x, info = cg(other, np.ones(42), M=M, rtol=1e-10)
        assert info == 0
        np.testing.assert_allclose(other @ x, 1, atol=1e-8)


def test_wrong_points_and_kinds():
    matrix = _grid(6, 7)
    with pytest.raises(ValueError, match="48 unknowns"):
        aspreconditioner(matrix, n_points=(6, 8))
    with pytest.raises(ValueError, match="neighbours"):
        aspreconditioner(matrix, n_points=(7, 6))
    with pytest.raises(ValueError, match="n_points"):
        aspreconditioner(matrix, n_points=(-6, -7))
    with pytest.raises(ValueError, match="real"):
        aspreconditioner(_hermitian(42), n_points=(6, 7))
    with pytest.raises(TypeError, match="entries"):
        aspreconditioner(scipy.sparse.linalg.aslinearoperator(matrix))
    with pytest.raises(TypeError, match="`A`"):
        aspreconditioner("A")
    operator = StencilOperator.from_scipy(matrix.astype(np.float32), (6, 7))
    with pytest.raises(ValueError, match="n_points"):
        aspreconditioner(operator, n_points=(7, 6))


@pytest.mark.parametrize("unit", [2.0**-500, 2.0**500])
def test_multigrid_takes_units_that_float32_has_not(unit):
    matrix = unit * _grid(6, 9)
    b = np.ones(54)
    M = aspreconditioner(matrix, n_points=(6, 9))
    for either in (M, M.preconditioner):
        x, info = cg(matrix, b, M=either)
        assert info == 0
        assert np.linalg.norm(b - matrix @ x) <= 1e-5 * np.linalg.norm(b)


def test_a_solve_with_the_same_matrix_knows_what_was_found_for_it():
    matrix = _grid(6, 9)
    M = aspreconditioner(matrix)
    b = np.linspace(0, 1, 54)
    x, info = cg(matrix, b, M=M, rtol=1e-10)
    assert info == 0
    assert M.origin.is_of(matrix)
    np.testing.assert_allclose(x, scipy.sparse.linalg.spsolve(matrix.tocsc(), b), rtol=1e-8)
    # Another matrix, an equal one, one of another precision: nothing of the first is taken.
    assert not M.origin.is_of(matrix.copy())
    for other in (matrix.copy(), 2 * matrix, matrix.astype(np.float32)):
        x, info = cg(other, b, M=M, rtol=1e-10)
        assert info == 0
        np.testing.assert_allclose(other @ x, b, atol=1e-8)
    # Changed in place: entries, then pattern.
    matrix.data *= 3
    x, info = cg(matrix, b, M=M, rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(matrix @ x, b, atol=1e-8)
    neumann = _grid(6, 9)
    neumann.setdiag(neumann.diagonal() - neumann.sum(axis=1))
    M = aspreconditioner(neumann)
    for _ in range(2):  # the second time the nullspace is known
        x, info = cg(neumann, b - b.mean(), M=M, rtol=1e-9)
        assert info == 0
        assert abs(x.mean()) < 1e-9
    neumann.data[neumann.indptr[0]] += 1e-3
    x, info = cg(neumann, b, M=M, rtol=1e-9)
    assert info == 0
    np.testing.assert_allclose(neumann @ x, b, atol=1e-7)
