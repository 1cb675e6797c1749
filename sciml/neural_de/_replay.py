"""Take the steps of an earlier solve again: no step is rejected, nor differentiated twice."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..core._constant import constant
from ._checks import error_scale
from ._counted_solve import counted_solve


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
        """Return the end of the first step; without one a step of no length, which is harmless."""
        return jnp.where(self.count > 0, self.ts[0], t0), jnp.zeros((), jnp.int32)

    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, state):
        """Return the next recorded time."""
        keep = state < self.count
        next_t0 = jnp.where(keep, t1, t0)
        is_last = state + 1 >= self.count
        following = self.ts[jnp.minimum(state + 1, len(self.ts) - 1)]
        following = jnp.where(is_last, next_t0, following)
        # An event as well: in another program its condition may be off by a rounding.
        result = diffrax.RESULTS.where(is_last, self.ended, diffrax.RESULTS.successful)
        return keep, next_t0, following, False, state + 1, result


class Recorded(NamedTuple):
    """What takes the accepted steps of a solve again, and what that solve cost and left behind."""

    steps: RecordedSteps
    stats: dict[str, Any]
    evaluations: Array | None
    controller_state: PyTree


def recorded_steps(problem: tuple, solver_state: PyTree, options: Mapping[str, Any]) -> Recorded:
    """Solve ``problem``, the positional arguments of ``diffeqsolve``, without gradients."""
    inner = controller = options["stepsize_controller"]
    event, max_steps = options["event"], options["max_steps"]
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
    terms, solver, t0, t1, dt0, y0, args = problem
    terms, t0, t1, dt0, y0, args = constant((terms, t0, t1, dt0, y0, args))
    others = dict(options)
    # Where an event is found more exactly, diffrax saves its time in place of the step's end.
    others["event"] = None if event is None else dataclasses.replace(event, root_finder=None)
    others["controller_state"] = constant(options["controller_state"])
    solver_state = constant(solver_state)
    solution, evaluations = counted_solve(
        (terms, solver, t0, t1, dt0, y0, args),
        *(solver, solver_state),
        solver_state=solver_state,
        saveat=diffrax.SaveAt(steps=True, fn=lambda t, y, args: None, controller_state=True),
        throw=False,
        **others,
    )
    ts: Any = jax.lax.stop_gradient(solution.ts)
    count = jnp.asarray(solution.stats["num_accepted_steps"], jnp.int32)
    steps = RecordedSteps(
        ts=ts, count=count, ended=solution.result, rtol=rtol, atol=atol, norm=norm
    )
    stats = jax.lax.stop_gradient(solution.stats)
    return Recorded(steps, stats, evaluations, constant(solution.controller_state))
