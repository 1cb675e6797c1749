r"""Time-evolving natural gradient: step in function space, fit the network to each stage.

The Gauss-Newton matrix is factorised once a step, at the end of the step, and serves the chord
iterations of that fit and of the next step's stages. No iteration that raises a residual is kept.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import (
    RESULTS,
    Solution,
    check_non_negative,
    check_positive,
    cites,
    require_float64,
    throw_if_failed,
)
from ._collocation_points import CollocationPoints
from ._damped_factor import DampedFactor, damped_factor
from ._energy_natural_gradient import GramForm
from ._function_space import FunctionSpace, function_space
from ._stationary_bibliography import CHEN_2024
from ._time_steppers import AbstractMarch, Explicit

# Above this part of the right-hand side outside the tangent space the start is refused.
_TANGENT_LIMIT = 0.01
# What is reported of each step.
_NORMS = ("fit", "stage", "time_error", "off_grid")


class InnerSolver(eqx.Module):
    r"""How a stage is fitted.

    Parameters
    ----------
    rho
        Damping relative to unit columns; four times as much after a step that it failed.
    rho_min
        Its floor: less damping fits the points better and the function worse.
    chords
        Iterations with each factor.
    form
        Which Gram matrix.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> InnerSolver(rho=1e-7).rho
    1e-05
    """

    rho: float
    rho_min: float
    chords: int = eqx.field(static=True)
    form: GramForm = eqx.field(static=True)

    def __init__(
        self,
        rho: float = 3e-5,
        *,
        rho_min: float = 1e-5,
        chords: int = 3,
        form: GramForm = GramForm.smaller,
    ):
        check_positive("rho", rho)
        check_non_negative("rho_min", rho_min)
        if chords < 1:
            raise ValueError(f"`chords` must be at least 1, got {chords}.")
        self.rho, self.rho_min = float(max(rho, rho_min)), float(rho_min)
        self.chords, self.form = chords, form


class _Carry(eqx.Module):
    theta: Array
    slope: Array
    factor: DampedFactor
    rho: Array


class _Report(eqx.Module):
    """Absolute L2 norms of one step."""

    fit: Array
    stage: Array
    time_error: Array
    off_grid: Array


@cites(CHEN_2024)
def march(
    rhs: Callable[..., Any],
    network: Any,
    points: CollocationPoints,
    *,
    t0: float = 0.0,
    t1: float,
    dt: float,
    stepper: AbstractMarch | None = None,
    inner: InnerSolver | None = None,
    saveat: Sequence[float] = (),
    atol: float | None = None,
    initial_error: float = 0.0,
    growth_rate: float = 0.0,
    max_steps: int = 100_000,
    max_seconds: float | None = None,
    progress: Callable[[float, float], None] | None = None,
    throw: bool = True,
) -> Solution:
    r"""March a network in time under ``u_t = rhs(t, x, u)`` (TENG).

    To resume, call again with the network and the time of a former run: a march keeps no other
    state, besides a factor that is made anew.

    Parameters
    ----------
    rhs
        ``rhs(t, x, u)``: the time derivative at a point ``x`` of shape ``(dim,)``; ``u`` is a
        function of a point. See `laplacian`, `gradient`, `derivative`.
    network
        The initial state (`fit_initial`), in float64.
    points
        Where functions are compared.
    t0, t1
        Where the march starts and ends.
    dt
        The step, the first one if it is adaptive; the last one is shortened.
    stepper
        `Explicit` (the classical RK4 by default), `ForwardEuler` or `ImplicitMidpoint`.
    inner
        How stages are fitted.
    saveat
        Times whose networks are kept; steps end on them.
    atol
        If given, the step is chosen so that the estimated L2 error of a step stays below it.
    initial_error
        The L2 error of ``network``, for the certificate.
    growth_rate
        :math:`\Lambda` in ``|d/dt e| <= Lambda |e|``, for the certificate; 0 for heat.
    max_steps
        A limit on the steps.
    max_seconds
        A budget of wall time, looked at between steps.
    progress
        Called with the time and the fit residual after each step.
    throw
        Raise if the march does not arrive.

    Returns
    -------
    Solution
        ``value`` is the network at ``stats["t"]``. ``stats`` also holds ``ts``, ``networks`` (those
        of ``saveat``), ``fit_residual``, ``stage_residual``, ``time_error``, ``off_grid_residual``
        and ``dt`` of each step (L2 norms), ``steps``, ``seconds``, ``tangent_residual`` (the part
        of the first slope outside the tangent space) and ``error_bound``, the certificate at the
        end: initial error, residuals and estimated time errors, summed with the growth.

    Raises
    ------
    ValueError
        If JAX computes in float32, ``t1`` is not after ``t0``, or the right-hand side has another
        shape than the network.
    RuntimeError
        With ``throw``, if the march does not arrive.

    References
    ----------
    Chen et al., "TENG: time-evolving natural gradient for solving PDEs", 2024.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sciml.natural_gradient import laplacian
    >>> class Sine(eqx.Module):
    ...     a: jax.Array
    ...     def __call__(self, x):
    ...         return self.a * jnp.sin(x[0])
    >>> with jax.enable_x64(True):
    ...     run = march(lambda t, x, u: laplacian(u)(x), Sine(jnp.ones(())),
    ...                 CollocationPoints.grid(8, 1), t1=0.2, dt=0.1)
    >>> round(float(run.value.a), 5)  # exp(-0.2)
    0.81873
    """
    require_float64("Marching with natural gradients")
    check_positive("dt", dt)
    if not t1 > t0:
        raise ValueError(f"`t1` must be after `t0`, got {t1} and {t0}.")
    if any(not t0 < t <= t1 for t in saveat):
        raise ValueError(f"`saveat` must lie in (t0, t1] = ({t0}, {t1}], got {tuple(saveat)}.")
    if atol is not None:
        check_positive("atol", atol)
    stepper = Explicit() if stepper is None else stepper
    inner = InnerSolver() if inner is None else inner
    space, theta = function_space(network, points)
    began = time.perf_counter()
    t, ends = float(t0), sorted({*map(float, saveat), float(t1)})
    carry, tangent = _start(space, theta, rhs, jnp.asarray(t), inner)
    bound, step_size, networks, rows, ts = float(initial_error), float(dt), [], [], []
    result: Any = RESULTS.successful
    if not math.isfinite(float(tangent)):
        result = RESULTS.march_not_finite
    elif float(tangent) > _TANGENT_LIMIT:
        result = RESULTS.tangent_deficient
    scale = float(space.norm(space.values(theta)))
    attempts = 0
    while ends and bool(result == RESULTS.successful):
        if attempts >= max_steps:
            result = RESULTS.march_step_limit
            break
        if max_seconds is not None and time.perf_counter() - began > max_seconds:
            result = RESULTS.march_budget_spent
            break
        # A remainder shorter than round-off is no step.
        n_left = math.ceil((ends[0] - t) / step_size * (1 - 1e-10))
        size = step_size if n_left > 1 else ends[0] - t
        attempts += 1
        after, report = _advance(
            space, carry, rhs, jnp.asarray(t), jnp.asarray(size), stepper.stages, inner
        )
        row = {name: float(getattr(report, name)) for name in _NORMS}
        if not math.isfinite(sum(row.values())):
            result = RESULTS.march_not_finite
            break
        if atol is not None:
            factor = min(2.0, max(0.2, 0.9 * (atol / max(row["time_error"], 1e-300)) ** 0.25))
            # A fit that is worse than the time error makes smaller steps useless.
            is_useful = row["fit"] < row["time_error"]
            step_size = size * factor if (factor < 1 or n_left > 1) else step_size
            if row["time_error"] > atol and is_useful:
                continue
        if row["fit"] > 0.1 * max(scale, 1e-300):
            result = RESULTS.fit_failed
            break
        carry = after
        t = ends[0] if n_left <= 1 else t + size
        added = row["fit"] + row["stage"] + row["time_error"]
        bound = math.exp(growth_rate * size) * (bound + added)
        rows.append({**row, "dt": size})
        if progress is not None:
            progress(t, row["fit"])
        if n_left <= 1:
            ends.pop(0)
            ts.append(t)
            networks.append(space.network(carry.theta))
    column = {name: [row[name] for row in rows] for name in (*_NORMS, "dt")}
    stats = {
        "t": t,
        "ts": ts,
        "networks": networks,
        "fit_residual": column["fit"],
        "stage_residual": column["stage"],
        "time_error": column["time_error"],
        "off_grid_residual": column["off_grid"],
        "dt": column["dt"],
        "steps": len(rows),
        "seconds": time.perf_counter() - began,
        "tangent_residual": float(tangent),
        "error_bound": bound,
    }
    solution = Solution(space.network(carry.theta), result, stats)
    if not throw:
        return solution
    where = f"The march stopped at t = {t:.6g} in step {len(rows) + 1}"
    return throw_if_failed(solution, f"{where}: {RESULTS[result]}")


@eqx.filter_jit
def _start(space: FunctionSpace, theta: Array, rhs: Any, t: Array, inner: InnerSolver):
    slope = space.slopes(theta, rhs, t)
    if slope.shape != space.values(theta).shape:
        raise ValueError(
            "`rhs(t, x, u)` must have the shape of the network's value; on the points they are "
            f"{slope.shape} and {space.values(theta).shape}, flat."
        )
    columns = space.columns(theta)
    rho = jnp.asarray(inner.rho, theta.dtype)
    factor = damped_factor(columns, rho, inner.form)
    weighted = space.weigh(slope)
    missing = weighted - factor.direction(weighted) @ columns
    length = jnp.linalg.norm(weighted)
    tangent = jnp.linalg.norm(missing) / jnp.where(length > 0, length, jnp.ones_like(length))
    return _Carry(theta, slope, factor, rho), tangent


def _chords(space: FunctionSpace, functional, factor, theta, target, n: int):
    """Return the parameters after chord iterations, and the L2 residual; none raises it."""

    def residual(th):
        return space.weigh(target - functional(th))

    def body(_, state):
        th, r = state
        new = th + factor.direction(r)
        r_new = residual(new)
        is_better = jnp.sum(r_new**2) < jnp.sum(r**2)
        return jnp.where(is_better, new, th), jnp.where(is_better, r_new, r)

    theta, r = jax.lax.fori_loop(0, n, body, (theta, residual(theta)))
    return theta, jnp.linalg.norm(r)


@eqx.filter_jit
def _advance(space: FunctionSpace, carry, rhs, t, dt, stages: tuple, inner: InnerSolver):
    if not stages:
        return _midpoint(space, carry, rhs, t, dt, inner)
    a, b, b_error, c = stages
    n = len(b)
    u, slopes, theta = space.values(carry.theta), [carry.slope], carry.theta
    stage = jnp.zeros((), theta.dtype)
    # The last stage of a tableau that is "first same as last" is the step itself.
    is_fsal = n > 1 and c[-1] == 1.0 and (*a[-1], 0.0) == tuple(b)
    for i in range(1, n - 1 if is_fsal else n):
        target = u + dt * sum(v * k for v, k in zip(a[i - 1], slopes, strict=True) if v != 0)
        start = carry.theta
        if i > 1 and c[i - 1] > 0:
            start = start + (c[i] / c[i - 1]) * (theta - start)
        theta, missed = _chords(space, space.values, carry.factor, start, target, inner.chords)
        slopes.append(space.slopes(theta, rhs, t + c[i] * dt))
        stage = stage + abs(b[i]) * missed
    weights = b[:-1] if is_fsal else b
    target = u + dt * sum(v * k for v, k in zip(weights, slopes, strict=True) if v != 0)
    theta, _ = _chords(space, space.values, carry.factor, theta, target, 2)
    factor = damped_factor(space.columns(theta), carry.rho, inner.form)
    before = space.norm(target - space.values(theta))
    theta, fit = _chords(space, space.values, factor, theta, target, 2)
    slope = space.slopes(theta, rhs, t + dt)
    if is_fsal:
        slopes.append(slope)
    if any(b_error):
        error = dt * space.norm(jnp.tensordot(jnp.asarray(b_error), jnp.stack(slopes), 1))
    elif n == 4:
        # Differences of the third and second order give, continued geometrically, the fourth.
        third = dt / 6 * space.norm(slopes[3] - slope)
        second = dt / 3 * space.norm(slopes[2] - slopes[1])
        error = third * jnp.minimum(third / jnp.maximum(second, 1e-300), 1.0)
    else:
        error = dt / 2 * space.norm(slope - slopes[0])
    raised = jnp.where(fit < before, carry.rho / 2, carry.rho * 4)
    rho = jnp.clip(raised, inner.rho, 1e-2)
    report = _report(space, carry, theta, rhs, t, dt, fit, stage, error)
    return _Carry(theta, slope, factor, rho), report


def _report(space, carry, theta, rhs, t, dt, fit, stage, error):
    # Residual of the trapezoidal rule between the points: an alarm, it includes the rule's error.
    x = space.points.x
    shifted = eqx.tree_at(lambda s: s.points.x, space, x + 0.5 * jnp.abs(x[-1] - x[-2]).max())
    both = shifted.slopes(carry.theta, rhs, t) + shifted.slopes(theta, rhs, t + dt)
    miss = shifted.values(theta) - shifted.values(carry.theta) - 0.5 * dt * both
    return _Report(fit, stage, error, shifted.norm(miss))


def _midpoint(space, carry, rhs, t, dt, inner):
    half = 0.5 * dt
    u = space.values(carry.theta)

    def mapped(th):
        return space.values(th) - half * space.slopes(th, rhs, t + half)

    def at(network, x):
        return network(x) - half * rhs(t + half, x, network)

    factor = damped_factor(space.columns(carry.theta, at), carry.rho, inner.form)
    middle, stage = _chords(space, mapped, factor, carry.theta, u, 2 * inner.chords)
    target = 2.0 * space.values(middle) - u
    factor = damped_factor(space.columns(middle), carry.rho, inner.form)
    theta = carry.theta + 2.0 * (middle - carry.theta)
    theta, fit = _chords(space, space.values, factor, theta, target, inner.chords)
    slope = space.slopes(theta, rhs, t + dt)
    middle_slope = space.slopes(middle, rhs, t + half)
    error = dt / 6 * space.norm(carry.slope - 2.0 * middle_slope + slope)
    report = _report(space, carry, theta, rhs, t, dt, fit, stage, error)
    return _Carry(theta, slope, factor, carry.rho), report
