"""The one-cycle schedule is what its docstring says, at the ends and at extreme arguments."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml.train import one_cycle_adam, one_cycle_schedule


def test_schedule_at_its_corners():
    schedule = one_cycle_schedule(
        2.0, 201, warmup_fraction=0.25, initial_divisor=10.0, final_divisor=100.0
    )
    rates = np.array(jax.vmap(schedule)(jnp.arange(205)))
    np.testing.assert_allclose(rates[[0, 25, 50, 125]], [0.2, 1.1, 2.0, 1.001], rtol=1e-5)
    np.testing.assert_allclose(rates[200:], 0.002, rtol=1e-3)
    assert rates.argmax() == 50
    assert np.all(np.diff(rates[:51]) > 0)
    assert np.all(np.diff(rates[50:201]) < 0)


def test_schedule_agrees_with_optax_inside_the_cycle():
    ours = one_cycle_schedule(1e-2, 1001, warmup_fraction=0.3, initial_divisor=25.0)
    theirs = optax.cosine_onecycle_schedule(1000, 1e-2, 0.3, 25.0, 1e4)
    steps = jnp.arange(0, 1001, 50)
    with jax.numpy_dtype_promotion("standard"):
        expected = jax.vmap(theirs)(steps)
    np.testing.assert_allclose(jax.vmap(ours)(steps), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_short_cycles_are_finite(n_steps, fraction):
    schedule = one_cycle_schedule(1.0, n_steps, warmup_fraction=fraction)
    rates = [float(schedule(step)) for step in range(n_steps + 1)]
    assert all(math.isfinite(rate) and 0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"peak_learning_rate": -1.0}, "`peak_learning_rate` must be positive"),
        ({"n_steps": 0}, "`n_steps` must be at least 1"),
        ({"warmup_fraction": 1.5}, "`warmup_fraction` must be at most 1"),
        ({"max_gradient_norm": 0.0}, "`max_gradient_norm` must be positive"),
        ({"weight_decay": -0.1}, "`weight_decay` must be zero or positive"),
    ],
)
def test_refusals(arguments, match):
    with pytest.raises(ValueError, match=match):
        one_cycle_adam(**{"peak_learning_rate": 1e-3, "n_steps": 10, **arguments})


def test_large_gradients_are_clipped_and_small_ones_are_not():
    # Adam hides the scale of one gradient; the second moment remembers it.
    optimizer = one_cycle_adam(1e-3, 10, max_gradient_norm=1.0)
    params = jnp.zeros(2)
    with jax.numpy_dtype_promotion("standard"):
        for gradient, expected in (([30.0, 40.0], [0.6, 0.8]), ([0.03, 0.04], [0.03, 0.04])):
            _, state = optimizer.update(jnp.array(gradient), optimizer.init(params), params)
            nu = optax.tree.get(state, "nu")
            np.testing.assert_allclose(nu, 0.001 * np.square(expected), rtol=1e-5)
