"""Boundary conditions by ansatz and by soft rows; both may depend on the time."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.natural_gradient import (
    BoundaryAnsatz,
    CollocationPoints,
    DampedGaussNewton,
    DiagonallyImplicit,
    SoftBoundary,
    box_quadrature,
    derivative,
    fit_initial,
    laplacian,
    march,
    march_tdvp,
)

pytestmark = pytest.mark.usefixtures("x64")

INNER = DampedGaussNewton(rho=1e-7, rho_min=1e-8)


class Polynomial(eqx.Module):
    """Of one variable in [0, 1]."""

    c: jax.Array

    def __call__(self, x):
        z, value = 2 * x[0] - 1, self.c[-1]
        for k in range(2, self.c.size + 1):
            value = self.c[-k] + z * value
        return value


def points():
    return CollocationPoints(*box_quadrature(16, 1))


def rhs(t, x, u):
    return 0.2 * laplacian(u)(x) + x[0]


def start_value(x):
    return jnp.sin(math.pi * x[0])


def solution(t, x):
    """Zero on the left, ``t`` on the right."""
    return np.sin(math.pi * x) * math.exp(-0.2 * math.pi**2 * t) + t * x


WHERE = np.linspace(0, 1, 41)


@eqx.filter_jit
def values(f):
    return jax.vmap(f)(jnp.asarray(WHERE)[:, None])


def miss(f, t):
    return np.max(np.abs(np.asarray(values(f)) - solution(t, WHERE)))


def test_an_ansatz_with_values_that_change():
    u = BoundaryAnsatz(
        Polynomial(jnp.zeros(7).at[0].set(4.0)), lambda x: x[0] * (1 - x[0]), lambda t, x: t * x[0]
    )
    u0 = fit_initial(u, start_value, points(), key=jax.random.key(3), rtol=1e-6).value
    run = march(rhs, u0, points(), t1=0.3, dt=0.02, stepper=DiagonallyImplicit(), inner=INNER)
    np.testing.assert_allclose(np.asarray(values(run.value))[[0, -1]], [0.0, 0.3], atol=1e-15)
    assert miss(run.value, 0.3) < 2e-4
    again = march_tdvp(rhs, u0, points(), t1=0.3, dt=0.01, inner=INNER)
    assert miss(again.value, 0.3) < 2e-4


def test_soft_rows_are_reported_apart():
    """A value that changes on the left, a slope on the right."""
    ends = jnp.asarray([[0.0], [1.0]])
    left = SoftBoundary(ends[:1], jnp.ones(1), weight=100.0)
    right = SoftBoundary(
        ends[1:], jnp.ones(1), lambda t, x: t - math.pi * jnp.exp(-0.2 * math.pi**2 * t),
        operator=lambda u, x: derivative(u, 0)(x), weight=100.0,
    )  # fmt: skip
    conditions = (left, right)
    u0 = fit_initial(
        Polynomial(jnp.zeros(9).at[0].set(1.0)), start_value, points(), key=jax.random.key(3),
        rtol=1e-6, boundary=conditions,
    ).value  # fmt: skip
    run = march(
        rhs, u0, points(), t1=0.3, dt=0.01, stepper=DiagonallyImplicit(), inner=INNER,
        boundary=conditions,
    )  # fmt: skip
    assert miss(run.value, 0.3) < 2e-3
    assert 0 < max(run.stats["boundary_residual"]) < 1e-2
    assert miss(run.value, 0.3) < 2 * run.stats["error_bound"]
    tdvp = march_tdvp(rhs, u0, points(), t1=0.1, dt=0.002, inner=INNER, boundary=conditions)
    assert miss(tdvp.value, 0.1) < 2e-3


def test_what_a_boundary_refuses():
    ends = jnp.asarray([[0.0], [1.0]])
    with pytest.raises(ValueError, match="at least one point"):
        SoftBoundary(ends[:0], jnp.ones(0))
    with pytest.raises(ValueError, match="positive everywhere"):
        SoftBoundary(ends, -jnp.ones(2))
    with pytest.raises(ValueError, match="`x` has 2 non-finite entries"):
        SoftBoundary(ends * jnp.nan, jnp.ones(2))
    net, inside = Polynomial(jnp.ones(3)), points()
    with pytest.raises(ValueError, match="coordinates"):
        condition = SoftBoundary(jnp.ones((2, 2)), jnp.ones(2))
        march(rhs, net, inside, t1=1.0, dt=0.1, boundary=(condition,))
    with pytest.raises(TypeError, match="boundary"):
        march(rhs, net, inside, t1=1.0, dt=0.1, boundary=("left",))
    with pytest.raises(ValueError, match="n_components"):
        SoftBoundary(ends, jnp.ones(2), n_components=2).values(net)


def test_an_implicit_fit_that_needs_more_damping_gets_it():
    """A travelling wave; the first factor's steps all raise the residual."""

    def wave(t, x):
        return 1 / (1 + jnp.exp(math.sqrt(50 / 3) * (x[0] - 0.3) - 5 / 3 * t)) ** 2

    def fisher(t, x, u):
        return 0.02 * laplacian(u)(x) + 2.0 * u(x) * (1 - u(x))

    ends = SoftBoundary(jnp.asarray([[0.0], [1.0]]), jnp.ones(2), wave, weight=10.0)
    network = eqx.nn.MLP(1, "scalar", 8, 2, activation=jnp.tanh, key=jax.random.key(6))
    at = CollocationPoints(*box_quadrature(60, 1))
    fit = fit_initial(
        network, lambda x: wave(0.0, x), at, key=jax.random.key(3), rtol=1e-5, boundary=(ends,)
    )
    run = march(
        fisher, fit.value, at, t1=0.05, dt=0.0125, stepper=DiagonallyImplicit(), boundary=(ends,)
    )
    truth = jax.vmap(lambda x: wave(0.05, x))(jnp.asarray(WHERE)[:, None])
    np.testing.assert_allclose(values(run.value), truth, atol=1e-4)
