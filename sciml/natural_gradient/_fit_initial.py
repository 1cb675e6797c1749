"""Fit a network to an initial condition: random subsets with a line search, then a polish."""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import (
    RESULTS,
    KeyArray,
    Solution,
    check_count,
    check_finite,
    check_positive,
    cites,
    require_float64,
    throw_if_failed,
)
from ._collocation_points import CollocationPoints
from ._damped_factor import damped_factor
from ._energy_natural_gradient import GramForm
from ._function_space import FunctionSpace, function_space
from ._stationary_bibliography import CHEN_2024

_STEP_SIZES = (1.0, 0.5, 0.25, 0.1, 0.03)
# Damping of a subset of m parameters is this times sqrt(m), relative to unit columns.
_SUBSET_RHO = 1e-7


@cites(CHEN_2024)
def fit_initial(
    network: Any,
    u0: Callable[..., Any],
    points: CollocationPoints,
    *,
    key: KeyArray,
    rtol: float = 1e-6,
    subset: float = 0.45,
    max_steps: int = 200,
    polish_steps: int = 20,
    max_seconds: float | None = None,
    throw: bool = False,
) -> Solution:
    """Fit a network to a function on points.

    Each step takes a damped Gauss-Newton direction in a random subset of the parameters, with the
    best of five lengths; steps of all parameters follow, damped more (Levenberg-Marquardt).

    Parameters
    ----------
    network
        A float64 Equinox module: a point ``(dim,)`` to a scalar or ``(c,)``.
    u0
        The function of a point.
    points
        Where it is fitted; 1.5 to 2 points a parameter.
    key
        A random key, for the subsets.
    rtol
        The relative L2 residual at which to stop.
    subset
        Part of the parameters in a step, above 0, at most 1.
    max_steps, polish_steps
        Limits on the two kinds of steps.
    max_seconds
        A budget of wall time after compilation began, looked at between steps.
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
    check_positive("rtol", rtol)
    if not 0 < subset <= 1:
        raise ValueError(f"`subset` must be above 0 and at most 1, got {subset}.")
    check_count("max_steps", max_steps)
    began = time.perf_counter()
    space, theta = function_space(network, points)
    target = jax.vmap(u0)(points.x)
    check_finite("u0(points.x)", target)
    found = eqx.filter_eval_shape(lambda n: jax.vmap(n)(points.x), network)
    if found.shape != target.shape or found.dtype != target.dtype:
        raise ValueError(
            f"`network` must give what `u0` gives: {target.shape} {target.dtype} on the points, "
            f"got {found.shape} {found.dtype}."
        )
    target = target.reshape(-1)
    size = max(1, round(subset * theta.size))
    scale = float(space.norm(target)) or 1.0
    history = [float(space.norm(target - space.values(theta))) / scale]
    polish_rho, fails = 1e-4, 0
    for i in range(max_steps + polish_steps):
        late = max_seconds is not None and time.perf_counter() - began > max_seconds
        if history[-1] <= rtol or late:
            break
        if i < max_steps:
            chosen = jax.random.choice(jax.random.fold_in(key, i), theta.size, (size,), False)
            rho = jnp.asarray(_SUBSET_RHO * size**0.5, theta.dtype)
        else:
            chosen, rho = jnp.arange(theta.size), jnp.asarray(polish_rho, theta.dtype)
        theta, residual = _step(space, theta, target, chosen, rho)
        residual = float(residual) / scale
        if i >= max_steps:
            fails = fails + 1 if residual >= history[-1] else 0
            polish_rho = polish_rho * 4 if fails else max(polish_rho / 2, 1e-5)
            if fails > 4:
                break
        history.append(residual)
    result: Any = RESULTS.successful if history[-1] <= rtol else RESULTS.fit_failed
    stats = {
        "relative_residual": history[-1],
        "history": history,
        "seconds": time.perf_counter() - began,
    }
    solution = Solution(space.network(theta), result, stats)
    return throw_if_failed(solution) if throw else solution


@eqx.filter_jit
def _step(
    space: FunctionSpace, theta: Array, target: Array, chosen: Array, rho: Array
) -> tuple[Array, Array]:
    residual = space.weigh(target - space.values(theta))
    columns = space.columns(theta)[chosen]
    direction = damped_factor(columns, rho, GramForm.smaller).direction(residual)
    sizes = jnp.asarray(_STEP_SIZES, theta.dtype)
    tried = jax.vmap(lambda size: theta.at[chosen].add(size * direction))(sizes)
    norms = jax.vmap(lambda th: space.norm(target - space.values(th)))(tried)
    norms = jnp.where(jnp.isfinite(norms), norms, jnp.inf)
    best = jnp.argmin(norms)
    before = jnp.linalg.norm(residual)
    is_better = norms[best] < before
    return jnp.where(is_better, tried[best], theta), jnp.where(is_better, norms[best], before)
