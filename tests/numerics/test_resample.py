"""Fourier resampling is exact interpolation, and up-then-down is the identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import fourier_resample

# Compiled, which also shows that it may be traced.
resample = jax.jit(fourier_resample, static_argnums=1)


def normal(shape):
    return np.random.default_rng(8091).normal(size=shape)


@pytest.mark.parametrize("n", [5, 6])
@pytest.mark.parametrize("m", [6, 7, 8, 11, 12])
def test_up_then_down_is_the_identity(n, m, x64):
    u = normal((2, n, n + 1))
    fine = resample(u, (m, m + 3))
    np.testing.assert_allclose(resample(fine, (n, n + 1)), u, atol=1e-14)


def test_up_interpolates_the_points_it_shares(x64):
    """Nyquist modes included: the interpolant goes through the data."""
    u = normal((1, 6, 8))
    fine = resample(u, (18, 24))
    np.testing.assert_allclose(fine[:, ::3, ::3], u, atol=1e-14)


@pytest.mark.parametrize("n_points", [(9, 16), (32, 7), (10, 10)])
def test_band_limited_fields_are_sampled_exactly(n_points, x64):
    def sample(n_x, n_y):
        x, y = np.arange(n_x)[:, None] / n_x, np.arange(n_y)[None] / n_y
        return jnp.asarray(np.sin(2 * np.pi * (3 * x + 2 * y)) + np.cos(2 * np.pi * (x - 3 * y)))

    resampled = resample(sample(12, 11), n_points)
    np.testing.assert_allclose(resampled, sample(*n_points), atol=1e-13)


def test_down_drops_what_striding_would_alias(x64):
    x = np.arange(16) / 16
    u = jnp.asarray(1 + np.cos(2 * np.pi * 7 * x))
    np.testing.assert_allclose(resample(u, (8,)), 1.0, atol=1e-14)
    assert float(jnp.abs(u[::2] - 1).max()) > 0.5


def test_down_onto_the_nyquist_mode_keeps_its_even_part(x64):
    x = np.arange(12) / 12
    u = jnp.asarray(3 * np.cos(2 * np.pi * 4 * x) + 5 * np.sin(2 * np.pi * 4 * x))
    np.testing.assert_allclose(resample(u, (8,)), 3 * (-1.0) ** np.arange(8), atol=1e-13)


def test_same_size_is_untouched_and_dtype_kept():
    u = jnp.ones((1, 4, 4), jnp.float32)
    assert fourier_resample(u, (4, 4)) is u
    assert fourier_resample(u, (6, 3)).dtype == jnp.float32
    with pytest.raises(ValueError, match="at least 2 axes"):
        fourier_resample(jnp.ones(4), (4, 4))
    with pytest.raises(ValueError, match="`n_points` must be at least 1, got 0"):
        fourier_resample(u, (4, 0))
