"""Operator networks on grids: stencils, a solve on the grid, refinement."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.constraints import (
    BoxRouter,
    Condition,
    CoordinateBasis,
    Experts,
    GridBasis,
    HardConstraint,
    LevenbergMarquardt,
    Residual,
    refine,
)
from sciml.constraints._grid_basis import difference_matrix
from sciml.core import RESULTS

pytestmark = pytest.mark.usefixtures("x64")
N_T, N_X = 9, 16


def grid_basis(net):
    return GridBasis(net, (N_T, N_X), (0.5, 2 * np.pi), (False, True))


def waves(p):
    """Decaying waves: the exact solution of the heat equation is among them."""
    t = np.linspace(0, 0.5, N_T)[:, None]
    x = 2 * np.pi * np.arange(N_X) / N_X
    return jnp.stack([1 + t * (1 + 0 * x), t**2 * np.sin(x), np.exp(-t) * np.sin(x)]) * p


@pytest.mark.parametrize("order", [1, 2, 3])
def test_differences_are_exact_for_polynomials_and_of_fourth_order(order):
    x = np.linspace(0, 2, 12)
    derivative = np.polynomial.Polynomial([0, 1, 2, 3, 4]).deriv(order)
    matrix = difference_matrix(12, 2 / 11, order)
    values = np.polynomial.Polynomial([0, 1, 2, 3, 4])(x)
    np.testing.assert_allclose(matrix @ values, derivative(x), rtol=1e-9, atol=1e-9)
    errors = []
    for n in (21, 41):
        x = np.linspace(0, 1, n)
        exact = [np.cos(x), -np.sin(x), -np.cos(x)][order - 1]
        errors.append(np.abs(difference_matrix(n, 1 / (n - 1), order) @ np.sin(x) - exact).max())
    assert errors[0] / errors[1] > 13


def test_the_heat_equation_on_a_grid_by_two_experts():
    basis = grid_basis(waves)
    heat = Residual(lambda j, x, p: j["u_t"] - j["u_xx"], ("u_t", "u_xx"))
    start = Residual(
        lambda j, x, p: j["u"] - jnp.sin(x[1]),
        ("u",),
        name="start",
        everywhere=True,
    )
    layer = HardConstraint(basis, [heat, start], solver=LevenbergMarquardt(newton_steps=0))
    router = BoxRouter((0.0, 0.0), (0.5, 2 * np.pi), (1, 2))
    points = {"pde": basis.indices(), "start": jnp.arange(N_X)}
    field = Experts(layer, router)(jnp.asarray(2.0), points).check()
    values = field.jet(basis.indices(), ("u",))["u"].reshape(N_T, N_X)
    expected = np.exp(-np.linspace(0, 0.5, N_T))[:, None] * np.sin(2 * np.pi * np.arange(16) / 16)
    # Differences of fourth order in time on nine points.
    np.testing.assert_allclose(values, expected, atol=2e-5)
    np.testing.assert_allclose(basis.positions(jnp.array([N_X + 3])), [[0.0625, 6 * np.pi / 16]])


def test_points_must_be_indices():
    layer = HardConstraint(grid_basis(waves), [Residual(lambda j, x, p: j["u"], ("u",))])
    with pytest.raises(ValueError, match="flat indices of the grid"):
        layer(1.0, {"pde": jnp.zeros((4, 2))})
    size = math.prod(layer.basis.n_points)
    for outside in (-1, size):
        with pytest.raises(ValueError, match=f"must be indices of 0 to {size - 1}"):
            layer(1.0, {"pde": jnp.array([0, outside])})
    run = jax.jit(lambda i: layer(1.0, {"pde": i}).result)
    for outside in (-1, size):
        assert bool((run(jnp.array([0, outside])) == RESULTS.nonfinite_rows).all())
    # Known points inside a jit: nothing is traced that could be checked.
    within = {"pde": jnp.arange(size)}
    inside = jax.jit(lambda p: layer(p, within).stats["residual_norm"])(1.0)
    np.testing.assert_allclose(inside, layer(1.0, within).stats["residual_norm"], rtol=1e-12)
    wrong = HardConstraint(grid_basis(lambda p: jnp.ones((3, 4))), layer.residuals)
    with pytest.raises(ValueError, match="`net` must return"):
        wrong(1.0, {"pde": jnp.arange(4)})
    with pytest.raises(ValueError, match="one entry for each"):
        GridBasis(waves, (4,), (1.0, 1.0), (True, True))


def test_refinement_reaches_what_the_basis_can():
    """The best cubic through a sine: from few points, then from many."""
    basis = CoordinateBasis(lambda x, p: x[0] ** jnp.arange(4.0), coordinates=("x",))
    fit = Residual(lambda j, x, p: jnp.exp(j["u"]) - jnp.exp(jnp.sin(3 * x[0])), ("u",), name="fit")
    end = Residual(lambda j, x, p: j["u"], ("u",), name="end", condition=Condition.exact)
    layer = HardConstraint(basis, [fit, end], solver=LevenbergMarquardt(gtol=1e-3, newton_steps=0))
    rough = layer(None, {"fit": jnp.array([[0.1], [0.2], [0.9], [1.0]]), "end": jnp.zeros((1, 1))})
    fine = {"fit": jnp.linspace(0, 1, 200)[:, None], "end": jnp.zeros((1, 1))}
    better = refine(layer, rough, fine).check()

    def error(field):
        return float(jnp.linalg.norm(field.residual(fit, fine["fit"])))

    assert error(better) < 0.7 * error(rough)
    assert float(better.stats["stationarity"][0]) < 1e-11
    again = eqx.tree_at(lambda f: f.w, better, better.w + 0.01)
    assert error(again) > error(better)
