"""The published setup: 5000 shifted Laplacians with 100 unknowns, costs in iterations.

The iterations of SOR are tabulated once over shifts and ``omega``; a run is a look-up. Shifts are
drawn from the published distribution, rounded to the 24 of the table.
"""

import jax
import numpy as np
import pytest
import scipy.sparse

from sciml.linear_solvers._binned_bandit import BinnedBandit
from sciml.linear_solvers._chebyshev_bandit import ChebyshevBandit
from sciml.linear_solvers._sor import sor, young_omega
from sciml.linear_solvers._tsallis_inf import TsallisINF

GRID = tuple(np.linspace(1.0, 1.95, 20).tolist())
LOW, HIGH = -0.15, 0.45
SHIFTS = LOW + (HIGH - LOW) * (np.arange(24) + 0.5) / 24
N_STEPS = 5000


@pytest.fixture(scope="module")
def iterations():
    second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(10, 10))
    eye = scipy.sparse.eye_array(10)
    laplacian = scipy.sparse.kron(eye, second) + scipy.sparse.kron(second, eye)
    rng = np.random.default_rng(631)
    table = np.zeros((len(SHIFTS), len(GRID)))
    for i, shift in enumerate(SHIFTS):
        A = (laplacian + shift * scipy.sparse.eye_array(100)).tocsr()
        b = rng.normal(size=100)
        table[i] = [sor(A, b, omega, rtol=1e-8).stats["num_steps"] for omega in GRID]
    return table


def mean_cost(bandit, iterations, drawn, seed):
    state = bandit.init(key=jax.random.key(seed))
    total = 0.0
    for i in drawn:
        state, index, _ = bandit.ask(state, SHIFTS[i])
        total += iterations[i, index]
        state = bandit.tell(state, iterations[i, index])
    return total / len(drawn)


@pytest.fixture(scope="module")
def drawn():
    shifts = np.random.default_rng(0).beta(2, 6, size=N_STEPS)
    return np.minimum((shifts * len(SHIFTS)).astype(int), len(SHIFTS) - 1)


def test_the_setup_is_that_of_the_paper(iterations, drawn):
    mean = iterations[drawn].mean(axis=0)
    assert 250 < mean[0] < 290
    assert 55 < mean.min() < 63
    assert GRID[int(mean.argmin())] == pytest.approx(1.65)
    young = [young_omega(4 * np.cos(np.pi / 11) / (4 + shift)) for shift in SHIFTS]
    nearest = np.abs(np.array(GRID) - np.array(young)[:, None]).argmin(axis=1)
    at_young = iterations[np.arange(len(SHIFTS)), nearest]
    assert (at_young[drawn].mean()) < 1.06 * iterations.min(axis=1)[drawn].mean()


def test_tsallis_is_near_the_best_fixed_omega(iterations, drawn):
    best = iterations[drawn].mean(axis=0).min()
    assert mean_cost(TsallisINF(GRID), iterations, drawn, 0) <= 1.2 * best


def test_bins_pay(iterations, drawn):
    bandit = BinnedBandit(TsallisINF(GRID), n_bins=5, low=LOW, high=HIGH)
    best = iterations[drawn].mean(axis=0).min()
    assert mean_cost(bandit, iterations, drawn, 0) <= 1.15 * best


def test_the_chebyshev_bandit_beats_every_fixed_omega(iterations, drawn):
    bandit = ChebyshevBandit(GRID, low=LOW, high=HIGH)
    best = iterations[drawn].mean(axis=0).min()
    assert mean_cost(bandit, iterations, drawn, 0) <= 0.8 * best
