"""What every bandit must do: pure JSON states, reproducible draws, refusals, learning."""

import json

import jax
import numpy as np
import pytest

from sciml.linear_solvers._binned_bandit import BinnedBandit
from sciml.linear_solvers._chebyshev_bandit import ChebyshevBandit, bounded_least_squares
from sciml.linear_solvers._inverse_gap_bandit import InverseGapBandit
from sciml.linear_solvers._lower_bound_bandit import LowerBoundBandit
from sciml.linear_solvers._tsallis_inf import TsallisINF, tsallis_probabilities

GRID = (1.0, 1.3, 1.6, 1.9)


def bandits(grid=GRID):
    return {
        "tsallis": TsallisINF(grid),
        "gap": InverseGapBandit(grid),
        "bound": LowerBoundBandit(grid),
        "binned": BinnedBandit(TsallisINF(grid), n_bins=3, low=0.0, high=1.0),
        "chebyshev": ChebyshevBandit(grid, low=0.0, high=1.0, n_features=4),
    }


every = pytest.mark.parametrize("name", list(bandits()))


def play(bandit, cost, n_steps, seed=41, contexts=None):
    state = bandit.init(key=jax.random.key(seed))
    arms = []
    for step in range(n_steps):
        context = 0.5 if contexts is None else contexts[step]
        state, index, value = bandit.ask(state, context)
        assert value == bandit.grid[index]
        state = bandit.tell(state, cost(step, index))
        arms.append(index)
    return state, np.array(arms)


@every
def test_a_state_survives_json_and_is_never_changed(name):
    bandit = bandits()[name]

    def cost(step, index):
        return 10.0 + 3 * index + step % 5

    state, arms = play(bandit, cost, 40)
    middle, _ = play(bandit, cost, 25)
    written = json.dumps(middle)
    restored, later = json.loads(written), []
    for step in range(25, 40):
        restored, index, _ = bandit.ask(restored, 0.5)
        restored = bandit.tell(restored, cost(step, index))
        later.append(index)
    assert later == arms[25:].tolist()
    assert restored == state
    asked, *_ = bandit.ask(middle, 0.5)
    bandit.tell(asked, 1.0)
    assert json.dumps(middle) == written


@every
def test_the_seed_decides_all_draws(name):
    bandit = bandits()[name]
    draws = [play(bandit, lambda step, i: 5.0, 60, seed=seed)[1] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(draws[0], draws[1])
    draws_nothing = name == "bound"  # it tries its arms in order, then the one of the least bound
    assert (draws[0] == draws[2]).all() == draws_nothing


@every
def test_asking_again_gives_the_same_until_told(name):
    bandit = bandits()[name]
    state = bandit.init(key=jax.random.key(8))
    state, first, _ = bandit.ask(state, 0.4)
    state, again, _ = bandit.ask(state, 0.4)
    assert first == again
    state = bandit.tell(state, 3.0)
    with pytest.raises(ValueError, match="must follow an `ask`"):
        bandit.tell(state, 3.0)


@every
@pytest.mark.parametrize("cost", [np.nan, np.inf, -1.0])
def test_a_cost_that_is_none_is_refused(name, cost):
    bandit = bandits()[name]
    state, *_ = bandit.ask(bandit.init(key=jax.random.key(8)), 0.4)
    with pytest.raises(ValueError, match="cost"):
        bandit.tell(state, cost)


@every
def test_states_of_others_are_refused(name):
    bandit = bandits()[name]
    other = bandits((1.0, 1.5))[name].init(key=jax.random.key(1))
    with pytest.raises(ValueError, match="with 4 arms, got one of"):
        bandit.ask(other, 0.5)


@every
def test_one_arm(name):
    bandit = bandits((1.5,))[name]
    _, arms = play(bandit, lambda step, index: float(step), 30)
    assert not arms.any()


@every
def test_the_scale_of_the_costs_changes_nothing(name):
    noise = np.random.default_rng(5).uniform(size=200)
    draws = [
        play(bandits()[name], lambda t, i, s=s: s * (1 + 0.1 * i + noise[t]), 200)[1]
        for s in (1.0, 2.0**-20, 2.0**20)
    ]
    if name == "chebyshev":
        # The ridge of the fit is not scaled: a draw at the edge may fall differently.
        assert np.mean(draws[0] != draws[1]) < 0.02
        assert np.mean(draws[0] != draws[2]) < 0.02
    else:
        np.testing.assert_array_equal(draws[0], draws[1])
        np.testing.assert_array_equal(draws[0], draws[2])


@every
def test_a_gap_between_two_arms_is_found(name):
    """Bernoulli costs 0.3 and 0.6: more than 90 % of the last draws go to the better arm."""
    bandit = bandits((1.0, 1.5))[name]
    coins = np.random.default_rng(77).uniform(size=2000)
    # The lower bounds are for costs that differ by factors: not for 0 or 1.
    least = 0.5 if name == "bound" else 0.0
    _, arms = play(bandit, lambda t, i: least + float(coins[t] < (0.6, 0.3)[i]), 2000)
    assert arms[1500:].mean() > 0.9


@pytest.mark.parametrize("name", ["binned", "chebyshev"])
def test_contexts_outside_the_range_are_clamped_with_a_warning(name):
    bandit = bandits()[name]
    state = bandit.init(key=jax.random.key(8))
    with pytest.warns(UserWarning, match="outside"):
        outside = bandit.ask(state, 1.7)
    assert outside == bandit.ask(state, 1.0)
    for context in (None, np.nan, np.inf):
        with pytest.raises(ValueError, match="context"):
            bandit.ask(state, context)


@pytest.mark.parametrize("name", ["binned", "chebyshev"])
def test_the_best_arm_follows_the_context(name):
    contexts = np.random.default_rng(19).uniform(size=800)

    def cost(step, index):
        return 10 + 40 * abs(index / 3 - contexts[step])

    _, arms = play(bandits()[name], cost, 800, contexts=contexts)
    late = slice(500, None)
    mean = np.mean([cost(t, i) for t, i in enumerate(arms)][late])
    best_fixed = min(np.mean([cost(t, i) for t in range(500, 800)]) for i in range(4))
    assert mean < 0.85 * best_fixed


@pytest.mark.parametrize("magnitude", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("step", [1, 10, 1000, 100_000])
@pytest.mark.parametrize("n", [1, 2, 20, 1000])
def test_tsallis_probabilities_sum_to_one_and_solve_their_equation(magnitude, step, n):
    """From the start left of the root that the reference uses, large costs break this."""
    rng = np.random.default_rng(n)
    rate = 2 / np.sqrt(step)
    for costs in (
        np.zeros(n),
        np.full(n, magnitude),
        magnitude * rng.uniform(size=n),
        magnitude * np.sqrt(step) * rng.exponential(size=n) * n,
        np.concatenate([[0.0], np.full(n - 1, magnitude * step)]),
    ):
        p = tsallis_probabilities(costs, rate)
        assert abs(p.sum() - 1) <= 1e-12
        assert (p > 0).all()
        # p_i = 4 / (rate (k_i - x))^2 for one and the same x, left of all costs.
        x = costs - 2 / (rate * np.sqrt(p))
        np.testing.assert_allclose(x, x[0], rtol=1e-6, atol=1e-6 * (1 / rate + costs.max()))
        assert x.max() < costs.min()


def test_tsallis_long_run_with_large_costs():
    bandit = TsallisINF(GRID)
    state = bandit.init(key=jax.random.key(3))
    scale = np.random.default_rng(11).uniform(0, 6, size=1500)
    for t in range(1500):
        state, index, _ = bandit.ask(state)
        state = bandit.tell(state, 10.0 ** scale[t] * (1 + index))
        if t % 100 == 0:
            p = bandit.probabilities(state)
            assert abs(p.sum() - 1) <= 1e-12
            assert (p > 0).all()
    # As if it had run for 1e5 steps.
    p = bandit.probabilities(state | {"step": 100_000})
    assert abs(p.sum() - 1) <= 1e-12
    assert (p > 0).all()


def test_constant_costs_leave_tsallis_near_uniform():
    """Draws are balanced on average over seeds, and no arm is ever forgotten."""
    counts = np.zeros(4)
    for seed in range(6):
        state, arms = play(TsallisINF(GRID), lambda t, i: 1.0, 400, seed=seed)
        counts += np.bincount(arms, minlength=4)
        assert TsallisINF(GRID).probabilities(state).min() > 1e-3
    assert (np.abs(counts / counts.sum() - 0.25) < 0.1).all()


def test_zero_costs_are_costs():
    for bandit in bandits().values():
        state, _ = play(bandit, lambda t, i: 0.0, 50)
        json.dumps(state, allow_nan=False)


def test_chebyshev_probabilities():
    bandit = bandits()["chebyshev"]
    state, _ = play(bandit, lambda t, i: 5.0 + i, 200)
    for context in np.linspace(0, 1, 7):
        p = bandit.probabilities(state, context)
        assert abs(p.sum() - 1) <= 1e-12
        assert (p > 0).all()
        assert p.argmax() == bandit.scores(state, context).argmin()


def test_chebyshev_fit_keeps_its_bounds_and_learns_the_costs():
    rng = np.random.default_rng(3)
    bandit = ChebyshevBandit((1.0,), low=-1.0, high=1.0, n_features=6)

    def cost(c):
        return 20 + 5 * c + 3 * (2 * c**2 - 1)

    state = bandit.init(key=jax.random.key(2))
    for step in range(60):
        context = rng.uniform(-1, 1)
        state, *_ = bandit.ask(state, context)
        state = bandit.tell(state, cost(context))
        spread = state["highest"] - state["lowest"]
        bound = np.concatenate([[state["highest"]], spread / np.arange(1, 6)])
        assert (np.abs(state["theta"][0]) <= bound).all(), step
    np.testing.assert_allclose(state["theta"][0], [20, 5, 3, 0, 0, 0], atol=1e-4)
    # With a Lipschitz constant that is far too small the constraint holds it back.
    small = ChebyshevBandit((1.0,), low=-1.0, high=1.0, n_features=6, lipschitz=0.5)
    state = small.tell(small.ask(state, 0.1)[0], 20.0)
    assert (np.abs(state["theta"][0][1:]) <= 1.0 / np.arange(1, 6)).all()


@pytest.mark.parametrize("seed", range(30))
def test_bounded_least_squares_against_scipy(seed):
    from scipy.optimize import lsq_linear

    rng = np.random.default_rng(seed)
    m = 6
    rows = rng.integers(2, 30)
    features = np.cos(np.arange(m) * np.arccos(rng.uniform(-1, 1, size=(rows, 1))))
    targets = rng.normal(size=rows) * 10 + 20
    bound = np.concatenate([[rng.uniform(5, 40)], rng.uniform(0.1, 20) / np.arange(1, m)])
    start = rng.normal(size=m) * bound
    ours = bounded_least_squares(features.T @ features, features.T @ targets, bound, start)
    padded = np.vstack([features, 1e-3 * np.eye(m)])  # the ridge of 1e-6
    reference = lsq_linear(
        padded, np.concatenate([targets, np.zeros(m)]), (-bound, bound), method="bvls", tol=1e-14
    )
    assert (np.abs(ours) <= bound).all()
    objective = np.sum((padded @ ours - np.concatenate([targets, np.zeros(m)])) ** 2) / 2
    assert objective <= reference.cost * (1 + 1e-8) + 1e-9


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("binned", BinnedBandit(TsallisINF(GRID), n_bins=2, low=0.0, high=1.0)),
        ("chebyshev", ChebyshevBandit(GRID, low=0.0, high=1.0, n_features=3)),
    ],
)
def test_states_of_another_size_are_refused(name, other):
    state, *_ = other.ask(other.init(key=jax.random.key(8)), 0.9)
    for use in (lambda b: b.ask(state, 0.9), lambda b: b.tell(state, 1.0)):
        with pytest.raises(ValueError, match=r"`n_(bins|features)` = [34], got one with [23]"):
            use(bandits()[name])


@every
@pytest.mark.parametrize("unit", [1e-307, 1e160, 1e300])
def test_bandits_know_no_unit(name, unit):
    bandit = bandits()[name]
    _, arms = play(bandit, lambda t, i: unit * (90, 40, 60, 80)[i], 100)
    _, plain = play(bandit, lambda t, i: (90, 40, 60, 80)[i], 100)
    if name == "chebyshev":  # as above
        assert np.mean(arms != plain) < 0.02
    else:
        np.testing.assert_array_equal(arms, plain)


@every
def test_costs_whose_sum_overflows_are_refused(name):
    bandit = bandits()[name]
    state, *_ = bandit.ask(bandit.init(key=jax.random.key(8)), 0.4)
    with pytest.raises(ValueError, match=r"at most 1e\+302, .*, got 1e\+306\. Count"):
        bandit.tell(state, 1e306)


@pytest.mark.parametrize("name", ["chebyshev", "gap"])
def test_a_state_of_an_earlier_version_is_refused(name):
    bandit = bandits()[name]
    state = bandit.init(key=jax.random.key(8))
    del state["error_norm"]
    with pytest.raises(ValueError, match="lacks 'error_norm': another version"):
        bandit.ask(state, 0.4)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="grid"):
        TsallisINF(())
    with pytest.raises(ValueError, match="grid"):
        TsallisINF((1.0, np.nan))
    with pytest.raises(ValueError, match="learning_rate"):
        TsallisINF(GRID, learning_rate=0.0)
    with pytest.raises(ValueError, match="below `high`"):
        ChebyshevBandit(GRID, low=1.0, high=1.0)
    with pytest.raises(ValueError, match="n_bins"):
        BinnedBandit(TsallisINF(GRID), n_bins=0, low=0.0, high=1.0)
    with pytest.raises(TypeError, match="key"):
        TsallisINF(GRID).init(key=jax.random.PRNGKey(0))


def test_the_gap_bandit_tries_each_arm_once_and_wastes_little():
    """Mean costs 1 to 5.6 with 25 % noise, 500 steps: learning costs at most a tenth."""
    means = np.array([5.6, 2.8, 3.6, 2.8, 2.3, 4.5, 1.0])
    bandit = InverseGapBandit([float(i) for i in range(7)])
    for seed in range(3):
        noise = np.exp(0.25 * np.random.default_rng(seed).normal(size=500))
        _, arms = play(bandit, lambda t, i, n=noise: float(means[i] * n[t]), 500, seed=seed)
        assert sorted(arms[:7]) == list(range(7))
        assert np.mean(means[arms]) <= 1.1


def test_the_lower_bounds_forgive_a_bad_first_try():
    """The best arm's first solve takes four times as long: the second best does not win for that.

    Costs 1, 1.3 and 2.3 to 5, 25 % noise, 500 steps: learning costs at most a tenth.
    """
    means = np.array([5.0, 2.6, 3.7, 2.5, 2.3, 1.3, 1.0])
    bandit = LowerBoundBandit([float(i) for i in range(7)])
    for seed in range(4):
        noise = np.exp(0.25 * np.random.default_rng(seed).normal(size=500))
        seen = [False]

        def cost(t, i, noise=noise, seen=seen):
            first = i == 6 and not seen[0]
            seen[0] = seen[0] or first
            return float(means[i] * noise[t] * (4 if first else 1))

        _, arms = play(bandit, cost, 500, seed=seed)
        assert sorted(arms[:7]) == list(range(7))
        assert np.mean(means[arms]) <= 1.1


def test_lower_bounds_take_costs_of_zero():
    state, arms = play(LowerBoundBandit(GRID), lambda t, i: 0.0 if i == 2 else 1.0, 40)
    assert np.mean(arms == 2) > 0.8
    assert np.isfinite(state["squared_error"])
    with pytest.raises(ValueError, match="caution"):
        LowerBoundBandit(GRID, caution=0.0)
