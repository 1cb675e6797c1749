"""The exact GELU: values, derivatives, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfc

from sciml.nn import gelu


def exact(x):
    x = x.astype(np.float64)
    return 0.5 * x * erfc(-x / np.sqrt(2))


def exact_slope(x):
    x = x.astype(np.float64)
    return 0.5 * erfc(-x / np.sqrt(2)) + x * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def test_float32_agrees_with_the_error_function():
    x = np.linspace(-9, 9, 200_001, dtype=np.float32)
    error = np.abs(gelu(jnp.asarray(x)) - exact(x)) / np.maximum(1, np.abs(x))
    assert float(np.max(error)) < 2.5e-7
    slope = jax.vmap(jax.grad(gelu))(jnp.asarray(x))
    assert float(np.max(np.abs(slope - exact_slope(x)))) < 1e-6


def test_far_out_it_is_zero_or_the_argument():
    x = jnp.asarray([-3e4, -7.0, 7.0, 3e4])
    np.testing.assert_array_equal(gelu(x), jnp.maximum(x, 0))


def test_float64_is_exact_to_round_off(x64):
    x = np.linspace(-9, 9, 2001)
    np.testing.assert_allclose(gelu(jnp.asarray(x)), exact(x), rtol=1e-13, atol=1e-300)
    slope = jax.vmap(jax.grad(gelu))(jnp.asarray(x))
    np.testing.assert_allclose(slope, exact_slope(x), atol=1e-14)
    assert gelu(jnp.ones(2, jnp.float32)).dtype == jnp.float32


def test_forward_mode_and_second_derivatives(x64):
    x, dx = jnp.linspace(-3, 3, 7), jnp.linspace(1, 2, 7)
    _, tangent = jax.jvp(gelu, (x,), (dx,))
    np.testing.assert_allclose(tangent, exact_slope(np.asarray(x)) * dx, atol=1e-14)
    second = jax.vmap(jax.grad(jax.grad(gelu)))(x)
    step = 1e-5
    difference = exact_slope(np.asarray(x) + step) - exact_slope(np.asarray(x) - step)
    np.testing.assert_allclose(second, difference / (2 * step), atol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_rounded_float32(dtype):
    x = jnp.linspace(-4, 4, 65).astype(dtype)
    assert gelu(x).dtype == dtype
    np.testing.assert_array_equal(gelu(x), gelu(x.astype(jnp.float32)).astype(dtype))
