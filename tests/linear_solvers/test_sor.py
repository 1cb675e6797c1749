"""SOR and SSOR against their dense formulas, Young's formula, edge cases, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import cg

from sciml.core import RESULTS
from sciml.linear_solvers._sor import sor, ssor_preconditioner, young_omega


def spd_matrix(n, seed, complex_entries=False):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, n))
    if complex_entries:
        factor = factor + 1j * rng.normal(size=(n, n))
    return factor @ factor.conj().T + n * np.eye(n)


def laplacian(n, shift=0.0):
    second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    eye = scipy.sparse.eye_array(n)
    plane = scipy.sparse.kron(eye, second) + scipy.sparse.kron(second, eye)
    return (plane + shift * scipy.sparse.eye_array(n * n)).tocsr()


@pytest.mark.parametrize("omega", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("complex_entries", [False, True])
def test_ssor_is_the_dense_formula_and_hermitian(omega, complex_entries):
    A = spd_matrix(12, 311, complex_entries)
    D, L = np.diag(np.diag(A)), np.tril(A, -1)
    W = D / omega + L
    M = omega / (2 - omega) * W @ np.linalg.inv(D) @ W.conj().T
    operator = ssor_preconditioner(scipy.sparse.csr_array(A), omega)
    dense = operator @ np.eye(12, dtype=A.dtype)
    np.testing.assert_allclose(dense, np.linalg.inv(M), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dense, dense.conj().T, rtol=1e-12, atol=1e-14)
    assert np.linalg.eigvalsh(dense).min() > 0
    assert operator.matmat(np.ones((12, 1), A.dtype)).shape == (12, 1)


def test_ssor_preconditions_scipys_cg():
    A, b = laplacian(20), np.ones(400)
    steps = {}
    for name, M in {"none": None, "ssor": ssor_preconditioner(A, 1.6)}.items():
        seen = []
        x, info = cg(A, b, rtol=1e-8, M=M, callback=seen.append)
        assert info == 0
        assert np.linalg.norm(b - A @ x) <= 1.01e-8 * 20
        steps[name] = len(seen)
    assert steps["ssor"] < 0.6 * steps["none"]


@pytest.mark.parametrize("omega", [0.8, 1.0, 1.4])
def test_sor_makes_the_steps_of_the_textbook(omega):
    A = spd_matrix(9, 877)
    b = np.random.default_rng(12).normal(size=9)
    x = np.zeros(9)
    for _ in range(4):
        for i in range(9):
            x[i] += omega * (b[i] - A[i] @ x) / A[i, i]
    solution = sor(A, b, omega, rtol=0.0, max_steps=4, throw=False)
    np.testing.assert_allclose(solution.value, x, rtol=1e-12, atol=1e-14)
    assert solution.result == RESULTS.max_steps_reached
    assert solution.stats["num_steps"] == 4
    residual = np.linalg.norm(b - A @ x)
    assert solution.stats["residual_norm"] == pytest.approx(residual, rel=1e-10)


def test_youngs_omega_is_the_best_on_the_model_problem():
    A, b = laplacian(10), np.random.default_rng(7).normal(size=100)
    best = young_omega(np.cos(np.pi / 11))
    steps = {
        omega: sor(A, b, omega, rtol=1e-8).stats["num_steps"]
        for omega in (1.0, best - 0.1, best, best + 0.1)
    }
    assert min(steps, key=steps.get) == best
    assert steps[best] < 0.2 * steps[1.0]


def test_young_omega():
    assert young_omega(0.0) == 1.0
    assert young_omega(1 - 1e-16) == pytest.approx(2.0, abs=1e-6)
    for beta in (1.0, 1.5, -0.1, np.nan):
        with pytest.raises(ValueError, match="beta"):
            young_omega(beta)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_scale_of_b_changes_no_step(scale, dtype):
    A, b = laplacian(6).astype(dtype), np.linspace(1, 2, 36).astype(dtype)
    plain = sor(A, b, 1.4, rtol=1e-4)
    scaled = sor(A, (b * dtype(scale)).astype(dtype), 1.4, rtol=1e-4)
    assert scaled.value.dtype == dtype
    assert scaled.stats["num_steps"] == plain.stats["num_steps"]
    np.testing.assert_allclose(scaled.value / dtype(scale), plain.value, rtol=1e-5)


def test_trivial_systems():
    A = laplacian(4)
    zero = sor(A, np.zeros(16), 1.5, x0=np.ones(16), rtol=1e-10)
    assert not zero.value.any()
    assert zero.stats["num_steps"] == 0
    exact = np.arange(16.0)
    solution = sor(A, A @ exact, 1.5, x0=exact)
    np.testing.assert_allclose(solution.value, exact, rtol=1e-14)
    assert solution.stats["num_steps"] == 0
    whole = sor(np.array([[2, -1], [-1, 2]]), np.array([[1], [0]]), 1.1)
    assert whole.value.dtype == np.float64
    np.testing.assert_allclose(whole.value, [2 / 3, 1 / 3], rtol=1e-4)
    assert sor(np.array([[4.0]]), np.array([2.0]), 1.0).stats["num_steps"] == 1


def test_run_time_failures_are_results():
    b = np.ones(16)
    b[3] = np.nan
    assert sor(laplacian(4), b, 1.5, throw=False).result == RESULTS.nonfinite_input
    indefinite = np.array([[1.0, 30.0], [30.0, 1.0]])
    assert sor(indefinite, np.ones(2), 1.5, throw=False).result == RESULTS.breakdown
    with pytest.raises(RuntimeError, match="SOR with omega"):
        sor(laplacian(8), np.ones(64), 1.0, rtol=1e-12, max_steps=3)


@pytest.mark.parametrize("omega", [0.0, 2.0, -1.0, 2.5, np.nan])
def test_omega_outside_its_range_is_refused(omega):
    with pytest.raises(ValueError, match="omega"):
        ssor_preconditioner(laplacian(3), omega)
    with pytest.raises(ValueError, match="omega"):
        sor(laplacian(3), np.ones(9), omega)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="entry 1 is 0"):
        ssor_preconditioner(np.diag([1.0, 0.0, 2.0]), 1.0)
    with pytest.raises(ValueError, match="square"):
        ssor_preconditioner(np.ones((2, 3)), 1.0)
    with pytest.raises(ValueError, match=r"\(4,\).*\(9, 9\).*\(5,\)|\(9,\).*\(9, 9\).*\(5,\)"):
        sor(laplacian(3), np.ones(5), 1.0)
    with pytest.raises(ValueError, match="x0"):
        sor(laplacian(3), np.ones(9), 1.0, x0=np.ones(4))
    with pytest.raises(ValueError, match="rtol"):
        sor(laplacian(3), np.ones(9), 1.0, rtol=-1.0)


def test_an_answer_outside_the_range_is_no_success():
    """The solution is 1e40 in float32, or 1e-400 in float64."""
    for A, b in (
        (np.array([[2e-20, -1e-20], [-1e-20, 2e-20]], np.float32), np.float32([1e20, 0.0])),
        (1e200 * np.array([[2.0, -1.0], [-1.0, 2.0]]), np.array([1e-200, 0.0])),
    ):
        assert sor(A, b, 1.1, throw=False).result == RESULTS.breakdown


def test_a_start_far_beyond_the_answer_is_left_out():
    A = np.array([[2.0, -1.0], [-1.0, 2.0]])
    solution = sor(A, np.full(2, 1e-300), 1.1, x0=np.full(2, 1e10), rtol=1e-8)
    np.testing.assert_allclose(solution.value, 1e-300, rtol=1e-7)


def test_ssor_takes_omega_as_a_jax_scalar():
    A, r = spd_matrix(5, 19), np.arange(5.0)
    expected = ssor_preconditioner(A, 1.25).matvec(r)
    np.testing.assert_array_equal(ssor_preconditioner(A, jnp.asarray(1.25)).matvec(r), expected)


def test_ssor_of_a_real_matrix_takes_complex_vectors():
    A = np.array([[2.0, -1.0], [-1.0, 2.0]])
    operator, r = ssor_preconditioner(A, 1.0), np.array([1.0 + 2.0j, -3.0j])
    expected = operator.matvec(r.real) + 1j * operator.matvec(r.imag)
    np.testing.assert_array_equal(operator.matvec(r), expected)
