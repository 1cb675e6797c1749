"""A replayed solve is the adaptive one: backwards, in a batch, cut short, until an event."""

import functools

import diffrax
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


@functools.partial(jax.jit, static_argnames=("replay", "max_steps", "event", "steps"))
def solve(rate, y0, ends=(0.0, 2.0), *, replay, max_steps=64, event=None, steps=False):
    t0, t1 = ends
    # A first step of half the span is rejected.
    return regularized_solve(
        diffrax.ODETerm(pendulum), diffrax.Tsit5(), t0, t1, (t1 - t0) / 2, y0, rate,
        regularizers=PENALTIES, stepsize_controller=CONTROLLER, max_steps=max_steps, event=event,
        throw=False, replay=replay, saveat=diffrax.SaveAt(t1=not steps, steps=steps),
    )  # fmt: skip


def same(a, b):
    """Raise unless two solves with their regularisers are the same up to rounding."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


def slope(rate, y0, **options):
    return jax.grad(lambda rate: solve(rate, y0, **options)[1].total)(rate)


def test_backwards_in_time(x64):
    y0, rate = jnp.asarray(Y0), jnp.asarray(1.2)
    plain, again = (
        solve(rate, y0, (1.0, -1.0), replay=replay, steps=True) for replay in (False, True)
    )
    same(plain, again)
    assert int(plain[0].stats["num_rejected_steps"]) > 0
    slopes = [slope(rate, y0, ends=(1.0, -1.0), replay=replay) for replay in (False, True)]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-10)


def test_in_a_batch_whose_lanes_step_by_themselves(x64):
    batch = jnp.asarray([Y0, [0.1, -2.0], [3.0, 0.2]])
    plain, again = (
        jax.vmap(lambda y0, replay=replay: solve(1.2, y0, replay=replay))(batch)
        for replay in (False, True)
    )
    same(plain, again)
    assert len(set(np.asarray(plain[0].stats["num_steps"]).tolist())) > 1


@pytest.mark.parametrize("max_steps", [1, 7])
def test_when_it_runs_out_of_steps(x64, max_steps):
    # The first step is rejected: with one alone there is none to replay.
    y0, rate = jnp.asarray(Y0), jnp.asarray(1.2)
    plain, again = (solve(rate, y0, replay=replay, max_steps=max_steps) for replay in (False, True))
    same(plain, again)
    assert again[0].result == diffrax.RESULTS.max_steps_reached
    assert int(again[0].stats["num_steps"]) == max_steps
    assert (float(again[1].total) > 0) == (max_steps > 1)
    assert np.isfinite(slope(rate, y0, replay=True, max_steps=max_steps))


def test_without_an_accepted_step_an_overflow_is_not_met(x64):
    @jax.grad
    def total(rate):
        _, penalty = regularized_solve(
            diffrax.ODETerm(lambda t, y, args: -args * jnp.sqrt(y)), diffrax.Tsit5(), 0.9, 0.0,
            -0.9, jnp.ones(1), rate, regularizers=PENALTIES, max_steps=1, throw=False, replay=True,
        )  # fmt: skip
        return penalty.total

    assert total(jnp.asarray(-1.9)) == 0.0


@pytest.mark.parametrize(
    ("direction", "root_finder"),
    [(None, None), (False, None), (True, optx.Newton(1e-10, 1e-10))],
    ids=["any", "falling", "rising, time found"],
)
def test_an_event_keeps_its_direction(x64, direction, root_finder):
    # The pendulum's angle falls through 0.2, and later rises through it.
    event = diffrax.Event(_angle, root_finder, direction)
    y0, ends = jnp.asarray(Y0), (0.0, 6.0)
    plain, again = (solve(1.2, y0, ends, replay=r, event=event) for r in (False, True))
    same(plain, again)
    solution, _ = again
    assert solution.result == diffrax.RESULTS.event_occurred
    rises = bool(solution.ys[-1][1] > 0)
    assert rises == (direction is True)
    if root_finder is not None:
        np.testing.assert_allclose(solution.ys[-1][0], 0.2, atol=1e-6)


def _angle(t, y, args, **kwargs):
    return y[0] - 0.2


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("ends", [(0.0, 2.0), (2.0, 0.0)])
def test_dense_output_is_that_of_diffrax(x64, replay, ends):
    problem = (diffrax.ODETerm(pendulum), diffrax.Tsit5(), *ends, None, jnp.asarray(Y0), 1.2)
    problem = (*problem[:4], (ends[1] - ends[0]) / 2, *problem[5:])
    options = {
        "stepsize_controller": CONTROLLER, "max_steps": 64, "saveat": diffrax.SaveAt(dense=True)
    }  # fmt: skip
    ours, penalty = regularized_solve(*problem, regularizers=PENALTIES, replay=replay, **options)
    theirs = diffrax.diffeqsolve(*problem, **options)
    ts = jnp.linspace(*ends, 13)
    found, wanted = jax.vmap(ours.evaluate)(ts), jax.vmap(theirs.evaluate)(ts)
    if replay:
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    else:
        np.testing.assert_array_equal(found, wanted)
    assert ours.ys is None
    assert penalty.total > 0
