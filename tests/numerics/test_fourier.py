"""Transforms, wavenumbers, the two-thirds rule and derivatives, on odd, even and unequal sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import (
    dealias_mask,
    irfftn,
    laplacian,
    rfftn,
    spectral_derivative,
    wavenumbers,
)

# Compiled, which also shows that everything here may be traced.
forward = jax.jit(rfftn, static_argnums=1)
backward = jax.jit(irfftn, static_argnums=1)
derivative_of = jax.jit(spectral_derivative, static_argnums=(1, 2), static_argnames="order")
laplacian_of = jax.jit(laplacian, static_argnums=1)


def normal(shape):
    return np.random.default_rng(8091).normal(size=shape)


GRIDS = [(9,), (8, 10), (7, 6), (4, 5, 6)]


def grid(n_points, extent):
    axes = [np.arange(n) * length / n for n, length in zip(n_points, extent, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


@pytest.mark.parametrize("n_points", GRIDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_round_trip_keeps_values_and_dtype(n_points, dtype, x64):
    u = normal((2, *n_points)).astype(dtype)
    u_hat = forward(u, len(n_points))
    back = backward(u_hat, n_points)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, u, atol=2e-6 if dtype == jnp.float32 else 1e-14)
    mean = u.reshape(2, -1).mean(axis=1)
    np.testing.assert_allclose(u_hat.reshape(2, -1)[:, 0].real, mean, atol=1e-6)


def test_irfftn_refuses_another_grid():
    u_hat = rfftn(jnp.ones((8, 8)), 2)
    with pytest.raises(ValueError, match=r"\(8, 4\), got `u_hat` of shape \(8, 5\)"):
        irfftn(u_hat, (8, 7))
    with pytest.raises(ValueError, match="n_points"):
        irfftn(u_hat, ())
    with pytest.raises(TypeError, match="n_points"):
        irfftn(u_hat, (np.ones(3, int), 8))


def test_wavenumbers_are_physical_and_nyquist_is_zeroed_on_even_axes_only(x64):
    kx, ky = wavenumbers((6, 7), (3.0, 2 * np.pi))
    unit = 2 * np.pi / 3
    np.testing.assert_allclose(kx[:, 0], unit * np.array([0, 1, 2, -3, -2, -1]))
    np.testing.assert_allclose(ky[0], [0, 1, 2, 3])
    kx, ky = wavenumbers((6, 7), (3.0, 2 * np.pi), zero_nyquist=True)
    assert float(kx[3, 0]) == 0.0
    np.testing.assert_allclose(ky[0], [0, 1, 2, 3])
    (k,) = wavenumbers((6,), 1.0, dtype=jnp.float32)
    assert k.dtype == jnp.float32


@pytest.mark.parametrize("n", [8, 9, 10, 11, 12, 15])
def test_products_of_kept_modes_are_exact_in_kept_modes(n, x64):
    """The definition of the two-thirds rule, against the product on a grid fine enough."""
    mask = dealias_mask((n,))
    k_max = int(np.flatnonzero(mask)[-1])
    assert 3 * k_max < n <= 3 * (k_max + 1)
    real, imaginary = normal((2, 2, n // 2 + 1))
    u_hat = (real + 1j * imaginary) * np.asarray(mask)
    u_hat[:, 0] = u_hat[:, 0].real
    coarse = forward(np.prod(backward(u_hat, (n,)), axis=0), 1)
    padded = np.pad(u_hat, ((0, 0), (0, 2 * n - (n // 2))))
    n_fine = 2 * (padded.shape[1] - 1)
    fine = forward(np.prod(backward(padded, (n_fine,)), axis=0), 1)
    np.testing.assert_allclose(coarse[: k_max + 1], fine[: k_max + 1], atol=1e-13)


@pytest.mark.parametrize("n_points", [(8, 10), (7, 9), (12, 7)])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_of_single_waves(n_points, order, x64):
    extent = (2.0, 5.0)
    x, y = grid(n_points, extent)
    kx, ky = 2 * np.pi * 2 / extent[0], 2 * np.pi * 3 / extent[1]
    u = jnp.asarray(np.sin(kx * x + ky * y))[None]
    # d^n sin = sin shifted by n quarter periods.
    expected = np.sin(kx * x + ky * y + order * np.pi / 2)
    for axis, k in enumerate((kx, ky)):
        derivative = derivative_of(u, extent, axis, order=order)
        np.testing.assert_allclose(derivative[0], k**order * expected, atol=1e-10 * k**order)


def test_odd_derivative_of_nyquist_mode_is_zero_even_one_is_not(x64):
    u = jnp.asarray((-1.0) ** np.arange(8))
    np.testing.assert_allclose(derivative_of(u, 2 * np.pi, 0), 0, atol=1e-14)
    np.testing.assert_allclose(derivative_of(u, 2 * np.pi, 0, order=2), -16 * u)
    np.testing.assert_allclose(laplacian_of(u, 2 * np.pi), -16 * u)


def test_laplacian_is_the_sum_of_second_derivatives(x64):
    u = normal((2, 6, 5, 4))
    extent = (1.0, 2.0, 3.0)
    total = sum(derivative_of(u, extent, axis, order=2) for axis in range(3))
    np.testing.assert_allclose(laplacian_of(u, extent), total, rtol=1e-10, atol=1e-9)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`axis` must be a space axis, 0 to 1, got 2"):
        spectral_derivative(jnp.ones((4, 4)), (1.0, 1.0), 2)
    with pytest.raises(TypeError):
        laplacian(np.ones((4, 4), np.int32), (1.0, 1.0))
    with pytest.raises(ValueError, match="`domain_extent` must be positive"):
        wavenumbers((4, 4), (1.0, -1.0))
    with pytest.raises(ValueError, match="2 of them, one per space axis"):
        wavenumbers((4, 4), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="at least 2 axes"):
        laplacian(jnp.ones(4), (1.0, 1.0))
