"""Local regularisation: one more step outside the solve, from a step drawn inside it."""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import PyTree

from ..core import KeyArray, check_key, check_real, cites
from ..core._constant import constant
from ..numerics import full_precision
from ._bibliography import PAL_2023
from ._checks import check_problem, error_scale, first_step, with_tolerances
from ._counted_solve import counted_solve
from ._forwarding_solver import inner_state
from ._initial_step import initial_step
from ._local_regularization import LocalRegularization, LocalStep, Weighting
from ._regularization import Regularization, check_weights, combine
from ._reservoir import ReservoirSolver, Sampling
from ._step_regularizer import Reduction, StepInfo, StepWeight

# Measurements that the memory of a regulariser (a direction of power iteration) is given first.
_WARM_UP = 20


@cites(PAL_2023)
@full_precision
def local_regularized_solve(
    terms: PyTree,
    solver: diffrax.AbstractSolver,
    t0: Any,
    t1: Any,
    dt0: Any,
    y0: PyTree,
    args: PyTree = None,
    *,
    key: KeyArray,
    local: LocalRegularization | None = None,
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
) -> tuple[diffrax.Solution, Regularization]:
    """Solve a differential equation with any adjoint, and regularise one random step of it.

    One step is drawn while solving, in memory that does not grow with the steps. From its state
    one more step is taken outside the solve; the gradient goes through that step alone. With
    `Weighting.UNBIASED` the value's expectation is that of `regularized_solve`; a power iteration
    begins anew in the extra step, so that its value is so only nearly.

    Parameters
    ----------
    terms, solver, t0, t1, dt0, y0, args, saveat, stepsize_controller, event, max_steps, throw
        As for `regularized_solve`.
    progress_meter, solver_state, controller_state, made_jump
        As for `regularized_solve`: steps are drawn from those of this call alone.
    key
        A typed key, a new one for each training step.
    local
        How steps are drawn and weighed.
    weights
        ``{"local": factor}``.
    adjoint
        Any of diffrax, ``BacksolveAdjoint`` too.

    Returns
    -------
    tuple
        The solution, bitwise that of ``diffeqsolve``, and the regulariser under ``"local"``.

    Raises
    ------
    TypeError
        If ``key`` is not a typed key.
    ValueError
        As `regularized_solve`, and for ``through_state`` with an adjoint that cannot see it.

    Examples
    --------
    >>> import diffrax, jax, jax.numpy as jnp
    >>> term = diffrax.ODETerm(lambda t, y, args: -y)
    >>> solution, penalty = local_regularized_solve(
    ...     term, diffrax.Tsit5(), 0.0, 1.0, None, jnp.ones(2), key=jax.random.key(7))
    >>> bool(penalty.total > 0)
    True
    """
    check_key(key)
    check_real("t0", t0)
    check_real("t1", t1)
    check_weights(weights, ("local",))
    local = LocalRegularization() if local is None else local
    saveat = diffrax.SaveAt(t1=True) if saveat is None else saveat
    if stepsize_controller is None:
        stepsize_controller = diffrax.PIDController(rtol=1e-5, atol=1e-5)
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    is_backward = isinstance(adjoint, diffrax.BacksolveAdjoint | diffrax.ImplicitAdjoint)
    if local.through_state and is_backward:
        raise ValueError(
            f"`through_state` needs the gradient of the solver's steps, which "
            f"{type(adjoint).__name__} does not give. Take `RecursiveCheckpointAdjoint`."
        )
    if isinstance(adjoint, diffrax.BacksolveAdjoint):
        # The solve backwards neither draws steps nor counts.
        own: Any = {"solver": solver, "stepsize_controller": stepsize_controller}
        adjoint = diffrax.BacksolveAdjoint(**(own | adjoint.kwargs))
    scale = error_scale(stepsize_controller)
    dtype = check_problem(terms, y0, *scale[:2])
    solver = with_tolerances(solver, scale)
    if not isinstance(stepsize_controller, diffrax.StepTo):
        dt0 = first_step(dt0, terms, solver, t0, t1, y0, args, scale)
    solver_state = inner_state(solver, solver_state)
    wrapped = ReservoirSolver(
        *(solver, jax.random.key_data(key), local.n_samples, local.sampling),
        *(local.through_state, str(jax.random.key_impl(key)), solver_state),
    )
    options: Any = {
        "stepsize_controller": stepsize_controller,
        "controller_state": controller_state,
        "made_jump": made_jump,
        "event": event,
        "max_steps": max_steps,
        "throw": throw,
    }
    if progress_meter is None:
        progress_meter = diffrax.NoProgressMeter()
    if isinstance(adjoint, diffrax.ImplicitAdjoint):
        # It saves the end and nothing else, so that the step is drawn in a solve of its own.
        drawn, evaluations = counted_solve(
            constant((terms, wrapped, t0, t1, dt0, y0, args)),
            *(solver, solver_state),
            saveat=diffrax.SaveAt(t1=True, solver_state=True),
            **options,
        )
        solution = diffrax.diffeqsolve(
            *(terms, solver, t0, t1, dt0, y0, args),
            saveat=saveat,
            adjoint=adjoint,
            solver_state=solver_state,
            progress_meter=progress_meter,
            **options,
        )
    else:
        drawn, evaluations = counted_solve(
            (terms, wrapped, t0, t1, dt0, y0, args),
            *(solver, solver_state),
            saveat=eqx.tree_at(lambda s: s.solver_state, saveat, True),
            adjoint=adjoint,
            progress_meter=progress_meter,
            **options,
        )
        kept: Any = drawn.solver_state
        solution = eqx.tree_at(
            lambda s: s.solver_state,
            drawn,
            kept.inner if saveat.solver_state else None,
            is_leaf=lambda x: x is None,
        )
    state: Any = drawn.solver_state
    value = _measure(local, solver, terms, args, scale, state.own, t0, t1)
    values = {"local": value.astype(dtype)}
    return solution, combine(values, weights, dtype, solution, evaluations)


@eqx.filter_jit
def _measure(local, solver, terms, args, scale, reservoir, t0, t1) -> Any:
    """Take the extra steps and return the mean of their weighted figures."""
    times, sizes, states, total, count = reservoir
    solver = solver if local.step_solver is None else local.step_solver
    solver = with_tolerances(solver, scale)
    rtol, atol, norm = scale
    direction = jnp.where(jnp.asarray(t1) < jnp.asarray(t0), -1, 1).astype(times.dtype)
    if not local.through_state:
        states = jax.lax.stop_gradient(states)
    regularizer = local.regularizer

    def figure(t, h, y):
        begin = t * direction
        step_size = h
        if local.step is LocalStep.HEURISTIC:
            if rtol is None:
                raise ValueError("`LocalStep.HEURISTIC` needs an adaptive step size controller.")
            found = initial_step(
                terms, solver, begin, t1, y, args, rtol=rtol, atol=atol, norm=norm or optx.rms_norm
            )
            step_size = jnp.abs(found).astype(h.dtype)
        end = begin + direction * step_size
        state = solver.init(terms, begin, end, y, args)
        y1, error, dense_info, _, _ = solver.step(terms, begin, end, y, args, state, False)
        info = StepInfo(
            *(begin, end, step_size, y, y1, error, dense_info.get("k"), terms, args, solver),
            *(rtol, atol, norm),
        )
        memory = regularizer.init(y)
        if jax.tree.leaves(memory):
            # A direction that a whole solve would have improved step by step.
            still = constant(info)
            memory = jax.lax.fori_loop(
                *(0, _WARM_UP, lambda _, m: regularizer.measure(still, m)[1], memory)
            )
        value, _ = regularizer.measure(info, memory)
        return value * _factor(local, step_size, total, count).astype(value.dtype)

    if local.n_samples == 1:
        return figure(times[0], sizes[0], jax.tree.map(lambda y: y[0], states))
    return jnp.mean(jax.vmap(figure)(times, sizes, states))


def _factor(local, h, total, count) -> Any:
    """Return weight over probability of a drawn step (see `Weighting`)."""
    is_dt = local.regularizer.weight is StepWeight.DT
    n = count.astype(h.dtype)
    if local.weighting is Weighting.PAPER:
        return h if is_dt else jnp.ones_like(h)
    if local.sampling is Sampling.STEP:
        factor = n * h if is_dt else n
    else:
        factor = total if is_dt else total / jnp.where(h > 0, h, 1)
    if local.regularizer.reduction is Reduction.MEAN:
        factor = factor / jnp.maximum(n, 1)
    return factor
