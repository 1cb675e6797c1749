"""The outcome of every edge case of `cg`: info, value, warnings and refusals."""

import warnings

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from scipy.sparse.linalg import aslinearoperator

from sciml.linear_solvers._cg import cg
from sciml.linear_solvers._preconditioner_operator import PreconditionerOperator
from sciml.numerics import StencilOperator

# One shape nearly everywhere: each new one is compiled.
N_POINTS = (7, 9)
N = 63


def _line(n):
    return scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))


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


@pytest.mark.parametrize("host", [False, True])
def test_start_beside_which_the_right_hand_side_vanishes(host, matrix, b):
    A = aslinearoperator(matrix) if host else matrix
    near, info = cg(A, b)
    assert info == 0
    # In units of the residual of this start `b` is zero; zero would solve that.
    far, info = cg(A, 2.0**-900 * b, np.full(N, 1e10))
    assert info == 0
    np.testing.assert_array_equal(far, 2.0**-900 * near)
    # An infinite start is no far one.
    identity = scipy.sparse.eye_array(N)
    A = aslinearoperator(identity) if host else identity
    assert cg(A, b, np.full(N, np.inf))[1] == -2


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


@pytest.mark.parametrize("signs", [-1.0, 0.0, [1.0, -1.0]], ids=["negative", "zero", "indefinite"])
def test_preconditioner_that_is_not_definite(signs, matrix, b):
    M = scipy.sparse.diags_array(np.resize(signs, N))
    for kind in (M, aslinearoperator(M)):
        x, info = cg(matrix, b, M=kind)
        assert info == -1
        assert np.linalg.norm(b - matrix @ x) <= np.linalg.norm(b)


@pytest.mark.parametrize("host", [False, True])
def test_not_finite(host, matrix, b):
    def door(A):
        return aslinearoperator(A) if host else A

    bad = b.copy()
    bad[7] = np.nan
    one = matrix.copy()
    one[3, 4] = np.nan  # off the diagonal, in one half only
    for A, rhs in ((matrix, bad), (matrix, b * np.inf), (matrix * np.nan, b), (one, b)):
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
    "M a complex array": ({"M": np.eye(N) * 1j}, ValueError, "`M` .* complex"),
    "M complex, sparse": ({"M": scipy.sparse.eye_array(N) * 1j}, ValueError, "`M` .* complex"),
    "M complex, ours": (
        {"M": PreconditionerOperator(lambda r: r * 1j, (N,), np.complex128, "twist")},
        ValueError,
        "`M` .* complex",
    ),
    "M compiled to complex": (
        {"M": jax.tree_util.Partial(lambda r: jax.lax.complex(r, 0 * r))},
        ValueError,
        "preconditioner returned complex",
    ),
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


@pytest.mark.parametrize(
    "A",
    [3.0, "A", np.array([["a"]]), object()],
    ids=["number", "string", "array of strings", "object"],
)
def test_wrong_kinds(A, b):
    with pytest.raises((TypeError, ValueError), match="`A`"):
        cg(A, b)


def test_sparse_right_hand_side(matrix):
    with pytest.raises(TypeError, match="dense"):
        cg(matrix, scipy.sparse.csr_array(np.ones((N, 1))))


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
    steps = []
    reference, _ = scipy.sparse.linalg.cg(A, b, M=M, rtol=1e-9, callback=steps.append)
    x, info, record = cg(aslinearoperator(A) if host else A, b, M=M, rtol=1e-9, full_output=True)
    assert (info, record["num_steps"]) == (0, len(steps))
    np.testing.assert_allclose(x, reference, rtol=1e-8)
    assert cg(A, b.real, rtol=1e-9)[0].dtype == np.complex128


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


# Factors of A and b: the answer overflows; underflows.
OUT_OF_RANGE = {
    "overflow": (1e-200, 1e200, np.float64, -2),
    "underflow": (1e200, 1e-200, np.float64, -3),
    "overflow, float32": (1e-20, 1e20, np.float32, -2),
    "underflow, float32": (1e20, 1e-22, np.float32, -3),
}


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_an_answer_out_of_range_is_no_success(case, host, matrix, b):
    by_a, by_b, dtype, expected = OUT_OF_RANGE[case]
    A, rhs = (matrix * by_a).astype(dtype), (b * by_b).astype(dtype)
    x, info, record = cg(aslinearoperator(A) if host else A, rhs, full_output=True)
    assert info == expected
    # A long way below the range: nothing, or next to nothing, is left.
    assert np.abs(x).max() <= 1e-41
    assert record["residual_norm"] / by_b == pytest.approx(np.linalg.norm(b), rel=1e-5) or x.any()


def test_constants_that_were_not_found_leave_no_garbage(matrix, b):
    """Of two closed basins only the entries tell; the scaled one has other constants."""
    scaling = scipy.sparse.diags_array(np.linspace(1, 3, N))
    basins = scipy.sparse.block_diag([_neumann(7, 4), _neumann(7, 5)]).tocsr()
    scaled = (scaling @ _neumann(*N_POINTS) @ scaling).tocsr()
    incompatible = b - b.mean() + np.where(np.arange(N) < 28, 35, -28) / 28
    for A, rhs in ((basins, incompatible), (scaled, b)):
        for operator in (aslinearoperator(A), *([scaled] if A is scaled else [])):
            for x0 in (None, np.ones(N)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    x, info, record = cg(operator, rhs, x0, rtol=1e-9, full_output=True)
                residual = np.linalg.norm(rhs - A @ x)
                start = np.linalg.norm(rhs if x0 is None else rhs - A @ x0)
                assert info != 0
                assert residual <= start * (1 + 1e-9)
                assert record["residual_norm"] == pytest.approx(residual, rel=1e-6)


@pytest.mark.parametrize("host", [False, True])
def test_messages_speak_of_the_arguments_of_the_door(host, matrix, b):
    def message(A, b, **settings):
        return cg(aslinearoperator(A) if host else A, b, full_output=True, **settings)[2]["message"]

    assert message(matrix, b) == "converged"
    assert "`maxiter`" in message(matrix, b, maxiter=3)
    assert "(3)" in message(matrix, b, maxiter=3)
    assert "not positive definite" in message(-matrix, b)
    assert "NaN or infinity" in message(matrix, b * np.nan)
    assert "larger tolerance" in message(matrix, b, rtol=1e-17)
    assert "no tolerance was given" in message(matrix, b, rtol=0)
    if host:
        many = message(matrix, np.stack([b, 0 * b, b], axis=1), maxiter=2)
        assert [words.startswith("iterations were not enough (2)") for words in many] == [1, 0, 1]


@pytest.mark.parametrize("host", [False, True])
def test_a_start_that_is_not_finite(host, matrix, b):
    x0 = np.ones(N)
    x0[3] = np.nan
    x, info = cg(aslinearoperator(matrix) if host else matrix, b, x0)
    assert info == -2
    assert not x.any()


def test_halves_are_taken_as_float32(matrix, b):
    half = matrix.toarray().astype(np.float16)
    x, info = cg(half, b.astype(np.float16), M=np.eye(N, dtype=np.float16))
    assert (info, x.dtype) == (0, np.float32)
    assert cg(half, b)[1] == 0
