"""Random initial fields: the stated variance and spectrum, the same on every grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import energy_spectrum, fourier_resample, rfftn, velocity_from_vorticity
from sciml.problems import (
    AmplitudeConvention,
    fno_forcing,
    gaussian_random_field,
    kolmogorov_vorticity,
    mcwilliams_vorticity,
)


def analytic_variances(n, tau=7.0, alpha=2.5):
    """Mean square of each Fourier coefficient of the stated covariance on the unit square."""
    modes = np.fft.fftfreq(n, 1 / n)
    squared = (2 * np.pi) ** 2 * (modes[:, None] ** 2 + modes[None] ** 2)
    variances = tau**3 * (squared + tau**2) ** -alpha
    variances[0, 0] = 0
    variances[n // 2] = variances[:, n // 2] = 0
    return variances


def test_variance_matches_the_covariance_within_three_sigma(x64):
    n, n_samples = 16, 600
    keys = jax.random.split(jax.random.key(5521), n_samples)

    @jax.jit
    @jax.vmap
    def spectra(key):
        field = gaussian_random_field((n, n), convention=AmplitudeConvention.COVARIANCE, key=key)
        return jnp.mean(field**2), jnp.square(jnp.abs(rfftn(field[0], 2)))

    mean_square, power = (np.asarray(a) for a in spectra(keys))
    expected = analytic_variances(n)
    sigma = mean_square.std() / np.sqrt(n_samples)
    assert abs(mean_square.mean() - expected.sum()) < 3 * sigma
    # Each coefficient too: |c|^2 is exponential, so its sample mean has sigma = mean / sqrt(N).
    ratio = power.mean(axis=0)[:, : n // 2] / np.maximum(expected[:, : n // 2], 1e-300)
    live = expected[:, : n // 2] > 0
    assert np.abs(ratio[live] - 1).max() < 4.5 / np.sqrt(n_samples)
    np.testing.assert_allclose(power.mean(axis=0)[:, : n // 2][~live], 0, atol=1e-30)


def test_conventions_differ_by_the_square_root_of_two(x64, getkey):
    key = getkey()
    public, stated = (
        gaussian_random_field((8, 8), convention=convention, key=key)
        for convention in (AmplitudeConvention.PUBLIC_FILES, AmplitudeConvention.COVARIANCE)
    )
    np.testing.assert_allclose(public, np.sqrt(2) * stated, rtol=1e-12)
    np.testing.assert_array_equal(public, gaussian_random_field((8, 8), key=key))


@pytest.mark.parametrize(("coarse", "fine"), [((9, 7), (20, 10)), ((7,), (16,))])
def test_one_key_gives_one_field_on_every_grid(coarse, fine, x64, getkey):
    key = getkey()
    extent = (1.0, 2.0)[: len(coarse)]
    a = gaussian_random_field(coarse, extent, key=key)
    b = gaussian_random_field(fine, extent, key=key)
    assert b.shape == (1, *fine)
    down = fourier_resample(b, coarse)
    np.testing.assert_allclose(down, a, atol=1e-12)
    np.testing.assert_allclose(a.mean(), 0, atol=1e-14)


def test_keys_and_precisions(getkey, x64):
    key = getkey()
    a = gaussian_random_field((8, 9), key=key)
    assert float(jnp.abs(a - gaussian_random_field((8, 9), key=getkey())).max()) > 0.1
    assert gaussian_random_field((8, 9), dtype=jnp.float32, key=key).dtype == jnp.float32
    assert fno_forcing((8, 8), dtype=jnp.float32).dtype == jnp.float32
    with pytest.raises(ValueError, match="`tau` must be positive"):
        gaussian_random_field((8, 8), tau=0.0, key=key)


def test_mcwilliams_speed_and_spectrum(x64, getkey):
    keys = jax.random.split(getkey(), 40)
    field = jax.jit(
        jax.vmap(lambda key: mcwilliams_vorticity((32, 32), 2 * np.pi, rms_speed=1.5, key=key))
    )
    extent = (2 * np.pi, 2 * np.pi)
    velocity = velocity_from_vorticity(field(keys), extent)
    np.testing.assert_allclose((velocity**2).sum(axis=1).mean(axis=(1, 2)), 1.5**2, rtol=1e-12)
    k, energy = energy_spectrum(velocity, extent)
    mean = np.asarray(energy.mean(axis=0))[1:13]
    k = np.asarray(k)[1:13]
    # Modes per shell grow like k, amplitudes of the velocity fall like 1 / (1 + (k/4)^4).
    shape = k / (1 + (k / 4) ** 4) ** 2
    ratio = (mean / mean.sum()) / (shape / shape.sum())
    assert (ratio > 0.6).all()
    assert (ratio < 1.6).all()


def test_kolmogorov_speed_and_spectral_peak(x64, getkey):
    field = kolmogorov_vorticity((32, 33), 2 * np.pi, peak_wavenumber=4.0, key=getkey())
    extent = (2 * np.pi, 2 * np.pi)
    velocity = velocity_from_vorticity(field, extent)
    np.testing.assert_allclose(jnp.sqrt((velocity**2).sum(axis=0)).max(), 5.0, rtol=1e-12)
    _, energy = energy_spectrum(velocity, extent)
    assert 3 <= int(jnp.argmax(energy)) <= 6
    np.testing.assert_allclose(field.mean(), 0, atol=1e-13)
    with pytest.raises(ValueError, match="two numbers, for x and y"):
        kolmogorov_vorticity((32,), 2 * np.pi, key=getkey())


def test_fno_forcing_is_the_published_formula(x64):
    x, y = np.arange(8)[:, None] / 8, np.arange(6)[None] / 6
    expected = 0.1 * (np.sin(2 * np.pi * (x + y)) + np.cos(2 * np.pi * (x + y)))
    np.testing.assert_allclose(fno_forcing((8, 6))[0], expected, atol=1e-15)
    np.testing.assert_allclose(fno_forcing((8, 6), (2.0, 3.0))[0], expected, atol=1e-15)
