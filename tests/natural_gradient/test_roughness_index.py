"""The roughness index: known landscapes, invariances, and what must be refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.core import RESULTS
from sciml.natural_gradient import (
    DeepGalerkinLoss,
    DeepRitzLoss,
    DirectionScale,
    PoissonData,
    VariationRange,
    box_boundary_quadrature,
    box_quadrature,
    roughness_index,
)

KEY = jax.random.key(1871)
SLOPE = np.array([0.3, -1.0, 2.0, 0.7])


def _index(loss, parameters=None, **changes):
    parameters = jnp.zeros(4) if parameters is None else parameters
    settings = {"key": KEY, "n_directions": 6, "n_points": 41}
    return roughness_index(loss, parameters, **(settings | changes))


def test_a_linear_loss_is_smooth(x64):
    found = _index(lambda p: jnp.asarray(SLOPE) @ p + 3.0, jnp.ones(4))
    np.testing.assert_allclose(found.total_variations, np.ones(6), rtol=1e-12)
    assert float(found.index) < 1e-12


def test_a_quadratic_at_its_minimiser_varies_by_two_ranges(x64):
    matrix = jnp.diag(jnp.array([1.0, 10.0, 100.0, 0.1]))
    centre = jnp.array([1.0, 2.0, 3.0, 4.0])
    found = _index(lambda p: (p - centre) @ matrix @ (p - centre), centre)
    np.testing.assert_allclose(found.total_variations, np.full(6, 2.0), rtol=1e-12)
    assert float(found.index) < 1e-12
    beside = _index(lambda p: (p - centre) @ matrix @ (p - centre), centre + 0.3)
    assert float(beside.index) > 1e-3


@pytest.mark.parametrize("factor", [3.7, -0.2])
@pytest.mark.parametrize("variation_range", list(VariationRange))
def test_scaling_and_shifting_the_loss_change_nothing(factor, variation_range, x64):
    def loss(p):
        return jnp.sum(jnp.sin(3 * p)) + jnp.sum(p**3)

    first = _index(loss, variation_range=variation_range)
    second = _index(lambda p: factor * loss(p) + 11.0, variation_range=variation_range)
    np.testing.assert_allclose(second.total_variations, first.total_variations, rtol=1e-9)
    np.testing.assert_allclose(second.index, first.index, rtol=1e-9)


def test_total_variation_counts_waves(x64):
    # Along s, sin(k s) rises and falls by 2 every pi / k: 2 l k / pi ranges on [-l, l].
    length = 10.0
    for k in (4.0, 8.0):
        found = _index(lambda p, k=k: jnp.sin(k * p[0]), jnp.zeros(1), n_points=4001, length=length)
        np.testing.assert_allclose(found.mean, 2 * length * k / np.pi, rtol=0.03)


def test_a_constant_loss_is_flat_and_not_nan():
    found = _index(lambda p: 0.1 + 0.0 * p[0])
    assert np.asarray(found.is_flat).all()
    np.testing.assert_array_equal(found.total_variations, np.ones(6))
    assert float(found.index) == 0.0
    sharp = _index(lambda p: p[0])
    assert not np.asarray(sharp.is_flat).any()


def test_one_direction_has_no_spread():
    found = _index(lambda p: jnp.sum(jnp.cos(5 * p)), n_directions=1)
    assert float(found.std) == 0.0
    assert float(found.index) == 0.0


def test_directions_have_unit_length_or_follow_the_filters():
    matrix = jnp.array([[3.0, 4.0], [0.0, 0.0], [0.6, 0.8]])
    parameters = {"matrix": matrix, "bias": jnp.array([2.0, 0.0, 0.0])}

    # The loss at s = length is the squared length of the direction.
    def squared(p):
        rows = jnp.sum((p["matrix"] - matrix) ** 2, axis=1)
        return rows

    for row, size in ((0, 5.0), (1, 0.0), (2, 1.0)):
        found = _index(
            lambda p, row=row: squared(p)[row], parameters, scale=DirectionScale.filter_wise
        )
        np.testing.assert_allclose(found.losses[:, -1], np.full(6, size**2), rtol=1e-5, atol=1e-12)
    unit = _index(
        lambda p: jnp.sum(squared(p)) + jnp.sum((p["bias"] - parameters["bias"]) ** 2), parameters
    )
    np.testing.assert_allclose(unit.losses[:, -1], np.ones(6), rtol=1e-5)


def test_filter_wise_directions_see_through_a_rescaling_of_layers(x64):
    first, second = jax.random.normal(KEY, (2, 3, 3))

    def loss(p):
        return jnp.sum(p[1] @ jax.nn.relu(p[0] @ jnp.ones(3)))

    a = _index(loss, (first, second), scale=DirectionScale.filter_wise)
    b = _index(loss, (10.0 * first, second / 10.0), scale=DirectionScale.filter_wise)
    np.testing.assert_allclose(a.losses, b.losses, rtol=1e-9)


def test_one_range_for_all_directions():
    found = _index(lambda p: p[0], variation_range=VariationRange.all_directions)
    totals = np.sort(np.asarray(found.total_variations))
    assert totals[0] < 0.9 < totals[-1] <= 1.0 + 1e-5


def test_a_loss_that_is_not_finite_is_told():
    with pytest.raises(RuntimeError, match="not finite at some points"):
        _index(lambda p: jnp.log(p[0]))
    found = _index(lambda p: jnp.log(p[0]), throw=False)
    assert found.result == RESULTS.nonfinite_rows


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"n_directions": 0}, ValueError, "n_directions"),
        ({"n_points": 2}, ValueError, "n_points"),
        ({"length": 0.0}, ValueError, "length"),
        ({"key": 3}, Exception, "key"),
        ({"scale": VariationRange.each_direction}, Exception, "scale"),
    ],
    ids=["directions", "points", "length", "key", "scale"],
)
def test_bad_settings(changes, error, words):
    with pytest.raises(error, match=words):
        _index(lambda p: p[0], **changes)


def test_bad_losses():
    with pytest.raises(ValueError, match="one real floating-point number"):
        _index(lambda p: p)
    with pytest.raises(ValueError, match="no floating-point array"):
        _index(lambda p: 1.0, jnp.arange(3))


def _poisson(n=8):
    x, w = box_quadrature(n, 2)
    y, v = box_boundary_quadrature(n, 2)
    exact = lambda p: jnp.sin(jnp.pi * p[0]) * jnp.sin(jnp.pi * p[1])  # noqa: E731
    values = jax.vmap(exact)(x)
    return exact, PoissonData(x, w, y, v, 2 * jnp.pi**2 * values, jnp.zeros(len(y)))


def test_the_losses_of_the_exact_solution(x64):
    exact, data = _poisson()
    # The energy's least value is -1/2 int |grad u|^2 = -pi^2 / 4.
    np.testing.assert_allclose(DeepRitzLoss(data)(exact), -(np.pi**2) / 4, rtol=1e-9)
    np.testing.assert_allclose(DeepGalerkinLoss(data)(exact), 0.0, atol=1e-20)
    shifted = lambda p: exact(p) + 0.1  # noqa: E731
    np.testing.assert_allclose(DeepGalerkinLoss(data, 7.0)(shifted), 7 * 4 * 0.01, rtol=1e-9)


def test_the_landscape_of_a_network(x64):
    _, data = _poisson(4)
    network = eqx.nn.MLP(2, "scalar", 4, 1, activation=jnp.tanh, key=KEY)
    found = _index(DeepGalerkinLoss(data), network, n_directions=2, n_points=5)
    assert found.losses.shape == (2, 5)
    np.testing.assert_allclose(found.losses[:, 2], DeepGalerkinLoss(data)(network), rtol=1e-12)


def test_quadrature_is_exact_for_polynomials(x64):
    x, w = box_quadrature(3, 2, domain_extent=2.0)
    np.testing.assert_allclose(w @ (x[:, 0] ** 5 * x[:, 1] ** 2), 64 / 6 * 8 / 3, rtol=1e-12)
    y, v = box_boundary_quadrature(3, 3)
    np.testing.assert_allclose(v @ y[:, 0] ** 2, 1 + 4 / 3, rtol=1e-12)
    with pytest.raises(ValueError, match="positive"):
        box_quadrature(3, 2, domain_extent=-1.0)


def test_bad_poisson_data():
    x, w = box_quadrature(3, 2)
    y, v = box_boundary_quadrature(3, 2)
    with pytest.raises((ValueError, TypeError)):
        PoissonData(x, w, y, v, jnp.zeros(8), jnp.zeros(12))
