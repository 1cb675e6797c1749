"""Spectral convolution: grid independence, widening, equivariance, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nn import SpectralConv
from sciml.numerics import fourier_resample


@pytest.fixture
def layer(getkey):
    return SpectralConv(2, 3, (3, 4), key=getkey())


@pytest.fixture
def band_limited(getkey):
    coarse = jax.random.normal(getkey(), (2, 7, 7))
    return fourier_resample(coarse, (9, 8))


def test_grids_agree_where_they_share_points(layer, band_limited):
    fine = fourier_resample(band_limited, (18, 16))
    np.testing.assert_allclose(layer(fine)[:, ::2, ::2], layer(band_limited), atol=2e-6)
    np.testing.assert_allclose(layer(band_limited, n_points=(18, 16)), layer(fine), atol=2e-6)


def test_it_is_the_kernel_applied_mode_by_mode(layer, band_limited):
    # One wave in, the weight of its mode out: cos(2 pi x) has coefficients 1/2 at k = +-1.
    x = jnp.arange(8) / 8
    wave = jnp.zeros((2, 9, 8)).at[0].set(jnp.broadcast_to(jnp.cos(2 * jnp.pi * x), (9, 8)))
    weight = np.asarray(layer.weight)[2, 1, :, :, 0]  # k = (0, 1)
    r = weight[:, 0] + 1j * weight[:, 1]
    expected = np.real(np.outer(r, np.exp(2j * np.pi * np.asarray(x))))
    np.testing.assert_allclose(layer(wave)[:, 4], expected, atol=1e-6)


def test_shift_equivariance(layer, band_limited):
    shifted = jnp.roll(band_limited, (2, 3), axis=(1, 2))
    expected = jnp.roll(layer(band_limited), (2, 3), axis=(1, 2))
    np.testing.assert_allclose(layer(shifted), expected, atol=2e-6)


def test_widening_keeps_the_function(layer, band_limited):
    wide = layer.widen((4, 4))
    assert wide.weight.shape == (7, 4, 3, 2, 2)
    np.testing.assert_allclose(wide(band_limited), layer(band_limited), atol=1e-6)
    with pytest.raises(ValueError, match="modes would go"):
        layer.widen((2, 4))


def test_variance_is_kept(getkey):
    layer = SpectralConv(24, 24, (5, 5), key=getkey())
    v = fourier_resample(jax.random.normal(getkey(), (24, 9, 9)), (16, 16))
    assert 0.7 < float(jnp.std(layer(v)) / jnp.std(v)) < 1.4


def test_dtype_follows_the_input(x64, getkey):
    layer = SpectralConv(1, 1, (2,), key=getkey())
    assert layer.weight.dtype == jnp.float32
    assert layer(jnp.ones((1, 8), jnp.float64)).dtype == jnp.float64
    assert layer(jnp.ones((1, 8), jnp.float32)).dtype == jnp.float32


def test_weights_are_real_leaves(layer):
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(layer))


def test_wrong_shapes_are_named(layer):
    with pytest.raises(ValueError, match="axis 0 of `v` must have size 2"):
        layer(jnp.ones((3, 9, 9)))
    with pytest.raises(ValueError, match="must have 3 axes"):
        layer(jnp.ones((2, 9)))
    with pytest.raises(ValueError, match="axis 1 has 6 points, but n_modes=4"):
        layer(jnp.ones((2, 9, 6)))
    with pytest.raises(ValueError, match="n_modes"):
        SpectralConv(1, 1, (0, 2), key=jax.random.key(3))
