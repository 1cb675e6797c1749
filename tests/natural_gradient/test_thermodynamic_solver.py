"""The random walk's mean, its noise, and its interface to lineax."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.linalg

from sciml.natural_gradient import OrnsteinUhlenbeckSolver

A = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.5]])
G = np.array([1.0, -2.0, 0.5])


def _operator(matrix=A):
    return lx.MatrixLinearOperator(jnp.asarray(matrix), lx.positive_semidefinite_tag)


def _mean(time, start=0.0):
    decay = scipy.linalg.expm(-A * time)
    return (np.eye(3) - decay) @ np.linalg.solve(A, G) + decay @ np.full(3, start)


@pytest.mark.parametrize("time", [0.1, 1.0, 10.0])
def test_the_mean_without_noise(time, x64):
    solver = OrnsteinUhlenbeckSolver(time, n_steps=2000)
    found = lx.linear_solve(_operator(), jnp.asarray(G), solver)
    np.testing.assert_allclose(found.value, _mean(time), rtol=2e-5)
    residual = np.linalg.norm(A @ np.asarray(found.value) - G)
    np.testing.assert_allclose(found.stats["residual_norm"], residual, rtol=1e-9)


def test_the_mean_of_many_walks(x64):
    solver = OrnsteinUhlenbeckSolver(
        1.0, n_steps=50, temperature=0.1, n_walkers=4000, key=jax.random.key(5)
    )
    found = lx.linear_solve(_operator(), jnp.asarray(G), solver).value
    # Variance below temperature / smallest eigenvalue: 4 standard errors are below 0.05.
    np.testing.assert_allclose(found, _mean(1.0), atol=0.05)
    assert float(jnp.max(jnp.abs(found - _mean(1.0)))) > 1e-5


def test_small_times_are_gradient_descent_and_long_ones_the_natural_gradient(x64):
    short = lx.linear_solve(_operator(), jnp.asarray(G), OrnsteinUhlenbeckSolver(1e-4, 10)).value
    np.testing.assert_allclose(short, 1e-4 * G, rtol=1e-3)
    long = lx.linear_solve(_operator(), jnp.asarray(G), OrnsteinUhlenbeckSolver(80.0, 400)).value
    np.testing.assert_allclose(long, np.linalg.solve(A, G), rtol=1e-8)


def test_it_starts_where_it_is_told(x64):
    options = {"y0": jnp.full(3, 2.0)}
    solver = OrnsteinUhlenbeckSolver(1.0, n_steps=1000)
    found = lx.linear_solve(_operator(), jnp.asarray(G), solver, options=options).value
    np.testing.assert_allclose(found, _mean(1.0, 2.0), rtol=1e-5)


def test_it_refuses_other_operators_and_tells_a_blow_up():
    solver = OrnsteinUhlenbeckSolver(1.0, n_steps=10)
    with pytest.raises(ValueError, match="positive_semidefinite_tag"):
        lx.linear_solve(lx.MatrixLinearOperator(jnp.eye(3)), jnp.ones(3), solver)
    stiff = _operator(1e30 * np.eye(3, dtype=np.float32))
    found = lx.linear_solve(stiff, jnp.ones(3), solver, throw=False)
    assert found.result != lx.RESULTS.successful


def test_bad_settings():
    with pytest.raises(ValueError, match="`key` is needed"):
        OrnsteinUhlenbeckSolver(1.0, temperature=1.0)
    with pytest.raises(ValueError, match="time"):
        OrnsteinUhlenbeckSolver(0.0)
    with pytest.raises(ValueError, match="n_steps"):
        OrnsteinUhlenbeckSolver(1.0, 0)
