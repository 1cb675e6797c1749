"""The label-free loss: it sees the equation, and only the equation."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.data import Window
from sciml.neural_operators import (
    Persistence,
    ResidualLoss,
    SolverForecaster,
    estimate,
)
from sciml.problems import ETDRK4, Burgers1D, solve

DT = 0.02


@functools.cache
def burgers():
    problem = Burgers1D((32,), viscosity=0.05)
    start = jnp.asarray(0.5 * np.sin(2 * np.pi * np.arange(32) / 32)[None])
    return problem, solve(problem, start, dt=DT / 4, n_steps=40, save_every=4).value


class Damped(eqx.Module):
    """A forecast with one parameter: it decays from the last input."""

    rate: jax.Array

    def __call__(self, inputs, n_steps, *, context=None):
        decay = jnp.exp(-self.rate * DT * jnp.arange(1.0, n_steps + 1))
        return decay.reshape(-1, *(1,) * (inputs.ndim - 1)) * inputs[-1:]


def test_solutions_have_no_loss_and_persistence_has_loss_one(x64):
    problem, u = burgers()
    window = Window(np.stack([u[:4], u[1:5]]), None, None)
    loss = ResidualLoss(problem, DT, 5)
    key = jax.random.key(0)
    of = eqx.filter_jit(lambda model: loss(model, window, key))
    assert of(SolverForecaster(problem, ETDRK4(), DT, substeps=2)) < 1e-3
    np.testing.assert_allclose(of(Persistence()), 1.0, atol=0.02)


@pytest.mark.parametrize("still", [0.0, 0.5])
def test_a_flow_at_rest_beside_others(x64, still):
    """It has no scale of its own, and the slope of its residual's norm may be that of 0."""
    problem, u = burgers()
    loss = ResidualLoss(problem, DT, 5)
    window = Window(np.stack([u[:4], np.full_like(u[:4], still)]), None, None)
    moving = Window(window.inputs[:1], None, None)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def of(model, window):
        return loss(model, window, jax.random.key(0))

    values, slopes = zip(*(of(Damped(jnp.asarray(1.0)), w) for w in (window, moving)), strict=True)
    if still == 0:  # the forecast rests, too: that is right
        np.testing.assert_allclose(
            [values[0], slopes[0].rate], np.divide([values[1], slopes[1].rate], 2)
        )
    else:
        assert values[1] < values[0] < 1e4
        step = 1e-4
        ends = [of(Damped(jnp.asarray(1 + s * step)), window)[0] for s in (-1, 1)]
        np.testing.assert_allclose(slopes[0].rate, (ends[1] - ends[0]) / (2 * step), rtol=1e-5)


def test_it_is_the_estimate_over_the_scale_of_the_start(x64):
    problem, u = burgers()
    loss = ResidualLoss(problem, DT, 5)
    forecast = 1.1 * u[4:9]
    window = Window(u[None, :4], None, None)
    given = lambda inputs, n, context=None: forecast  # noqa: E731
    value = jax.jit(lambda key: loss(given, window, key))(jax.random.key(0))
    frozen = jnp.broadcast_to(u[3], forecast.shape)
    found = estimate(forecast, u[:4], problem, dt=DT)
    still = estimate(frozen, u[:4], problem, dt=DT)
    np.testing.assert_allclose(value, found.eta / (still.eta / still.relative_eta), rtol=1e-10)


def test_gradient(x64):
    problem, u = burgers()
    window = Window(u[None, :4], None, None)
    loss = ResidualLoss(problem, DT, 5)

    @jax.jit
    @jax.value_and_grad
    def value_and_slope(rate):
        return loss(Damped(rate), window, jax.random.key(0))

    rate, step = 1.3, 1e-6
    ahead, behind = (float(value_and_slope(rate + k * step)[0]) for k in (1, -1))
    np.testing.assert_allclose(value_and_slope(rate)[1], (ahead - behind) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"problem": "burgers"}, TypeError, "problem"),
        ({"dt": 0.0}, ValueError, "dt"),
        ({"n_steps": 0}, ValueError, "n_steps"),
        ({"residual": 4}, TypeError, "residual"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"problem": Burgers1D((8,), viscosity=0.1), "dt": 0.1, "n_steps": 3} | change
    with pytest.raises(error, match=message):
        ResidualLoss(**arguments)
