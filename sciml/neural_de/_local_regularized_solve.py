"""Local regularisation: one more step outside the solve, from a step drawn inside it."""

import enum
from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import PyTree

from ..core import KeyArray, check_count, check_key, cites
from ._bibliography import PAL_2023
from ._checks import (
    Regularization,
    check_problem,
    check_weights,
    combine,
    error_scale,
    first_step,
)
from ._error_estimate import ErrorEstimate
from ._initial_step import initial_step
from ._regularized_solver import innermost
from ._reservoir import ReservoirSolver, Sampling
from ._step_regularizer import (
    AbstractStepRegularizer,
    Reduction,
    StepInfo,
    StepWeight,
    check_enum,
)


class Weighting(enum.Enum):
    """What a drawn step's figure is multiplied with.

    ``UNBIASED`` makes the expectation that of the regulariser over all steps: the length of the
    solve times ``E`` if steps are drawn by time, their number times ``E h`` if drawn evenly.
    ``PAPER`` is Pal et al.'s ``E h``, whose expectation shrinks with the number of steps.
    """

    UNBIASED = "unbiased"
    PAPER = "paper"


class LocalStep(enum.Enum):
    """Size of the extra step: the solver's own there, or a fresh `initial_step`, as published."""

    SOLVER = "solver"
    HEURISTIC = "heuristic"


@cites(PAL_2023)
class LocalRegularization(eqx.Module):
    """How `local_regularized_solve` draws and weighs its extra step.

    Parameters
    ----------
    regularizer
        What is measured there; `ErrorEstimate` by default.
    sampling, weighting, step
        See `Sampling`, `Weighting`, `LocalStep`.
    step_solver
        The solver of the extra step; that of the solve by default.
    n_samples
        How many independent steps are drawn; their mean is returned.
    through_state
        Let the gradient go on through the state where the step begins. Then the adjoint must be
        one that differentiates the steps (``RecursiveCheckpointAdjoint``).

    Examples
    --------
    >>> LocalRegularization(sampling=Sampling.STEP).weighting
    <Weighting.UNBIASED: 'unbiased'>
    """

    regularizer: AbstractStepRegularizer
    sampling: Sampling
    weighting: Weighting
    step: LocalStep
    step_solver: diffrax.AbstractSolver | None
    n_samples: int
    through_state: bool

    def __init__(
        self,
        regularizer: AbstractStepRegularizer | None = None,
        *,
        sampling: Sampling = Sampling.TIME,
        weighting: Weighting = Weighting.UNBIASED,
        step: LocalStep = LocalStep.SOLVER,
        step_solver: diffrax.AbstractSolver | None = None,
        n_samples: int = 1,
        through_state: bool = False,
    ):
        check_enum("sampling", sampling, Sampling)
        check_enum("weighting", weighting, Weighting)
        check_enum("step", step, LocalStep)
        self.regularizer = ErrorEstimate() if regularizer is None else regularizer
        if self.regularizer.reduction is Reduction.MAX:
            raise ValueError(
                "a maximum over steps cannot be estimated from single steps: take "
                "`Reduction.SUM` or `Reduction.MEAN`."
            )
        self.sampling = sampling
        self.weighting = weighting
        self.step = step
        self.step_solver = step_solver
        self.n_samples = check_count("n_samples", n_samples)
        self.through_state = through_state


@cites(PAL_2023)
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
) -> tuple[diffrax.Solution, Regularization]:
    """Solve a differential equation with any adjoint, and regularise one random step of it.

    One step is drawn while solving, in memory that does not grow with the steps. From its state
    one more step is taken outside the solve; the gradient goes through that step alone. Where the
    solve draws by time and weighs without bias, the value's expectation is that of
    `regularized_solve`.

    Parameters
    ----------
    terms, solver, t0, t1, dt0, y0, args, saveat, stepsize_controller, event, max_steps, throw
        As for `regularized_solve`.
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
    if isinstance(adjoint, diffrax.BacksolveAdjoint) and "solver" not in adjoint.kwargs:
        adjoint = diffrax.BacksolveAdjoint(**adjoint.kwargs, solver=solver)
    scale = error_scale(stepsize_controller)
    dtype = check_problem(terms, y0, *scale[:2])
    if not isinstance(stepsize_controller, diffrax.StepTo):
        dt0 = first_step(dt0, terms, solver, t0, t1, y0, args, scale)
    wrapped = ReservoirSolver(
        *(solver, jax.random.key_data(key), local.n_samples, local.sampling),
        *(local.through_state, str(jax.random.key_impl(key))),
    )
    solution = diffrax.diffeqsolve(
        *(terms, wrapped, t0, t1, dt0, y0, args),
        saveat=eqx.tree_at(lambda s: s.solver_state, saveat, True),
        stepsize_controller=stepsize_controller,
        adjoint=adjoint,
        event=event,
        max_steps=max_steps,
        throw=throw,
    )
    state: Any = solution.solver_state
    inner, reservoir = state
    value = _measure(local, solver, terms, args, scale, reservoir, t0, t1)
    penalty = combine({"local": value.astype(dtype)}, weights, dtype)
    solution = eqx.tree_at(
        lambda s: s.solver_state,
        solution,
        inner if saveat.solver_state else None,
        is_leaf=lambda x: x is None,
    )
    return solution, penalty


def _measure(local, solver, terms, args, scale, reservoir, t0, t1) -> Any:
    """Take the extra steps and return the mean of their weighted figures."""
    times, sizes, states, total, count = reservoir
    solver = solver if local.step_solver is None else local.step_solver
    solver = _with_tolerances(solver, scale)
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
        value, _ = regularizer.measure(info, regularizer.init(y))
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


def _with_tolerances(solver, scale) -> Any:
    """Fill in the root finder's tolerances, as ``diffeqsolve`` does inside."""
    if not isinstance(solver, diffrax.AbstractImplicitSolver) or scale[0] is None:
        return solver
    finder = innermost(solver).root_finder
    names = [
        name
        for name in ("rtol", "atol", "norm")
        if not callable(getattr(finder, name, None)) and not _is_number(getattr(finder, name, 0.0))
    ]
    values: dict[str, Any] = dict(zip(("rtol", "atol", "norm"), scale, strict=True))
    return eqx.tree_at(
        lambda s: [getattr(innermost(s).root_finder, name) for name in names],
        solver,
        [values[name] for name in names],
    )


def _is_number(x) -> bool:
    return isinstance(x, int | float | jax.Array)
