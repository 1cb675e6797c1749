"""Time stepping by optimisers and a network for space-time, on cases with known answers."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml.core import RESULTS
from sciml.natural_gradient import (
    EnergyNaturalGradient,
    GradientMethod,
    box_quadrature,
    march_by_optimisation,
    minimise_residuals,
    space_time_terms,
)


class _Line(eqx.Module):
    slope: jax.Array
    shift: jax.Array

    def __call__(self, x):
        return self.slope * x[0] + self.shift


def _decay(t, x, u):
    return -u(x)


def _line():
    return _Line(jnp.array(2.0), jnp.array(-0.5))


def test_a_march_is_its_integrator_on_a_linear_model(x64):
    x, w = box_quadrature(3, 1)
    settings = {"t1": 0.25, "dt": 0.1, "steps_per_fit": 4}
    method = EnergyNaturalGradient(1e-8, initial_damping=1e-8)
    run = march_by_optimisation(_decay, _line(), x, w, method, **settings)
    heun = lambda h: 1 - h + h**2 / 2  # noqa: E731
    factor = heun(0.1) ** 2 * heun(0.05)  # the last step is shortened
    np.testing.assert_allclose(jax.vmap(run.value)(x), factor * jax.vmap(_line())(x), rtol=1e-9)
    assert run.stats["n_steps"] == 3
    assert len(run.stats["fit_residuals"]) == 6


def test_a_march_that_blows_up_or_is_misused_is_told(x64):
    x, w = box_quadrature(3, 1)
    method = GradientMethod(optax.sgd(0.1))
    settings = {"t1": 0.2, "dt": 0.1, "steps_per_fit": 2}

    def broken(t, x, u):
        return jnp.log(-1.0 - u(x) ** 2)

    run = march_by_optimisation(broken, _line(), x, w, method, throw=False, **settings)
    assert run.result == RESULTS.diverged
    assert run.stats["t"] == 0.0
    with pytest.raises(RuntimeError, match="ended at t = 0"):
        march_by_optimisation(broken, _line(), x, w, method, **settings)
    with pytest.raises(ValueError, match="`t1` must be after"):
        march_by_optimisation(_decay, _line(), x, w, method, t1=0.0, dt=0.1)
    with pytest.raises(ValueError, match="explicit"):
        march_by_optimisation(
            _decay, _line(), x, w, method, t1=1.0, dt=0.1, tableau=diffrax.Kvaerno3.tableau
        )


class _Exponential(eqx.Module):
    rate: jax.Array
    size: jax.Array

    def __call__(self, p):
        return self.size * jnp.exp(self.rate * p[0]) * p[1]


def test_a_space_time_network_finds_the_decay(x64):
    x, w = box_quadrature(3, 1)
    times = jnp.linspace(0.0, 1.0, 5)
    terms = space_time_terms(_decay, lambda x: 3.0 * x[0], x, w, times)
    assert terms[0].x.shape == (15, 2)
    np.testing.assert_allclose(jnp.sum(terms[0].w), 1.0, rtol=1e-12)
    start = _Exponential(jnp.array(0.0), jnp.array(1.0))
    run = minimise_residuals(start, terms, atol=1e-9)
    np.testing.assert_allclose([run.value.rate, run.value.size], [-1.0, 3.0], rtol=1e-8)
    with pytest.raises(ValueError, match="must rise"):
        space_time_terms(_decay, lambda x: x[0], x, w, times[::-1])
