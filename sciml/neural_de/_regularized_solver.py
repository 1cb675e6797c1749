"""A diffrax solver that adds up figures of its accepted steps, in its own state."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..core import cites
from ._bibliography import KIDGER_2021, PAL_2021
from ._forwarding_solver import AbstractForwardingSolver, WrapperState
from ._step_regularizer import (
    AbstractStepRegularizer,
    Reduction,
    StepInfo,
    StepWeight,
    state_dtype,
)
from ._stiffness_estimate import StiffnessEstimate


@cites(PAL_2021, KIDGER_2021)
class RegularizedSolver(AbstractForwardingSolver):
    """Wrap a diffrax solver so that its state also holds regularisers of the accepted steps.

    The solution is bitwise that of the inner solver. Rejected steps drop out, since diffrax
    discards their solver state. `regularized_solve` makes this wrapper for you.

    Parameters
    ----------
    solver
        Any diffrax solver, implicit and wrapped ones too.
    regularizers
        Step regularisers by name.
    rtol, atol, norm
        The scale of errors, those of the step size controller.
    resume
        A state of ``solver`` to go on from. (The ``solver_state`` of ``diffeqsolve`` is that of
        the whole wrapper, with all that it added up so far.)

    Examples
    --------
    >>> import diffrax
    >>> solver = RegularizedSolver(
    ...     diffrax.Tsit5(), {}, rtol=1e-6, atol=1e-6, norm=jnp.linalg.norm)
    >>> isinstance(solver, diffrax.AbstractERK)
    True
    """

    solver: diffrax.AbstractSolver
    regularizers: dict[str, AbstractStepRegularizer]
    rtol: Any = None
    atol: Any = None
    norm: Callable[[PyTree], Any] | None = None
    # It comes in here and not as the state of the wrapper, which only `init` can make: it alone is
    # told the dtypes of time and state that `diffeqsolve` promotes to.
    resume: PyTree = None

    def init(self, terms, t0, t1, y0, args):
        """Return the inner state, and accumulators and a count of zero."""
        zero = jnp.zeros((), state_dtype(y0))
        accumulators = {name: (zero, r.init(y0)) for name, r in self.regularizers.items()}
        is_known = any(isinstance(r, StiffnessEstimate) for r in self.regularizers.values())
        own = (accumulators, jnp.zeros((), jnp.int32), zero if is_known else None)
        if self.resume is not None:
            return WrapperState(self.resume, own)
        return WrapperState(self.solver.init(terms, t0, t1, y0, args), own)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """Take a step of the inner solver and measure it."""
        inner, (accumulators, count, stiffest) = solver_state
        y1, y_error, dense_info, inner, result = self.solver.step(
            terms, t0, t1, y0, args, inner, made_jump
        )
        h = jax.lax.stop_gradient(jnp.asarray(t1 - t0))
        info = StepInfo(
            *(t0, t1, h, y0, y1, y_error, dense_info.get("k"), terms, args, self.solver),
            *(self.rtol, self.atol, self.norm),
        )
        added = {}
        for name, regularizer in self.regularizers.items():
            total, memory = accumulators[name]
            value, memory = regularizer.measure(info, memory)
            value = jnp.asarray(value, total.dtype)
            if isinstance(regularizer, StiffnessEstimate):
                rate = jax.lax.stop_gradient(value) * regularizer.normalize
                stiffest = jnp.maximum(stiffest, rate)
            if regularizer.weight is StepWeight.DT:
                value = value * h.astype(total.dtype)
            is_max = regularizer.reduction is Reduction.MAX
            total = jnp.maximum(total, value) if is_max else total + value
            added[name] = (total, memory)
        own = (added, count + 1, stiffest)
        return y1, y_error, dense_info, WrapperState(inner, own), result

    def values(self, solver_state: PyTree) -> dict[str, Array]:
        """Return the regularisers from the solver state at the end of a solve."""
        _, (accumulators, count, _) = solver_state
        values = {}
        for name, (total, _) in accumulators.items():
            if self.regularizers[name].reduction is Reduction.MEAN:
                total = total / jnp.maximum(count, 1).astype(total.dtype)
            values[name] = total
        return values

    def max_stiffness(self, solver_state: PyTree) -> Array | None:
        """Return the largest stiffness that a `StiffnessEstimate` saw; None if there is none."""
        _, (_, _, stiffest) = solver_state
        return stiffest
