"""Refinement: reaches the floor of its residual, never makes worse, says when it fails."""

import functools
import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.core import RESULTS
from sciml.neural_operators import (
    LBFGS,
    SFNO,
    CollocationResidual,
    FiniteDifferenceResidual,
    NewtonGMRES,
    OutputLayerLBFGS,
    Persistence,
    SolverDefectResidual,
    estimate,
    refine,
)
from sciml.neural_operators._refinement._gmres import gmres
from sciml.numerics import relative_l2
from sciml.problems import (
    AllenCahn,
    Burgers1D,
    KuramotoSivashinsky1D,
    NavierStokes2D,
    fno_forcing,
    gaussian_random_field,
    solve,
)

DT = 0.1


@functools.cache
def flow():
    """Five known and eight true snapshots of a forced flow with drag, on an odd grid."""
    n_points = (16, 15)
    forcing = fno_forcing(n_points)
    problem = NavierStokes2D(n_points, viscosity=0.01, drag=0.1, forcing=forcing)
    start = gaussian_random_field(n_points, key=jax.random.key(3))
    u = solve(problem, start, dt=DT / 10, n_steps=220, save_every=10).value[10:]
    return problem, u[:5], u[5:13]


@functools.cache
def wave():
    """Five known and eight true snapshots, 0.01 apart, of a steepening wave."""
    problem = Burgers1D((32,), viscosity=0.05)
    x = 2 * np.pi * np.arange(32) / 32
    start = jnp.asarray((0.5 * np.sin(x) + 0.3 * np.cos(2 * x))[None])
    u = solve(problem, start, dt=0.001, n_steps=120, save_every=10).value
    return problem, u[:5], u[5:]


def persistence(inputs, truth):
    return jnp.broadcast_to(inputs[-1], truth.shape)


@pytest.mark.parametrize(
    ("residual", "floor"),
    [
        (FiniteDifferenceResidual(4), 1e-6),
        (FiniteDifferenceResidual(6), 1e-7),
        (SolverDefectResidual(), 1e-6),
        (SolverDefectResidual(substeps=2), 1e-7),
        (CollocationResidual(), 1e-9),
    ],
)
def test_newton_reaches_the_floor(residual, floor, x64):
    problem, inputs, truth = flow()
    guess = persistence(inputs, truth)
    solution = refine(guess, inputs, problem, dt=DT, residual=residual)
    assert relative_l2(guess, truth) > 0.05
    assert relative_l2(solution.value, truth) < floor
    assert solution.stats["n_matvecs"] < 60
    assert solution.stats["eta"] < solution.stats["eta_initial"]


def test_lbfgs_reaches_the_floor(x64):
    problem, inputs, truth = flow()
    guess = persistence(inputs, truth)
    solution = refine(guess, inputs, problem, dt=DT, method=LBFGS(), rtol=1e-7)
    assert relative_l2(solution.value, truth) < 1e-6
    assert 0 < solution.stats["n_gradients"] < 300
    options = {"max_steps": 3, "adapt_windows": False, "throw": False}
    early = refine(guess, inputs, problem, dt=DT, method=LBFGS(), rtol=1e-7, **options)
    assert early.result == RESULTS.refinement_budget_spent
    # Three iterations, of at most a few gradients each; not as many looks at ten of them.
    assert 0 < early.stats["n_gradients"] < 10


def test_the_truth_of_the_residual_is_a_fixed_point(x64):
    problem, inputs, truth = flow()
    first = refine(truth, inputs, problem, dt=DT).value
    again = refine(first, inputs, problem, dt=DT, rtol=1e-8)
    assert again.stats["n_matvecs"] == 0
    np.testing.assert_array_equal(again.value, first)


def test_windows(x64):
    """Windows solve the same equations where the residual looks back only."""
    problem, inputs, truth = wave()
    residual = SolverDefectResidual()
    whole = refine(persistence(inputs, truth[:4]), inputs, problem, dt=0.01, residual=residual)
    # Two windows of one length: one program.
    parts = refine(Persistence(), inputs, problem, dt=0.01, n_steps=4, residual=residual, window=2)
    assert parts.stats["n_windows"] == 2
    np.testing.assert_allclose(parts.value, whole.value, atol=1e-8)


def test_a_remainder_too_short_for_the_residual_joins_the_last_window(x64):
    """Five snapshots in windows of two: the last one alone lacks neighbours after three inputs."""
    problem, inputs, truth = wave()
    inputs, truth = inputs[-3:], truth[:5]
    guess = persistence(inputs, truth)
    solution = refine(guess, inputs, problem, dt=0.01, rtol=1e-6, window=2)
    assert solution.stats["n_windows"] == 2
    assert solution.value.shape == truth.shape
    assert relative_l2(solution.value, truth) < 0.1 * relative_l2(guess, truth)
    with pytest.raises(ValueError, match="`window` = 1 is too short"):
        refine(guess, inputs, problem, dt=0.01, window=1)


def test_a_window_that_fails_is_halved(x64):
    """Four products do not solve eight snapshots at once, but they solve one at a time."""
    problem, inputs, truth = flow()
    guess = persistence(inputs, truth)
    arguments = {"residual": SolverDefectResidual(), "method": NewtonGMRES(max_matvecs=4)}
    solution = refine(guess, inputs, problem, dt=DT, **arguments)
    assert solution.stats["n_retries"] > 0
    assert solution.stats["n_windows"] > 1
    assert relative_l2(solution.value, truth) < 1e-6


EQUATIONS = {
    "Burgers1D": (
        lambda: Burgers1D((32,), viscosity=0.05),
        0.01,
        FiniteDifferenceResidual(4),
    ),
    "KuramotoSivashinsky1D": (
        lambda: KuramotoSivashinsky1D((32,), domain_extent=22.0),
        0.2,
        SolverDefectResidual(),
    ),
    "AllenCahn": (
        lambda: AllenCahn((32,), interface_width=0.08),
        0.1,
        FiniteDifferenceResidual(4),
    ),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_other_equations(name, x64):
    make, dt, residual = EQUATIONS[name]
    problem = make()
    x = 2 * np.pi * np.arange(32) / 32
    start = jnp.asarray((0.5 * np.sin(x) + 0.3 * np.cos(2 * x))[None])
    u = solve(problem, start, dt=dt / 10, n_steps=120, save_every=10).value
    guess = persistence(u[:5], u[5:])
    solution = refine(guess, u[:5], problem, dt=dt, residual=residual)
    assert relative_l2(guess, u[5:]) > 0.01
    assert relative_l2(solution.value, u[5:]) < 3e-4


def test_the_published_way_tunes_the_last_layer_only(x64):
    problem, inputs, truth = wave()
    options = {"horizon": 0.08, "n_modes": (3, 3), "hidden_channels": 4, "n_layers": 2}
    make = eqx.filter_jit(lambda key: SFNO(1, dt=0.01, latent_steps=10, **options, key=key))
    model = make(jax.random.key(1))
    solution = refine(
        model,
        inputs,
        problem,
        dt=0.01,
        n_steps=8,
        method=OutputLayerLBFGS(n_iterations=60),
        rtol=1e-3,
        adapt_windows=False,
        throw=False,
    )
    before = relative_l2(eqx.filter_jit(model)(inputs, 8), truth)
    assert relative_l2(solution.value, truth) < 0.2 * before
    assert solution.stats["eta"] < 0.1 * solution.stats["eta_initial"]


def test_a_layer_needs_its_model(x64):
    problem, inputs, truth = flow()
    with pytest.raises(TypeError, match="SpatiotemporalFNO, and `prediction` is an array"):
        refine(truth + 1.0, inputs, problem, dt=DT, method=OutputLayerLBFGS())


def test_budget_is_reported_and_the_best_state_returned(x64):
    problem, inputs, truth = flow()
    guess = persistence(inputs, truth)
    call = functools.partial(
        refine,
        guess,
        inputs,
        problem,
        dt=DT,
        method=NewtonGMRES(max_matvecs=4),
        adapt_windows=False,
    )
    solution = call(throw=False)
    assert solution.result == RESULTS.refinement_budget_spent
    assert solution.stats["n_matvecs"] == 4
    assert (
        estimate(solution.value, inputs, problem, dt=DT).eta
        < estimate(guess, inputs, problem, dt=DT).eta
    )
    with pytest.raises(RuntimeError, match=r"window 1 at a residual .* used up its steps"):
        call()


def test_when_no_window_succeeds_the_first_attempt_is_kept(x64):
    """Three products solve no window; those on the whole one still lowered its residual."""
    problem, inputs, truth = flow()
    guess = persistence(inputs, truth)
    fixed, adapted = (
        refine(
            guess,
            inputs,
            problem,
            dt=DT,
            # Takes no window of one snapshot: less to compile.
            residual=FiniteDifferenceResidual(6),
            method=NewtonGMRES(max_matvecs=3),
            adapt_windows=adapt,
            throw=False,
        )
        for adapt in (False, True)
    )
    assert adapted.stats["n_retries"] > 0
    assert adapted.stats["eta"] < adapted.stats["eta_initial"]
    np.testing.assert_array_equal(adapted.value, fixed.value)


def test_stagnation_at_round_off_is_reported(x64):
    problem, inputs, truth = flow()
    solution = refine(truth, inputs, problem, dt=DT, rtol=1e-30, adapt_windows=False, throw=False)
    assert solution.result == RESULTS.refinement_stagnated
    assert relative_l2(solution.value, truth) < 1e-6


def test_the_tolerance_is_that_of_the_refined_trajectory(x64):
    """A rough guess has a large time derivative, which must not make the tolerance loose."""
    problem, inputs, truth = wave()
    noise = jnp.asarray(np.random.default_rng(3).normal(size=truth.shape))
    found = refine(truth + noise, inputs[-1:], problem, dt=0.01, rtol=1e-3)
    assert found.stats["relative_eta"] <= 1e-3


def test_a_steady_state_is_solved_as_far_as_rounding_lets(x64):
    problem, _, truth = wave()
    still = jnp.full_like(truth, 0.7)
    for method in (NewtonGMRES(), LBFGS()):
        found = refine(still, still[:1], problem, dt=0.01, method=method)
        assert found.stats["eta"] < 1e-12
        np.testing.assert_array_equal(found.value, still)
    found = refine(still + 0.1 * (truth - still), still[:1], problem, dt=0.01)
    np.testing.assert_allclose(found.value, still, atol=1e-12)


def test_windows_that_solve_less_together_than_the_guess_are_no_success(x64):
    """At the ends of windows the formulas are one-sided and less accurate."""
    problem, inputs, truth = wave()
    whole = refine(truth, inputs, problem, dt=0.01).value
    with pytest.raises(RuntimeError, match=r"went from a residual of .* longer windows"):
        refine(whole, inputs, problem, dt=0.01, window=2, rtol=1e-12)
    found = refine(whole, inputs, problem, dt=0.01, window=2, rtol=1e-12, throw=False)
    assert found.result == RESULTS.refinement_windows_disagree
    assert found.stats["eta"] == found.stats["eta_initial"]
    np.testing.assert_array_equal(found.value, whole)


def test_gradients_pass_snapshots_that_solve_the_equation_exactly(x64):
    """The norm of a residual that is 0 has no slope; the sum over the others has one."""
    problem, _, truth = wave()
    rest = jnp.zeros_like(truth[:3])
    guess = jnp.concatenate([rest, truth[:2]])
    residual = SolverDefectResidual(substeps=2)
    found = refine(guess, rest[:1], problem, dt=0.01, residual=residual, method=LBFGS())
    np.testing.assert_allclose(found.value, 0, atol=1e-9)


def test_an_unstable_inner_step_is_a_status(x64):
    """Huge velocities: the defect's step overflows, and nothing pretends otherwise."""
    problem = NavierStokes2D((16, 15), viscosity=1e-4)
    rng = np.random.default_rng(2)
    inputs = jnp.asarray(1e4 * rng.normal(size=(1, 1, 16, 15)))
    guess = jnp.asarray(1e4 * rng.normal(size=(3, 1, 16, 15)))
    residual = SolverDefectResidual(substeps=8)
    solution = refine(guess, inputs, problem, dt=50.0, residual=residual, throw=False)
    assert solution.result == RESULTS.nonfinite_residual
    np.testing.assert_array_equal(solution.value, guess)


def test_history_on_request_of_the_reader(x64):
    problem, inputs, truth = flow()
    solution = refine(persistence(inputs, truth), inputs, problem, dt=DT)
    (history,) = solution.stats["history"]
    etas = [step["eta"] for step in history]
    assert etas == sorted(etas, reverse=True)
    assert history[0]["n_matvecs"] == 0
    assert history[-1]["n_matvecs"] == solution.stats["n_matvecs"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dt": -0.1}, ValueError, "dt"),
        ({"rtol": 0.0}, ValueError, "rtol"),
        ({"window": 0}, ValueError, "window"),
        ({"n_steps": 3}, ValueError, "8 snapshots, but n_steps=3"),
        ({"residual": FiniteDifferenceResidual}, TypeError, "residual"),
        ({"method": NewtonGMRES}, TypeError, "method"),
        ({"problem": "burgers"}, TypeError, "problem"),
        ({"context": np.ones((1, 16, 15))}, ValueError, "context"),
        ({"inputs": np.ones((0, 1, 16, 15))}, ValueError, "at least one"),
        ({"inputs": np.ones((2, 1, 16, 16))}, ValueError, "axis 3 of `inputs`"),
        ({"prediction": np.full((8, 1, 16, 15), np.nan)}, ValueError, "non-finite"),
        ({"prediction": np.ones((8, 16, 15))}, ValueError, "4 axes"),
        ({"prediction": np.ones((8, 1, 16, 15), int)}, TypeError, "floating"),
        ({"prediction": Persistence()}, ValueError, "n_steps"),
        (
            {"inputs": np.ones((1, 1, 16, 15)), "prediction": np.ones((2, 1, 16, 15)),
                 "residual": FiniteDifferenceResidual(6)},
            ValueError,
            "need 7 snapshots",
        ),
    ],
)  # fmt: skip
def test_bad_input(change, error, message, x64):
    problem, inputs, truth = flow()
    arguments = {"prediction": truth, "inputs": inputs, "problem": problem, "dt": DT} | change
    with pytest.raises(error, match=message):
        refine(**arguments)


@pytest.mark.parametrize("wrong", ["period", "dt", "forcing", "not periodic"])
def test_inputs_of_another_equation_are_noticed(wrong, x64):
    """The known snapshots must solve the equation too, or the answer is to another question."""
    problem, inputs, truth = flow()
    dt = DT
    if wrong == "period":
        problem = NavierStokes2D(
            problem.n_points, viscosity=0.01, domain_extent=2 * np.pi, forcing=problem.forcing
        )
    elif wrong == "forcing":
        problem = NavierStokes2D(problem.n_points, viscosity=0.01, forcing=-20 * problem.forcing)
    elif wrong == "dt":
        dt = 4 * DT
    else:
        ramp = jnp.linspace(0.0, 1.0, 16)[None, None, :, None]
        inputs, truth = inputs + 3 * ramp, truth + 3 * ramp
    with pytest.warns(RuntimeWarning, match="known snapshots do not solve the equation"):
        # Any trajectory passes with this tolerance: it is the inputs that are asked about.
        solution = refine(truth, inputs, problem, dt=dt, rtol=1e3)
    assert solution.stats["relative_eta_of_inputs"] > 0.3


@pytest.mark.parametrize("unit", [1e-60, 1e60])
def test_a_wrong_guess_is_no_success_in_another_unit(unit, x64):
    """Squares of 1e-160 are zero, and zero is below any tolerance."""
    problem = Burgers1D((16,), viscosity=0.05 * unit**2, domain_extent=unit)
    start = unit * np.sin(2 * np.pi * np.arange(16) / 16)[None]
    u = solve(problem, start, dt=0.01, n_steps=24, save_every=3).value
    found = refine(1.3 * u[5:], u[:5], problem, dt=0.03, rtol=1e-6)
    assert 0 < found.stats["relative_eta"] < 1e-6
    assert relative_l2(found.value, u[5:]) < 1e-3


def test_a_mesh_may_be_of_any_kind_of_axes(x64):
    problem, inputs, truth = wave()
    guess = persistence(inputs, truth)
    mesh = jax.make_mesh((1,), ("time",))
    refined = refine(guess, inputs, problem, dt=0.01, mesh=mesh).value
    assert relative_l2(refined, truth) < 1e-4


def test_float32_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        refine(np.ones((8, 1, 8)), np.ones((2, 1, 8)), Burgers1D((8,), viscosity=0.1), dt=0.1)


@functools.partial(jax.jit, static_argnames="max_krylov")
def solve_by_gmres(matrix, rhs, limit, *, max_krylov):
    rtol = jnp.asarray(1e-12)
    return gmres(lambda x: matrix @ x, rhs, rtol=rtol, limit=limit, max_krylov=max_krylov)


@pytest.mark.parametrize("symmetric", [True, False])
def test_gmres(symmetric, x64):
    rng = np.random.default_rng(8)
    matrix = np.eye(12) + 0.3 * rng.normal(size=(12, 12))
    if symmetric:
        matrix = matrix @ matrix.T
    rhs = rng.normal(size=12)
    found = solve_by_gmres(matrix, rhs, 100, max_krylov=14)
    np.testing.assert_allclose(matrix @ found.value, rhs, atol=1e-10)
    assert int(found.n_matvecs) <= 12
    early = solve_by_gmres(matrix, rhs, 5, max_krylov=14)
    assert int(early.n_matvecs) == 5
    true = np.linalg.norm(matrix @ early.value - rhs) / np.linalg.norm(rhs)
    assert true == pytest.approx(float(early.reduction), rel=1e-8)


def test_gmres_of_zero_and_of_an_eigenvector(x64):
    matrix = np.diag(np.arange(1.0, 6.0))
    zero = solve_by_gmres(matrix, np.zeros(5), 9, max_krylov=4)
    assert int(zero.n_matvecs) == 0
    np.testing.assert_array_equal(zero.value, 0.0)
    one = solve_by_gmres(matrix, np.eye(5)[2], 9, max_krylov=4)
    assert int(one.n_matvecs) == 1
    np.testing.assert_allclose(one.value, np.eye(5)[2] / 3)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from sciml.neural_operators import SolverDefectResidual, refine
from sciml.problems import Burgers1D, solve

jax.config.update("jax_enable_x64", True)
assert jax.device_count() == 4
mesh = jax.make_mesh((4,), ("time",), axis_types=(jax.sharding.AxisType.Auto,))
problem = Burgers1D((32,), viscosity=0.05)
start = jnp.asarray(0.5 * np.sin(2 * np.pi * np.arange(32) / 32)[None])
u = solve(problem, start, dt=0.002, n_steps=100, save_every=10).value
guess = jnp.broadcast_to(u[4], u[5:].shape)
assert len(guess) == 6
# All residuals spread the same map of snapshots; this one has a loop in it.
one, four = (
    refine(guess, u[:5], problem, dt=0.02, residual=SolverDefectResidual(), mesh=devices)
    for devices in (None, mesh)
)
np.testing.assert_allclose(four.value, one.value, atol=1e-11)
assert four.stats["n_matvecs"] == one.stats["n_matvecs"]
print("equal")
"""


def test_several_devices_give_the_same_answer():
    """Six snapshots on four virtual devices, so that the last ones are filled up."""
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    run = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "equal"
