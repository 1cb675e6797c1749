r"""Baselines of natural-gradient time stepping: an optimiser a stage, and one net for space-time.

Optimisation-based time integration (OBTI) fits the network to each stage's values
:math:`y = \hat u_n + \Delta t \sum_j a_{ij} k_j` as TENG does, but with a method of first order.
A physics-informed network (PINN) is fitted to the equation at all times together.
"""

from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import (
    RESULTS,
    RealScalar,
    Solution,
    check_count,
    check_positive,
    check_shape,
    cites,
    throw_if_failed,
)
from ..numerics import full_precision
from ._minimise_residuals import minimise_residuals
from ._residual_method import AbstractResidualMethod
from ._residual_term import ResidualTerm
from ._stationary_bibliography import CHEN_2024, RAISSI_2019


def _value(u: Callable[[Array], Any], x: Array) -> Any:
    return u(x)


@eqx.filter_jit
def _values(network: Any, x: Array) -> Array:
    return jax.vmap(network)(x)


@eqx.filter_jit
def _slopes(rhs: Any, t: Array, x: Array, network: Any) -> Array:
    return jax.vmap(lambda point: rhs(t, point, network))(x)


@cites(CHEN_2024)
@full_precision
def march_by_optimisation(
    rhs: Callable[..., Any],
    network: Any,
    x: Float[Array, "n dim"],
    w: Float[Array, " n"],
    method: AbstractResidualMethod,
    *,
    t0: RealScalar = 0.0,
    t1: RealScalar,
    dt: float,
    tableau: diffrax.ButcherTableau | None = None,
    steps_per_fit: int = 200,
    max_seconds: float | None = None,
    throw: bool = True,
) -> Solution:
    r"""March a network in time, each stage fitted by an optimiser (OBTI): a baseline.

    Parameters
    ----------
    rhs
        ``rhs(t, x, u)``, the time derivative at a point ``x`` of shape ``(dim,)``; ``u`` is the
        network, a function of a point.
    network
        The initial state, already fitted.
    x, w
        Points of the fits, and their quadrature weights.
    method
        `GradientMethod` with Adam or L-BFGS. Its state starts anew at each fit.
    t0, t1
        Where the march starts and ends.
    dt
        The step; the last one is shortened.
    tableau
        An explicit Butcher tableau of diffrax; Heun's by default.
    steps_per_fit
        Steps of the optimiser at each stage.
    max_seconds
        A budget of wall time, after which no new time step begins.
    throw
        Raise if the march does not arrive.

    Returns
    -------
    Solution
        ``value`` is the network at ``stats["t"]``; ``stats`` also holds ``n_steps``, ``seconds`` of
        the fits, and ``fit_residuals``, the root of the weighted sum of squares after each fit.

    Raises
    ------
    ValueError
        If ``t1`` is not after ``t0``, the step not positive, or the tableau implicit.
    RuntimeError
        With ``throw``, if a fit is not finite or the seconds are spent.

    References
    ----------
    Chen et al., "TENG: time-evolving natural gradient", 2024 (the method's name).

    Examples
    --------
    >>> import equinox as eqx, jax, optax
    >>> from sciml.natural_gradient import GradientMethod, box_quadrature
    >>> x, w = box_quadrature(4, 1)
    >>> network = eqx.nn.Linear(1, "scalar", key=jax.random.key(0))
    >>> method = GradientMethod(optax.lbfgs())
    >>> run = march_by_optimisation(lambda t, x, u: -u(x), network, x, w, method, t1=0.1, dt=0.1)
    >>> ratio = run.value(x[0]) / network(x[0])
    >>> round(float(ratio), 3)  # Heun's step
    0.905
    """
    check_positive("dt", dt)
    span = float(t1) - float(t0)
    if not span > 0:
        raise ValueError(f"`t1` must be after `t0`, got {float(t1)} and {float(t0)}.")
    check_shape("x", x, ("n", "dim"))
    steps_per_fit = check_count("steps_per_fit", steps_per_fit)
    a, b, c = _explicit(diffrax.Heun.tableau if tableau is None else tableau)
    n_steps = int(np.ceil(span / float(dt) * (1 - 1e-12)))
    t, seconds, residuals, steps = float(t0), 0.0, [], 0
    result: Any = RESULTS.successful

    def fit(start, target):
        term = ResidualTerm(_value, x, w, target=target)
        return minimise_residuals(
            start, [term], method, max_steps=steps_per_fit, steps_per_check=steps_per_fit,
            throw=False,
        )  # fmt: skip

    for _ in range(n_steps):
        step = min(float(dt), float(t1) - t)
        base = _values(network, x)
        stage, slopes = network, []
        for i in range(len(b)):
            if i > 0:
                target = base + sum(step * a[i][j] * slopes[j] for j in range(i))
                run = fit(stage, target)
                stage, seconds = run.value, seconds + run.stats["seconds"]
                residuals.append(run.stats["residual_norm"])
            time = jnp.asarray(t + c[i] * step, x.dtype)
            slopes.append(_slopes(rhs, time, x, stage))
        run = fit(stage, base + sum(step * b[j] * slopes[j] for j in range(len(b))))
        seconds += run.stats["seconds"]
        residuals.append(run.stats["residual_norm"])
        if not np.isfinite(residuals[-1]):
            result = RESULTS.diverged
            break
        network, t, steps = run.value, t + step, steps + 1
        if max_seconds is not None and seconds > max_seconds and steps < n_steps:
            result = RESULTS.nonlinear_max_steps_reached
            break
    stats = {"t": t, "n_steps": steps, "seconds": seconds, "fit_residuals": np.asarray(residuals)}
    solution = Solution(network, result, stats)
    if throw:
        throw_if_failed(solution, f"`march_by_optimisation` ended at t = {t:.6g}:")
    return solution


def _explicit(
    tableau: diffrax.ButcherTableau,
) -> tuple[list[list[float]], list[float], list[float]]:
    """Return the coefficients of an explicit tableau as lists."""
    diagonal = tableau.a_diagonal
    if diagonal is not None and np.any(np.asarray(diagonal) != 0):
        raise ValueError("`tableau` must be explicit; this one has implicit stages.")
    a = [[]] + [[float(v) for v in row] for row in tableau.a_lower]
    c = [0.0] + [float(v) for v in np.atleast_1d(tableau.c)]
    return a, [float(v) for v in tableau.b_sol], c


class _SpaceTimeResidual(eqx.Module):
    """The equation's residual at a point of space-time."""

    rhs: Callable[..., Any]

    def __call__(self, u: Callable[[Array], Any], point: Array) -> Any:
        t, x = point[0], point[1:]

        def at(time):
            return lambda y: u(jnp.concatenate([time[None], y]))

        change = jax.jvp(lambda time: at(time)(x), (t,), (jnp.ones_like(t),))[1]
        return change - self.rhs(t, x, at(t))


@cites(RAISSI_2019)
def space_time_terms(
    rhs: Callable[..., Any],
    initial: Callable[[Array], Any],
    x: Float[Array, "n dim"],
    w: Float[Array, " n"],
    times: Float[Array, " times"],
    *,
    initial_weight: float = 100.0,
) -> Sequence[ResidualTerm]:
    r"""Return the terms of a physics-informed network for all times: a baseline.

    Fit a network of ``(t, x)`` to them with `minimise_residuals`. Periodicity, or values at a
    boundary, are the network's affair; a further term may be appended.

    Parameters
    ----------
    rhs
        ``rhs(t, x, u)``, as in `march_by_optimisation`.
    initial
        The initial state, a function of a point of shape ``(dim,)``.
    x, w
        Points in space, and their weights.
    times
        Where the equation is imposed; each with the same weight, their sum the last time minus
        the first. The first is the time of the initial state.
    initial_weight
        The factor of the initial condition.

    Returns
    -------
    sequence
        The equation's term and that of the initial condition.

    Raises
    ------
    ValueError
        If the times do not rise, or shapes do not fit.

    References
    ----------
    Raissi, Perdikaris and Karniadakis, "Physics-informed neural networks", 2019.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.natural_gradient import box_quadrature
    >>> x, w = box_quadrature(4, 1)
    >>> terms = space_time_terms(lambda t, x, u: -u(x), lambda x: 1.0 + 0 * x[0], x, w,
    ...                          jnp.linspace(0.0, 1.0, 5))
    >>> [float(t.loss(lambda p: jnp.exp(-p[0])).round(6)) for t in terms]
    [0.0, 0.0]
    """
    check_shape("x", x, ("n", "dim"))
    check_shape("times", times, ("times",))
    if len(times) < 2 or not bool(jnp.all(jnp.diff(times) > 0)):
        raise ValueError(f"`times` must rise and hold at least two, got {times}.")
    n_times, n = len(times), len(x)
    clock = jnp.repeat(times.astype(x.dtype), n)[:, None]
    points = jnp.concatenate([clock, jnp.tile(x, (n_times, 1))], axis=1)
    weights = jnp.tile(w, n_times) * ((times[-1] - times[0]).astype(w.dtype) / n_times)
    start = jnp.concatenate([jnp.full((n, 1), times[0], x.dtype), x], axis=1)
    values = jax.vmap(lambda point: jnp.asarray(initial(point)))(x)
    return (
        ResidualTerm(_SpaceTimeResidual(rhs), points, weights),
        ResidualTerm(_value, start, w, weight=initial_weight, target=values),
    )
