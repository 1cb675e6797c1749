"""A diffrax solve whose evaluations of the field are counted while it runs."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._nfe import tableau_of


class CountingController(diffrax.AbstractAdaptiveStepSizeController):
    """A step size controller that also counts how often a first stage was evaluated.

    A method whose last stage is the first of the next step evaluates that stage anew at the start
    and after a jump, and again for each rejection there. Neither the statistics of a solve nor the
    solver's state, which is thrown away with a rejected step, tell how often: a controller sees
    all attempts.
    """

    controller: Any
    is_fresh: Array

    def __init__(self, controller: Any, is_fresh: Array):
        self.controller = controller
        self.is_fresh = is_fresh

    # What events and implicit solvers ask a controller for.
    @property
    def rtol(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner controller's relative tolerance."""
        return self.controller.rtol

    @property
    def atol(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner controller's absolute tolerance."""
        return self.controller.atol

    @property
    def norm(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner controller's norm."""
        return self.controller.norm

    def wrap(self, direction):
        """Let the inner controller know where time goes."""
        return CountingController(self.controller.wrap(direction), self.is_fresh)

    def state(self, inner: PyTree) -> tuple[PyTree, Array, Array]:
        """Return the inner state, whether the next step has to begin anew, and no count yet."""
        return inner, self.is_fresh, jnp.zeros((), jnp.int32)

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        """Return the end of the first step."""
        end, inner = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        return end, self.state(inner)

    def adapt_step_size(self, t0, t1, y0, y1_candidate, args, y_error, error_order, state):
        """Count an attempt that began anew, and do what the inner controller does."""
        inner, is_fresh, count = state
        keep, next_t0, next_t1, made_jump, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, inner
        )
        count = count + is_fresh.astype(count.dtype)
        is_fresh = jnp.where(keep, made_jump, is_fresh)
        return keep, next_t0, next_t1, made_jump, (inner, is_fresh, count), result


def counted_solve(
    problem: tuple,
    inner: diffrax.AbstractSolver,
    inner_state: PyTree = None,
    *,
    saveat: diffrax.SaveAt,
    stepsize_controller: diffrax.AbstractStepSizeController,
    controller_state: PyTree = None,
    made_jump: Any = None,
    **options: Any,
) -> tuple[diffrax.Solution, Array | None]:
    """Return the solution of ``diffeqsolve(*problem)`` and its evaluations of the field.

    ``inner`` is the solver that the problem's is or wraps, and ``inner_state`` the state that it
    goes on from. The count is None where it does not follow from the steps (see `nfe`).
    """
    tableau = tableau_of(inner)
    is_shared = tableau is not None and tableau.fsal and not _is_expensive(problem)
    first = _is_fresh(inner_state, made_jump) if is_shared else jnp.asarray(False)
    # Fixed steps are never rejected, and know no jumps.
    is_fixed = isinstance(stepsize_controller, diffrax.ConstantStepSize | diffrax.StepTo)
    is_counted = (
        is_shared
        and isinstance(stepsize_controller, diffrax.AbstractAdaptiveStepSizeController)
        # It lets no state of the controller out.
        and not isinstance(options.get("adjoint"), diffrax.ImplicitAdjoint)
    )
    wanted = saveat.controller_state
    if is_counted:
        saveat = eqx.tree_at(lambda s: s.controller_state, saveat, True)
        stepsize_controller = CountingController(stepsize_controller, first)
        if controller_state is not None:
            controller_state = stepsize_controller.state(controller_state)
    solution = diffrax.diffeqsolve(
        *problem,
        saveat=saveat,
        stepsize_controller=stepsize_controller,
        controller_state=controller_state,
        made_jump=made_jump,
        **options,
    )
    steps = jnp.asarray(solution.stats["num_steps"])
    n_first = jnp.where(steps > 0, first.astype(steps.dtype), 0)
    if is_counted:
        state: Any = solution.controller_state
        kept, _, n_first = state
        solution = eqx.tree_at(
            lambda s: s.controller_state,
            solution,
            kept if wanted else None,
            is_leaf=lambda x: x is None,
        )
    if tableau is None or (is_shared and not is_counted and not is_fixed):
        return solution, None
    return solution, steps * (tableau.num_stages - int(is_shared)) + n_first


def _is_expensive(problem: tuple) -> bool:
    """Return whether the terms rule out that a stage is shared by two steps."""
    terms, _, t0, t1, _, y0, args = problem
    # `diffeqsolve` tells what else is wrong with them.
    return isinstance(terms, diffrax.AbstractTerm) and terms.is_vf_expensive(t0, t1, y0, args)


def _is_fresh(inner_state: PyTree, made_jump: Any) -> Array:
    """Return whether the first step has to evaluate its first stage."""
    if inner_state is None:
        return jnp.asarray(True)
    # A solver that goes on has made a step, unless its solve had none.
    is_first, _ = inner_state
    return jnp.asarray(is_first) | jnp.asarray(False if made_jump is None else made_jump)
