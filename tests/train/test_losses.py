"""The forecast loss is the batch mean of the error of each trajectory, with and without context."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.data import Window
from sciml.numerics import relative_h1, relative_l2
from sciml.train import ForecastLoss, forecast_loss


class Scaled(eqx.Module):
    """Repeats the last snapshot times a factor, plus the context."""

    factor: jax.Array

    def __call__(self, inputs, n_steps, *, context=None):
        last = self.factor * inputs[-1] + (0.0 if context is None else context)
        return jnp.repeat(last[None], n_steps, axis=0)


def _window(rng, with_context):
    shape = (3, 4, 1, 8, 8)
    context = rng.standard_normal((3, 1, 8, 8), np.float32) if with_context else None
    return Window(
        rng.standard_normal(shape, np.float32),
        rng.standard_normal((3, 2, 1, 8, 8), np.float32),
        context,
    )


@pytest.mark.parametrize("with_context", [False, True])
def test_is_the_mean_over_trajectories(with_context, getkey):
    window = _window(np.random.default_rng(317), with_context)
    model = Scaled(jnp.float32(0.5))
    value = jax.jit(forecast_loss)(model, window, getkey())
    errors = []
    for i in range(3):
        context = None if window.context is None else window.context[i]
        forecast = np.asarray(model(window.inputs[i], 2, context=context), np.float64)
        truth = window.targets[i].astype(np.float64)
        errors.append(np.linalg.norm(forecast - truth) / np.linalg.norm(truth))
    np.testing.assert_allclose(value, np.mean(errors), rtol=1e-6)


def test_another_error(getkey):
    window = _window(np.random.default_rng(318), False)
    model = Scaled(jnp.float32(0.5))
    h1 = ForecastLoss(lambda p, t: relative_h1(p, t, (1.0, 1.0)))(model, window, getkey())
    forecasts = jax.vmap(lambda u: model(u, 2))(jnp.asarray(window.inputs))
    expected = jnp.mean(
        jax.vmap(lambda p, t: relative_h1(p, t, (1.0, 1.0)))(forecasts, window.targets)
    )
    np.testing.assert_allclose(h1, expected, rtol=1e-6)
    assert h1 != forecast_loss(model, window, getkey())
    assert ForecastLoss().error is relative_l2


def test_gradient_against_finite_differences(x64, getkey):
    window = jax.tree.map(np.float64, _window(np.random.default_rng(319), True))

    def value(factor):
        return forecast_loss(Scaled(factor), window, getkey())

    derivative = jax.grad(value)(jnp.float64(0.3))
    step = 1e-6
    difference = (value(jnp.float64(0.3 + step)) - value(jnp.float64(0.3 - step))) / (2 * step)
    np.testing.assert_allclose(derivative, difference, rtol=1e-6)


def test_a_forecast_of_another_shape_is_named(getkey):
    window = _window(np.random.default_rng(320), False)
    with pytest.raises(ValueError, match=r"= \(3, 2, 1, 8, 8\); got \(3, 3, 1, 8, 8\)"):
        forecast_loss(lambda u, n, context: jnp.zeros((n + 1, 1, 8, 8)), window, getkey())
