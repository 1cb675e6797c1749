"""Stream function, velocity, curl and Leray projection undo and bound each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import (
    divergence,
    irfftn,
    laplacian,
    leray_project,
    rfftn,
    stream_function,
    velocity_from_vorticity,
    vorticity_from_velocity,
)

# Compiled, which also shows that everything here may be traced.
velocity_of = jax.jit(velocity_from_vorticity, static_argnums=(1, 2))
curl = jax.jit(vorticity_from_velocity, static_argnums=1)
project = jax.jit(leray_project, static_argnums=1)
divergence_of = jax.jit(divergence, static_argnums=1)
stream = jax.jit(stream_function, static_argnums=1)
laplacian_of = jax.jit(laplacian, static_argnums=1)


def normal(shape):
    return np.random.default_rng(8091).normal(size=shape)


GRIDS = [(8, 8), (9, 8), (8, 9), (7, 12)]
EXTENT = (2.0, 3.0)


def without_nyquist(u):
    """Drop modes whose odd derivative vanishes on the grid."""
    n_points = u.shape[-2:]
    u_hat = rfftn(u, 2)
    if n_points[0] % 2 == 0:
        u_hat = u_hat.at[..., n_points[0] // 2, :].set(0)
    if n_points[1] % 2 == 0:
        u_hat = u_hat.at[..., -1].set(0)
    return irfftn(u_hat, n_points)


@pytest.mark.parametrize("n_points", GRIDS)
def test_velocity_round_trip(n_points, x64):
    vorticity = without_nyquist(normal((2, 1, *n_points)))
    vorticity = vorticity - vorticity.mean(axis=(-2, -1), keepdims=True)
    velocity = velocity_of(vorticity, EXTENT, (0.5, -0.25))
    assert velocity.shape == (2, 2, *n_points)
    np.testing.assert_allclose(velocity.mean(axis=(-2, -1)), [[0.5, -0.25]] * 2, atol=1e-14)
    np.testing.assert_allclose(divergence_of(velocity, EXTENT), 0, atol=1e-12)
    np.testing.assert_allclose(curl(velocity, EXTENT), vorticity, atol=1e-12)


def test_stream_function_solves_poisson_and_ignores_the_mean(x64):
    vorticity = normal((1, 8, 9))
    psi = stream(vorticity, EXTENT)
    np.testing.assert_allclose(-laplacian_of(psi, EXTENT), vorticity - vorticity.mean(), atol=1e-12)
    np.testing.assert_allclose(psi.mean(), 0, atol=1e-15)
    np.testing.assert_allclose(stream(vorticity + 3.0, EXTENT), psi, atol=1e-13)


@pytest.mark.parametrize("shape", [(2, 8, 9), (2, 6, 6), (3, 6, 5, 4)])
def test_leray_projection(shape, x64):
    d = len(shape) - 1
    extent = (1.0, 2.0, 1.5)[:d]
    u = normal((2, *shape))
    projected = project(u, extent)
    np.testing.assert_allclose(divergence_of(projected, extent), 0, atol=1e-12)
    np.testing.assert_allclose(project(projected, extent), projected, atol=1e-13)
    axes = tuple(range(-d, 0))
    np.testing.assert_allclose(projected.mean(axis=axes), u.mean(axis=axes), atol=1e-14)
    # Orthogonal: what was taken away is perpendicular to what is left.
    np.testing.assert_allclose(jnp.mean((u - projected) * projected), 0, atol=1e-14)
    # The curl does not see the gradient part.
    np.testing.assert_allclose(curl(projected, extent), curl(u, extent), atol=1e-11)


def test_curl_in_three_dimensions_of_a_known_field(x64):
    """The ABC flow is its own curl."""
    axis = 2 * np.pi * np.arange(8) / 8
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    flow = np.stack(
        [
            np.sin(z) + 0.7 * np.cos(y),
            np.sin(x) * 1.3 + np.cos(z),
            0.7 * np.sin(y) + 1.3 * np.cos(x),
        ]
    )
    np.testing.assert_allclose(curl(flow, (2 * np.pi,) * 3), flow, atol=1e-13)


def test_float32_and_bad_arguments():
    u = jnp.ones((1, 8, 8), jnp.float32)
    assert velocity_from_vorticity(u, (1.0, 1.0)).dtype == jnp.float32
    with pytest.raises(ValueError, match=r"2 component\(s\).*got shape \(1, 8, 8\)"):
        leray_project(u, (1.0, 1.0))
    with pytest.raises(ValueError, match="must hold 2 periods"):
        velocity_from_vorticity(u, 1.0)
