"""Sines and cosines of float32 numbers against NumPy's of float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import cosine, sine

PAIRS = [(sine, np.sin), (cosine, np.cos)]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("limit", [4.0, 1e2, 1e4])
def test_error_stays_at_two_rounding_units(ours, theirs, limit):
    x = np.linspace(-limit, limit, 200_001, dtype=np.float32)
    error = np.asarray(jax.jit(ours)(x), np.float64) - theirs(x.astype(np.float64))
    assert np.abs(error).max() <= 2e-7


def test_small_angles_keep_their_relative_accuracy():
    x = np.geomspace(1e-30, 1e-3, 1001, dtype=np.float32)
    np.testing.assert_allclose(sine(jnp.asarray(x)), np.sin(x.astype(np.float64)), rtol=1e-7)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_large_angles_are_right_to_their_own_rounding(ours, theirs):
    x = np.geomspace(1e4, 1e7, 5001, dtype=np.float32)
    error = np.abs(np.asarray(ours(jnp.asarray(x)), np.float64) - theirs(x.astype(np.float64)))
    assert (error <= 2e-7 + x * np.finfo(np.float32).eps).all()
    assert np.abs(np.asarray(ours(jnp.float32([1e8, 1e20, 3e38])))).max() <= 1


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_other_precisions_are_those_of_jax(x64, ours, theirs):
    x = jnp.linspace(-50, 50, 1001)
    assert x.dtype == jnp.float64
    np.testing.assert_allclose(ours(x), theirs(np.asarray(x)), atol=1e-14)
    assert ours(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_derivatives_of_all_orders_and_modes():
    x = jnp.linspace(-9, 9, 101)
    first, second = jax.grad(sine), jax.grad(jax.grad(sine))
    np.testing.assert_allclose(jax.vmap(first)(x), jnp.cos(x), atol=3e-7)
    np.testing.assert_allclose(jax.vmap(second)(x), -jnp.sin(x), atol=3e-7)
    slope = jax.jvp(cosine, (x,), (jnp.ones_like(x),))[1]
    np.testing.assert_allclose(slope, -jnp.sin(x), atol=3e-7)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_has_no_sine_gives_nan(bad):
    assert jnp.isnan(sine(jnp.float32(bad)))
    assert jnp.isnan(cosine(jnp.float32(bad)))
