"""Residuals in time: orders of convergence, exactness, and the solver of their linear part."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.neural_operators import (
    CollocationResidual,
    FiniteDifferenceResidual,
    SolverDefectResidual,
)
from sciml.neural_operators._refinement._interpolation_weights import (
    derivative_weights,
    local_interpolation_matrix,
)
from sciml.neural_operators._refinement._shifted_time_solve import shifted_time_solve
from sciml.neural_operators._refinement._space_time_system import (
    make_system,
    to_snapshots,
    to_unknowns,
)
from sciml.problems import Burgers1D, IMEXCrankNicolson, solve

EXACT = {
    "differences of order 2": FiniteDifferenceResidual(2),
    "differences of order 4": FiniteDifferenceResidual(4),
    "differences of order 6": FiniteDifferenceResidual(6),
    "defect": SolverDefectResidual(),
    "defect, two substeps": SolverDefectResidual(substeps=2),
    "collocation": CollocationResidual(),
}


@functools.cache
def burgers(n_points=32):
    problem = Burgers1D((n_points,), viscosity=0.05)
    start = jnp.asarray(np.sin(2 * np.pi * np.arange(n_points) / n_points)[None])
    return problem, start


@functools.cache
def trajectory(dt, n_snapshots):
    problem, start = burgers()
    every = round(dt / 0.0005)
    steps = every * (n_snapshots - 1)
    return solve(problem, start, dt=dt / every, n_steps=steps, save_every=every).value


def eta_of_truth(residual, dt, n_history, n_steps):
    problem, _ = burgers()
    u = trajectory(dt, n_history + n_steps)
    system = make_system(problem, residual, u[:n_history], dt, n_steps)
    unknowns = to_unknowns(system, u[n_history:])
    return float(system.eta(system.evaluate(unknowns)) / system.tendency(unknowns))


@pytest.mark.parametrize("order", [2, 4, 6])
def test_order_of_differences(order, x64):
    """The residual of the truth falls with dt^order, one-sided ends included."""
    etas = [
        eta_of_truth(FiniteDifferenceResidual(order), dt, 3, round(0.08 / dt))
        for dt in (0.01, 0.005)
    ]
    assert np.log2(etas[0] / etas[1]) == pytest.approx(order, abs=0.5)


@pytest.mark.parametrize(("substeps", "rate"), [(1, 4), (2, 4)])
def test_order_of_defects(substeps, rate, x64):
    etas = [
        eta_of_truth(SolverDefectResidual(substeps=substeps), dt, 1, round(0.16 / dt))
        for dt in (0.02, 0.01)
    ]
    assert np.log2(etas[0] / etas[1]) == pytest.approx(rate, abs=0.5)


def test_other_steppers_take_part(x64):
    eta = eta_of_truth(SolverDefectResidual(IMEXCrankNicolson()), 0.01, 1, 8)
    assert eta_of_truth(SolverDefectResidual(), 0.01, 1, 8) < 1e-2 * eta < 1e-2


def test_a_short_history_makes_the_left_end_one_sided(x64):
    """One known snapshot is enough, and costs accuracy but not order."""
    one, three = (eta_of_truth(FiniteDifferenceResidual(6), 0.01, n, 12) for n in (1, 3))
    assert three < one < 100 * three


@pytest.mark.parametrize("name", EXACT)
def test_the_linear_part_is_solved(name, x64):
    """Without convection the residual of u + x is that of u plus the inverse of the solver."""
    residual = EXACT[name]
    problem = Burgers1D((16,), viscosity=0.05)
    rng = np.random.default_rng(5)
    known, u = (jnp.asarray(1e-9 * rng.normal(size=(n, 1, 16))) for n in (3, 6))
    system = make_system(problem, residual, known, 0.1, 6)

    @jax.jit
    def both(system, u):
        unknowns = to_unknowns(system, u)
        change = system.solve_linear_part(system.evaluate(unknowns))
        return system.evaluate(unknowns), system.evaluate(unknowns - change)

    before, after = both(system, u)
    # The fields are so small that their products are below round-off.
    assert float(system.eta(after)) < 1e-7 * float(system.eta(before))


def test_collocation_round_trip(x64):
    """Snapshots to nodes and back: exact for polynomials of the local degree."""
    problem, _ = burgers()
    t = jnp.arange(-2.0, 9.0)
    u = (0.1 * t**3 - t)[:, None, None] * jnp.ones((1, 1, 32))
    system = make_system(problem, CollocationResidual(), u[:3], 0.1, 8)
    np.testing.assert_allclose(to_snapshots(system, to_unknowns(system, u[3:])), u[3:], atol=1e-10)


def test_collocation_weights_integrate_polynomials(x64):
    residual = CollocationResidual(9)
    times, weights = residual.times(4), residual.time_weights(4)
    for power in (2, 5, 8):
        assert np.sum(weights * times**power) == pytest.approx(4 ** (power + 1) / (power + 1))


def test_derivative_weights():
    np.testing.assert_allclose(
        derivative_weights(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), 0.0, 1),
        np.array([1, -8, 0, 8, -1]) / 12,
        atol=1e-14,
    )
    np.testing.assert_allclose(derivative_weights(np.arange(4.0), 2.0, 0), [0, 0, 1, 0], atol=1e-13)


@pytest.mark.parametrize("derivative", [0, 1])
def test_local_interpolation(derivative):
    positions = np.array([0.0, 0.3, 4.5, 8.0, 9.0])
    matrix = local_interpolation_matrix(10, positions, 3, derivative)
    points = np.arange(10.0)
    expected = positions**3 if derivative == 0 else 3 * positions**2
    np.testing.assert_allclose(matrix @ points**3, expected, atol=1e-9)
    assert local_interpolation_matrix(2, np.array([0.5]), 3).tolist() == [[0.5, 0.5]]


def test_shifted_time_solve(x64):
    rng = np.random.default_rng(11)
    matrix = np.tril(rng.normal(size=(6, 6))) + np.diag(np.ones(5), 1)
    shift = jnp.asarray(-rng.uniform(0, 3, size=(4,)))
    rhs = jnp.asarray(rng.normal(size=(6, 4)) + 1j * rng.normal(size=(6, 4)))
    x = shifted_time_solve(matrix, shift, rhs)
    for k in range(4):
        expected = np.linalg.solve(matrix - float(shift[k]) * np.eye(6), rhs[:, k])
        np.testing.assert_allclose(x[:, k], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FiniteDifferenceResidual(3), ValueError, "2, 4, 6"),
        (lambda: SolverDefectResidual(IMEXCrankNicolson), TypeError, "AbstractStepper"),
        (lambda: SolverDefectResidual(substeps=0), ValueError, "substeps"),
        (lambda: CollocationResidual(0), ValueError, "n_nodes"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
