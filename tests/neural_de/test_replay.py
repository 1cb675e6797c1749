"""A replayed solve is the adaptive one: backwards, in a batch, cut short, until an event."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from sciml.neural_de import ErrorEstimate, StiffnessEstimate, regularized_solve

PENALTIES = {"error": ErrorEstimate(), "stiffness": StiffnessEstimate()}
CONTROLLER = diffrax.PIDController(rtol=1e-6, atol=1e-6)
Y0 = (1.0, 0.5)


def pendulum(t, y, args):
    return args * jnp.stack([y[1], -jnp.sin(2 * y[0])])


def solve(rate, y0, ends, *, replay, **options):
    t0, t1 = ends
    # A first step of half the span is rejected.
    return regularized_solve(
        diffrax.ODETerm(pendulum), diffrax.Tsit5(), t0, t1, (t1 - t0) / 2, y0, rate,
        regularizers=PENALTIES, stepsize_controller=CONTROLLER, throw=False, replay=replay,
        **options,
    )  # fmt: skip


def same(a, b):
    """Raise unless two solves with their regularisers are the same up to rounding."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


# Initial state, begin, end and rate. The last lane runs out of steps.
MAX_STEPS = 32
LANES = (
    ((1.0, 0.5), 0.0, 2.0, 1.2),
    ((1.0, 0.5), 1.0, -1.0, 1.2),
    ((0.1, -2.0), 0.0, 2.0, 1.2),
    ((3.0, 0.2), 0.0, 2.0, 1.2),
    ((1.0, 0.5), 0.0, 2.0, 6.0),
)


@pytest.fixture(scope="module")
def lanes():
    """Return a batch's solves and the derivatives of the regularisers, plain and replayed."""

    @functools.partial(jax.jit, static_argnums=0)
    def run(replay, *batch):
        def one(y0, t0, t1, rate):
            def total(rate):
                # Forward mode costs a third; test_regularized_solve.py has reverse mode.
                solution, penalty = solve(
                    rate, y0, (t0, t1), replay=replay, max_steps=MAX_STEPS,
                    saveat=diffrax.SaveAt(steps=True), adjoint=diffrax.ForwardMode(),
                )  # fmt: skip
                return penalty.total, (solution, penalty)

            _, slope, aux = jax.jvp(total, (rate,), (jnp.ones_like(rate),), has_aux=True)
            return aux, slope

        return jax.vmap(one)(*batch)

    with jax.enable_x64(True):
        batch = tuple(jnp.asarray(column) for column in zip(*LANES, strict=True))
        return run(False, *batch), run(True, *batch)


def test_a_batch_whose_lanes_step_by_themselves_forwards_and_backwards(x64, lanes):
    (plain, slopes), (again, replayed) = lanes
    same(plain, again)
    np.testing.assert_allclose(slopes, replayed, rtol=1e-10)
    stats = jax.tree.map(np.asarray, plain[0].stats)
    assert (stats["num_rejected_steps"] > 0).all()
    assert len(set(stats["num_steps"].tolist())) > 2
    assert plain[0].ts[1, 0] < 1.0


def test_when_it_runs_out_of_steps(x64, lanes):
    _, ((solution, penalty), slopes) = lanes
    ends = [diffrax.RESULTS.successful] * 4 + [diffrax.RESULTS.max_steps_reached]
    for i, result in enumerate(ends):
        assert jax.tree.map(lambda leaf, i=i: leaf[i], solution.result) == result
    assert int(solution.stats["num_steps"][-1]) == MAX_STEPS
    assert (np.asarray(penalty.total) > 0).all()
    assert np.isfinite(slopes).all()


def root(t, y, args):
    return -args * jnp.sqrt(y)


@functools.partial(jax.jit, static_argnums=0)
def past_root(replay, rate, ends):
    """Solve with a first step that is too long: it ends in the root of a negative number."""
    return regularized_solve(
        diffrax.ODETerm(root), diffrax.Tsit5(), *ends, ends[1] - ends[0], jnp.ones(1), rate,
        regularizers={"error": ErrorEstimate()}, max_steps=64, throw=False, replay=replay,
    )  # fmt: skip


@pytest.fixture(scope="module")
def replayed_past_root():
    """Return the replayed solve with its derivative by reverse mode, compiled once."""

    def total(rate, ends):
        solution, penalty = past_root(True, rate, ends)
        return penalty.total, (solution, penalty)

    return jax.jit(jax.value_and_grad(total, has_aux=True))


def test_replay_survives_a_rejected_step_that_overflows(x64, replayed_past_root):
    rate, ends = jnp.asarray(1.9), (0.0, 0.9)
    (_, again), slope = replayed_past_root(rate, ends)
    same(past_root(False, rate, ends), again)
    assert again[1].total > 0
    assert np.isfinite(slope)
    # The derivative of that step is not finite, though the step itself is never taken.
    y, k = jnp.ones(1), []
    for row in ((), *diffrax.Tsit5.tableau.a_lower):
        k.append(root(0.0, y + 0.9 * sum((a * f for a, f in zip(row, k, strict=True)), 0 * y), 1.9))
    assert np.isnan(k[-1])
    assert int(again[0].stats["num_rejected_steps"]) > 0


def test_without_an_accepted_step_an_overflow_is_not_met(x64, replayed_past_root):
    # Backwards, and so fast that it overflows however short the step: there is none to replay.
    rate, ends = jnp.asarray(-1e60), (0.0, -0.9)
    (_, again), slope = replayed_past_root(rate, ends)
    same(past_root(False, rate, ends), again)
    solution, penalty = again
    assert solution.result == diffrax.RESULTS.max_steps_reached
    assert int(solution.stats["num_steps"]) == 64
    assert int(solution.stats["num_rejected_steps"]) == 64
    assert penalty.total == 0.0
    assert slope == 0.0


DIRECTIONS = {"any": None, "falling": False, "rising": True}
# The angle falls from 1 (or rises from -1: the mirror image) past the level of an event that looks
# the other way, and is stopped by the one of that name.
EVENTS = {
    "any": (1.0, {"rising": 0.2, "falling": -9.0, "any": -0.3}),
    "falling": (1.0, {"rising": 0.2, "falling": -0.3, "any": -9.0}),
    "rising": (-1.0, {"rising": 0.3, "falling": -0.2, "any": -9.0}),
}


def event_at(root_finder):
    def above(name, t, y, args, **kwargs):
        return y[0] - args[1][name]

    conditions = {name: functools.partial(above, name) for name in DIRECTIONS}
    return diffrax.Event(conditions, root_finder, DIRECTIONS)


@pytest.fixture(scope="module")
def until_events():
    """Return solves until each event, plain and replayed, by the step's end and by its time."""

    @eqx.filter_jit
    def run(replay, root_finder, y0, levels):
        return regularized_solve(
            diffrax.ODETerm(lambda t, y, args: pendulum(t, y, args[0])), diffrax.Tsit5(), 0.0, 6.0,
            3.0, y0, (1.2, levels), regularizers=PENALTIES, stepsize_controller=CONTROLLER,
            event=event_at(root_finder), max_steps=64, throw=False, replay=replay,
        )  # fmt: skip

    with jax.enable_x64(True):
        newton = optx.Newton(1e-10, 1e-10)
        found = {}
        for name, (sign, levels) in EVENTS.items():
            where = sign * jnp.asarray(Y0), jax.tree.map(jnp.asarray, levels)
            found[name] = [[run(r, finder, *where) for r in (False, True)]
                           for finder in (None, newton)]  # fmt: skip
        return found


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_keeps_its_direction_and_its_whole_step_counts(x64, until_events, name):
    sign, levels = EVENTS[name]
    (plain, again), (located, located_again) = until_events[name]
    # Times, states and all that the solve cost.
    same(plain, again)
    same(located, located_again)
    for solution, _ in (again, located_again):
        assert solution.result == diffrax.RESULTS.event_occurred
        assert [key for key, met in solution.event_mask.items() if met] == [name]
        assert sign * solution.ys[-1][1] < 0
        assert int(solution.stats["num_rejected_steps"]) > 0
    # Without a root finder the solve ends with the step in which the event occurred.
    assert sign * (plain[0].ys[-1][0] - levels[name]) < 0
    np.testing.assert_allclose(located[0].ys[-1][0], levels[name], atol=1e-6)
    assert located[0].ts[-1] < plain[0].ts[-1]
    np.testing.assert_allclose(located[1].total, plain[1].total, rtol=1e-12)
    assert plain[1].total > 0


def test_dense_output_is_that_of_diffrax(x64):
    options = {
        "stepsize_controller": CONTROLLER, "max_steps": 64, "saveat": diffrax.SaveAt(dense=True)
    }  # fmt: skip
    evaluate = eqx.filter_jit(lambda solution, ts: jax.vmap(solution.evaluate)(ts))

    def problem(t0, t1):
        y0 = jnp.asarray(Y0)
        return (diffrax.ODETerm(pendulum), diffrax.Tsit5(), t0, t1, (t1 - t0) / 2, y0, 1.2)

    @eqx.filter_jit
    def ours(replay, t0, t1):
        return regularized_solve(*problem(t0, t1), regularizers=PENALTIES, replay=replay, **options)

    @eqx.filter_jit
    def theirs(t0, t1):
        return diffrax.diffeqsolve(*problem(t0, t1), **options)

    for ends in ((0.0, 2.0), (2.0, 0.0)):
        ts = jnp.linspace(*ends, 13)
        ends = tuple(jnp.asarray(end) for end in ends)
        wanted = evaluate(theirs(*ends), ts)
        for replay in (False, True):
            solution, penalty = ours(replay, *ends)
            found = evaluate(solution, ts)
            if replay:
                np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
            else:
                np.testing.assert_array_equal(found, wanted)
            assert solution.ys is None
            assert penalty.total > 0
