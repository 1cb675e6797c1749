"""`cg` against SciPy's, and the outcome of every edge case."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from jax.experimental.sparse import BCOO, BCSR
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from sciml.linear_solvers._aspreconditioner import jacobi
from sciml.linear_solvers._cg import cg
from sciml.linear_solvers._preconditioner_operator import PreconditionerOperator
from sciml.numerics import StencilOperator
from sciml.numerics._sparse_matrix import SparseMatrix

# One shape nearly everywhere: each new one is compiled.
N_POINTS = (7, 9)
N = 63


class _Scaling(eqx.Module):
    scale: jax.Array

    def __call__(self, r):
        return r * self.scale.astype(r.dtype)


class _Power(eqx.Module):
    exponent: int = eqx.field(static=True)

    def __call__(self, r):
        return r**self.exponent


def _iterates(solver, *args, **kwargs):
    iterates = []
    x, info = solver(*args, callback=lambda x: iterates.append(x.copy()), **kwargs)
    return x, info, iterates


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_iterates_are_those_of_scipy(preconditioned, start, matrix, b):
    M = scipy.sparse.diags_array(1 / matrix.diagonal()).tocsr() if preconditioned else None
    x0 = np.cos(np.arange(N)) if start else None
    for rtol, atol in ((1e-9, 0.0), (0.0, 1e-4)):
        theirs = _iterates(scipy.sparse.linalg.cg, matrix, b, x0, M=M, rtol=rtol, atol=atol)
        ours = _iterates(cg, matrix, b, x0, M=M, rtol=rtol, atol=atol)
        compiled = cg(matrix, b, x0, M=M, rtol=rtol, atol=atol, full_output=True)
        assert theirs[1] == ours[1] == compiled[1] == 0
        assert len(theirs[2]) == len(ours[2]) == compiled[2]["num_steps"]
        for one, other in zip(theirs[2], ours[2], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(compiled[0], theirs[0], rtol=1e-8, atol=1e-12)


def test_stops_where_scipy_does_at_maxiter(matrix, b):
    theirs = scipy.sparse.linalg.cg(matrix, b, maxiter=7)
    ours = cg(matrix, b, maxiter=7)
    assert theirs[1] == ours[1] == 7
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-10)


def _lineax(matrix):
    with jax.enable_x64(True):
        return lx.MatrixLinearOperator(jnp.asarray(matrix.toarray()), lx.positive_semidefinite_tag)


def _in_x64(make):
    def inside(matrix):
        with jax.enable_x64(True):
            return make(matrix)

    return inside


KINDS = {
    "ndarray": lambda a: a.toarray(),
    "list": lambda a: a.toarray().tolist(),
    "csr_matrix": scipy.sparse.csr_matrix,
    "coo_array": scipy.sparse.coo_array,
    "dia_array": scipy.sparse.dia_array,
    "LinearOperator": aslinearoperator,
    "jax array": _in_x64(lambda a: jnp.asarray(a.toarray())),
    "BCOO": _in_x64(lambda a: BCOO.from_scipy_sparse(a)),
    "BCSR": _in_x64(lambda a: BCSR.from_scipy_sparse(a)),
    "lineax": _lineax,
    "SparseMatrix": _in_x64(SparseMatrix.from_scipy),
    "StencilOperator": _in_x64(lambda a: StencilOperator.from_scipy(a, N_POINTS)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix(kind, matrix, b):
    x, info = cg(KINDS[kind](matrix), b, rtol=1e-9)
    assert info == 0
    assert x.dtype == np.float64
    assert isinstance(x, np.ndarray)
    assert np.linalg.norm(b - matrix @ x) <= 1e-9 * np.linalg.norm(b)


def _preconditioners(matrix):
    inverse = 1 / matrix.diagonal()
    with jax.enable_x64(True):
        module = _Scaling(jnp.asarray(inverse))
        single = _Scaling(jnp.asarray(inverse, jnp.float32))
        on_grid = _Scaling(jnp.asarray(inverse.reshape(N_POINTS)))
    return {
        "ndarray": np.diag(inverse),
        "sparse": scipy.sparse.diags_array(inverse),
        "LinearOperator": aslinearoperator(scipy.sparse.diags_array(inverse)),
        "function": lambda r: inverse * r,
        "module": module,
        "float32 module": single,
        "ours": jacobi(matrix),
        "ours, on a grid": PreconditionerOperator(on_grid, N_POINTS, np.float64, "Jacobi"),
        "partial": jax.tree_util.Partial(lambda s, r: s * r, module.scale),
    }


@pytest.mark.parametrize("kind", _preconditioners(scipy.sparse.eye_array(N).tocsr()))
def test_every_kind_of_preconditioner(kind, matrix, b):
    M = _preconditioners(matrix)[kind]
    reference, info, record = cg(
        matrix, b, M=scipy.sparse.diags_array(1 / matrix.diagonal()), full_output=True, rtol=1e-9
    )
    for A in (matrix, aslinearoperator(matrix)):
        x, info, ours = cg(A, b, M=M, full_output=True, rtol=1e-9)
        assert info == 0
        assert x.dtype == np.float64
        assert abs(ours["num_steps"] - record["num_steps"]) <= ("float32" in kind)
        np.testing.assert_allclose(x, reference, atol=1e-8)


def test_our_preconditioner_in_scipy(matrix, b):
    M = jacobi(matrix)
    _, info = scipy.sparse.linalg.cg(matrix, b, M=M, rtol=1e-9)
    assert info == 0
    np.testing.assert_allclose(M.T @ b, M @ b)
    np.testing.assert_allclose(M @ b[:, None], (M @ b)[:, None])
    assert (M @ b.astype(np.float32)).dtype == np.float32
    assert "Jacobi" in repr(M)


def test_column_and_grid_shapes(matrix, b):
    reference, _ = cg(matrix, b)
    column, info = cg(matrix, b[:, None], b[:, None] * 0)
    assert info == 0
    np.testing.assert_array_equal(column, reference)
    assert column.shape == (N,)
    with jax.enable_x64(True):
        operator = StencilOperator.from_scipy(matrix, N_POINTS)
    on_grid, info = cg(operator, b.reshape(N_POINTS), np.zeros(N_POINTS))
    assert on_grid.shape == N_POINTS
    np.testing.assert_allclose(on_grid.ravel(), reference, rtol=1e-9)


@pytest.mark.parametrize("host", [False, True])
def test_many_right_hand_sides(host, matrix, b):
    A = aslinearoperator(matrix) if host else matrix
    many = np.stack([b, np.zeros(N), np.ones(N)], axis=1)
    x, info, record = cg(A, many, rtol=1e-9, full_output=True)
    assert x.shape == (N, 3)
    assert info.tolist() == [0, 0, 0]
    single = [cg(A, column, rtol=1e-9, full_output=True) for column in many.T]
    assert record["num_steps"].tolist() == [s[2]["num_steps"] for s in single]
    assert record["num_steps"][1] == 0
    for column, (alone, _, _) in zip(x.T, single, strict=True):
        np.testing.assert_allclose(column, alone, atol=1e-12)
    x, info = cg(A, many, np.ones(N), maxiter=2)
    assert info.tolist() == [2, 0, 2]
    assert record["message"] == ["converged"] * 3


def test_real_preconditioner_in_a_complex_solve(matrix, b):
    rhs = b + 1j * b[::-1]
    reference = cg(matrix, rhs, rtol=1e-10)[0]
    made = _preconditioners(matrix)
    for kind in ("ours", "ours, on a grid", "module", "float32 module", "sparse"):
        x, info = cg(matrix, rhs, M=made[kind], rtol=1e-10)
        assert (info, x.dtype) == (0, np.complex128)
        np.testing.assert_allclose(x, reference, atol=1e-8)
    np.testing.assert_allclose(made["ours"] @ rhs, rhs / matrix.diagonal())


def test_callbacks_get_copies(matrix, b):
    kept = []

    def callback(x):
        kept.append(x.copy())
        x[:] = np.nan

    x, info = cg(matrix, b, callback=callback)
    assert info == 0
    np.testing.assert_array_equal(kept[-1], x)
    assert not np.array_equal(kept[0], kept[1])
    with pytest.raises(ValueError, match="column by column"):
        cg(matrix, np.ones((N, 2)), callback=callback)


def test_errors_of_callbacks_and_operators_come_through(matrix, b):
    def fail(_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        cg(matrix, b, callback=fail)
    with pytest.raises(KeyError, match="mine"):
        cg(LinearOperator((N, N), fail, dtype=float), b)


def test_first_guess_from_the_preconditioner(matrix, b):
    M = scipy.sparse.diags_array(1 / matrix.diagonal())
    theirs = _iterates(scipy.sparse.linalg.cg, matrix, b, "Mb", M=M)
    x, info, record = cg(matrix, b, "Mb", M=M, full_output=True)
    assert (info, record["num_steps"]) == (0, len(theirs[2]))
    np.testing.assert_allclose(x, theirs[0], rtol=1e-9)


@pytest.mark.parametrize("host", [False, True])
def test_record(host, matrix, b):
    A = aslinearoperator(matrix) if host else matrix
    x, _, record = cg(A, b, full_output=True)
    history = record["residual_history"]
    assert len(history) == record["num_steps"] + 1
    assert history[0] == pytest.approx(np.linalg.norm(b))
    assert record["residual_norm"] == pytest.approx(np.linalg.norm(b - matrix @ x), rel=1e-6)
    assert record["message"] == "converged"
    assert cg(-matrix, b, full_output=True)[2]["message"] != "converged"


def test_inputs_are_left_alone(matrix, b):
    A, rhs, x0 = matrix.copy(), b.copy(), np.ones(N)
    cg(A, rhs, x0)
    np.testing.assert_array_equal(A.data, matrix.data)
    np.testing.assert_array_equal(rhs, b)
    np.testing.assert_array_equal(x0, 1)


def test_one_compilation_a_shape(matrix, b):
    cg(matrix, b)
    with jax.log_compiles(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        from sciml.linear_solvers._cg import _solve_columns

        counted = _solve_columns._cached._cache_size()
        cg(2 * matrix, 3 * b, rtol=1e-3, maxiter=40)
        assert _solve_columns._cached._cache_size() == counted


def test_nonlinear_preconditioner_warns_once(matrix, b):
    def cube_root(r):
        return np.cbrt(r)

    with pytest.warns(RuntimeWarning, match="not linear"):
        cg(matrix, b, M=cube_root, maxiter=3)
    cg(matrix, b, M=cube_root, maxiter=3)
    # Of two modules of one class one may be linear, and the other not.
    power = _Power(1)
    cg(matrix, b, M=power, maxiter=3)
    curved = _Power(3)
    with pytest.warns(RuntimeWarning, match="not linear"):
        cg(matrix, b, M=curved, maxiter=3)
    cg(matrix, b, M=curved, maxiter=3)
    upper = aslinearoperator(scipy.sparse.eye_array(N) + scipy.sparse.eye_array(N, k=1))
    with pytest.warns(RuntimeWarning, match="not symmetric"):
        cg(matrix, b, M=upper, maxiter=3)
