"""Norms are exact by Parseval; relative errors are ratios over one space-time set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import (
    bochner_norm,
    fourier_resample,
    laplacian,
    relative_error_curve,
    relative_h1,
    relative_l2,
    sobolev_norm,
    spectral_derivative,
)

# Compiled, which also shows that everything here may be traced.
l2 = jax.jit(relative_l2)
sobolev = jax.jit(sobolev_norm, static_argnums=(1, 2), static_argnames="alpha")
bochner = jax.jit(bochner_norm, static_argnums=(2, 3), static_argnames="alpha")
h1 = jax.jit(relative_h1, static_argnums=2, static_argnames="alpha")
curve_of = jax.jit(relative_error_curve, static_argnums=(2, 3), static_argnames="alpha")


def normal(shape):
    return np.random.default_rng(8091).normal(size=shape)


@pytest.mark.parametrize("order", [-1.0, -0.5, 0.0, 1.0, 2.5])
@pytest.mark.parametrize("n_points", [(8, 10), (9, 7), (16, 5)])
def test_single_wave_is_exact(order, n_points, x64):
    extent, alpha = (2.0, 3.0), 0.3
    x = np.arange(n_points[0])[:, None] * extent[0] / n_points[0]
    y = np.arange(n_points[1])[None] * extent[1] / n_points[1]
    kx, ky = 2 * np.pi * 2 / extent[0], -2 * np.pi * 1 / extent[1]
    u = jnp.asarray(np.cos(kx * x + ky * y + 0.4))
    expected = np.sqrt(6.0 / 2 * (alpha + kx**2 + ky**2) ** order)
    np.testing.assert_allclose(sobolev(u, extent, order, alpha=alpha), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (6, 7), (4, 5, 6)])
def test_half_spectrum_equals_full_spectrum_and_quadrature(shape, x64):
    u = normal(shape)
    extent = (1.5, 2.0, 0.7)[: len(shape)]
    k = np.meshgrid(
        *[2 * np.pi * np.fft.fftfreq(n, e / n) for n, e in zip(shape, extent, strict=True)],
        indexing="ij",
    )
    weights = (2.0 + sum(c**2 for c in k)) ** -0.7
    full = np.sqrt(np.prod(extent) * np.sum(weights * np.abs(np.fft.fftn(u, norm="forward")) ** 2))
    np.testing.assert_allclose(sobolev(u, extent, -0.7, alpha=2.0), full, rtol=1e-12)
    quadrature = np.sqrt(np.prod(extent) * np.mean(np.square(u)))
    np.testing.assert_allclose(sobolev(u, extent), quadrature, rtol=1e-12)


def test_h1_is_value_and_gradient(x64):
    u = normal((3, 7, 9))
    extent = (2.0, 1.0)
    parts = [u, *(spectral_derivative(u, extent, axis) for axis in range(2))]
    expected = np.sqrt(sum(np.asarray(sobolev(part, extent)) ** 2 for part in parts))
    np.testing.assert_allclose(sobolev(u, extent, 1), expected, rtol=1e-12)


def test_negative_norm_is_dual_to_the_positive_one(x64):
    extent, alpha = (2.0, 2.0), 0.5
    r, v = normal((2, 7, 9))

    def inner(a, b):
        return float(jnp.mean(a * b) * 4.0)

    bound = sobolev(r, extent, -1, alpha=alpha) * sobolev(v, extent, 1, alpha=alpha)
    assert abs(inner(r, v)) < float(bound)
    # Equality where v solves (alpha - Laplacian) v = r; make r from v.
    r = alpha * v - laplacian(v, extent)
    bound = sobolev(r, extent, -1, alpha=alpha) * sobolev(v, extent, 1, alpha=alpha)
    np.testing.assert_allclose(inner(r, v), bound, rtol=1e-12)


@pytest.mark.parametrize("order", [-1.0, 0.0, 1.0])
def test_homogeneous_norm_drops_the_mean(order, x64):
    u = normal((8, 6))
    shifted = u + 13.0
    np.testing.assert_allclose(
        sobolev(u, (1.0, 1.0), order, alpha=0.0),
        sobolev(shifted, (1.0, 1.0), order, alpha=0.0),
        rtol=1e-11,
    )
    assert np.isfinite(sobolev(jnp.ones((4, 4)), (1.0, 1.0), -1, alpha=0.0))


@pytest.mark.parametrize("order", [-1.0, 0.0, 1.0])
def test_norm_does_not_depend_on_the_grid(order, x64):
    u = normal((2, 7, 9))
    fine = fourier_resample(u, (16, 21))
    np.testing.assert_allclose(
        sobolev(fine, (1.0, 2.0), order), sobolev(u, (1.0, 2.0), order), rtol=1e-12
    )


def test_bochner_norm_converges_in_time_and_sums_channels(x64):
    x = np.arange(8) / 8
    errors = []
    for n_times in (10, 20, 40):
        t = (np.arange(n_times) + 0.5) / n_times
        u = np.exp(-t)[:, None, None] * np.stack([np.cos(2 * np.pi * x), np.sin(2 * np.pi * x)])
        norm = bochner(jnp.asarray(u), 1 / n_times, 1.0)
        errors.append(abs(float(norm) - np.sqrt((1 - np.exp(-2)) / 2)))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


def test_relative_errors_scale_with_the_error_only(x64):
    truth = normal((5, 2, 6, 7))
    prediction = 1.25 * truth
    extent = (1.0, 2.0)
    for error in (
        l2(prediction, truth),
        h1(prediction, truth, extent),
        h1(prediction, truth, extent, alpha=0),
    ):
        assert error.shape == ()
        np.testing.assert_allclose(error, 0.25, rtol=1e-12)
    # Repeating the trajectory in time changes nothing: no factor of sqrt(T) is left over.
    twice = [jnp.concatenate([a, a]) for a in (prediction, truth)]
    np.testing.assert_allclose(l2(*twice), 0.25, rtol=1e-12)
    prediction[2] = truth[2]
    curve = curve_of(prediction, truth, extent, -1)
    np.testing.assert_allclose(curve, [0.25, 0.25, 0, 0.25, 0.25], atol=1e-12)


def test_relative_l2_sums_before_dividing(x64):
    """Space-time error, not the mean of per-snapshot errors."""
    truth = jnp.stack([jnp.full((1, 4), 3.0), jnp.full((1, 4), 4.0)])
    prediction = truth.at[0].add(5.0)
    np.testing.assert_allclose(l2(prediction, truth), 1.0)


def test_zero_truth_is_told_apart():
    zero, one = jnp.zeros((2, 1, 4)), jnp.ones((2, 1, 4))
    assert float(l2(one, zero)) == np.inf
    assert float(l2(zero, zero)) == 0.0
    assert float(h1(one, zero, 1.0)) == np.inf
    truth = one.at[0].set(0.0)
    np.testing.assert_array_equal(curve_of(one, truth, 1.0), [np.inf, 0.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_a_forecast_that_blew_up_never_looks_exact(value, truth):
    truth = jnp.full((2, 1, 4, 4), truth)
    forecast = truth.at[1, 0, 2, 3].set(value)
    for error in (
        relative_l2(forecast, truth),
        relative_h1(forecast, truth, (1.0, 1.0)),
        relative_error_curve(forecast, truth, (1.0, 1.0))[1],
    ):
        assert not np.isfinite(error) or error > 1e10


def test_gradients_are_finite_at_zero_error_and_right_elsewhere(x64):
    truth, prediction = normal((2, 2, 1, 6))
    at_truth = jax.grad(relative_l2)(truth, truth)
    np.testing.assert_array_equal(at_truth, 0.0)
    np.testing.assert_array_equal(jax.grad(lambda u: sobolev(u, 1.0, -1))(jnp.zeros(5)), 0.0)
    gradient = jax.grad(lambda u: h1(u, truth, 1.0))(prediction)
    direction = normal(prediction.shape)
    step = 1e-6
    difference = (
        h1(prediction + step * direction, truth, 1.0)
        - h1(prediction - step * direction, truth, 1.0)
    ) / (2 * step)
    np.testing.assert_allclose(jnp.sum(gradient * direction), difference, rtol=1e-7)


def test_dtype_follows_the_input_and_vmap_agrees(x64):
    a, b = normal((2, 3, 2, 1, 6)).astype(np.float32)
    assert l2(a, b).dtype == jnp.float32
    assert bochner(a, 0.1, 1.0).dtype == jnp.float32
    batched = jax.jit(jax.vmap(lambda p, t: h1(p, t, 1.0)))(a, b)
    single = jnp.stack([h1(p, t, 1.0) for p, t in zip(a, b, strict=True)])
    np.testing.assert_allclose(batched, single, rtol=1e-6)
    np.testing.assert_allclose(bochner(a, 0.1, 1.0)[1], bochner(a[1], 0.1, 1.0), rtol=1e-6)


def test_bad_arguments_are_named():
    u = jnp.ones((2, 1, 8))
    with pytest.raises(ValueError, match=r"one shape, got \(2, 1, 8\) and \(2, 1, 4\)"):
        relative_l2(u, u[..., ::2])
    with pytest.raises(ValueError, match="`alpha` must be zero or positive"):
        sobolev_norm(u, 1.0, 1, alpha=-1.0)
    with pytest.raises(ValueError, match="`order` must be a finite number"):
        sobolev_norm(jnp.ones(8), 1.0, float("nan"))
    with pytest.raises(ValueError, match="`dt` must be positive"):
        bochner_norm(u, -1.0, 1.0)
    with pytest.raises(ValueError, match=r"\(time, channels, \*space\)"):
        relative_error_curve(u, u, (1.0, 1.0))
    with pytest.raises(ValueError, match="time axis and a channel axis"):
        bochner_norm(u[0], 1.0, 1.0)
