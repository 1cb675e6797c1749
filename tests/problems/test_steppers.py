"""Each stepper: exact cases, measured order of convergence, any semilinear equation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.numerics import fourier_resample, relative_l2
from sciml.problems import (
    ETDRK4,
    AbstractSemilinearPDE,
    IMEXCrankNicolson,
    NavierStokes2D,
    RK4CrankNicolson,
    kolmogorov_forcing,
    solve,
    taylor_green_vorticity,
)
from sciml.problems._phi_functions import phi_functions
from sciml.problems._rk4_crank_nicolson import _A, _B, _TIMES

STEPPERS = [IMEXCrankNicolson(), RK4CrankNicolson(), ETDRK4()]
IDS = [type(stepper).__name__ for stepper in STEPPERS]


def smooth_state(n_points):
    low = np.random.default_rng(2207).normal(size=(1, 5, 5))
    return fourier_resample(low - low.mean(), n_points)


def errors_at(problem, u0, reference, stepper, steps, end_time):
    errors = []
    for n in steps:
        solution = solve(problem, u0, dt=end_time / n, n_steps=n, save_every=n, stepper=stepper)
        errors.append(float(relative_l2(solution.value[-1], reference)))
    return np.array(errors)


@pytest.mark.parametrize("n_points", [(8, 9)])
def test_taylor_green(n_points, x64):
    """Only the linear part acts: exact for ETDRK4, second order for Crank-Nicolson."""
    problem = NavierStokes2D(n_points, viscosity=0.1, drag=0.2, domain_extent=2 * np.pi)
    u0 = taylor_green_vorticity(n_points, 2 * np.pi)
    exact = taylor_green_vorticity(n_points, 2 * np.pi, viscosity=0.1, drag=0.2, time=2.0)
    np.testing.assert_allclose(jnp.abs(exact).max(), 2 * np.exp(-0.8), rtol=1e-12)
    assert errors_at(problem, u0, exact, ETDRK4(), [4], 2.0)[0] < 1e-14
    for stepper in STEPPERS[:2]:
        errors = errors_at(problem, u0, exact, stepper, [4, 8], 2.0)
        assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("stepper", "steps", "measured"),
    [
        (IMEXCrankNicolson(), [160, 320, 640], 1.0),
        # Convection dominates here, and its part of the scheme is of order four.
        (RK4CrankNicolson(), [10, 20, 40], 4.0),
        (ETDRK4(), [10, 20, 40], 4.0),
    ],
    ids=IDS,
)
def test_order_of_convergence(stepper, steps, measured, x64):
    problem = NavierStokes2D(
        (12, 12),
        viscosity=1e-3,
        domain_extent=2 * np.pi,
        forcing=kolmogorov_forcing((12, 12), 2 * np.pi, wavenumber=2, amplitude=0.5),
    )
    u0 = smooth_state((12, 12))
    u0 = u0 / jnp.abs(problem.velocity(u0)).max()
    reference = solve(problem, u0, dt=1 / 200, n_steps=200, save_every=200).value[-1]
    errors = errors_at(problem, u0, reference, stepper, steps, 1.0)
    orders = np.log2(errors[:-1] / errors[1:])
    np.testing.assert_allclose(orders, measured, atol=0.35)
    assert errors[-1] < 2e-2
    assert measured >= stepper.order


class AdvectionReaction1D(AbstractSemilinearPDE):
    """u_t + c u_x = nu u_xx + u (1 - u): a complex symbol, one dimension, a logistic term."""

    n_channels: int = eqx.field(static=True, default=1)
    n_points: tuple[int, ...] = eqx.field(static=True, default=(8,))
    domain_extent: tuple[float, ...] = eqx.field(static=True, default=(1.0,))
    reaction: float = 1.0

    def linear_symbol(self, dtype):
        k = 2 * np.pi * np.arange(5)
        symbol = -0.7j * np.where(np.arange(5) == 4, 0, k) - 0.01 * k**2
        return jnp.asarray(symbol[None], np.result_type(dtype, np.complex64))

    def nonlinear_term(self, u_hat):
        u = self.to_physical(u_hat)
        return self.to_spectral(self.reaction * u * (1 - u))


@pytest.mark.parametrize("stepper", STEPPERS, ids=IDS)
def test_any_semilinear_equation_with_a_complex_symbol(stepper, x64):
    # A constant state obeys the logistic equation, whose solution is known.
    problem = AdvectionReaction1D()
    u0 = jnp.full((1, 8), 0.2)
    exact = jnp.full((1, 8), 1 / (1 + 4 * np.exp(-1.0)))
    errors = errors_at(problem, u0, exact, stepper, [10, 20], 1.0)
    order = 1 if stepper.order == 1 else 4
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4)
    # A wave without reaction is carried along and damped.
    x = np.arange(8) / 8
    k = 2 * np.pi
    wave = jnp.asarray(np.cos(k * x))[None]
    moved = np.exp(-0.01 * k**2 * 0.1) * np.cos(k * (x - 0.07))
    linear = AdvectionReaction1D(reaction=0.0)
    end = solve(linear, wave, dt=0.1 / 16, n_steps=16, save_every=16, stepper=stepper).value[-1, 0]
    np.testing.assert_allclose(end, moved, atol=1e-14 if stepper.order == 4 else 1e-4)


@pytest.mark.parametrize("stepper", STEPPERS, ids=IDS)
def test_float32_rounding_does_not_pile_up(stepper, x64):
    """Adding the change of a step, instead of multiplying by exp(z), keeps slow decay exact."""
    problem = NavierStokes2D((9, 9), viscosity=1e-3)
    u0 = smooth_state((9, 9))

    def end(state):
        return solve(problem, state, dt=0.005, n_steps=200, save_every=200, stepper=stepper).value[
            -1
        ]

    single = end(u0.astype(jnp.float32)).astype(jnp.float64)
    assert float(relative_l2(single, end(u0))) < 2e-6


def test_runge_kutta_coefficients_satisfy_the_order_conditions():
    """Conditions of order four for the two-register form, unrolled into a Butcher tableau."""
    a, b = [float(x) for x in _A], [float(x) for x in _B]
    tableau, weights, register = np.zeros((6, 5)), np.zeros(5), np.zeros(5)
    for stage in range(5):
        register = a[stage] * register
        register[stage] += 1
        weights = weights + b[stage] * register
        tableau[stage + 1] = weights
    stages, final = tableau[:5], tableau[5]
    c = stages.sum(axis=1)
    np.testing.assert_allclose(c, [float(t) for t in _TIMES[:-1]], atol=1e-14)
    conditions = {
        1: final.sum(),
        1 / 2: final @ c,
        1 / 3: final @ c**2,
        1 / 6: final @ stages @ c,
        1 / 4: final @ c**3,
        1 / 8: (final * c) @ stages @ c,
        1 / 12: final @ stages @ c**2,
        1 / 24: final @ stages @ stages @ c,
    }
    np.testing.assert_allclose(list(conditions.values()), list(conditions), atol=1e-12)


def test_phi_functions_against_contour_integrals(x64):
    """Kassam and Trefethen's contour mean, an independent way around the cancellation."""
    z = np.concatenate(
        [-np.logspace(-8, 4, 49), np.logspace(-8, 0.5, 20), 1j * np.linspace(-5, 5, 21), [0.0]]
    )
    circle = z[:, None] + 2 * np.exp(2j * np.pi * (np.arange(128) + 0.5) / 128)
    expected = [
        (np.expm1(circle) / circle).mean(axis=1),
        ((np.expm1(circle) - circle) / circle**2).mean(axis=1),
        ((np.expm1(circle) - circle - circle**2 / 2) / circle**3).mean(axis=1),
    ]
    for value, single, reference in zip(
        phi_functions(z), phi_functions(jnp.asarray(z, jnp.complex64)), expected, strict=True
    ):
        np.testing.assert_allclose(value, reference, rtol=1e-13)
        np.testing.assert_allclose(single, reference, rtol=2e-6)
    slope = jax.vmap(jax.grad(lambda x: phi_functions(x)[2]))(jnp.array([0.0, -1.0, -700.0]))
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope[0], 1 / 24, rtol=1e-12)


def test_agrees_with_exponax(x64):
    """The same flow by an independent code; its vorticity has the other sign."""
    import exponax

    n = 32
    problem = NavierStokes2D((n, n), viscosity=5e-3)
    u0 = smooth_state((n, n))
    ours = solve(problem, u0, dt=2e-3, n_steps=50, save_every=50).value[-1]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        step = exponax.stepper.NavierStokesVorticity(
            2,
            1.0,
            n,
            2e-3,
            diffusivity=5e-3,
            order=4,
            # With 2/3 exponax keeps |m| <= 9 of 32 points where the rule allows 10.
            dealiasing_fraction=0.7,
        )
        theirs = -exponax.repeat(step, 50)(-u0)
    assert float(relative_l2(u0, theirs)) > 0.05
    assert float(relative_l2(ours, theirs)) < 1e-12
