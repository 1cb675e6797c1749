import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from sciml.linear_solvers._dcdm import dcdm
from sciml.linear_solvers._direction_network import DirectionNetwork
from sciml.numerics import StencilOperator

RNG = np.random.default_rng(4421)
LINE = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(6, 6))
MATRIX = sp.kronsum(LINE, LINE).tocsr()
N = MATRIX.shape[0]
B = RNG.standard_normal(N)
EXACT = np.linalg.solve(MATRIX.toarray(), B)
# Hermitian.
TWISTED = (MATRIX + 1j * (sp.eye_array(N, k=1) - sp.eye_array(N, k=-1)) / 4).tocsr()
COMPILED = jax.tree_util.Partial(lambda r: jnp.tanh(5 * r) + r)


def on_host(r):
    return np.tanh(5 * r) + r


@pytest.mark.parametrize("direction", [None, COMPILED, on_host])
def test_it_solves_and_says_so(direction):
    x, info, record = dcdm(MATRIX, B, direction=direction, rtol=1e-9, full_output=True)
    assert info == 0
    assert x.dtype == np.float64
    np.testing.assert_allclose(x, EXACT, rtol=1e-6)
    true = np.linalg.norm(B - MATRIX @ x)
    np.testing.assert_allclose(record["residual_norm"], true, rtol=1e-3, atol=1e-13)
    assert len(record["residual_history"]) == record["num_steps"] + 1


def test_host_and_compiled_loops_are_the_same():
    for settings in ({}, {"safeguard": False, "memory": 3}):
        (x, _, one), (y, _, other) = (
            dcdm(MATRIX, B, direction=d, rtol=1e-6, full_output=True, **settings)
            for d in (COMPILED, on_host)
        )
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7)
        same = ("num_steps", "matvecs", "direction_calls", "dropped_at", "n_rejected")
        assert {k: one[k] for k in same} == {k: other[k] for k in same}


def test_a_linear_m_gives_the_iterates_of_scipy():
    inverse = sp.diags_array(1 / np.linspace(1, 3, N))
    theirs, _ = spl.cg(MATRIX, B, rtol=0, maxiter=8, M=inverse)
    ours, info = dcdm(MATRIX, B, rtol=0.0, maxiter=8, M=inverse)
    assert info == 8
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    foreign, _ = dcdm(MATRIX, B, rtol=0.0, maxiter=8, M=spl.aslinearoperator(inverse))
    np.testing.assert_allclose(foreign, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sign", [-1.0, 0.0])
@pytest.mark.parametrize("foreign", [False, True])
def test_m_that_is_not_definite_converges(foreign, sign):
    M = sp.csr_array(sign * np.eye(N)) if foreign else sign * np.eye(N)
    M = spl.aslinearoperator(M) if foreign else M
    x, info, record = dcdm(MATRIX, B, M=M, rtol=1e-8, full_output=True)
    assert info == 0
    np.testing.assert_allclose(x, EXACT, rtol=1e-5)
    assert record["n_replaced"] == (0 if sign else record["num_steps"])


@pytest.mark.parametrize("foreign", [False, True])
def test_complex_hermitian_with_a_linear_m(foreign):
    A = TWISTED + sp.eye_array(N)
    rhs = B + 1j * B[::-1]
    M = sp.diags_array(1 / np.linspace(4, 6, N)).tocsr()
    x, info, record = dcdm(
        A, rhs, M=spl.aslinearoperator(M) if foreign else M, rtol=1e-9, full_output=True
    )
    assert info == 0
    np.testing.assert_allclose(x, np.linalg.solve(A.toarray(), rhs), rtol=1e-7)
    steps = []
    spl.cg(A, rhs, M=M, rtol=1e-9, callback=steps.append)
    assert abs(record["num_steps"] - len(steps)) <= 1


def test_callback_forms():
    iterates, facts = [], []
    x, _ = dcdm(MATRIX, B, direction=on_host, callback=iterates.append)
    assert (iterates[-1] == x).all()
    assert not (iterates[0] == x).all()
    dcdm(MATRIX, B, callback=lambda xk, info: facts.append(info))
    assert [f["num_steps"] for f in facts] == list(range(1, len(facts) + 1))
    assert facts[-1]["residual_norm"] <= 1e-5 * np.linalg.norm(B)


@pytest.mark.parametrize("direction", [COMPILED, on_host])
def test_edge_cases(direction):
    settings = {"direction": direction}
    x, info = dcdm(MATRIX, 0 * B, B, **settings)
    assert info == 0
    assert (x == 0).all()
    x, info = dcdm(MATRIX, MATRIX @ B, B, **settings)
    assert info == 0
    assert (x == B).all()
    x, info = dcdm(MATRIX, B, maxiter=0, **settings)
    assert info == 1
    assert (x == 0).all()
    x, info = dcdm(MATRIX, B, maxiter=3, rtol=1e-12, **settings)
    assert info == 3
    assert dcdm(MATRIX, np.where(B > 1, np.nan, B), **settings)[1] == -2
    indefinite = MATRIX - 3 * sp.eye_array(N)
    assert dcdm(indefinite, B, **settings)[1] == -1
    x, info = dcdm(MATRIX, B, rtol=0.0, **settings)
    assert info >= 0
    np.testing.assert_allclose(x, EXACT, rtol=1e-9)


@pytest.mark.parametrize("direction", [COMPILED, on_host])
def test_a_matrix_that_is_not_finite(direction):
    broken = MATRIX.copy()
    broken.data[7] = np.nan
    x, info = dcdm(broken, B, direction=direction)
    assert info == -2
    assert np.isfinite(x).all()


@pytest.mark.parametrize("direction", [COMPILED, on_host])
def test_two_components_each_with_a_constant_nullspace(direction):
    """Two closed basins that know nothing of each other: each has its own constant."""
    closed = LINE.toarray()
    closed[0, 0] = closed[-1, -1] = 1.0
    closed = sp.csr_array(closed)
    basin = sp.kronsum(closed, closed).tocsr()
    A = sp.block_diag([basin, 2 * basin], format="csr")
    b = np.concatenate([B - B.mean(), B[::-1] - B.mean()])
    x, info = dcdm(A, b, direction=direction, rtol=1e-9)
    assert info == 0
    assert np.linalg.norm(b - A @ x) <= 1e-9 * np.linalg.norm(b)
    for part in (x[:N], x[N:]):
        assert abs(part.mean()) < 1e-12


def test_the_published_form_reports_a_direction_that_is_none():
    assert dcdm(MATRIX, B, direction=np.zeros_like, safeguard=False)[1] == -3
    assert dcdm(MATRIX, B, direction=lambda r: r * np.nan, safeguard=False)[1] == -2
    _x, info, record = dcdm(MATRIX, B, direction=np.zeros_like, full_output=True)
    assert info == 0
    assert record["n_rejected"] == record["direction_calls"] == record["dropped_at"] == 5


def test_a_network_on_a_grid_and_several_right_hand_sides():
    network = DirectionNetwork(2, n_fine_layers=2, n_coarse_layers=0, key=jax.random.key(5))
    operator = StencilOperator.from_scipy(MATRIX, (6, 6))
    x, info = dcdm(operator, np.stack([B, 0 * B], axis=1), direction=network, rtol=1e-8)
    assert info.tolist() == [0, 0]
    np.testing.assert_allclose(x[:, 0], EXACT, rtol=1e-5)
    assert (x[:, 1] == 0).all()
    with pytest.raises(ValueError, match="from_scipy"):
        dcdm(MATRIX, B, direction=network)


def test_precision_follows_the_input():
    x, info = dcdm(MATRIX.astype(np.float32), B.astype(np.float32), direction=COMPILED, rtol=1e-10)
    assert x.dtype == np.float32
    assert info == -3
    np.testing.assert_allclose(x, EXACT, rtol=1e-2, atol=1e-4)
    x, info = dcdm(MATRIX.astype(int), np.ones(N, int), direction=COMPILED)
    assert x.dtype == np.float64
    assert info == 0


def test_static_misuse():
    with pytest.raises(ValueError, match="`b`"):
        dcdm(MATRIX, B[:-1], direction=COMPILED)
    with pytest.raises(ValueError, match="memory"):
        dcdm(MATRIX, B, memory=-1)
    with pytest.raises(ValueError, match="returned shape"):
        dcdm(MATRIX, B, direction=lambda r: r[:-1])
    with pytest.raises(TypeError, match="callable"):
        dcdm(MATRIX, B, direction=3)
    with pytest.raises(TypeError, match="real systems"):
        dcdm(MATRIX.astype(complex), B, direction=COMPILED)


@pytest.mark.parametrize("direction", [COMPILED, on_host])
def test_an_answer_out_of_range_is_no_success(direction):
    for by_a, by_b, expected in ((1e-200, 1e200, -2), (1e200, 1e-200, -3)):
        x, info = dcdm(MATRIX * by_a, B * by_b, direction=direction)
        assert info == expected
        assert not x.any()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"direction": on_host}, "A"),
        ({"M": sp.eye_array(N)}, "A"),
        ({"direction": lambda r: r * 1j}, "direction"),
        ({"direction": jax.tree_util.Partial(lambda r: jax.lax.complex(r, r))}, "direction"),
        ({"M": lambda r: r * 1j}, "M"),
        ({"M": jax.tree_util.Partial(lambda r: jax.lax.complex(r, r))}, "preconditioner"),
    ],
    ids=["A", "A with M", "direction", "compiled direction", "M", "compiled M"],
)
def test_complex_values_in_a_real_system(settings, name):
    A = MATRIX
    if name == "A":
        A = spl.LinearOperator((N, N), TWISTED.__matmul__, dtype=float)
    with pytest.raises(ValueError, match=f"{name}`? returned complex numbers"):
        dcdm(A, B, **settings)


@pytest.mark.parametrize("direction", [COMPILED, on_host])
def test_a_nullspace_that_was_not_found_leaves_no_garbage(direction):
    closed = LINE.toarray()
    closed[0, 0] = closed[-1, -1] = 1.0
    closed = sp.csr_array(closed)
    scaling = sp.diags_array(np.linspace(1, 3, N))
    A = (scaling @ sp.kronsum(closed, closed) @ scaling).tocsr()
    x, info, record = dcdm(A, B, direction=direction, rtol=1e-9, full_output=True)
    assert info != 0
    residual = np.linalg.norm(B - A @ x)
    assert residual <= np.linalg.norm(B)
    assert record["residual_norm"] == pytest.approx(residual, rel=1e-6)


def test_the_record_has_its_counts_without_direction_and_m():
    expected = {"n_rejected": 0, "n_replaced": 0, "direction_calls": 0, "dropped_at": -1}
    record = dcdm(MATRIX, B, full_output=True)[2]
    assert {k: record[k] for k in expected} == expected
    A = spl.aslinearoperator(MATRIX)
    record = dcdm(A, np.stack([B, B], axis=1), full_output=True)[2]
    assert {k: record[k].tolist() for k in expected} == {k: [v, v] for k, v in expected.items()}
