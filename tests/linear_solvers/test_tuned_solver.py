"""TunedSolver: arms solve, failures are caught by the backstop, the cheapest arm is found."""

import json
import sys
import time
import types
from typing import ClassVar

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse

import sciml
from sciml.core import RESULTS
from sciml.linear_solvers._chebyshev_bandit import ChebyshevBandit
from sciml.linear_solvers._solver_arms import (
    AbstractSolverArm,
    Attempt,
    ConjugateGradientArm,
    DirectArm,
    FunctionArm,
    IncompleteCholeskyArm,
    JacobiArm,
    SmoothedAggregationArm,
    SSORArm,
)
from sciml.linear_solvers._tuned_solver import SolveCost, TunedSolver


def laplacian(n):
    second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    eye = scipy.sparse.eye_array(n)
    return (scipy.sparse.kron(eye, second) + scipy.sparse.kron(second, eye)).tocsr()


def right_hand_side(n, seed=97):
    return np.random.default_rng(seed).normal(size=n)


def fails(A, b, rtol):
    return np.zeros_like(b), 7


def lies(A, b, rtol):
    return np.full_like(b, 1e3), 0


def raises(A, b, rtol):
    raise np.linalg.LinAlgError("singular")


@pytest.mark.parametrize(
    "arm",
    [
        ConjugateGradientArm(),
        JacobiArm(),
        SSORArm(1.5),
        DirectArm(),
        FunctionArm(lambda A, b, rtol: (np.linalg.solve(A.toarray(), b), 0), "dense"),
        IncompleteCholeskyArm(),
        SmoothedAggregationArm(),
    ],
    ids=lambda arm: type(arm).__name__,
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_arm_solves(arm, dtype):
    if isinstance(arm, IncompleteCholeskyArm):
        pytest.importorskip("ilupp")
    if isinstance(arm, SmoothedAggregationArm):
        pytest.importorskip("pyamg")
    rtol = 1e-9 if dtype is np.float64 else 1e-5
    A, b = laplacian(18).astype(dtype), right_hand_side(324).astype(dtype)
    solver = TunedSolver([arm])
    state, solution = solver.solve(solver.init(key=jax.random.key(1)), A, b, rtol=rtol)
    assert solution.result == RESULTS.successful
    assert solution.value.dtype == dtype
    residual = np.linalg.norm(b - A @ solution.value)
    assert residual <= rtol * np.linalg.norm(b) * (1 + 1e-5)
    assert solution.stats["residual_norm"] == pytest.approx(residual, rel=1e-3)
    assert solution.stats["arm"] == 0
    assert not solution.stats["helped"]
    assert (solution.stats["num_steps"] > 0) == arm.counts_steps
    assert state["tries"] == [1]


@pytest.mark.parametrize("function", [fails, lies, raises])
def test_a_failure_is_seen_in_the_residual_and_helped(function):
    solver = TunedSolver([FunctionArm(function, "bad"), DirectArm()], backstop=1)
    state = solver.init(key=jax.random.key(2))
    A, b = laplacian(8), right_hand_side(64)
    for _ in range(40):
        state, solution = solver.solve(state, A, b, rtol=1e-8)
        assert solution.result == RESULTS.successful
        assert np.linalg.norm(b - A @ solution.value) <= 1e-8 * np.linalg.norm(b)
        assert solution.stats["helped"] == (solution.stats["arm"] == 0)
    assert state["failures"] == [state["tries"][0], 0]
    assert 0 < state["tries"][0] < 40


def test_a_slow_arm_is_cut_off_and_its_iterate_is_used():
    """The first arm would take ten times the steps that patience grants it."""
    A, b = laplacian(24), right_hand_side(576)
    solver = TunedSolver(
        [SSORArm(0.02), SSORArm(1.6)], backstop=1, cost=SolveCost.STEPS, patience=1.5
    )
    state = solver.init(key=jax.random.key(2))
    state = state | {"tries": [0, 1], "total_cost": [0.0, 30.0]}
    cut = 0
    for _ in range(12):
        state, solution = solver.solve(state, A, b, rtol=1e-8)
        assert solution.result == RESULTS.successful
        if solution.stats["arm"] == 0:
            cut += 1
            assert solution.stats["helped"]
            assert 45 < solution.stats["num_steps"] < 45 + 60
            assert solution.stats["cost"] == solution.stats["num_steps"]
    assert cut


def test_the_clock_stops_an_iteration():
    A, b = laplacian(40), right_hand_side(1600)
    arm = ConjugateGradientArm()
    limits = {"rtol": 1e-12, "atol": 0.0, "max_steps": 10**6}
    tried = arm.solve(A, b, None, deadline=time.perf_counter() - 1.0, **limits)
    assert tried.num_steps == 1
    assert np.linalg.norm(b - A @ tried.x) > 1e-3 * np.linalg.norm(b)


def test_the_clock_may_be_that_of_the_processor():
    ticks = iter(range(100))
    A, b = laplacian(40), right_hand_side(1600)
    limits = {"rtol": 1e-12, "atol": 0.0, "max_steps": 10**6}
    tried = ConjugateGradientArm().solve(A, b, None, deadline=6.5, clock=ticks.__next__, **limits)
    assert tried.num_steps == 8  # the clock shows 0 after the first step


@pytest.mark.parametrize("cost", [SolveCost.SECONDS, SolveCost.CPU_SECONDS])
def test_a_first_look_is_cut_off_and_the_cheapest_arm_goes_on(cost):
    A, b = laplacian(40), right_hand_side(1600)
    asked = []

    def cheap(A, b, rtol):
        asked.append(rtol)
        return scipy.sparse.linalg.spsolve(A.tocsc(), b), 0

    arms = [SSORArm(0.001), FunctionArm(cheap, "cheap"), FunctionArm(raises, "backstop")]
    solver = TunedSolver(arms, backstop=2, cost=cost)
    state = solver.init(key=jax.random.key(2)) | {"tries": [0, 9, 0], "total_cost": [0, 0.09, 0]}
    for _ in range(6):
        before = len(asked)
        state, solution = solver.solve(state, A, b, rtol=1e-10)
        assert solution.result == RESULTS.successful
        assert len(asked) == before + 1
        assert solution.stats["helped"] == (solution.stats["arm"] != 1)
    assert state["tries"][0] >= 1
    assert state["failures"][0] == state["tries"][0]
    assert state["failures"][1] == 0


def test_the_cheapest_arm_is_found_and_the_state_is_json():
    A, b = laplacian(16), right_hand_side(256)
    arms = [SSORArm(omega) for omega in (0.3, 1.0, 1.7, 1.95)]
    solver = TunedSolver(arms, cost=SolveCost.STEPS, backstop=1)
    steps = []
    for arm in arms:
        single = TunedSolver([arm], cost=SolveCost.STEPS)
        state, solution = single.solve(single.init(key=jax.random.key(0)), A, b, rtol=1e-8)
        steps.append(solution.stats["num_steps"])
    state, total, chosen = solver.init(key=jax.random.key(6)), 0, []
    for _ in range(150):
        state, solution = solver.solve(json.loads(json.dumps(state)), A, b, rtol=1e-8)
        total += solution.stats["cost"]
        chosen.append(solution.stats["arm"])
    assert np.bincount(chosen[75:], minlength=4).argmax() == int(np.argmin(steps))
    assert total <= 1.2 * 150 * min(steps)
    assert sum(state["tries"]) == 150
    assert sum(state["total_cost"]) == total


class CountedArm(AbstractSolverArm):
    """Solves diagonal matrices in 3 steps if their first entry is as it likes, else in 90."""

    likes: float
    counts_steps: ClassVar[bool] = True

    def solve(self, A, b, x0, *, rtol, atol, max_steps, deadline=None, clock=None):
        return Attempt(b / A[0, 0], 3 if A[0, 0] == self.likes else 90)


def test_the_arm_follows_the_context():
    eye = scipy.sparse.eye_array(20).tocsr()
    bandit = ChebyshevBandit((0.0, 1.0), low=0.0, high=1.0, n_features=2)
    arms = [CountedArm(2.0), CountedArm(3.0)]
    solver = TunedSolver(arms, bandit=bandit, cost=SolveCost.STEPS, patience=1e6)
    state, steps = solver.init(key=jax.random.key(4)), []
    for step in range(120):
        odd = step % 2
        A = (3.0 if odd else 2.0) * eye
        state, solution = solver.solve(state, A, np.ones(20), context=float(odd))
        assert solution.result == RESULTS.successful
        steps.append(solution.stats["num_steps"])
    assert np.mean(np.array(steps[60:]) == 3) > 0.9
    with pytest.raises(ValueError, match="context"):
        solver.solve(state, eye, np.ones(20))


def test_systems_without_work_teach_nothing():
    solver = TunedSolver([ConjugateGradientArm(), DirectArm()])
    state = solver.init(key=jax.random.key(2))
    A, b = laplacian(4), right_hand_side(16)
    after, solution = solver.solve(state, A, np.zeros(16))
    assert after == state
    assert solution.result == RESULTS.successful
    assert not solution.value.any()
    b[2] = np.inf
    after, solution = solver.solve(state, A, b)
    assert after == state
    assert solution.result == RESULTS.nonfinite_input


@pytest.mark.parametrize("scale", [1e-200, 1e150])
def test_the_scale_of_b_does_not_fool_the_judge(scale):
    solver = TunedSolver([SSORArm(1.4)])
    A, b = laplacian(8), right_hand_side(64)
    _, solution = solver.solve(solver.init(key=jax.random.key(2)), A, scale * b, rtol=1e-8)
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(A @ (solution.value / scale), b, atol=1e-7)


def test_a_function_may_overwrite_what_it_gets():
    """What it leaves in ``b`` is not what the next arm is asked to solve, nor judged by."""

    def overwrites(A, b, rtol):
        A.data *= 0
        return scipy.linalg.solve(np.eye(64), b, overwrite_b=True) * 0, 0

    solver = TunedSolver([FunctionArm(overwrites, "overwrites"), DirectArm()], backstop=1)
    A, b = laplacian(8), right_hand_side(64)
    before = b.copy()
    _, solution = solver.solve(solver.init(key=jax.random.key(2)), A, b, rtol=1e-8)
    assert solution.stats["helped"]
    np.testing.assert_array_equal(b, before)
    np.testing.assert_allclose(laplacian(8) @ solution.value, before, atol=1e-12)


def test_the_answer_is_judged_in_the_precision_that_is_returned():
    precise = FunctionArm(
        lambda A, b, rtol: (np.linalg.solve(A.toarray().astype(float), b.astype(float)), 0),
        "double",
    )
    solver = TunedSolver([precise])
    A, b = laplacian(8).astype(np.float32), right_hand_side(64).astype(np.float32)
    _, solution = solver.solve(solver.init(key=jax.random.key(2)), A, b, rtol=1e-12)
    assert solution.value.dtype == np.float32
    assert solution.result == RESULTS.breakdown
    residual = np.linalg.norm(b.astype(float) - A.astype(float) @ solution.value.astype(float))
    assert residual == pytest.approx(solution.stats["residual_norm"], rel=0.5)


class ExactFactor:
    """Stands for ilupp, of which it has the interface and the limits."""

    def __init__(self, A):
        assert A.dtype == np.float64
        self.inverse = np.linalg.inv(A.toarray())

    def apply(self, z):
        assert z.dtype == np.float64
        z[:] = self.inverse @ z


@pytest.fixture
def ilupp(monkeypatch):
    """Put the stand-in where the arm looks for ilupp."""
    module = types.ModuleType("ilupp")
    module.IChol0Preconditioner = ExactFactor
    monkeypatch.setitem(sys.modules, "ilupp", module)


@pytest.mark.parametrize("arm", [DirectArm(), SmoothedAggregationArm(), IncompleteCholeskyArm()])
@pytest.mark.parametrize(
    ("of_matrix", "of_vector"),
    [(np.float32, np.float64), (np.float64, np.float32), (np.float64, np.complex128)],
)
def test_matrix_and_vector_may_differ_in_dtype(arm, of_matrix, of_vector, ilupp):
    if isinstance(arm, SmoothedAggregationArm):
        pytest.importorskip("pyamg")
    A, b = laplacian(8).astype(of_matrix), right_hand_side(64)
    b = (b - 1j * b[::-1] if of_vector is np.complex128 else b).astype(of_vector)
    solver = TunedSolver([arm])
    _, solution = solver.solve(solver.init(key=jax.random.key(2)), A, b, rtol=1e-8)
    assert solution.result == RESULTS.successful
    assert solution.value.dtype == np.result_type(of_matrix, of_vector)
    assert np.linalg.norm(b - A @ solution.value) <= 1e-8 * np.linalg.norm(b)


def test_incomplete_cholesky_leaves_complex_matrices_to_others(ilupp):
    A = np.array([[2.0, 1.0j], [-1.0j, 3.0]])
    solver = TunedSolver([IncompleteCholeskyArm(), DirectArm()], backstop=1)
    _, solution = solver.solve(solver.init(key=jax.random.key(2)), A, np.ones(2), rtol=1e-8)
    assert solution.stats["helped"]
    np.testing.assert_allclose(A @ solution.value, 1.0, rtol=1e-12)


def test_when_all_fail_the_result_says_so():
    indefinite = scipy.sparse.diags_array(np.array([1.0, -1.0, 2.0, -3.0])).tocsr()
    solver = TunedSolver([ConjugateGradientArm(), FunctionArm(raises, "bad")])
    state = solver.init(key=jax.random.key(2))
    state, solution = solver.solve(state, indefinite, np.ones(4))
    assert solution.result == RESULTS.breakdown
    assert sum(state["failures"]) == 1
    with pytest.raises(RuntimeError):
        sciml.core.throw_if_failed(solution)


def test_a_zero_on_the_diagonal_is_a_failure_of_the_arm_only():
    A = np.array([[0.0, 1.0], [1.0, 0.0]])
    for arm in (JacobiArm(), SSORArm(1.0)):
        solver = TunedSolver([arm, DirectArm()], backstop=1)
        state = solver.init(key=jax.random.key(2))
        for _ in range(4):
            state, solution = solver.solve(state, A, np.array([1.0, 2.0]))
            np.testing.assert_allclose(solution.value, [2.0, 1.0])


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="arms"):
        TunedSolver([])
    with pytest.raises(ValueError, match="backstop"):
        TunedSolver([ConjugateGradientArm()], backstop=1)
    with pytest.raises(ValueError, match="counts no steps"):
        TunedSolver([DirectArm()], cost=SolveCost.STEPS)
    with pytest.raises(ValueError, match="patience"):
        TunedSolver([DirectArm()], patience=0.5)
    with pytest.raises(ValueError, match="one entry for each of 1"):
        TunedSolver([DirectArm()], bandit=ChebyshevBandit((0.0, 1.0), low=0.0, high=1.0))
    with pytest.raises(ValueError, match="omega"):
        SSORArm(2.0)
    solver = TunedSolver([DirectArm()])
    state = solver.init(key=jax.random.key(2))
    with pytest.raises(ValueError, match="state"):
        TunedSolver([DirectArm(), JacobiArm()]).solve(state, laplacian(3), np.ones(9))
    with pytest.raises(ValueError, match=r"\(9,\)"):
        solver.solve(state, laplacian(3), np.ones(8))
    shaped = TunedSolver([FunctionArm(lambda A, b, rtol: (b[:2], 0), "short")])
    with pytest.raises(ValueError, match="shape"):
        shaped.solve(shaped.init(key=jax.random.key(2)), laplacian(3), np.ones(9))


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyamg", None)
    solver = TunedSolver([SmoothedAggregationArm()])
    with pytest.raises(ImportError, match=r"sciml\[amg\]"):
        solver.solve(solver.init(key=jax.random.key(2)), laplacian(3), np.ones(9))


def test_seconds_of_the_processor_do_not_count_waiting():
    def waits(A, b, rtol):
        time.sleep(0.2)
        return scipy.sparse.linalg.spsolve(A.tocsc(), b), 0

    solver = TunedSolver([FunctionArm(waits, "waits")], cost=SolveCost.CPU_SECONDS)
    _, solution = solver.solve(solver.init(key=jax.random.key(6)), laplacian(6), np.ones(36))
    assert solution.result == RESULTS.successful
    assert 0 <= solution.stats["cost"] < 0.1 < solution.stats["seconds"]
