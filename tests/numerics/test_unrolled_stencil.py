"""The fast layout of a stencil: the same products, the same gradients, NaN kept."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import StencilOperator
from sciml.numerics._unrolled_stencil import UnrolledStencil, materialised, neighbour_values

product = eqx.filter_jit(UnrolledStencil.mv)
products = eqx.filter_jit(eqx.filter_vmap(UnrolledStencil.mv, in_axes=(None, 0)))


def _operator(n_points, periodic, dtype):
    """Random couplings along axes and, in two dimensions or more, along one diagonal."""
    rng = np.random.default_rng(64)
    n_axes = len(n_points)
    offsets = [tuple(int(a == b) for b in range(n_axes)) for a in range(n_axes)]
    if n_axes > 1:
        offsets.append((1, -1, *(0,) * (n_axes - 2)))
    couplings = -rng.uniform(0.1, 1, (len(offsets), *n_points))
    for coupling, offset in zip(couplings, offsets, strict=True):
        for axis, o in enumerate(offset):
            if o and not periodic[axis]:
                edge = [slice(None)] * n_axes
                edge[axis] = -1 if o > 0 else 0
                coupling[tuple(edge)] = 0
    diagonal = rng.uniform(4, 5, n_points)
    return StencilOperator(
        jnp.asarray(diagonal, dtype), jnp.asarray(couplings, dtype), offsets, periodic
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    ("n_points", "periodic"),
    [
        ((6,), (False,)),
        ((2,), (True,)),
        ((5, 4), (False, False)),
        ((5, 4), (True, False)),
        ((5, 4), (True, True)),
        ((1, 4), (False, False)),
        ((3, 4, 5), (False, False, False)),
        ((3, 4, 5), (False, True, False)),
    ],
)
def test_equals_the_operator(n_points, periodic, dtype, x64):
    operator = _operator(n_points, periodic, dtype)
    unrolled = UnrolledStencil(operator)
    u = jnp.asarray(np.random.default_rng(1).normal(size=(2, *n_points)), dtype)
    tolerance = 1e-6 if dtype == jnp.float32 else 1e-13
    results = products(unrolled, u)
    assert results.dtype == dtype
    for one, result in zip(u, results, strict=True):
        expected = operator.to_scipy() @ np.asarray(one).ravel()
        np.testing.assert_allclose(result.reshape(-1), expected, atol=10 * tolerance)


def test_vector_decides_the_dtype(x64):
    operator = _operator((5, 4), (False, False), jnp.float64)
    assert UnrolledStencil(operator).mv(jnp.ones((5, 4), jnp.float32)).dtype == jnp.float32


def test_neighbours_inside_the_grid_are_right():
    u = jnp.arange(1.0, 13.0).reshape(3, 4)
    offsets = ((0, 0), (1, -1), (-1, 0), (0, 1))
    for periodic in ((False, False), (False, True)):
        values = neighbour_values(u, offsets, periodic)
        for (down, right), value in zip(offsets, values, strict=True):
            value = np.asarray(value).reshape(3, 4)
            for i in range(max(0, -down), 3 - max(0, down)):
                for j in range(max(0, -right), 4 - max(0, right)):
                    assert value[i, j] == u[i + down, j + right]


def test_values_outside_the_grid_stay_finite():
    values = neighbour_values(jnp.ones((3, 4)), ((1, 1), (-1, -1)), (False, False))
    assert np.all(np.isfinite(values))


@pytest.mark.parametrize("periodic", [(False, False), (True, False)])
def test_gradient_is_the_transpose(periodic, x64):
    operator = _operator((5, 4), periodic, jnp.float64)
    unrolled = UnrolledStencil(operator)
    rng = np.random.default_rng(8)
    u, v = (jnp.asarray(rng.normal(size=(5, 4))) for _ in range(2))
    gradient = jax.grad(lambda u: jnp.sum(v * unrolled.mv(u)))(u)
    np.testing.assert_allclose(gradient, operator.mv(v), atol=1e-13)

    def energy_of_diagonal(diagonal):
        changed = StencilOperator(diagonal, operator.couplings, operator.offsets, periodic)
        return jnp.sum(v * UnrolledStencil(changed).mv(u))

    np.testing.assert_allclose(jax.grad(energy_of_diagonal)(operator.diagonal), u * v, rtol=1e-13)


def test_materialised_changes_nothing_and_passes_gradients():
    u = jnp.asarray(np.random.default_rng(2).normal(size=(3, 2, 5)), jnp.float32)
    # The first entry, which the branch looks at, may be anything.
    u = u.at[1, 0, 0].set(0.0).at[2, 0, 0].set(-jnp.inf)
    np.testing.assert_array_equal(jax.jit(jax.vmap(materialised))(u), u)
    np.testing.assert_array_equal(jax.jit(materialised)(u[0]), u[0])

    def loss(u):
        return jnp.sum(materialised(u) ** 2)

    # A gradient of a batch: there the branch becomes a choice, which must not bring in NaN.
    batch = jnp.clip(u, -5, 5)
    together = jax.grad(lambda u: jnp.sum(jax.vmap(loss)(u)))(batch)
    np.testing.assert_allclose(together, 2 * batch, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(loss))(batch), 2 * batch, rtol=1e-6)
    _, tangent = jax.jvp(materialised, (batch,), (jnp.ones_like(batch),))
    np.testing.assert_array_equal(tangent, jnp.ones_like(batch))


@pytest.mark.parametrize("place", [(0, 0), (3, 2)])
def test_nan_is_never_lost(place):
    operator = _operator((5, 4), (False, False), jnp.float32)
    u = jnp.ones((5, 4), jnp.float32)
    assert np.isnan(jax.jit(materialised)(u.at[place].set(jnp.nan))[place])
    result = product(UnrolledStencil(operator), u.at[place].set(jnp.nan))
    assert np.isnan(result[place])
