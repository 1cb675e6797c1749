"""Equality-constrained minimisation: known optima, inexact directions, derivatives, failure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.constraints import (
    KrylovDirection,
    SketchedDirection,
    equality_problems,
    minimise_constrained,
)
from sciml.core import RESULTS

pytestmark = pytest.mark.usefixtures("x64")


def solve(problem, **options):
    return minimise_constrained(
        lambda x, _: problem.objective(x),
        lambda x, _: problem.constraint(x),
        jnp.array(problem.start),
        throw=False,
        **options,
    )


@pytest.mark.parametrize("name", ["HS7"])
def test_known_optima(name):
    problem = equality_problems()[name]
    solution = solve(problem)
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(solution.stats["objective"], problem.optimum, rtol=1e-7, atol=1e-9)
    assert float(solution.stats["constraint_norm"]) < 1e-7


def test_constraints_may_use_all_of_x_and_the_objective_any_unit():
    """A matrix times x; and a unit of the objective that hides no broken constraint."""
    matrix = jnp.array([[1.0, 1.0, 1.0]])
    found = minimise_constrained(
        lambda x, a: 1e9 * jnp.sum((x - a) ** 2), lambda x, a: matrix @ x - 1.0, jnp.zeros(3), 2.0
    )
    np.testing.assert_allclose(found.value, np.full(3, 1 / 3), rtol=1e-8)
    assert float(found.stats["constraint_norm"]) < 1e-8
    circle = minimise_constrained(
        lambda x, _: 1e9 * (x[0] + x[1]), lambda x, _: jnp.array([x @ x - 2.5]),
        -jnp.ones(2), throw=False,
    )  # fmt: skip
    assert circle.result != RESULTS.successful or float(circle.stats["constraint_norm"]) < 1e-6


@pytest.mark.parametrize(
    "direction",
    [KrylovDirection(10), SketchedDirection(size=2)],
    ids=["krylov", "gaussian"],
)
def test_inexact_directions_reach_the_same_optimum(direction):
    problem = equality_problems()["HS42"]
    solution = solve(problem, direction=direction, tol=1e-6)
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(solution.stats["objective"], problem.optimum, rtol=1e-5)
    assert int(solution.stats["n_products"]) > int(solution.stats["n_steps"])


def nearest(a):
    """The nearest point to ``a`` on the unit circle: a / |a|."""
    return minimise_constrained(
        lambda x, b: jnp.sum((x - b) ** 2),
        lambda x, b: jnp.stack([x @ x - 1]),
        jnp.array([1.0, 0.5]),
        a,
        throw=False,
    ).value


def test_derivative_of_a_minimiser():
    a = jnp.array([1.2, 1.6])
    value, slope = nearest(a), jax.jit(jax.jacrev(nearest))(a)
    np.testing.assert_allclose(value, [0.6, 0.8], atol=1e-8)
    expected = (np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])) / 2
    np.testing.assert_allclose(slope, expected, atol=1e-7)


def test_a_maximum_is_not_a_minimum():
    solution = minimise_constrained(
        lambda x, _: x[0] + x[1], lambda x, _: jnp.stack([x @ x - 2]), jnp.ones(2), throw=False
    )
    assert solution.result == RESULTS.not_a_minimum
    np.testing.assert_allclose(solution.stats["least_curvature"], -1.0)


def test_an_infeasible_problem_fails_aloud_with_nan_derivatives():
    def impossible(a):
        return minimise_constrained(
            lambda x, _: x @ x,
            lambda x, b: jnp.stack([x @ x + b]),
            jnp.array([1.0, 0.5]),
            a,
            max_steps=30,
            throw=False,
        )

    solution = impossible(1.0)
    assert solution.result != RESULTS.successful
    assert float(solution.stats["constraint_norm"]) >= 1
    assert jnp.all(jnp.isnan(jax.jit(jax.grad(lambda a: impossible(a).value[0]))(1.0)))
    with pytest.raises(ValueError, match="3 constraints on 2 unknowns"):
        minimise_constrained(lambda x, _: x @ x, lambda x, _: jnp.ones(3), jnp.ones(2))
