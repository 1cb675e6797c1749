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


def compiled(objective, constraint, **options):
    """Return a function of start and arguments, one program instead of many small ones."""
    return jax.jit(
        lambda x, args: minimise_constrained(objective, constraint, x, args, throw=False, **options)
    )


def solve(problem, **options):
    program = compiled(
        lambda x, _: problem.objective(x), lambda x, _: problem.constraint(x), **options
    )
    return program(jnp.array(problem.start), None)


on_circle = compiled(lambda x, a: a[0] * (x[0] + x[1]), lambda x, a: jnp.stack([x @ x - a[1]]))
"""Of unit ``a[0]`` and squared radius ``a[1]``: minimum and maximum where ``x[0] = x[1]``."""


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
    plane = compiled(lambda x, a: 1e9 * jnp.sum((x - a) ** 2), lambda x, a: matrix @ x - 1.0)
    found = plane(jnp.zeros(3), 2.0)
    assert found.result == RESULTS.successful
    np.testing.assert_allclose(found.value, np.full(3, 1 / 3), rtol=1e-8)
    assert float(found.stats["constraint_norm"]) < 1e-8
    circle = on_circle(-jnp.ones(2), jnp.array([1e9, 2.5]))
    assert circle.result != RESULTS.successful or float(circle.stats["constraint_norm"]) < 1e-6


def test_float32_converges_at_the_default_tolerance():
    with jax.enable_x64(False):
        run = compiled(
            lambda x, a: (
                (x[0] - a) ** 4 + jnp.exp(0.7 * x[1]) + 1.3 * x[2] ** 2 + jnp.sin(x[0] * x[2])
            ),
            lambda x, a: jnp.stack([x[0] ** 2 + x[1] + x[2] - 1.7]),
        )
        starts = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
        found = jax.vmap(run, (0, None))(jnp.asarray(starts), jnp.float32(0.3))
        assert np.all(found.result == RESULTS.successful)
        assert float(jnp.max(found.stats["kkt_residual"])) < 1e-5


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


def test_derivative_of_a_minimiser():
    """The nearest point to ``a`` on the unit circle: a / |a|."""

    @jax.jit
    def both(a):
        def nearest(a):
            found = minimise_constrained(
                lambda x, b: jnp.sum((x - b) ** 2),
                lambda x, b: jnp.stack([x @ x - 1]),
                jnp.array([1.0, 0.5]),
                a,
                throw=False,
            ).value
            return found, found

        return jax.jacrev(nearest, has_aux=True)(a)

    slope, value = both(jnp.array([1.2, 1.6]))
    np.testing.assert_allclose(value, [0.6, 0.8], atol=1e-8)
    expected = (np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])) / 2
    np.testing.assert_allclose(slope, expected, atol=1e-7)


def test_a_maximum_is_not_a_minimum():
    solution = on_circle(jnp.ones(2), jnp.array([1.0, 2.0]))
    assert solution.result == RESULTS.not_a_minimum
    np.testing.assert_allclose(solution.stats["least_curvature"], -1.0)


def test_an_infeasible_problem_fails_aloud_with_nan_derivatives():
    def impossible(a):
        solution = minimise_constrained(
            lambda x, _: x @ x,
            lambda x, b: jnp.stack([x @ x + b]),
            jnp.array([1.0, 0.5]),
            a,
            max_steps=30,
            throw=False,
        )
        return solution.value[0], solution

    slope, solution = jax.jit(jax.grad(impossible, has_aux=True))(1.0)
    assert solution.result != RESULTS.successful
    assert float(solution.stats["constraint_norm"]) >= 1
    assert np.isnan(slope)
    with pytest.raises(ValueError, match="3 constraints on 2 unknowns"):
        minimise_constrained(lambda x, _: x @ x, lambda x, _: jnp.ones(3), jnp.ones(2))
