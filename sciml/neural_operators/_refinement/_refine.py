r"""Refine a predicted trajectory until it solves the equation: no labels, an honest residual.

A prediction is made to satisfy the equation by driving a coupled space-time residual
(`AbstractTimeResidual`) to zero, all snapshots at once. It is what Spectral-Refiner [1]_ meant to
do with SFNO's last layer; on the coefficients of the trajectory itself Newton's method gets there
in a few dozen products (`NewtonGMRES`).
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from tqdm.auto import tqdm

from ...core import (
    RESULTS,
    RealScalar,
    Solution,
    Trajectory,
    check_count,
    check_mesh,
    check_not_traced,
    check_positive,
    cites,
    is_successful,
    require_float64,
    throw_if_failed,
    warn_caller,
)
from ...core._bibliography import CAO_2025
from ...numerics import full_precision
from ...problems import AbstractSemilinearPDE
from ._finite_difference_residual import FiniteDifferenceResidual
from ._newton_gmres import NewtonGMRES
from ._refinement_method import AbstractRefinementMethod, Progress, RefinementStart
from ._space_time_system import (
    check_kinds,
    check_trajectory,
    make_system,
    measure,
    measure_unknowns,
    to_snapshots,
    to_unknowns,
)
from ._time_residual import AbstractTimeResidual

# Of another length than the snapshots that are predicted.
Known = Float[Array, "n_in channels *space"]

_DEFAULT_RESIDUAL = FiniteDifferenceResidual(4)
_DEFAULT_METHOD = NewtonGMRES()
# A relative residual of one means that a trajectory has nothing to do with the equation; the
# coarsest sampling that is of any use, and noise of measurements, stay well below this.
_NO_SOLUTION = 0.3


@cites(CAO_2025)
@full_precision
def refine(
    prediction: Array | np.ndarray | Callable[..., Trajectory],
    inputs: Array | np.ndarray,
    problem: AbstractSemilinearPDE,
    *,
    dt: RealScalar,
    n_steps: int | None = None,
    context: Array | np.ndarray | None = None,
    residual: AbstractTimeResidual = _DEFAULT_RESIDUAL,
    method: AbstractRefinementMethod = _DEFAULT_METHOD,
    rtol: float = 1e-9,
    max_steps: int | None = None,
    window: int | None = None,
    adapt_windows: bool = True,
    mesh: Mesh | None = None,
    progress: bool = False,
    throw: bool = True,
) -> Solution:
    r"""Return the trajectory near ``prediction`` that solves ``problem``.

    Parameters
    ----------
    prediction
        Snapshots at ``dt, 2 dt, ...`` after the last input, shape ``(n_steps, channels, *space)``;
        or a forecaster, called as ``model(inputs, n_steps, context=context)``.
    inputs
        Known snapshots up to time zero, one at least. They are taken as exact.
    problem
        The equation, on the grid of the data.
    dt
        Time between snapshots.
    n_steps
        Snapshots to predict; needed where ``prediction`` is a model.
    context
        Static fields for the model.
    residual
        The residual in time. Its error is the floor of the refined trajectory's.
    method
        How the residual is driven to zero.
    rtol
        Stop when the residual's norm is below ``rtol`` times that of the time derivative; of a
        flow that is steady up to rounding, when rounding is all that is left.
    max_steps
        Steps of the method per window at most, beside the limits that the method has itself.
    window
        Refine so many snapshots at a time, from left to right, each window starting from the
        refined one before; a model predicts each window anew from there. Everything at once
        where it is left out. What remains at the end joins the last window where it is too short
        for the residual.
    adapt_windows
        Halve a window that fails and try again, down to a single snapshot, and double it again
        after a success. Far from a solution Newton's method on a long window may find no way
        down where short windows, in the limit marching, do. When even that fails, the snapshots
        left are not refined.
    mesh
        Spread the snapshots of a window over the first axis of these devices
        (``jax.make_mesh``): the residual, nearly all of the work, is evaluated on all of them at
        once.
    progress
        Show a bar.
    throw
        Raise if a window does not reach the tolerance. Otherwise look at ``result``; ``value`` is
        the best trajectory met in either case.

    Returns
    -------
    Solution
        ``value`` has the shape of the prediction; its residual is never larger than the
        prediction's. ``stats``: ``eta_initial`` and ``eta`` (norms of the residual of the whole
        trajectory, see `estimate`), ``relative_eta``, ``relative_eta_of_inputs`` (of the known
        snapshots among themselves, NaN if they are too few), ``n_windows``, ``n_retries``
        (windows that were halved), ``n_steps``, ``n_matvecs``, ``n_evaluations`` (residuals),
        ``n_gradients``, ``seconds``, and ``history``, a list of what each attempt noted at each
        step.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If float64 is off, a shape does not fit the problem's grid, an entry is not finite, or
        there are too few snapshots for the residual, in all or in a ``window``.
    RuntimeError
        With ``throw``: if a window fails, or if the windows, though each was refined, have a
        larger residual together than the prediction (``refinement_windows_disagree``).

    Warns
    -----
    RuntimeWarning
        If the known snapshots do not solve the equation among themselves: a wrong period, time
        step, coefficient or forcing, or data that are not periodic.

    References
    ----------
    .. [1] S. Cao, F. Brarda, R. Li and Y. Xi, "Spectral-Refiner: accurate fine-tuning of
           spatiotemporal Fourier neural operator for turbulent flows", ICLR 2025.

    Examples
    --------
    Persistence, refined to four digits of the solution:

    >>> import jax, jax.numpy as jnp
    >>> from sciml.neural_operators import SolverDefectResidual, refine
    >>> from sciml.numerics import relative_l2
    >>> from sciml.problems import Burgers1D, solve
    >>> with jax.enable_x64(True):
    ...     problem = Burgers1D((32,), viscosity=0.05)
    ...     start = jnp.sin(2 * jnp.pi * jnp.arange(32.0) / 32)[None]
    ...     truth = solve(problem, start, dt=0.005, n_steps=40, save_every=10).value[1:]
    ...     guess = jnp.broadcast_to(start, truth.shape)
    ...     solution = refine(
    ...         guess, start[None], problem, dt=0.05, residual=SolverDefectResidual(substeps=5)
    ...     )
    ...     print(bool(relative_l2(solution.value, truth) < 1e-4))
    True
    """
    begin = time.perf_counter()
    require_float64("refinement")
    for name, array in (("prediction", prediction), ("inputs", inputs)):
        check_not_traced(name, array, "a trajectory is refined")
    check_kinds(problem, residual)
    if not isinstance(method, AbstractRefinementMethod):
        raise TypeError(
            "`method` must be an object of a class that derives from AbstractRefinementMethod, "
            f"such as NewtonGMRES(); got {method!r}."
        )
    check_positive("rtol", rtol)
    if max_steps is not None:
        check_count("max_steps", max_steps)
    if mesh is not None:
        mesh = check_mesh(mesh)
    inputs = check_trajectory("inputs", inputs, problem)
    context = None if context is None else jnp.asarray(context)
    task = _Task(
        problem, residual, method, dt, mesh, prediction if callable(prediction) else None, context
    )
    predict, n_steps = _predictor(prediction, n_steps, problem, context)
    window = n_steps if window is None else check_count("window", window)
    if window < n_steps and not _holds(residual, len(inputs), window):
        raise ValueError(
            f"`window` = {window} is too short for {type(residual).__name__} after "
            f"{len(inputs)} known snapshots: take a longer one, or pass more known snapshots."
        )

    of_inputs = _residual_of_inputs(problem, residual, inputs, dt)
    if of_inputs > _NO_SOLUTION:
        warn_caller(
            f"the known snapshots do not solve the equation: their own residual is {of_inputs:.2g} "
            "of their time derivative. Check `dt`, the domain, the coefficients and the forcing "
            "of `problem`, and whether the data are periodic; the refined trajectory solves the "
            "equation that was given, from the last snapshot on.",
        )
    limits = _Limits(rtol, max_steps, adapt_windows)
    known, guesses, values, records, n_windows = inputs, [], [], [], 0
    first, size, failed = 0, window, False
    with tqdm(total=n_steps, unit="snapshot", desc="refine", disable=not progress) as bar:
        while first < n_steps:
            left = n_steps - first
            count = min(size, left)
            if count < left and not _holds(residual, len(known), left - count):
                count = left
            if failed:
                guess = value = predict(known, first, count)
            else:
                start = functools.partial(predict, known, first)
                tried = _refine_window(task, known, start, count, limits)
                guess, value, failed = tried.guess, tried.value, tried.failed
                records += tried.records
                n_windows += 1
            guesses.append(guess)
            values.append(value)
            known = jnp.concatenate([known, value])[-len(inputs) :]
            first += len(value)
            size = min(window, 2 * len(value))
            bar.update(len(value))
    value, guess = jnp.concatenate(values), jnp.concatenate(guesses)
    whole = make_system(problem, residual, inputs, dt, n_steps, mesh)
    found, before = measure(whole, value), measure(whole, guess)
    result = records[-1].result
    cause = (
        f"`refine` with {type(method).__name__} and {type(residual).__name__} stopped in window "
        f"{n_windows} at a residual of {records[-1].eta:.3g}, where "
        f"{records[-1].tolerance:.3g} was asked for."
    )
    if not found.eta <= before.eta:
        # Each window improved, but their sum, which has no one-sided formulas inside, did not.
        if is_successful(result) and not before.relative_eta <= rtol:  # pyright: ignore
            result = RESULTS.refinement_windows_disagree
            cause = f"`refine` went from a residual of {before.eta:.3g} to {found.eta:.3g}."
        value, found = guess, before
    stats = {
        "eta_initial": before.eta,
        "eta": found.eta,
        "relative_eta": found.relative_eta,
        "relative_eta_of_inputs": of_inputs,
        "n_windows": n_windows,
        "n_retries": len(records) - n_windows,
        "n_steps": sum(len(record.history) - 1 for record in records),
        "n_matvecs": sum(record.n_matvecs for record in records),
        "n_evaluations": sum(record.n_evaluations for record in records),
        "n_gradients": sum(record.n_gradients for record in records),
        "seconds": time.perf_counter() - begin,
        "history": [record.history for record in records],
    }
    solution = Solution(value, result, stats)
    if not throw:
        return solution
    return throw_if_failed(solution, cause)


def _residual_of_inputs(
    problem: AbstractSemilinearPDE,
    residual: AbstractTimeResidual,
    inputs: Trajectory,
    dt: RealScalar,
) -> float:
    """Return the relative residual of the known snapshots; NaN where they are too few for one."""
    if not _holds(residual, 1, len(inputs) - 1):
        return math.nan
    system = make_system(problem, residual, inputs[:1], dt, len(inputs) - 1)
    return measure(system, inputs[1:]).relative_eta


def _holds(residual: AbstractTimeResidual, n_history: int, n_steps: int) -> bool:
    """Whether a window may have so few snapshots."""
    if n_steps < 1:
        return False
    try:
        residual.check(n_history, n_steps)
    except ValueError:
        return False
    return True


class _Task(NamedTuple):
    """What is the same for all windows."""

    problem: AbstractSemilinearPDE
    residual: AbstractTimeResidual
    method: AbstractRefinementMethod
    dt: RealScalar
    mesh: Mesh | None
    model: Callable[..., Trajectory] | None
    context: Array | None


class _Limits(NamedTuple):
    rtol: float
    max_steps: int | None
    adapt_windows: bool


class _Attempt(NamedTuple):
    """What came of a window: its prediction and refinement, and a record of each attempt."""

    guess: Trajectory
    value: Trajectory
    failed: bool
    records: list[Progress]


def _refine_window(
    task: _Task,
    known: Known,
    predict: Callable[[int], Trajectory],
    count: int,
    limits: _Limits,
) -> _Attempt:
    """Refine ``count`` snapshots, or half as many, and so on until an attempt succeeds.

    If none does, what the first one reached is returned: it covers most.
    """
    records, first_attempt = [], None
    while True:
        guess = predict(count)
        system = make_system(task.problem, task.residual, known, task.dt, count, task.mesh)
        start = RefinementStart(to_unknowns(system, guess), task.model, known, task.context)
        found = measure_unknowns(system, start.unknowns)
        progress = Progress(*found, rtol=limits.rtol, max_steps=limits.max_steps)
        value = guess
        if not progress.done:
            refined = task.method.run(system, start, progress)
            # Where nothing was gained, what came goes back untouched by transforms.
            value = to_snapshots(system, refined) if progress.eta < found.eta else guess
        records.append(progress)
        if is_successful(progress.result):  # pyright: ignore[reportArgumentType]
            return _Attempt(guess, value, False, records)
        first_attempt = first_attempt or _Attempt(guess, value, True, records)
        count //= 2
        if not (limits.adapt_windows and _holds(task.residual, len(known), count)):
            return first_attempt


def _predictor(
    prediction: Any,
    n_steps: int | None,
    problem: AbstractSemilinearPDE,
    context: Float[Array, "context_channels *space"] | None,
) -> tuple[Callable[[Known, int, int], Any], int]:
    """Return a function of the known snapshots, the first step and the number of steps."""
    if not callable(prediction):
        values = check_trajectory("prediction", prediction, problem)
        if n_steps is not None and check_count("n_steps", n_steps) != len(values):
            raise ValueError(
                f"`prediction` holds {len(values)} snapshots, but n_steps={n_steps}: leave it out."
            )
        if context is not None:
            raise ValueError("`context` is for a model; `prediction` is an array.")
        return lambda known, first, count: values[first : first + count], len(values)
    if n_steps is None:
        raise ValueError("a model needs `n_steps`, the number of snapshots to predict.")

    def predict(known: Known, first: int, count: int) -> Trajectory:
        forecast = _forecast(prediction, known, count, context)
        values = check_trajectory("prediction", forecast, problem)
        if len(values) != count:
            raise ValueError(
                f"the model was asked for {count} snapshots and returned {len(values)}."
            )
        return values

    return predict, check_count("n_steps", n_steps)


@eqx.filter_jit
def _forecast(
    model: Callable[..., Any],
    known: Known,
    n_steps: int,
    context: Float[Array, "context_channels *space"] | None,
) -> Any:
    keywords = {} if context is None else {"context": context}
    return model(known, n_steps, **keywords)
