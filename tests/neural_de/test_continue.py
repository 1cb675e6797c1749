"""Solves that go on from another one: in two halves, by the states of either kind of solve."""

from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from sciml.neural_de import (
    ErrorEstimate,
    LocalRegularization,
    RegularizedSolver,
    Sampling,
    StepWeight,
    StiffnessEstimate,
    local_regularized_solve,
    regularized_solve,
)

RTOL = 1e-6
CONTROLLER = diffrax.PIDController(rtol=RTOL, atol=RTOL, pcoeff=0.2, icoeff=0.4)
PENALTIES = {"error": ErrorEstimate(rtol=RTOL, atol=RTOL), "stiffness": StiffnessEstimate()}
ALL_STATES = diffrax.SaveAt(t1=True, solver_state=True, controller_state=True, made_jump=True)


def pendulum(t, y, args):
    return args * jnp.stack([y[1], -jnp.sin(2 * y[0])])


def problem(t0, t1, dt0, y0, solver=None):
    return (diffrax.ODETerm(pendulum), solver or diffrax.Tsit5(), t0, t1, dt0, y0, 1.2)


def states_of(solution):
    return {
        "solver_state": solution.solver_state,
        "controller_state": solution.controller_state,
        "made_jump": solution.made_jump,
    }


class Meter(diffrax.AbstractProgressMeter):
    """Pass on what it is told."""

    tell: Callable

    def init(self):
        return jnp.zeros(())

    def step(self, state, progress):
        jax.debug.callback(self.tell, progress)
        return state

    def close(self, state):
        pass


TOLD = []
METER = Meter(lambda progress: TOLD.append(float(progress)))


def check_told(solve, *where):
    """Return a solve of which the progress meter must see each step, and each once."""
    TOLD.clear()
    solution, penalty = jax.block_until_ready(solve(*where))
    jax.effects_barrier()
    assert len(TOLD) == int(solution.stats["num_steps"])
    np.testing.assert_allclose(max(TOLD), 1.0)
    return solution, penalty


@jax.jit
def regularized(t0, t1, dt0, y0, states):
    return regularized_solve(
        *problem(t0, t1, dt0, y0), regularizers=PENALTIES, saveat=ALL_STATES,
        stepsize_controller=CONTROLLER, max_steps=64, progress_meter=METER, **states,
    )  # fmt: skip


@jax.jit
def plain(t0, t1, dt0, y0, states):
    return diffrax.diffeqsolve(
        *problem(t0, t1, dt0, y0), saveat=ALL_STATES, stepsize_controller=CONTROLLER,
        max_steps=64, **states,
    )  # fmt: skip


NO_STATES = {"solver_state": None, "controller_state": None, "made_jump": None}


def check_same(ours, theirs):
    """Assert equality up to the rounding of two programs.

    They are equal to the bit with jax 0.10 and not with 0.12, whose XLA fuses them in two ways. An
    error estimate, whose inverse the controller keeps, is a difference of near numbers.
    """
    np.testing.assert_allclose(ours.ys, theirs.ys, rtol=1e-13)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-14)


def test_two_halves_are_those_of_diffrax(x64):
    y0 = jnp.asarray([1.0, 0.5])
    ours, _ = check_told(regularized, 0.0, 1.0, 0.1, y0, NO_STATES)
    theirs = plain(0.0, 1.0, 0.1, y0, NO_STATES)
    for _ in range(2):
        check_same(ours, theirs)
        # The states of either solution go into either solve.
        ours, theirs = (
            regularized(1.0, 2.0, 0.2, ours.ys[-1], states_of(theirs))[0],
            plain(1.0, 2.0, 0.2, theirs.ys[-1], states_of(ours)),
        )


def test_halves_at_fixed_steps_are_the_whole_and_their_figures_add_up(x64):
    @jax.jit
    def run(t0, t1, y0, tolerance, states):
        # Fixed steps have no tolerances: they are the regulariser's own.
        penalties = {
            "error": ErrorEstimate(rtol=tolerance, atol=tolerance),
            "plain": ErrorEstimate(StepWeight.ONE, rtol=tolerance, atol=tolerance),
            "stiffness": StiffnessEstimate(),
        }
        return regularized_solve(
            *problem(t0, t1, 0.125, y0), regularizers=penalties, saveat=ALL_STATES,
            stepsize_controller=diffrax.ConstantStepSize(), **states,
        )  # fmt: skip

    y0 = jnp.asarray([1.0, 0.5])
    whole, penalty = run(0.0, 2.0, y0, RTOL, NO_STATES)
    first, one = run(0.0, 1.0, y0, RTOL, NO_STATES)
    last, two = run(1.0, 2.0, first.ys[-1], RTOL, states_of(first))
    np.testing.assert_array_equal(last.ys, whole.ys)
    np.testing.assert_array_equal(last.solver_state[1], whole.solver_state[1])
    for name, value in penalty.values.items():
        np.testing.assert_allclose(one.values[name] + two.values[name], value, rtol=1e-13)
    # The second half knows its first stage.
    assert int(penalty.nfe) == 16 * 6 + 1 == int(one.nfe + two.nfe)
    assert (int(one.nfe), int(two.nfe)) == (49, 48)
    # Errors are weighted with the step, and scale with the tolerance.
    errors = penalty.values["error"]
    assert errors > 0
    np.testing.assert_allclose(errors, 0.125 * penalty.values["plain"], rtol=1e-12)
    _, loose = run(0.0, 2.0, y0, 100 * RTOL, NO_STATES)
    np.testing.assert_allclose(loose.values["error"], errors / 100, rtol=1e-10)
    stiffness = penalty.values["stiffness"]
    np.testing.assert_allclose(loose.values["stiffness"], stiffness, rtol=1e-12)


def test_a_wrappers_state_goes_on_by_itself_and_starts_figures_around_it_from_zero(x64):
    y0 = jnp.asarray([1.0, 0.5])
    inner = RegularizedSolver(diffrax.Tsit5(), PENALTIES, RTOL, RTOL, optx.rms_norm)
    options = {"stepsize_controller": CONTROLLER, "saveat": ALL_STATES, "max_steps": 64}

    def error_of(solution):
        return inner.values(solution.solver_state)["error"]

    @jax.jit
    def around(t0, t1, dt0, y0, states):
        solution, penalty = regularized_solve(
            *problem(t0, t1, dt0, y0, inner), regularizers=PENALTIES, **options, **states
        )
        return solution, penalty.values["error"], error_of(solution)

    @jax.jit
    def within_diffrax(t0, t1, dt0, y0, states):
        return error_of(diffrax.diffeqsolve(*problem(t0, t1, dt0, y0, inner), **options, **states))

    wrapped, one, _ = around(0.0, 1.0, 0.1, y0, NO_STATES)
    assert one > 0
    go_on = (1.0, 2.0, 0.2, wrapped.ys[-1], states_of(wrapped))
    # The wrapper inside goes on adding, in a wrapper and within diffrax; the one around does not.
    _, two, sums = around(*go_on)
    np.testing.assert_allclose(sums, one + two, rtol=1e-12)
    np.testing.assert_allclose(within_diffrax(*go_on), one + two, rtol=1e-12)
    bare, _ = regularized(0.0, 1.0, 0.1, y0, NO_STATES)
    from_bare = regularized(1.0, 2.0, 0.2, bare.ys[-1], states_of(bare))
    from_wrapped = regularized(1.0, 2.0, 0.2, bare.ys[-1], states_of(wrapped))
    check_same(from_bare[0], from_wrapped[0])
    for a, b in zip(*map(jax.tree.leaves, (from_bare[1], from_wrapped[1])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-14)


@pytest.mark.parametrize("solver", [diffrax.Heun(), diffrax.Kvaerno3()])
def test_solvers_of_other_states_go_on_too(x64, solver):
    # Heun has no state; an implicit one begins with the slope where the last one ended.
    controller = diffrax.PIDController(rtol=1e-4, atol=1e-4)

    def run(go, t0, y0, states):
        return go(
            *problem(t0, t0 + 1.0, 0.1, y0, solver), saveat=ALL_STATES, max_steps=256,
            stepsize_controller=controller, **states,
        )  # fmt: skip

    def ours(*args, **options):
        return regularized_solve(*args, regularizers={"e": ErrorEstimate()}, **options)[0]

    @jax.jit
    def twice():
        first = run(ours, 0.0, jnp.asarray([1.0, 0.5]), NO_STATES)
        return [run(go, 1.0, first.ys[-1], states_of(first)) for go in (ours, diffrax.diffeqsolve)]

    a, b = twice()
    np.testing.assert_allclose(a.ys, b.ys, rtol=1e-14)
    assert int(a.stats["num_steps"]) == int(b.stats["num_steps"])


def test_a_replayed_solve_is_gone_on_with_the_controller_that_found_its_steps(x64):
    @jax.jit
    def replayed(t0, t1, dt0, y0, states):
        return regularized_solve(
            *problem(t0, t1, dt0, y0), regularizers=PENALTIES, saveat=ALL_STATES,
            stepsize_controller=CONTROLLER, max_steps=64, replay=True, progress_meter=METER,
            **states,
        )  # fmt: skip

    def twice(go):
        first, _ = check_told(go, 0.0, 1.0, 0.5, jnp.asarray([1.0, 0.5]), NO_STATES)
        return go(1.0, 2.0, 0.5, first.ys[-1], states_of(first))

    (a, figures), (b, again) = twice(regularized), twice(replayed)
    for x, y in zip(jax.tree.leaves((a, figures)), jax.tree.leaves((b, again)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-12)
    assert int(a.stats["num_rejected_steps"]) > 0


@pytest.mark.parametrize("adjoint", [None, diffrax.ImplicitAdjoint()])
def test_a_local_solve_goes_on_as_well_and_draws_steps_of_its_own(x64, adjoint):
    saveat = diffrax.SaveAt(t1=True) if isinstance(adjoint, diffrax.ImplicitAdjoint) else ALL_STATES
    local = LocalRegularization(sampling=Sampling.STEP)
    y0 = jnp.asarray([1.0, 0.5])
    first = plain(0.0, 1.0, 0.1, y0, NO_STATES)
    theirs = plain(1.0, 2.0, 0.2, first.ys[-1], states_of(first))

    @jax.jit
    def run(y0, states):
        return local_regularized_solve(
            *problem(1.0, 2.0, 0.2, y0), key=jax.random.key(3), local=local, saveat=saveat,
            stepsize_controller=CONTROLLER, adjoint=adjoint, max_steps=64, progress_meter=METER,
            **states,
        )  # fmt: skip

    ours, penalty = check_told(run, first.ys[-1], states_of(first))
    np.testing.assert_array_equal(ours.ys, theirs.ys)
    if saveat is ALL_STATES:
        np.testing.assert_array_equal(ours.solver_state[1], theirs.solver_state[1])
        assert jax.tree.structure(ours.controller_state) == jax.tree.structure(
            theirs.controller_state
        )
    assert int(penalty.nfe) == 6 * int(theirs.stats["num_steps"])
    assert penalty.total > 0


def test_the_gradient_goes_through_the_state_as_in_diffrax(x64):
    def end(go, adjoint, rate):
        # Two steps in each half; the second half begins with the slope that the state holds.
        options = {
            "saveat": ALL_STATES, "max_steps": 2, "adjoint": adjoint,
            "stepsize_controller": diffrax.ConstantStepSize(),
        }  # fmt: skip
        where = (diffrax.ODETerm(pendulum), diffrax.Tsit5())
        first = go(*where, 0.0, 1.0, 0.5, jnp.asarray([1.0, 0.5]), rate, **options)
        last = go(*where, 1.0, 2.0, 0.5, first.ys[-1], rate, **options, **states_of(first))
        return last.ys[-1, 0]

    def ours(*args, **options):
        return regularized_solve(*args, regularizers={}, **options)[0]

    found = jax.jit(jax.grad(lambda rate: end(ours, diffrax.DirectAdjoint(), rate)))(1.2)
    wanted = jax.jit(
        jax.jacfwd(lambda rate: end(diffrax.diffeqsolve, diffrax.ForwardMode(), rate))
    )(1.2)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert abs(found) > 1e-3
