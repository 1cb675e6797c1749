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
from sciml.linear_solvers._scipy_inputs import PreconditionerOperator
from sciml.numerics import StencilOperator
from sciml.numerics._sparse_matrix import SparseMatrix

# One shape nearly everywhere: each new one is compiled.
N_POINTS = (7, 9)
N = 63


def _line(n):
    return scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))


@pytest.fixture(scope="module")
def matrix():
    """A diffusion matrix whose diagonal varies: Jacobi's preconditioner does something."""
    lines = [_line(n) for n in reversed(N_POINTS)]
    laplacian = scipy.sparse.kronsum(*lines)
    return (laplacian + scipy.sparse.diags_array(np.linspace(0, 2, N))).tocsr()


@pytest.fixture(scope="module")
def b():
    return np.random.default_rng(6021).normal(size=N)


class _Scaling(eqx.Module):
    scale: jax.Array

    def __call__(self, r):
        return r * self.scale.astype(r.dtype)


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


# The table of edge cases.


@pytest.mark.parametrize("x0", [None, np.ones(N), "Mb"])
@pytest.mark.parametrize("host", [False, True])
def test_zero_right_hand_side(x0, host, matrix):
    A = aslinearoperator(matrix) if host else matrix
    called = []
    x, info = cg(A, np.zeros(N), x0, callback=called.append if host else None)
    assert info == 0
    assert not x.any()
    assert called == []
    assert cg(A, np.zeros(N), x0, full_output=True)[2]["num_steps"] == 0


@pytest.mark.parametrize("host", [False, True])
def test_exact_start(host, matrix):
    exact = np.arange(N) - 20.0
    A = aslinearoperator(matrix) if host else matrix
    x, info, record = cg(A, matrix @ exact, exact, full_output=True)
    assert (info, record["num_steps"]) == (0, 0)
    np.testing.assert_array_equal(x, exact)
    assert x is not exact


@pytest.mark.parametrize("A", [np.array([[4.0]]), np.eye(N)], ids=["one unknown", "identity"])
def test_one_iteration(A):
    b = np.linspace(1, 2, len(A))
    x, info, record = cg(A, b, full_output=True)
    assert (info, record["num_steps"]) == (0, 1)
    np.testing.assert_allclose(A @ x, b, rtol=1e-15)


@pytest.mark.parametrize("host", [False, True])
def test_no_tolerance_runs_to_rounding(host, matrix, b):
    x, info = cg(aslinearoperator(matrix) if host else matrix, b, rtol=0, atol=0)
    assert info >= 0
    assert np.linalg.norm(b - matrix @ x) < 1e-13 * np.linalg.norm(b)
    assert cg(matrix, b, rtol=0, maxiter=5)[1] == 5


@pytest.mark.parametrize("host", [False, True])
def test_no_iterations(host, matrix, b):
    A = aslinearoperator(matrix) if host else matrix
    x0 = np.ones(N)
    x, info = cg(A, b, x0, maxiter=0)
    assert info == 1
    np.testing.assert_array_equal(x, x0)
    assert cg(A, matrix @ x0, x0, maxiter=0)[1] == 0


def _neumann(*shape):
    lines = []
    for n in reversed(shape):
        line = _line(n).tolil()
        line[0, 0] = line[-1, -1] = 1.0
        lines.append(line)
    return scipy.sparse.kronsum(*lines).tocsr()


@pytest.mark.parametrize("host", [False, True])
def test_compatible_neumann(host, b):
    A = _neumann(*N_POINTS)
    b = b - b.mean()
    x, info = cg(aslinearoperator(A) if host else A, b, np.ones(N), rtol=1e-9)
    assert info == 0
    assert abs(x.mean()) < 1e-13
    assert np.linalg.norm(b - A @ x) <= 1e-9 * np.linalg.norm(b)


@pytest.mark.parametrize("host", [False, True])
def test_incompatible_neumann(host, b):
    A = _neumann(*N_POINTS)
    share = 0.1 * np.linalg.norm(b - b.mean()) / np.sqrt(1 - 0.1**2) / np.sqrt(N)
    with pytest.warns(RuntimeWarning, match=r"part in the nullspace, 1\.0e-01"):
        x, info = cg(aslinearoperator(A) if host else A, b - b.mean() + share, rtol=1e-9)
    assert info == -3
    assert np.linalg.norm(b - b.mean() - A @ x) <= 1e-8 * np.linalg.norm(b)


def test_two_components_one_enclosed(b):
    """A ring of solid cells cuts a pool off; all boundaries are closed."""
    shape = N_POINTS
    fluid = np.ones(shape, bool)
    fluid[1:6, 2:7] = False
    fluid[2:5, 3:6] = True
    numbers = np.arange(N).reshape(shape)
    pairs = []
    for axis in (0, 1):
        low = np.moveaxis(numbers, axis, 0)[:-1].ravel()
        high = np.moveaxis(numbers, axis, 0)[1:].ravel()
        both = fluid.ravel()[low] & fluid.ravel()[high]
        pairs.append(np.stack([low[both], high[both]]))
    i, j = np.concatenate(pairs, axis=1)
    adjacency = scipy.sparse.coo_array((np.ones(i.size), (i, j)), shape=(N, N))
    adjacency = (adjacency + adjacency.T).tocsr()
    A = scipy.sparse.diags_array(adjacency.sum(axis=1)) - adjacency
    pool = np.zeros(shape, bool)
    pool[2:5, 3:6] = True
    sea = fluid & ~pool
    b = np.where(fluid.ravel(), b, 0)
    for part in (pool.ravel(), sea.ravel()):
        b[part] -= b[part].mean()
    for operator in (A, StencilOperator.from_scipy(A.astype(np.float32), shape)):
        x, info = cg(operator, b, rtol=1e-9)
        assert info == 0
        np.testing.assert_allclose(A @ x, b, atol=1e-7)
        for part in (pool.ravel(), sea.ravel()):
            assert abs(x[part].mean()) < 1e-13
        assert not x[~fluid.ravel()].any()


@pytest.mark.parametrize("host", [False, True])
def test_indefinite(host, matrix, b):
    def door(A):
        return aslinearoperator(A) if host else A

    assert cg(door(-matrix), b)[1] == -1
    shifted = matrix - scipy.sparse.eye_array(N)
    x, info = cg(door(shifted), b, rtol=1e-12)
    assert info == -1
    assert np.isfinite(x).all()


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_not_hermitian_warns(host, dtype, matrix, b):
    A = (matrix + 1e-3 * scipy.sparse.diags_array(np.ones(N - 1), offsets=1)).astype(dtype)
    with pytest.warns(RuntimeWarning, match="Hermitian"):
        cg(aslinearoperator(A) if host else A, b)


def test_untagged_lineax_operator(matrix, b):
    with jax.enable_x64(True):
        A = lx.MatrixLinearOperator(jnp.asarray(matrix.toarray()))
    with pytest.raises(ValueError, match="positive_semidefinite_tag"):
        cg(A, b)


@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_preconditioner_that_is_not_definite(sign, matrix, b):
    assert cg(matrix, b, M=sign * scipy.sparse.eye_array(N))[1] == -1
    assert cg(matrix, b, M=aslinearoperator(sign * np.eye(N)))[1] == -1


@pytest.mark.parametrize("host", [False, True])
def test_not_finite(host, matrix, b):
    def door(A):
        return aslinearoperator(A) if host else A

    bad = b.copy()
    bad[7] = np.nan
    for A, rhs in ((matrix, bad), (matrix, b * np.inf), (matrix * np.nan, b)):
        x, info, record = cg(door(A), rhs, full_output=True)
        assert (info, record["num_steps"]) == (-2, 0)
        assert not x.any()


SHAPES = {
    "b too short": (lambda a, b: (a, b[:-1]), r"\(62,\)"),
    "b of another grid": (lambda a, b: (a, b.reshape(9, 7)), r"\(9, 7\)"),
    "b without columns": (lambda a, b: (a, np.ones((N, 0))), r"\(63, 0\)"),
    "A rectangular": (lambda a, b: (a[:, :5], b), r"\(63, 5\)"),
    "A of no rows": (lambda a, b: (np.zeros((0, 0)), b), "one row"),
    "A a vector": (lambda a, b: (b, b), r"\(63,\)"),
    "LinearOperator": (lambda a, b: (aslinearoperator(a[:, :5]), b), r"\(63, 5\)"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_wrong_shapes(case, matrix, b):
    make, words = SHAPES[case]
    with pytest.raises(ValueError, match=words):
        cg(*make(matrix, b))


ARGUMENTS = {
    "M too small": ({"M": np.eye(5)}, ValueError, r"\(5, 5\).*\(63, 63\)"),
    "M operator too small": ({"M": aslinearoperator(np.eye(5))}, ValueError, r"\(5, 5\)"),
    "M a string": ({"M": "jacobi"}, TypeError, "`M`"),
    "M shortens": ({"M": lambda r: r[:-1]}, ValueError, r"`M` returned shape \(62,\)"),
    "M complex": ({"M": lambda r: r * 1j}, ValueError, "complex"),
    "x0 too short": ({"x0": np.ones(5)}, ValueError, r"\(5,\)"),
    "x0 a word": ({"x0": "zero"}, ValueError, "'Mb'"),
    "x0 complex": ({"x0": np.ones(N) * 1j}, ValueError, "complex"),
    "rtol negative": ({"rtol": -1e-5}, ValueError, "rtol"),
    "atol NaN": ({"atol": np.nan}, ValueError, "atol"),
    "rtol a word": ({"rtol": "legacy"}, TypeError, "rtol"),
    "maxiter negative": ({"maxiter": -1}, ValueError, "maxiter"),
    "maxiter a fraction": ({"maxiter": 2.5}, TypeError, "maxiter"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_wrong_arguments(case, matrix, b):
    changes, error, words = ARGUMENTS[case]
    with pytest.raises(error, match=words):
        cg(matrix, b, **changes)


@pytest.mark.parametrize("A", [3.0, "A", np.array([["a"]]), object()], ids=repr)
def test_wrong_kinds(A, b):
    with pytest.raises((TypeError, ValueError), match="`A`"):
        cg(A, b)


def test_sparse_right_hand_side(matrix):
    with pytest.raises(TypeError, match="dense"):
        cg(matrix, scipy.sparse.csr_array(np.ones((N, 1))))


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


def test_integers_become_float64(b):
    A = np.array([[4, -1], [-1, 3]])
    x, info = cg(A, np.array([1, 2]), rtol=1e-12)
    assert (info, x.dtype) == (0, np.float64)
    np.testing.assert_allclose(A @ x, [1, 2], rtol=1e-11)


def test_precision_follows_matrix_and_right_hand_side(matrix, b):
    single = matrix.astype(np.float32)
    assert cg(single, b.astype(np.float32))[0].dtype == np.float32
    assert cg(single, b)[0].dtype == np.float64
    assert cg(matrix, b.astype(np.float32))[0].dtype == np.float64
    assert not jax.config.jax_enable_x64


def test_float32_does_not_claim_what_it_has_not(matrix, b):
    for A in (matrix.astype(np.float32), aslinearoperator(matrix.astype(np.float32))):
        x, info, record = cg(A, b.astype(np.float32), rtol=1e-10, full_output=True)
        assert (info, x.dtype) == (-3, np.float32)
        assert 1e-10 < record["residual_norm"] / np.linalg.norm(b) < 1e-5


@pytest.mark.parametrize("host", [False, True])
def test_complex_hermitian(host, b):
    rng = np.random.default_rng(12)
    phases = np.exp(1j * rng.uniform(0, 6, N - 1))
    off = scipy.sparse.diags_array(phases, offsets=1)
    A = (off + off.conj().T + scipy.sparse.diags_array(np.linspace(2.1, 5, N))).tocsr()
    b = b + 1j * rng.normal(size=N)
    M = scipy.sparse.diags_array(1 / A.diagonal())
    theirs = _iterates(scipy.sparse.linalg.cg, A, b, M=M, rtol=1e-9)
    x, info, record = cg(aslinearoperator(A) if host else A, b, M=M, rtol=1e-9, full_output=True)
    assert (info, record["num_steps"]) == (0, len(theirs[2]))
    np.testing.assert_allclose(x, theirs[0], rtol=1e-8)
    assert cg(A, b.real, rtol=1e-9)[0].dtype == np.complex128


def test_real_preconditioner_in_a_complex_solve(matrix, b):
    rhs = b + 1j * b[::-1]
    reference = cg(matrix, rhs, rtol=1e-10)[0]
    made = _preconditioners(matrix)
    for kind in ("ours", "ours, on a grid", "module", "float32 module", "sparse"):
        x, info = cg(matrix, rhs, M=made[kind], rtol=1e-10)
        assert (info, x.dtype) == (0, np.complex128)
        np.testing.assert_allclose(x, reference, atol=1e-8)
    np.testing.assert_allclose(made["ours"] @ rhs, rhs / matrix.diagonal())


@pytest.mark.parametrize("scale", [1e-30, 1e-200, 1e30, 1e200])
@pytest.mark.parametrize("host", [False, True])
def test_scale_invariance(scale, host, matrix, b):
    A = aslinearoperator(matrix) if host else matrix
    reference, _, record = cg(A, b, rtol=1e-9, full_output=True)
    x, info, scaled = cg(A, scale * b, rtol=1e-9, full_output=True)
    assert info == 0
    assert scaled["num_steps"] == record["num_steps"]
    np.testing.assert_allclose(x / scale, reference, rtol=1e-9)


def test_permutation(matrix, b):
    order = np.random.default_rng(4).permutation(N)
    x, _ = cg(matrix, b, rtol=1e-12)
    permuted, _ = cg(matrix[order][:, order], b[order], rtol=1e-12)
    np.testing.assert_allclose(permuted, x[order], rtol=1e-8)


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
