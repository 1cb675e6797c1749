"""A matrix along one axis: every axis, mapped or not, and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import matmul_along


@pytest.fixture
def v(x64):
    return jnp.asarray(np.random.default_rng(41).normal(size=(3, 4, 5, 2)))


@pytest.fixture
def matrices(x64):
    rng = np.random.default_rng(43)
    return [jnp.asarray(rng.normal(size=(7, n))) for n in (3, 4, 5, 2)]


def straightforward(matrix, v, axis):
    return jnp.moveaxis(jnp.tensordot(matrix, v, axes=(1, axis)), 0, axis)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_it_is_tensordot(v, matrices, axis):
    matrix = matrices[axis]
    np.testing.assert_allclose(
        matmul_along(matrix, v, axis), straightforward(matrix, v, axis), atol=1e-14
    )


@pytest.mark.parametrize("in_axes", [(None, 0), (None, 2), (0, None), (0, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_under_vmap_values_and_derivatives_are_those_of_tensordot(v, in_axes, axis):
    matrix_axis, v_axis = in_axes
    if matrix_axis == 0 and v_axis == 0:
        v = v[:2]
    size = (v.shape if v_axis is None else np.delete(v.shape, v_axis))[axis]
    shape = (6, size) if matrix_axis is None else (2, 6, size)
    matrix = jnp.asarray(np.random.default_rng(45).normal(size=shape))

    def loss(product):
        def sum_of_squares(matrix, v):
            mapped = jax.vmap(lambda m, u: jnp.sin(product(m, u, axis)), in_axes)(matrix, v)
            return jnp.sum(jnp.cos(jnp.arange(mapped.size)).reshape(mapped.shape) * mapped**2)

        return sum_of_squares

    ours, theirs = loss(matmul_along), loss(straightforward)
    for found, expected in zip(
        jax.grad(ours, (0, 1))(matrix, v), jax.grad(theirs, (0, 1))(matrix, v), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    tangents = (jnp.ones_like(matrix), jnp.ones_like(v))
    _, found = jax.jvp(ours, (matrix, v), tangents)
    _, expected = jax.jvp(theirs, (matrix, v), tangents)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_under_vmap_it_is_a_batched_product():
    program = jax.jit(jax.vmap(lambda m, u: matmul_along(m, u, 0), (None, 0)))
    text = program.lower(jnp.ones((3, 4)), jnp.ones((2, 4, 5))).as_text()
    assert "batching_dims = [0] x [0]" in text
    assert "transpose" not in text


def test_a_bad_entry_stays_where_it_is():
    v = jnp.ones((2, 3)).at[0, 0].set(jnp.nan)
    assert bool(jnp.isfinite(matmul_along(jnp.ones((4, 2)), v, 0)[:, 1:]).all())


def test_no_points_and_wrong_sizes():
    assert matmul_along(jnp.ones((4, 2)), jnp.ones((2, 0)), 0).shape == (4, 0)
    with pytest.raises(ValueError, match="axis 1 of `v` must have size 2"):
        matmul_along(jnp.ones((4, 2)), jnp.ones((2, 3)), 1)
