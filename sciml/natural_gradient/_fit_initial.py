"""Fit a network to an initial condition: Gauss-Newton with damping that adapts."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..core import (
    RESULTS,
    KeyArray,
    Solution,
    check_count,
    check_finite,
    check_not_traced,
    check_positive,
    cites,
    require_float64,
    throw_if_failed,
)
from ..numerics import full_precision
from ..numerics._power_of_two import power_of_two_below
from ..numerics._scaled_norm import scaled_norm
from ._collocation_points import CollocationPoints
from ._damped_factor import damped_factor
from ._energy_natural_gradient import GramForm
from ._function_space import function_space
from ._soft_boundary import SoftBoundary
from ._stage_map import StageMap
from ._stationary_bibliography import CHEN_2024

_STEP_SIZES = (1.0, 0.5, 0.25, 0.1, 0.03)
# Damping relative to unit columns: at first, and between which bounds it moves.
_RHO_START, _RHO_MIN, _RHO_MAX = 1e-2, 2e-6, 1.0
# The fit ends once so many steps on all parameters together gain less than this part.
_PATIENCE, _LEAST_GAIN = 20, 1e-3


@cites(CHEN_2024)
@full_precision
def fit_initial(
    network: Any,
    u0: Callable[..., Any],
    points: CollocationPoints,
    *,
    key: KeyArray,
    rtol: float = 1e-6,
    subset: float = 1.0,
    max_steps: int = 200,
    max_seconds: float | None = None,
    t0: float = 0.0,
    boundary: Sequence[SoftBoundary] = (),
    progress: Callable[[int, float], None] | None = None,
    throw: bool = False,
) -> Solution:
    """Fit a network to a function on points.

    Each step takes a damped Gauss-Newton direction with the best of five lengths. Full lengths
    lower the damping for the next step, short ones raise it; a constant small damping, or none,
    stalls.

    Parameters
    ----------
    network
        A float64 Equinox module: a point ``(dim,)`` to a scalar or ``(c,)``.
    u0
        The function of a point.
    points
        Where it is fitted; 1.5 to 2 points a parameter.
    key
        A random key, for subsets.
    rtol
        The relative L2 residual at which to stop; the residual itself if the target is zero
        everywhere.
    subset
        The part of the parameters, drawn at random, that a step changes: above 0, at most 1.
        Smaller ones make cheaper steps, and many more of them.
    max_steps
        A limit on the steps. The fit also ends when 20 steps (over ``subset``) together lower the
        residual by less than 0.1 %.
    max_seconds
        A budget of wall time after compilation began, looked at between steps.
    t0
        The time of ``u0``, for networks and conditions that depend on it.
    boundary
        Conditions that are met by least squares.
    progress
        Called after each step with their number and the relative residual.
    throw
        Raise if ``rtol`` is not reached.

    Returns
    -------
    Solution
        ``value`` is the network; ``stats`` holds ``relative_residual``, ``history``, ``seconds``.

    Raises
    ------
    ValueError
        If JAX computes in float32, or the values of ``u0`` are not finite or of another shape.

    References
    ----------
    Chen et al., "TENG", 2024, for the random subsets.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> with jax.enable_x64(True):
    ...     points = CollocationPoints.grid(16, 1)
    ...     line = lambda x: 2 * jnp.sin(x[0])
    ...     class Sine(eqx.Module):
    ...         a: jax.Array
    ...         def __call__(self, x):
    ...             return self.a * jnp.sin(x[0])
    ...     fit = fit_initial(Sine(jnp.ones(())), line, points, key=jax.random.key(0))
    >>> round(float(fit.value.a), 6)
    2.0
    """
    require_float64("Fitting with natural gradients")
    check_not_traced("network", network, "a fit takes its steps")
    check_positive("rtol", rtol)
    if not 0 < subset <= 1:
        raise ValueError(f"`subset` must be above 0 and at most 1, got {subset}.")
    check_count("max_steps", max_steps)
    began = time.perf_counter()
    space, theta = function_space(network, points, tuple(boundary))
    target = jax.vmap(u0)(points.x)
    check_finite("u0(points.x)", target)
    t = jnp.asarray(float(t0))
    found = jax.eval_shape(lambda th: jax.vmap(space.field(th, t))(points.x), theta)
    if found.shape != target.shape or found.dtype != target.dtype:
        raise ValueError(
            f"`network` must give what `u0` gives: {target.shape} {target.dtype} on the points, "
            f"got {found.shape} {found.dtype}."
        )
    stage, target = StageMap(space, t), space.targets(target.reshape(-1), t)
    size, patience = max(1, round(subset * theta.size)), math.ceil(_PATIENCE / subset)
    scale = float(scaled_norm(space.weigh_rows(target)))
    if scale == 0 and np.any(np.asarray(target)):
        raise ValueError(
            f"`u0` has values of at most {np.abs(np.asarray(target)).max():.3g}, which products "
            "round to zero. Measure it in a smaller unit."
        )
    scale = scale or 1.0
    history = [float(_norm(stage, theta, target)) / scale]
    rho, everything = jnp.asarray(_RHO_START, theta.dtype), jnp.arange(theta.size)
    for i in range(max_steps):
        late = max_seconds is not None and time.perf_counter() - began > max_seconds
        stalled = i >= patience and history[-1] > (1 - _LEAST_GAIN) * history[-1 - patience]
        if history[-1] <= rtol or late or stalled:
            break
        chosen = everything
        if size < theta.size:
            chosen = jax.random.choice(jax.random.fold_in(key, i), theta.size, (size,), False)
        theta, residual, rho = _step(stage, theta, target, chosen, rho)
        history.append(float(residual) / scale)
        if progress is not None:
            progress(i + 1, history[-1])
    result: Any = RESULTS.successful if history[-1] <= rtol else RESULTS.fit_failed
    stats = {
        "relative_residual": history[-1],
        "history": history,
        "seconds": time.perf_counter() - began,
    }
    solution = Solution(space.network(theta), result, stats)
    return throw_if_failed(solution) if throw else solution


@eqx.filter_jit
def _norm(stage: StageMap, theta: Array, target: Array) -> Array:
    return scaled_norm(stage.residual(theta, target))


@eqx.filter_jit
def _step(
    stage: StageMap, theta: Array, target: Array, chosen: Array, rho: Array
) -> tuple[Array, Array, Array]:
    residual = stage.residual(theta, target)
    columns = stage.columns(theta)[chosen]
    # In units of their own: the squares of small numbers would vanish.
    unit = power_of_two_below(jnp.max(jnp.abs(residual), initial=0.0))
    slope = power_of_two_below(jnp.max(jnp.abs(columns), initial=0.0))
    damped = damped_factor(columns / slope, rho, GramForm.smaller)
    direction = damped.direction(residual / unit) * (unit / slope)
    sizes = jnp.asarray(_STEP_SIZES, theta.dtype)
    tried = jax.vmap(lambda size: theta.at[chosen].add(size * direction))(sizes)
    norms = jax.vmap(lambda th: scaled_norm(stage.residual(th, target)))(tried)
    norms = jnp.where(jnp.isfinite(norms), norms, jnp.inf)
    best = jnp.argmin(norms)
    before = scaled_norm(residual)
    is_better = norms[best] < before
    factor = jnp.where(best <= 1, 1 / 3, jnp.where(best == 2, 1.0, 3.0))
    rho = jnp.clip(rho * jnp.where(is_better, factor, 10.0), _RHO_MIN, _RHO_MAX)
    theta = jnp.where(is_better, tried[best], theta)
    return theta, jnp.where(is_better, norms[best], before), rho
