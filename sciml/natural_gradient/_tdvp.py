"""Time-dependent variational principle: the PDE as an ODE for the parameters (Neural Galerkin)."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import RESULTS, Solution, check_positive, cites, require_float64, throw_if_failed
from ..numerics import full_precision
from ._boundary_ansatz import AbstractTimedField
from ._collocation_points import CollocationPoints
from ._function_space import function_space
from ._inner_solver import DampedGaussNewton
from ._soft_boundary import SoftBoundary
from ._teng_bibliography import BRUNA_2024


@cites(BRUNA_2024)
@full_precision
def march_tdvp(
    rhs: Callable[..., Any],
    network: Any,
    points: CollocationPoints,
    *,
    t0: float = 0.0,
    t1: float,
    dt: float | None,
    solver: diffrax.AbstractSolver | None = None,
    controller: diffrax.AbstractStepSizeController | None = None,
    inner: DampedGaussNewton | None = None,
    boundary: Sequence[SoftBoundary] = (),
    saveat: diffrax.SaveAt | None = None,
    progress_meter: diffrax.AbstractProgressMeter | None = None,
    max_steps: int = 4096,
    throw: bool = True,
) -> Solution:
    """March a network in time by an ODE solver on its parameters (TDVP).

    Parameters
    ----------
    rhs, network, points, t0, t1, inner, boundary, throw
        As for `march`; of ``inner`` the damping, the form and the linear solver are used, in a
        fresh factor at every evaluation.
    dt
        The step, the first one if ``controller`` is adaptive.
    solver
        Any of diffrax; Tsit5 by default.
    controller
        Of diffrax; by default tolerances of 1e-5 on the parameters, and constant steps for a solver
        without an error estimate. Constant steps can be unstable without a sign of it: the
        equation of the parameters is stiffer than that of the function.
    saveat
        Of diffrax; the end by default, and not ``dense``.
    progress_meter
        Of diffrax.
    max_steps
        A limit on the steps.

    Returns
    -------
    Solution
        ``value`` is the network at the last time saved; ``stats`` holds ``ts``, ``networks``,
        ``n_steps`` and ``seconds``.

    Raises
    ------
    ValueError
        If JAX computes in float32, or ``t1`` is not after ``t0``.
    RuntimeError
        With ``throw``, if the solver fails or a parameter is not finite.

    References
    ----------
    Bruna, Peherstorfer and Vanden-Eijnden, "Neural Galerkin schemes with active learning", 2024.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> class Constant(eqx.Module):
    ...     a: jax.Array
    ...     def __call__(self, x):
    ...         return self.a
    >>> with jax.enable_x64(True):
    ...     run = march_tdvp(lambda t, x, u: -u(x), Constant(jnp.ones(())),
    ...                      CollocationPoints.grid(2, 1), t1=0.2, dt=0.1)
    >>> round(float(run.value.a), 5)
    0.81873
    """
    require_float64("Marching with natural gradients")
    if not t1 > t0:
        raise ValueError(f"`t1` must be after `t0`, got {t1} and {t0}.")
    if dt is not None:
        check_positive("dt", dt)
    inner = DampedGaussNewton() if inner is None else inner
    solver = diffrax.Tsit5() if solver is None else solver
    if controller is None:
        is_adaptive = isinstance(solver, diffrax.AbstractAdaptiveSolver)
        adaptive = diffrax.PIDController(rtol=1e-5, atol=1e-5)
        controller = adaptive if is_adaptive else diffrax.ConstantStepSize()
    saveat = diffrax.SaveAt(t1=True) if saveat is None else saveat
    if saveat.dense:
        raise ValueError("`saveat` cannot be `dense`: networks are kept at times.")
    space, theta = function_space(network, points, tuple(boundary))
    began = time.perf_counter()
    saved = _solve(
        space,
        theta,
        rhs,
        (float(t0), float(t1), dt),
        solver,
        controller,
        inner,
        saveat,
        diffrax.NoProgressMeter() if progress_meter is None else progress_meter,
        max_steps,
    )
    ts, thetas, ended, steps = saved
    is_kept = jnp.isfinite(ts)  # what was not reached is padded with infinity
    ts, thetas = ts[is_kept], thetas[is_kept]
    stats = {
        "ts": [float(t) for t in ts],
        "networks": [_at(space.network(th), float(t)) for th, t in zip(thetas, ts, strict=True)],
        "n_steps": int(steps),
        "seconds": time.perf_counter() - began,
    }
    result: Any = RESULTS.successful
    if bool(ended == diffrax.RESULTS.max_steps_reached):
        result = RESULTS.march_step_limit
    elif not bool(ended == diffrax.RESULTS.successful) or not bool(jnp.all(jnp.isfinite(thetas))):
        result = RESULTS.march_not_finite
    value = stats["networks"][-1] if stats["networks"] else _at(network, float(t0))
    solution = Solution(value, result, stats)
    return throw_if_failed(solution) if throw else solution


def _at(network: Any, t: float) -> Any:
    return network.at(t) if isinstance(network, AbstractTimedField) else network


@eqx.filter_jit
def _solve(space, theta, rhs, span, solver, controller, inner, saveat, meter, max_steps):
    def velocity(t: Any, th: Any, args: Any) -> Array:
        del args
        t = jnp.asarray(t, th.dtype)
        factor = inner.factor(space.columns(th, t), jnp.asarray(inner.rho, th.dtype))
        # What the rows must do in time, less what they do by themselves.
        own = lambda s: space.targets(jnp.zeros_like(slopes), s) - space.rows(th, s)  # noqa: E731
        slopes = space.slopes(th, rhs, t)
        change = jax.jvp(own, (t,), (jnp.ones_like(t),))[1]
        padded = jnp.concatenate([slopes, jnp.zeros(change.size - slopes.size, slopes.dtype)])
        return factor.direction(space.weigh_rows(padded + change))

    found: Any = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        solver,
        t0=span[0],
        t1=span[1],
        dt0=span[2],
        y0=theta,
        stepsize_controller=controller,
        saveat=saveat,
        progress_meter=meter,
        max_steps=max_steps,
        throw=False,
    )
    return found.ts, found.ys, found.result, found.stats["num_steps"]
