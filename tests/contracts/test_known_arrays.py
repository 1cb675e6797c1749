"""Known arrays that a traced function closes over are checked there, and bad ones are refused."""

import jax
import jax.numpy as jnp
import pytest

from sciml.graph_solvers import diffusion_solve
from sciml.natural_gradient import CollocationPoints, ResidualTerm, SoftBoundary
from sciml.neural_de import steer_end_time

X = jnp.linspace(0.1, 0.9, 3)[:, None]


CASES = {
    "CollocationPoints": (lambda w: CollocationPoints(X, w).w, "must be positive"),
    "SoftBoundary": (lambda w: SoftBoundary(X, w, weight=1.0).w, "must be positive"),
    "ResidualTerm": (lambda w: ResidualTerm(lambda u, x: u(x), X, w).w, "not be negative"),
}


@pytest.mark.parametrize("name", CASES)
def test_weights(name):
    make, message = CASES[name]
    good, bad = jnp.ones(3), -jnp.ones(3)
    assert jax.jit(lambda: make(good))().shape == (3,)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda: make(bad))()


def test_times():
    key, b, far, near = jax.random.key(1), jnp.asarray(0.5), jnp.asarray(1.0), jnp.asarray(0.2)
    assert 0.5 <= float(jax.jit(lambda: steer_end_time(key, far, b))()) <= 1.5
    with pytest.raises(ValueError, match="must be below"):
        jax.jit(lambda: steer_end_time(key, near, b))()


def test_links():
    ends, held = jnp.array([[0, 1], [1, 2]]), jnp.array([True, False, True])
    conductance, boundary = jnp.ones(2), jnp.array([0.0, 0.0, 1.0])
    u = jax.jit(lambda b: diffusion_solve(conductance, ends, held, b).value)(boundary)
    assert float(u[1]) == pytest.approx(0.5, abs=1e-5)
    outside = jnp.array([[0, 1], [1, 3]])
    with pytest.raises(ValueError, match="`ends` must lie between 0 and 2"):
        jax.jit(lambda b: diffusion_solve(conductance, outside, held, b).value)(boundary)
