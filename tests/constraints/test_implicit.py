"""Implicit derivatives of users' solvers: pytrees, both modes, second order, honest failure."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from sciml.constraints import implicit_fixed_point, implicit_minimum, implicit_root

pytestmark = pytest.mark.usefixtures("x64")


MATRIX = np.random.default_rng(5).normal(size=(4, 4)) + 5 * np.eye(4)


def equation(x, args):
    v = jnp.concatenate([x["p"], x["q"]])
    r = jnp.asarray(MATRIX) @ v + args["s"] * v**3 - args["b"]
    return {"p": r[:1], "q": r[1:]}


def newton(args):
    """On the host: nothing that JAX could differentiate."""

    def on_host(s, b):
        v = np.zeros(4)
        for _ in range(20):
            jacobian = MATRIX + np.diag(3 * s * v**2)
            v = v - np.linalg.solve(jacobian, MATRIX @ v + s * v**3 - b)
        return v

    out = jax.ShapeDtypeStruct((4,), jnp.float64)
    v = jax.pure_callback(on_host, out, args["s"], args["b"], vmap_method="sequential")
    return {"p": v[:1], "q": v[1:]}, jnp.sum(v)


def scalar(s, linear_solver=None):
    root = implicit_root(equation, newton, linear_solver=linear_solver, has_aux=True)
    x, aux = root({"s": s, "b": s * jnp.arange(4.0)})
    return x["p"][0] + x["q"] @ jnp.arange(3.0) + 0 * aux


def richardson(function, x, h=1e-3):
    def central(step):
        return (function(x + step) - function(x - step)) / (2 * step)

    return (4 * central(h) - central(2 * h)) / 3


def test_root_of_a_host_solver_in_both_modes_and_twice():
    s = 0.7
    first = jax.jit(jax.grad(scalar))
    np.testing.assert_allclose(first(s), richardson(scalar, s), rtol=1e-8)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(scalar))(s), first(s), rtol=1e-12)
    second = jax.jit(jax.grad(jax.grad(scalar)))(s)
    np.testing.assert_allclose(second, richardson(first, s), rtol=1e-7)


def test_root_under_vmap_and_with_gmres():
    slopes = jax.jit(jax.vmap(jax.grad(scalar)))(jnp.array([0.7, 0.9]))
    solver = lx.GMRES(rtol=1e-12, atol=1e-12)
    by_krylov = jax.jit(jax.grad(lambda s: scalar(s, solver)))(0.9)
    np.testing.assert_allclose(slopes[1], by_krylov, rtol=1e-9)


def test_closed_over_parameters_are_differentiated():
    def closed(s):
        root = implicit_root(lambda x, a: x * x - a * s, lambda a: jnp.sqrt(a * s))
        return root(3.0)

    np.testing.assert_allclose(jax.grad(closed)(2.0), 0.5 * np.sqrt(1.5), rtol=1e-12)
    curvature = jax.grad(jax.grad(closed))(2.0)
    np.testing.assert_allclose(curvature, -0.25 * np.sqrt(3) * 2**-1.5, rtol=1e-12)


def test_fixed_point():
    point = implicit_fixed_point(
        lambda x, a: jnp.cos(a * x),
        lambda a: jax.lax.while_loop(
            lambda x: jnp.abs(jnp.cos(a * x) - x) > 1e-14, lambda x: jnp.cos(a * x), 0.5
        ),
    )
    np.testing.assert_allclose(jax.grad(point)(1.0), richardson(point, 1.0), rtol=1e-8)


def test_minimum():
    minimum = implicit_minimum(
        lambda x, a: jnp.sum((x - a) ** 2) + jnp.sum(a**2) * x[0],
        lambda a: a - jnp.array([0.5, 0.0]) * jnp.sum(a**2),
    )
    a = jnp.array([1.0, 2.0])
    expected = [[0.0, -2.0], [0.0, 1.0]]
    np.testing.assert_allclose(jax.jacrev(minimum)(a), expected, atol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(minimum)(a), expected, atol=1e-12)


def test_a_singular_system_gives_nan_in_both_modes_and_raises_nothing():
    root = implicit_root(lambda x, a: jnp.array([x[0] - a, 0 * x[1]]), lambda a: jnp.stack([a, a]))
    assert jnp.all(jnp.isnan(jax.jacrev(root)(1.0)))
    assert jnp.all(jnp.isnan(jax.jacfwd(root)(1.0)))
    least = implicit_root(
        lambda x, a: jnp.array([x[0] - a, 0 * x[1]]),
        lambda a: jnp.stack([a, a]),
        linear_solver=lx.AutoLinearSolver(well_posed=False),
    )
    np.testing.assert_allclose(jax.jacrev(least)(1.0), [1.0, 0.0], atol=1e-14)


def test_a_system_that_is_singular_to_rounding_gives_nan():
    """Its residual may vanish all the same; badly scaled unknowns are no such system."""
    matrix = jnp.array([[0.1, 0.3], [0.3, 0.9]])
    root = implicit_root(
        lambda x, a: matrix @ x - a**2 * jnp.array([1.0, 3.0]),
        lambda a: a**2 * jnp.array([1.0, 3.0]),
    )
    assert jnp.all(jnp.isnan(jax.jacrev(root)(1.0)))
    assert jnp.all(jnp.isnan(jax.jacfwd(root)(1.0)))
    assert jnp.all(jnp.isnan(jax.jacrev(jax.jacfwd(root))(1.0)))
    scaled = jnp.array([[1.0, 1e18], [1e-9, -1e9]])
    good = implicit_root(lambda x, a: scaled @ x - a, lambda a: jnp.linalg.solve(scaled, a))
    expected = [[0.5, 5e8], [5e-19, -5e-10]]
    np.testing.assert_allclose(jax.jacrev(good)(jnp.ones(2)), expected, rtol=1e-10)
    np.testing.assert_allclose(jax.jacfwd(good)(jnp.ones(2)), expected, rtol=1e-10)


def test_second_derivatives_where_the_matrix_depends_on_nothing():
    cube = implicit_root(lambda x, a: 2 * x - a**3, lambda a: a**3 / 2)
    point = implicit_fixed_point(lambda x, a: 0.5 * x + a**3 / 2, lambda a: a**3)
    pair = implicit_root(
        lambda x, a: {"u": x["u"] - a**3 * jnp.ones(2), "v": 3 * x["v"] - a},
        lambda a: {"u": a**3 * jnp.ones(2), "v": a / 3},
    )

    @jax.jit
    def all_of(a):
        functions = (cube, point, lambda a: pair(a)["u"][0])
        return [[outer(jax.grad(f))(a) for outer in (jax.grad, jax.jacfwd)] for f in functions]

    np.testing.assert_allclose(all_of(1.5), [[4.5, 4.5], [9, 9], [9, 9]], rtol=1e-12)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="structure and shapes of the root"):
        implicit_root(lambda x, a: x[:1], lambda a: jnp.stack([a, a]))(1.0)
