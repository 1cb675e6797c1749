"""The truncated transforms equal the FFT, whatever the sizes and the method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import (
    fourier_series_matrix,
    trigonometric_interpolation_matrix,
    truncated_irfftn,
    truncated_rfftn,
)

CASES = [((16,), (5,)), ((9, 12), (4, 6)), ((7, 8, 15), (4, 3, 8)), ((64, 5), (2, 1))]


def reference_coefficients(u, n_modes):
    """Pick the low modes out of numpy's full transform."""
    n_dims = len(n_modes)
    full = np.fft.fftn(u, axes=range(-n_dims, 0), norm="forward")
    for axis, m in enumerate(n_modes):
        first = 0 if axis == n_dims - 1 else -(m - 1)
        n = u.shape[axis - n_dims]
        full = np.take(full, np.arange(first, m) % n, axis=axis - n_dims)
    return full


@pytest.mark.parametrize(("n_points", "n_modes"), CASES)
@pytest.mark.parametrize("dense", [True, False, None])
def test_forward_and_inverse_equal_the_fft(x64, n_points, n_modes, dense):
    rng = np.random.default_rng(31)
    u = rng.normal(size=(3, *n_points))
    expected = reference_coefficients(u, n_modes)
    coefficients = truncated_rfftn(jnp.asarray(u), n_modes, dense=dense)
    np.testing.assert_allclose(coefficients, expected, atol=1e-14)

    # A field that has the kept modes only comes back.
    low = truncated_irfftn(coefficients, n_points, dense=dense)
    again = truncated_rfftn(low, n_modes, dense=dense)
    np.testing.assert_allclose(again, expected, atol=1e-14)


def test_impossible_imaginary_parts_are_projected_out_alike(x64):
    rng = np.random.default_rng(33)
    coefficients = jnp.asarray(rng.normal(size=(5, 7, 4)) + 1j * rng.normal(size=(5, 7, 4)))
    by_product = truncated_irfftn(coefficients, (12, 9, 8), dense=True)
    by_fft = truncated_irfftn(coefficients, (12, 9, 8), dense=False)
    np.testing.assert_allclose(by_product, by_fft, atol=1e-13)


def test_amplitude_does_not_depend_on_the_grid():
    def wave(n):
        x = jnp.arange(n) / n
        return 1.5 + jnp.cos(2 * jnp.pi * 2 * x)

    coarse, fine = (truncated_rfftn(wave(n), (4,)) for n in (8, 120))
    np.testing.assert_allclose(coarse, fine, atol=1e-6)
    np.testing.assert_allclose(truncated_irfftn(coarse, (120,)), wave(120), atol=1e-6)


def test_both_methods_have_the_same_gradient(x64):
    rng = np.random.default_rng(35)
    u = jnp.asarray(rng.normal(size=(2, 12, 10)))
    weight = jnp.asarray(rng.normal(size=(2, 12, 10)))

    def loss(u, dense):
        kept = truncated_irfftn(truncated_rfftn(u, (3, 4), dense=dense), (12, 10), dense=dense)
        return jnp.sum(weight * kept**2)

    dense, fft = (jax.grad(loss)(u, dense) for dense in (True, False))
    np.testing.assert_allclose(dense, fft, atol=1e-13)


def test_float32_is_accurate_on_large_grids():
    rng = np.random.default_rng(37)
    u = rng.normal(size=(1, 300, 8)).astype(np.float32)
    coefficients = truncated_rfftn(jnp.asarray(u), (20, 3), dense=True)
    assert coefficients.dtype == jnp.complex64
    np.testing.assert_allclose(coefficients, reference_coefficients(u, (20, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("n_points", "n_modes", "message"),
    [
        ((8,), (5,), "axis 0 has"),
        ((4, 8), (3, 2), "axis 0 has"),
        ((8,), (0,), "`n_modes` must be at least 1"),
    ],
)
def test_too_few_points_are_refused(n_points, n_modes, message):
    with pytest.raises(ValueError, match=message):
        truncated_rfftn(jnp.ones(n_points), n_modes)


def test_too_coarse_a_target_is_refused():
    coefficients = truncated_rfftn(jnp.ones((8, 8)), (4, 4))
    with pytest.raises(ValueError, match="at least 2 \\* 4 - 1 = 7"):
        truncated_irfftn(coefficients, (8, 6))
    with pytest.raises(ValueError, match="got 2"):
        truncated_irfftn(coefficients[0], (8, 8))


@pytest.mark.parametrize("n_nodes", [5, 6])
def test_interpolation_is_exact_on_low_modes_and_at_the_nodes(x64, n_nodes):
    nodes = np.arange(n_nodes) / n_nodes
    positions = jnp.asarray([0.0, 0.13, 0.5, 0.77, 1.2])
    matrix = trigonometric_interpolation_matrix(positions, n_nodes)

    def series(x):
        return 0.4 + np.cos(2 * np.pi * x) - 0.3 * np.sin(4 * np.pi * x)

    np.testing.assert_allclose(matrix @ series(nodes), series(np.asarray(positions)), atol=1e-14)
    at_nodes = trigonometric_interpolation_matrix(jnp.asarray(nodes), n_nodes)
    np.testing.assert_allclose(at_nodes, np.eye(n_nodes), atol=1e-14)


def test_series_matrix_evaluates_modes(x64):
    positions = jnp.asarray([0.1, 0.35])
    matrix = fourier_series_matrix(positions, 3)
    modes = np.arange(-2, 3)
    expected = np.exp(2j * np.pi * np.outer(positions, modes))
    np.testing.assert_allclose(matrix, expected, atol=1e-15)
