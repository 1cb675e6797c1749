"""The front door: snapshots, transformations, gradients, blow-up, the bar, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.core import RESULTS
from sciml.numerics import fourier_resample
from sciml.problems import (
    ETDRK4,
    IMEXCrankNicolson,
    NavierStokes2D,
    RK4CrankNicolson,
    fno_forcing,
    solve,
)


def states(n_points, batch=None, seed=4417):
    shape = (1, 5, 5) if batch is None else (batch, 1, 5, 5)
    low = np.random.default_rng(seed).normal(size=shape)
    return fourier_resample(low, n_points)


@pytest.fixture
def problem(x64):
    return NavierStokes2D((8, 9), viscosity=0.01, forcing=fno_forcing((8, 9)))


def test_snapshots_start_with_u0_and_are_every_save_every_steps(problem):
    u0 = states((8, 9))
    every = solve(problem, u0, dt=0.02, n_steps=6)
    some = solve(problem, u0, dt=0.02, n_steps=6, save_every=3)
    assert every.value.shape == (7, 1, 8, 9)
    np.testing.assert_array_equal(every.value[0], u0)
    np.testing.assert_allclose(some.value, every.value[::3], rtol=1e-13, atol=1e-13)
    assert every.result == RESULTS.successful
    assert every.stats["n_steps"] == 6
    assert every.stats["n_evaluations"] == 24
    assert float(every.stats["time_of_failure"]) == np.inf


def test_jit_and_vmap_change_nothing(problem):
    batch = states((8, 9), batch=3)

    def end(u0, dt):
        return solve(problem, u0, dt=dt, n_steps=4, save_every=2).value

    single = jnp.stack([end(u0, 0.02) for u0 in batch])
    batched = jax.jit(jax.vmap(end, in_axes=(0, None)))(batch, 0.02)
    np.testing.assert_allclose(batched, single, rtol=1e-12, atol=1e-12)
    record = jax.vmap(lambda u0: solve(problem, u0, dt=0.02, n_steps=4, save_every=2))(batch)
    np.testing.assert_allclose(record.value, single, rtol=1e-12, atol=1e-12)
    assert record.stats["time_of_failure"].shape == (3,)


@pytest.mark.parametrize(
    "stepper", [IMEXCrankNicolson(), RK4CrankNicolson(), ETDRK4()], ids=lambda s: type(s).__name__
)
def test_gradients_against_finite_differences(stepper, x64):
    u0 = states((8, 8))
    direction = states((8, 8), seed=901)
    forcing = fno_forcing((8, 8))

    @jax.jit
    def loss(viscosity, drag, amplitude, dt, shift):
        problem = NavierStokes2D(
            (8, 8), viscosity=viscosity, drag=drag, forcing=amplitude * forcing
        )
        start = u0 + shift * direction
        return jnp.sum(
            solve(problem, start, dt=dt, n_steps=4, save_every=2, stepper=stepper).value ** 2
        )

    point = jnp.array([0.02, 0.1, 1.0, 0.02, 0.0])
    gradient = jnp.stack(jax.jit(jax.grad(lambda p: loss(*p)))(point))
    step = 1e-5
    for i in range(5):
        offset = np.zeros(5)
        offset[i] = step
        difference = (loss(*(point + offset)) - loss(*(point - offset))) / (2 * step)
        np.testing.assert_allclose(gradient[i], difference, rtol=2e-7, err_msg=f"argument {i}")


def test_bar_shows_and_changes_nothing(problem, capsys):
    u0 = states((8, 9))
    quiet = solve(problem, u0, dt=0.02, n_steps=12, save_every=4)
    shown = solve(problem, u0, dt=0.02, n_steps=12, save_every=4, progress=True)
    np.testing.assert_allclose(shown.value, quiet.value, rtol=1e-12, atol=1e-12)
    text = capsys.readouterr().err
    assert "12/12" in text
    assert "step/s" in text
    with pytest.raises(ValueError, match="outside jax"):
        jax.jit(lambda u: solve(problem, u, dt=0.02, n_steps=2, progress=True).value)(u0)


@pytest.mark.parametrize("progress", [False, True])
def test_blow_up_is_reported_with_its_time(progress, x64):
    problem = NavierStokes2D((8, 8), viscosity=0.0)
    arguments = {
        "dt": 2.0,
        "n_steps": 40,
        "save_every": 4,
        "stepper": IMEXCrankNicolson(),
        "progress": progress,
    }
    solution = solve(problem, 100 * states((8, 8)), throw=False, **arguments)
    assert solution.result == RESULTS.diverged
    failure = float(solution.stats["time_of_failure"])
    # The snapshots agree: finite before that time, not finite from it on.
    finite = np.isfinite(solution.value).all(axis=(1, 2, 3))
    times = 8.0 * np.arange(11)
    np.testing.assert_array_equal(finite, times < failure)
    assert solution.value.shape == (11, 1, 8, 8)
    step = round(failure / 2)
    message = (
        rf"IMEXCrankNicolson.*\(8, 8\).*blew up at time {failure:g}, step {step} of 40.*smaller"
    )
    with pytest.raises(RuntimeError, match=message):
        solve(problem, 100 * states((8, 8)), **arguments)


def test_blow_up_of_one_member_of_a_batch(x64):
    problem = NavierStokes2D((8, 8), viscosity=0.0)
    batch = jnp.asarray([1e-3, 100.0])[:, None, None, None] * states((8, 8), batch=2)

    def run(u0, throw):
        return solve(
            problem, u0, dt=2.0, n_steps=40, save_every=20, stepper=IMEXCrankNicolson(), throw=throw
        )

    record = jax.vmap(lambda u0: run(u0, False))(batch)
    np.testing.assert_array_equal(np.isfinite(record.stats["time_of_failure"]), [False, True])
    assert np.isfinite(record.value[0]).all()
    with pytest.raises(Exception, match=r"IMEXCrankNicolson .* blew up"):
        jax.block_until_ready(jax.jit(lambda u: run(u, True).value)(batch[1]))


def test_float32_follows_the_state(x64):
    problem = NavierStokes2D((8, 9), viscosity=0.01, forcing=fno_forcing((8, 9)))
    u0 = states((8, 9))
    double = solve(problem, u0, dt=0.02, n_steps=10, save_every=10).value
    single = solve(problem, u0.astype(jnp.float32), dt=0.02, n_steps=10, save_every=10).value
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, atol=2e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dt": 0.0}, ValueError, "`dt` must be positive"),
        ({"dt": -0.1}, ValueError, "`dt` must be positive"),
        ({"dt": float("nan")}, ValueError, "`dt` must be positive"),
        ({"n_steps": 0}, ValueError, "`n_steps` must be at least 1"),
        ({"save_every": 0}, ValueError, "`save_every` must be at least 1"),
        ({"save_every": 3}, ValueError, "got 10 and 3: the last 1 steps would end in no snapshot"),
        ({"u0": jnp.ones((8, 9))}, ValueError, r"`u0` must have 3 axes \(1, 8, 9\)"),
        ({"u0": jnp.ones((1, 9, 8))}, ValueError, "axis 1 of `u0` must have size 8"),
        ({"u0": jnp.ones((2, 8, 9))}, ValueError, "axis 0 of `u0` must have size 1"),
        ({"u0": jnp.full((1, 8, 9), jnp.nan)}, ValueError, "72 non-finite entries"),
        ({"u0": jnp.ones((1, 8, 9), jnp.bfloat16)}, TypeError, "float32 or float64.*bfloat16"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    problem = NavierStokes2D((8, 9), viscosity=0.01)
    arguments = {"u0": jnp.ones((1, 8, 9)), "dt": 0.1, "n_steps": 10, **change}
    with pytest.raises(error, match=message):
        solve(problem, arguments.pop("u0"), **arguments)
