"""The front door of global regularisation."""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
from jaxtyping import PyTree

from ..core import check_real, cites
from ..numerics import full_precision
from ._bibliography import KIDGER_2021, PAL_2021
from ._checks import check_problem, error_scale, first_step, with_tolerances
from ._counted_solve import counted_solve
from ._forwarding_solver import inner_state
from ._regularization import Regularization, check_weights, combine
from ._regularized_solver import RegularizedSolver
from ._replay import recorded_steps
from ._step_regularizer import AbstractStepRegularizer

_DISCRETE = (
    diffrax.RecursiveCheckpointAdjoint,
    diffrax.DirectAdjoint,
    diffrax.ForwardMode,
)


@cites(PAL_2021, KIDGER_2021)
@full_precision
def regularized_solve(
    terms: PyTree,
    solver: diffrax.AbstractSolver,
    t0: Any,
    t1: Any,
    dt0: Any,
    y0: PyTree,
    args: PyTree = None,
    *,
    regularizers: Mapping[str, AbstractStepRegularizer],
    weights: Mapping[str, Any] | None = None,
    saveat: diffrax.SaveAt | None = None,
    stepsize_controller: diffrax.AbstractStepSizeController | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    event: diffrax.Event | None = None,
    max_steps: int | None = 4096,
    throw: bool = True,
    progress_meter: diffrax.AbstractProgressMeter | None = None,
    solver_state: PyTree = None,
    controller_state: PyTree = None,
    made_jump: Any = None,
    replay: bool = False,
) -> tuple[diffrax.Solution, Regularization]:
    """Solve a differential equation as `diffrax.diffeqsolve`, and add up figures of its steps.

    Parameters
    ----------
    terms, solver, t0, t1, y0, args, saveat, event, max_steps, throw, progress_meter
        As for ``diffeqsolve``.
    dt0
        The first step. None takes `initial_step` (two evaluations more); diffrax would take 0.01.
    regularizers
        Step regularisers by name.
    weights
        A factor, zero or above, for each; 1 by default. Arrays, so that a schedule compiles once.
    stepsize_controller
        ``PIDController(rtol=1e-5, atol=1e-5)`` by default.
    adjoint
        One that differentiates the steps themselves; ``RecursiveCheckpointAdjoint`` by default.
    solver_state, controller_state, made_jump
        To go on from an earlier solve, as for ``diffeqsolve``: what its solution holds with
        ``SaveAt(solver_state=True, ...)``. The state of the solver is that of ``solver``; one of a
        `RegularizedSolver` around it will do too. The regularisers start from zero all the same:
        they are of this call, and those of several calls are added by the caller.
    replay
        Find the steps first, without gradients, and differentiate a second solve that takes only
        the accepted ones. Gradients are the same, and a rejected step whose field overflows does
        not make them NaN.

    Returns
    -------
    tuple
        The solution of ``diffeqsolve``, bitwise, and the regularisers. After an event the whole
        step in which it occurred counts.

    Raises
    ------
    ValueError
        If the solver has no error estimate, the adjoint would give gradients that are silently
        zero (``BacksolveAdjoint``, ``ImplicitAdjoint``), a weight is negative, or the state is
        complex.
    RuntimeError
        With ``throw=True``, if the solve fails, as for ``diffeqsolve``.

    Examples
    --------
    >>> import diffrax, jax.numpy as jnp
    >>> from sciml.neural_de import ErrorEstimate
    >>> term = diffrax.ODETerm(lambda t, y, args: -y)
    >>> solution, penalty = regularized_solve(
    ...     term, diffrax.Tsit5(), 0.0, 1.0, None, jnp.ones(2), regularizers={"e": ErrorEstimate()})
    >>> bool(0 < penalty.total < 1)
    True
    """
    saveat = diffrax.SaveAt(t1=True) if saveat is None else saveat
    if progress_meter is None:
        progress_meter = diffrax.NoProgressMeter()
    if stepsize_controller is None:
        stepsize_controller = diffrax.PIDController(rtol=1e-5, atol=1e-5)
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    if not isinstance(adjoint, _DISCRETE):
        raise ValueError(
            f"{type(adjoint).__name__} does not differentiate the solver's steps: the gradient of "
            "every regulariser would silently be zero. Take `RecursiveCheckpointAdjoint`, or "
            "`local_regularized_solve`, which works with any adjoint."
        )
    check_real("t0", t0)
    check_real("t1", t1)
    check_weights(weights, regularizers)
    scale = error_scale(stepsize_controller)
    dtype = check_problem(terms, y0, *scale[:2])
    solver = with_tolerances(solver, scale)
    if not isinstance(stepsize_controller, diffrax.StepTo):
        dt0 = first_step(dt0, terms, solver, t0, t1, y0, args, scale)
    rtol, atol, norm = scale
    solver_state = inner_state(solver, solver_state)
    wrapped = RegularizedSolver(solver, dict(regularizers), rtol, atol, norm, solver_state)
    options: Any = {
        "stepsize_controller": stepsize_controller,
        "controller_state": controller_state,
        "made_jump": made_jump,
        "event": event,
        "max_steps": max_steps,
        "progress_meter": progress_meter,
    }
    recorded = None
    if replay:
        recorded = recorded_steps((terms, solver, t0, t1, dt0, y0, args), solver_state, options)
        options |= {
            "stepsize_controller": recorded.steps,
            "controller_state": None,
            # It has been shown once.
            "progress_meter": diffrax.NoProgressMeter(),
        }
    solution, evaluations = counted_solve(
        (terms, wrapped, t0, t1, dt0, y0, args),
        *(solver, solver_state),
        saveat=eqx.tree_at(lambda s: s.solver_state, saveat, True),
        adjoint=adjoint,
        throw=throw,
        **options,
    )
    if recorded is not None:
        # What the solve cost, rejected steps included, is what the recorded one cost, whose
        # controller is the one to go on with.
        evaluations = recorded.evaluations
        solution = eqx.tree_at(
            lambda s: (s.stats, s.controller_state),
            solution,
            (
                solution.stats | recorded.stats,
                recorded.controller_state if saveat.controller_state else None,
            ),
            is_leaf=lambda x: x is None,
        )
    state: Any = solution.solver_state
    penalty = combine(
        *(wrapped.values(state), weights, dtype, solution, evaluations),
        wrapped.max_stiffness(state),
    )
    kept = state.inner if saveat.solver_state else None
    solution = eqx.tree_at(lambda s: s.solver_state, solution, kept, is_leaf=lambda x: x is None)
    return solution, penalty
