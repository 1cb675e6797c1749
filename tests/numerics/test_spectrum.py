"""The energy spectrum puts every mode in one shell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import energy_spectrum

# Compiled, which also shows that it may be traced.
spectrum = jax.jit(energy_spectrum, static_argnums=1)


def normal(shape):
    return np.random.default_rng(8091).normal(size=shape)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 9, 6), (3, 5, 6, 4), (1, 7)])
def test_sums_to_the_energy(shape, x64):
    u = normal((4, *shape))
    extent = (1.0, 2.5, 2.0)[: len(shape) - 1]
    wavenumber, energy = spectrum(u, extent)
    assert energy.shape == (4, wavenumber.size)
    axes = tuple(range(1, u.ndim))
    expected = 0.5 * np.sum(u**2, axis=axes) / np.prod(shape[1:])
    np.testing.assert_allclose(energy.sum(axis=-1), expected, rtol=1e-12)


def test_a_wave_lands_in_its_shell_whatever_its_direction(x64):
    x = np.arange(32) / 32
    for m_x, m_y in [(3, 4), (5, 0), (0, 5), (-4, 3)]:
        u = jnp.asarray(np.cos(2 * np.pi * (m_x * x[:, None] + m_y * x[None])))[None]
        wavenumber, energy = spectrum(u, (2.0, 2.0))
        np.testing.assert_allclose(energy[5], 0.25, rtol=1e-12)
        np.testing.assert_allclose(wavenumber[5], 5 * np.pi)
        np.testing.assert_allclose(energy.sum(), 0.25, rtol=1e-12)


def test_dtype_and_rank():
    u = jnp.ones((1, 4), jnp.float32)
    assert energy_spectrum(u, 1.0)[1].dtype == jnp.float32
    with pytest.raises(ValueError, match="at least 2 axes"):
        energy_spectrum(jnp.ones(4), 1.0)
