"""Sparse matrices in JAX against SciPy: every part of the layout, transformations, refusals."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse

from sciml.numerics._sparse_matrix import SparseMatrix


def _random(shape, density, seed=419, dtype=np.float64):
    rng = np.random.default_rng(seed)
    matrix = scipy.sparse.random_array(shape, density=density, rng=rng).tocsr()
    if np.dtype(dtype).kind == "c":
        matrix = matrix * (1 + 2j)
    return matrix.astype(dtype)


def _with_long_rows():
    """A diagonal, short rows, and one row and one column that are full."""
    matrix = _random((40, 40), 0.04).tolil()
    matrix[3], matrix[:, 5] = 0.5, -0.25
    return (matrix + 3 * scipy.sparse.eye_array(40)).tocsr()


def _grid():
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(5, 5))
    return scipy.sparse.kronsum(line, line).tocsr()


MATRICES = {
    "grid": (_grid, 5, 0),
    "long rows": (_with_long_rows, 1, 30),
    "random": (lambda: _random((17, 17), 0.3), 0, 0),
    "wide": (lambda: _random((6, 11), 0.3), 0, 0),
    "tall": (lambda: _random((11, 4), 0.4), 0, 0),
    "empty rows": (lambda: _random((9, 9), 0.02), 0, 0),
    "no entries": (lambda: scipy.sparse.csr_array((4, 3)), 0, 0),
    "one entry": (lambda: scipy.sparse.csr_array([[2.5]]), 1, 0),
}


@pytest.mark.parametrize("case", MATRICES)
def test_products_equal_scipy(case, x64):
    make, n_diagonals, n_tail = MATRICES[case]
    matrix = make()
    ours = SparseMatrix.from_scipy(matrix)
    assert len(ours.offsets) >= n_diagonals
    assert ours.tail_values.size >= n_tail
    rng = np.random.default_rng(88)
    x, many = rng.normal(size=matrix.shape[1]), rng.normal(size=(matrix.shape[1], 3))
    np.testing.assert_allclose(ours.mv(jnp.asarray(x)), matrix @ x, atol=1e-14)
    np.testing.assert_allclose(ours.mv(jnp.asarray(many)), matrix @ many, atol=1e-14)
    back = ours.to_scipy()
    assert (back != matrix).nnz == 0
    assert back.shape == matrix.shape
    assert ours.nnz == matrix.nnz
    np.testing.assert_array_equal(ours.data, matrix.data)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
def test_all_formats(form, x64):
    matrix = _with_long_rows()
    for kind in (matrix, scipy.sparse.csr_matrix(matrix)):
        ours = SparseMatrix.from_scipy(kind.asformat(form))
        np.testing.assert_array_equal(ours.to_scipy().toarray(), matrix.toarray())


def test_duplicates_are_added_and_the_caller_keeps_them(x64):
    matrix = scipy.sparse.csr_array(
        (np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2)
    )
    ours = SparseMatrix.from_scipy(matrix)
    assert ours.mv(jnp.array([1.0, 1.0])).tolist() == [3.0, 4.0]
    assert matrix.nnz == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_dtypes(dtype, x64):
    matrix = _random((12, 12), 0.3, dtype=dtype)
    ours = SparseMatrix.from_scipy(matrix)
    assert ours.dtype == dtype
    x = np.random.default_rng(5).normal(size=12).astype(dtype)
    result = ours.mv(jnp.asarray(x))
    assert result.dtype == dtype
    np.testing.assert_allclose(result, matrix @ x, rtol=1e-5)


def test_integers_become_floats_and_dtypes_promote(x64):
    ours = SparseMatrix.from_scipy(scipy.sparse.eye_array(3, dtype=int))
    assert ours.dtype == np.float64
    single = ours.astype(np.float32)
    assert single.mv(jnp.ones(3, jnp.float32)).dtype == np.float32
    assert single.mv(jnp.ones(3, jnp.float64)).dtype == np.float64
    assert single.mv(jnp.ones(3, jnp.complex64)).dtype == np.complex64
    assert SparseMatrix.from_scipy(_grid(), np.float32).dtype == np.float32


def test_float32_without_x64():
    assert SparseMatrix.from_scipy(_grid()).dtype == np.float32


def test_infinity_at_a_column_stays_in_the_rows_that_use_it(x64):
    matrix = _random((30, 30), 0.05)
    x = np.ones(30)
    x[7] = np.inf
    uses = np.diff(matrix[:, [7]].indptr) > 0
    result = np.asarray(SparseMatrix.from_scipy(matrix).mv(jnp.asarray(x)))
    assert np.isinf(result[uses]).all()
    assert np.isfinite(result[~uses]).all()


@pytest.mark.parametrize("case", ["grid", "long rows"])
def test_jit_vmap_and_gradients(case, x64):
    matrix = MATRICES[case][0]()
    ours = SparseMatrix.from_scipy(matrix)
    rng = np.random.default_rng(90)
    x, y = rng.normal(size=(2, matrix.shape[0]))
    batch = jnp.asarray(rng.normal(size=(3, matrix.shape[0])))
    np.testing.assert_allclose(
        jax.jit(jax.vmap(ours.mv))(batch), np.asarray(batch) @ matrix.T, atol=1e-13
    )
    # d(y.Ax)/dA is y x^T on the pattern, d/dx is A^T y.
    gradient = jax.grad(lambda data: jnp.asarray(y) @ ours.with_data(data).mv(jnp.asarray(x)))(
        ours.data
    )
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    np.testing.assert_allclose(gradient, y[rows] * x[matrix.indices], atol=1e-14)
    gradient = jax.grad(lambda v: jnp.asarray(y) @ ours.mv(v))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, matrix.T @ y, atol=1e-13)


def test_gradient_at_filled_up_places_is_zero(x64):
    ours = SparseMatrix.from_scipy(_random((30, 30), 0.05))
    gradient = jax.grad(lambda m: jnp.sum(m.mv(jnp.ones(30))), allow_int=True)(ours)
    filled = np.asarray(ours.columns) == 30
    assert filled.any()
    assert not np.asarray(gradient.values)[filled].any()


def test_lineax_solve_and_transpose(x64):
    matrix = _grid()
    operator = SparseMatrix.from_scipy(matrix).as_lineax(positive_semidefinite=True)
    b = jnp.asarray(np.random.default_rng(91).normal(size=25))
    solution = lx.linear_solve(operator, b, lx.CG(1e-10, 1e-10))
    np.testing.assert_allclose(matrix @ np.asarray(solution.value), b, atol=1e-8)
    wide = SparseMatrix.from_scipy(_random((6, 11), 0.3))
    np.testing.assert_allclose(
        wide.as_lineax().T.mv(jnp.ones(6)), wide.to_scipy().T @ np.ones(6), atol=1e-14
    )


def test_refusals():
    wide = SparseMatrix.from_scipy(_random((6, 11), 0.3))
    with pytest.raises(ValueError, match="square"):
        wide.as_lineax(symmetric=True)
    with pytest.raises(ValueError, match=r"\(11,\)"):
        wide.mv(jnp.ones(6))
    with pytest.raises(ValueError, match="`data`"):
        wide.with_data(jnp.ones(3))
    with pytest.raises(ValueError, match="two axes"):
        SparseMatrix.from_scipy(scipy.sparse.coo_array(np.ones(3)))
