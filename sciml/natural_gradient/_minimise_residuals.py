"""A stationary problem by least squares: lower a sum of squared residuals of a network."""

import time
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..core import (
    RESULTS,
    Solution,
    check_count,
    check_non_negative,
    check_positive,
    require_float64,
    throw_if_failed,
)
from ..numerics import full_precision
from ._energy_natural_gradient import EnergyNaturalGradient
from ._residual_method import AbstractResidualMethod
from ._residual_term import ResidualProblem, ResidualTerm, residual_problem


class _Run(eqx.Module):
    """The loop's variables."""

    theta: Any
    state: Any
    best: Any
    best_loss: Any
    stationarity: Any
    is_stuck: Any
    is_finite: Any
    losses: Any
    count: Any


@full_precision
def minimise_residuals(
    network: Any,
    terms: Sequence[ResidualTerm],
    method: AbstractResidualMethod | None = None,
    *,
    max_steps: int = 200,
    atol: float = 0.0,
    gtol: float = 1e-10,
    max_seconds: float | None = None,
    steps_per_check: int = 10,
    throw: bool = True,
) -> Solution:
    r"""Fit a network to an equation: minimise the sum of its terms.

    Parameters
    ----------
    network
        Any Equinox module from a point of shape ``(dim,)`` to what the residuals expect. All its
        floating-point arrays are fitted.
    terms
        The equation, its boundary conditions, data.
    method
        `EnergyNaturalGradient` by default; `GradientMethod` takes an optax optimiser.
    max_steps
        The most steps.
    atol
        The run ends well once :math:`|r|_2 = \sqrt{2\,\mathrm{loss}}` is at most this.
    gtol
        It ends well too once the largest cosine between the residual and a column of the Jacobian
        is at most this: a stationary point. Methods of first order do not know it.
    max_seconds
        A budget of wall time, compilation left out; looked at every ``steps_per_check`` steps.
    steps_per_check
        Steps in one compiled loop.
    throw
        Raise when the run ends otherwise. With False the best network is returned with its result.

    Returns
    -------
    Solution
        ``value`` is the network with the smallest loss seen; ``stats`` holds ``n_steps``,
        ``seconds``, ``compile_seconds``, ``loss``, ``residual_norm``, ``stationarity`` (the cosine
        above) and ``losses``, one before each step.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range, or the natural gradient has no float64.
    RuntimeError
        With ``throw``, if the rows are not finite, no step goes down any more, or the steps or
        seconds are spent.

    Examples
    --------
    >>> import equinox as eqx, jax, optax
    >>> from sciml.natural_gradient import GradientMethod, box_quadrature
    >>> x, w = box_quadrature(4, 1)
    >>> network = eqx.nn.Linear(1, "scalar", key=jax.random.key(0))
    >>> terms = [ResidualTerm(lambda u, x: u(x) - x[0], x, w)]
    >>> method = GradientMethod(optax.sgd(0.5))
    >>> run = minimise_residuals(network, terms, method, max_steps=20, throw=False)
    >>> bool(run.stats["losses"][-1] < run.stats["losses"][0])
    True
    """
    method = EnergyNaturalGradient() if method is None else method
    if not isinstance(method, AbstractResidualMethod):
        raise TypeError(
            "`method` must be an EnergyNaturalGradient or a GradientMethod, got "
            f"{type(method).__name__}."
        )
    max_steps = check_count("max_steps", max_steps)
    steps_per_check = check_count("steps_per_check", steps_per_check)
    check_non_negative("atol", atol)
    check_non_negative("gtol", gtol)
    if max_seconds is not None:
        check_positive("max_seconds", max_seconds, unit="s")
    problem = residual_problem(network, terms)
    theta = problem.theta()
    if isinstance(method, EnergyNaturalGradient):
        require_float64("Energy natural gradient descent")
        if theta.dtype != jnp.float64:
            raise ValueError(
                f"Energy natural gradient descent needs float64, and the network's arrays are "
                f"{theta.dtype}: build it after float64 is turned on."
            )
    return _minimise(
        problem, theta, method, max_steps, (atol, gtol), max_seconds, steps_per_check, throw
    )


def _minimise(problem, theta, method, max_steps, tolerances, max_seconds, chunk, throw) -> Solution:
    dtype = theta.dtype
    atol, gtol = (jnp.asarray(value, dtype) for value in tolerances)
    # Numbers as arrays: another damping or weight needs no other program.
    method, terms = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype) if isinstance(leaf, float) else leaf,
        (method, problem.terms),
    )
    problem = ResidualProblem(problem.network, terms)
    run = _start(problem, theta, method, chunk)
    began = time.perf_counter()
    # Compile before the clock starts, by a call that takes no step.
    jax.block_until_ready(_advance(problem, run, method, atol, gtol, jnp.array(0)).best)
    compile_seconds = time.perf_counter() - began
    began, losses = time.perf_counter(), []
    while True:
        left = jnp.asarray(min(chunk, max_steps - len(losses)))
        run = _advance(problem, run, method, atol, gtol, left)
        losses += np.asarray(run.losses)[: int(run.count)].tolist()
        seconds = time.perf_counter() - began
        residual_norm = float(np.sqrt(2 * float(run.best_loss)))
        is_spent = len(losses) >= max_steps or (max_seconds is not None and seconds > max_seconds)
        ended = _ended(run, residual_norm, atol, gtol)
        if ended is not None or is_spent:
            break
    result: Any = RESULTS.nonlinear_max_steps_reached if ended is None else ended
    stats = {
        "n_steps": len(losses),
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "loss": float(run.best_loss),
        "residual_norm": residual_norm,
        "stationarity": float(run.stationarity),
        "losses": np.asarray(losses),
    }
    solution = Solution(problem.build(run.best), result, stats)
    if throw:
        cause = f"after {len(losses)} steps the residual norm is {residual_norm:.3g}:"
        throw_if_failed(solution, f"`minimise_residuals`: {cause}")
    return solution


def _ended(run: _Run, residual_norm: float, atol, gtol) -> Any:
    if residual_norm <= atol or float(run.stationarity) <= gtol:
        return RESULTS.successful
    if not bool(run.is_finite):
        is_at_start = not np.isfinite(residual_norm)
        return RESULTS.nonfinite_rows if is_at_start else RESULTS.nonfinite_loss
    return RESULTS.least_squares_stalled if bool(run.is_stuck) else None


def _start(problem: ResidualProblem, theta, method, chunk: int) -> _Run:
    infinity = jnp.asarray(jnp.inf, theta.dtype)
    return _Run(
        theta=theta,
        state=method.init(problem, theta),
        best=theta,
        best_loss=infinity,
        stationarity=infinity,
        is_stuck=jnp.array(False),
        is_finite=jnp.array(True),
        losses=jnp.zeros(chunk, theta.dtype),
        count=jnp.array(0),
    )


@eqx.filter_jit
def _advance(problem, run, method, atol, gtol, n_steps) -> _Run:
    """Take up to ``n_steps`` steps."""
    static = eqx.partition(run, eqx.is_array)[1]

    def goes_on(dynamic):
        run = eqx.combine(dynamic, static)
        has_ended = (2 * run.best_loss <= atol**2) | (run.stationarity <= gtol)
        return (run.count < n_steps) & run.is_finite & ~run.is_stuck & ~has_ended

    def body(dynamic):
        run = eqx.combine(dynamic, static)
        theta, state, report = method.step(problem, run.theta, run.state)
        is_better = report.loss < run.best_loss
        after = _Run(
            theta=theta,
            state=state,
            best=jnp.where(is_better, run.theta, run.best),
            best_loss=jnp.where(is_better, report.loss, run.best_loss),
            stationarity=report.stationarity,
            is_stuck=report.is_stuck,
            is_finite=jnp.isfinite(report.loss),
            losses=run.losses.at[run.count].set(report.loss),
            count=run.count + 1,
        )
        return eqx.partition(after, eqx.is_array)[0]

    fresh = eqx.tree_at(lambda r: r.count, run, jnp.zeros_like(run.count))
    after = eqx.combine(
        jax.lax.while_loop(goes_on, body, eqx.partition(fresh, eqx.is_array)[0]), static
    )
    # The last step's parameters count too.
    loss = problem.loss(after.theta)
    is_better = loss < after.best_loss
    return eqx.tree_at(
        lambda r: (r.best, r.best_loss),
        after,
        (
            jnp.where(is_better, after.theta, after.best),
            jnp.where(is_better, loss, after.best_loss),
        ),
    )
