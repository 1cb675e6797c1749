"""Take the steps of an earlier solve again: no step is rejected, nor differentiated twice."""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..core._constant import constant
from ._checks import error_scale


class RecordedSteps(diffrax.AbstractAdaptiveStepSizeController):
    """Go through the accepted times of a solve, then stop with the result it had.

    ``ts`` is padded with infinity. It counts as adaptive, since implicit solvers take their
    tolerances from the controller.
    """

    ts: Array
    count: Array
    ended: Any
    rtol: Any
    atol: Any
    norm: Callable[[PyTree], Any]

    def wrap(self, direction):
        """Run time forwards."""
        return eqx.tree_at(lambda s: s.ts, self, self.ts * direction)

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        """Return the end of the first step."""
        return self.ts[0], jnp.zeros((), jnp.int32)

    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, state):
        """Return the next recorded time."""
        keep = state < self.count
        next_t0 = jnp.where(keep, t1, t0)
        following = self.ts[jnp.minimum(state + 1, len(self.ts) - 1)]
        is_last = state + 1 >= self.count
        done = diffrax.RESULTS.successful
        has_failed = is_last & (self.ended != done) & (self.ended != _event())
        result = diffrax.RESULTS.where(has_failed, self.ended, done)
        return keep, next_t0, following, False, state + 1, result


def recorded_steps(
    terms, solver, t0, t1, dt0, y0, args, controller, event, max_steps
) -> tuple[RecordedSteps, dict[str, Any]]:
    """Solve without gradients; return what takes the accepted steps again, and the statistics."""
    inner = controller
    while isinstance(inner, diffrax.ClipStepSizeController):
        if inner.jump_ts is not None:
            raise ValueError(
                "`replay=True` cannot step over `jump_ts`. Replace them by `step_ts`, or leave "
                "`replay` out."
            )
        inner = inner.controller
    rtol, atol, norm = error_scale(controller)
    if rtol is None or norm is None:
        raise ValueError("`replay=True` is for adaptive steps; fixed ones are never rejected.")
    if max_steps is None:
        raise ValueError("`replay=True` keeps the times of all steps: give `max_steps`.")
    terms, t0, t1, dt0, y0, args = constant((terms, t0, t1, dt0, y0, args))
    solution = diffrax.diffeqsolve(
        *(terms, solver, t0, t1, dt0, y0, args),
        saveat=diffrax.SaveAt(steps=True, fn=lambda t, y, args: None),
        stepsize_controller=controller,
        # Where an event is found more exactly, diffrax saves its time in place of the step's end.
        event=None if event is None else dataclasses.replace(event, root_finder=None),
        max_steps=max_steps,
        throw=False,
    )
    ts: Any = jax.lax.stop_gradient(solution.ts)
    count = jnp.asarray(solution.stats["num_accepted_steps"], jnp.int32)
    steps = RecordedSteps(
        ts=ts, count=count, ended=solution.result, rtol=rtol, atol=atol, norm=norm
    )
    return steps, jax.lax.stop_gradient(solution.stats)


def _event():
    return diffrax.RESULTS.event_occurred
