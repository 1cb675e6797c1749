"""The extra step of local regularisation, against steps that are taken by hand."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.neural_de import (
    ErrorEstimate,
    LocalRegularization,
    LocalStep,
    Reduction,
    Sampling,
    StepWeight,
    Weighting,
    initial_step,
    local_regularized_solve,
)

TOL = 1e-4
RATE = 1.5
Y0 = np.array([1.0, 0.5])
# Steps of very different lengths, none of them 1, so that draws by time and by step differ.
GRID = np.array([0.0, 0.1, 0.5, 0.6, 0.8, 1.3])
ADAPTIVE = diffrax.PIDController(rtol=TOL, atol=TOL)
N_SAMPLES = 400


def field(t, y, args):
    return -args * jnp.stack([y[1] ** 3, -jnp.sin(3 * y[0])])


def by_hand(rate, y):
    return -rate * np.array([y[1] ** 3, -np.sin(3 * y[0])])


def step(solver, rate, y, h):
    """Return the end and the scaled error of one Runge-Kutta step of an autonomous field."""
    tableau, f = solver.tableau, [by_hand(rate, y)]
    for row in tableau.a_lower:
        f.append(by_hand(rate, y + h * sum(a * g for a, g in zip(row, f, strict=True))))
    end = y + h * sum(b * g for b, g in zip(tableau.b_sol, f, strict=True))
    error = h * sum(b * g for b, g in zip(tableau.b_error, f, strict=True))
    scale = TOL + TOL * np.maximum(np.abs(y), np.abs(end))
    return end, np.sqrt(np.mean((error / scale) ** 2))


def states(solver, ts):
    """Return the states where the steps between ``ts`` begin."""
    ys = [Y0]
    for h in np.diff(ts)[:-1]:
        ys.append(step(solver, RATE, ys[-1], h)[0])
    return ys


def draw(local, key, controller, rate=RATE):
    return local_regularized_solve(
        diffrax.ODETerm(field), diffrax.Tsit5(), GRID[0], GRID[-1],
        0.3 if controller is ADAPTIVE else None, jnp.asarray(Y0), rate, key=key, local=local,
        stepsize_controller=controller, max_steps=64, saveat=diffrax.SaveAt(t1=True),
    )[1].total  # fmt: skip


def figure(**options):
    return ErrorEstimate(rtol=TOL, atol=TOL, **options)


@pytest.mark.parametrize(
    ("weighting", "weight", "sampling"),
    [
        *itertools.product(["sum"], StepWeight, Sampling),
        # The mean divides that of any of them, the published weight knows no probability.
        ("mean", StepWeight.DT, Sampling.TIME),
        ("mean", StepWeight.ONE, Sampling.STEP),
        ("paper", StepWeight.DT, Sampling.STEP),
        ("paper", StepWeight.ONE, Sampling.TIME),
    ],
)
def test_each_weighting_has_its_own_expectation(x64, sampling, weight, weighting):
    h = np.diff(GRID)
    errors = np.array(
        [step(diffrax.Tsit5(), RATE, y, s)[1] for y, s in zip(states(diffrax.Tsit5(), GRID), h,
                                                              strict=True)]
    )  # fmt: skip
    figures = errors * h if weight is StepWeight.DT else errors
    chance = h / np.sum(h) if sampling is Sampling.TIME else np.full(len(h), 1 / len(h))
    if weighting == "paper":
        values = figures
    else:
        values = figures / chance
        if weighting == "mean":
            values = values / len(h)
        wanted = np.sum(figures) if weighting == "sum" else np.mean(figures)
        np.testing.assert_allclose(np.sum(chance * values), wanted, rtol=1e-12)
    mean = np.sum(chance * values)
    spread = np.sqrt(np.sum(chance * (values - mean) ** 2))
    reduction = Reduction.MEAN if weighting == "mean" else Reduction.SUM
    local = LocalRegularization(
        figure(weight=weight, reduction=reduction), sampling=sampling, n_samples=N_SAMPLES,
        weighting=Weighting.PAPER if weighting == "paper" else Weighting.UNBIASED,
    )  # fmt: skip
    controller = diffrax.StepTo(jnp.asarray(GRID))
    found = float(draw(local, jax.random.key(41), controller))
    assert abs(found - mean) < 4 * spread / np.sqrt(N_SAMPLES) + 1e-9 * mean


@pytest.fixture(scope="module")
def accepted():
    """Return the adaptive solve's times."""
    with jax.enable_x64(True):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Tsit5(), GRID[0], GRID[-1], 0.3, jnp.asarray(Y0), RATE,
            stepsize_controller=ADAPTIVE, max_steps=64, saveat=diffrax.SaveAt(t0=True, steps=True),
        )  # fmt: skip
        return np.asarray(solution.ts)[np.isfinite(solution.ts)]


def nearest(found, candidates):
    """Return which candidate each found value is, all of them within rounding."""
    which = np.argmin(np.abs(np.asarray(found)[:, None] - candidates), axis=1)
    np.testing.assert_allclose(found, np.asarray(candidates)[which], rtol=1e-8)
    return which


@pytest.mark.parametrize("how", ["heuristic", "solver"])
def test_a_published_step_is_one_by_hand(x64, accepted, how):
    begins = states(diffrax.Tsit5(), accepted)
    if how == "heuristic":
        local = LocalRegularization(step=LocalStep.HEURISTIC, weighting=Weighting.PAPER)
        solver = diffrax.Tsit5()
        sizes = jax.vmap(
            lambda t, y: initial_step(
                diffrax.ODETerm(field), solver, t, GRID[-1], y, RATE, rtol=TOL, atol=TOL
            )
        )(jnp.asarray(accepted[:-1]), jnp.asarray(begins))
        sizes = np.asarray(sizes)
        # But for the last step, which ends where the solve does.
        assert np.all(np.abs(sizes / np.diff(accepted) - 1)[:-1] > 0.01)
    else:
        solver = diffrax.Bosh3()
        local = LocalRegularization(step_solver=solver, weighting=Weighting.PAPER)
        sizes = np.diff(accepted)
    candidates = [
        step(solver, RATE, y, h)[1] * h for y, h in zip(begins, sizes, strict=True)
    ]  # fmt: skip
    keys = jax.random.split(jax.random.key(11), 16)
    found = jax.jit(jax.vmap(lambda key: draw(local, key, ADAPTIVE)))(keys)
    assert len(set(nearest(found, candidates))) > 2


def test_the_gradient_goes_through_the_state_if_it_is_told_to(x64):
    controller = diffrax.StepTo(jnp.asarray(GRID))
    key = jax.random.key(5)

    def value_and_slope(through_state):
        local = LocalRegularization(
            figure(), weighting=Weighting.PAPER, through_state=through_state
        )
        return jax.jit(jax.value_and_grad(lambda rate: draw(local, key, controller, rate)))

    run = value_and_slope(True)
    found, through = run(RATE)
    same, stopped = value_and_slope(False)(RATE)
    np.testing.assert_allclose(same, found, rtol=1e-12)
    eps = 1e-5
    # The steps, and the one that is drawn, are the same at every rate.
    whole = (run(RATE + eps)[0] - run(RATE - eps)[0]) / (2 * eps)
    np.testing.assert_allclose(through, whole, rtol=1e-6)
    begins, h = states(diffrax.Tsit5(), GRID), np.diff(GRID)

    def at(rate):
        return np.array(
            [step(diffrax.Tsit5(), rate, y, s)[1] * s for y, s in zip(begins, h, strict=True)]
        )

    (which,) = nearest([found], at(RATE))
    alone = (at(RATE + eps) - at(RATE - eps))[which] / (2 * eps)
    np.testing.assert_allclose(stopped, alone, rtol=1e-6)
    assert which > 0
    assert abs(through - stopped) > 1e-3 * abs(stopped)


def test_steps_that_cannot_be_unbiased_are_refused_by_name():
    for options in ({"step": LocalStep.HEURISTIC}, {"step_solver": diffrax.Bosh3()}):
        with pytest.raises(ValueError, match=r"Weighting\.PAPER"):
            LocalRegularization(**options)
    local = LocalRegularization(step=LocalStep.HEURISTIC, weighting=Weighting.PAPER)
    with pytest.raises(ValueError, match="adaptive"):
        jax.eval_shape(lambda: draw(local, jax.random.key(3), diffrax.StepTo(jnp.asarray(GRID))))
