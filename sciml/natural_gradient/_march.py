r"""Time-evolving natural gradient: step in function space, fit the network to each stage."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..core import (
    KeyArray,
    PathLike,
    Solution,
    check_count,
    check_non_negative,
    check_not_traced,
    check_positive,
    check_real,
    cites,
    require_float64,
    throw_if_failed,
)
from ..numerics import full_precision
from ._certificate import Certificate
from ._collocation_points import CollocationPoints
from ._function_space import function_space
from ._inner_solver import AbstractInnerSolver, DampedGaussNewton
from ._march_loop import MarchLoop
from ._march_progress import MarchStatus
from ._point_samplers import AbstractPointSampler
from ._runge_kutta_steppers import Explicit
from ._soft_boundary import SoftBoundary
from ._stationary_bibliography import CHEN_2024
from ._step_control import StepControl
from ._time_stepper import AbstractStepper


@cites(CHEN_2024)
@full_precision
def march(
    rhs: Callable[..., Any],
    network: Any,
    points: CollocationPoints | AbstractPointSampler,
    *,
    t0: float = 0.0,
    t1: float,
    dt: float,
    stepper: AbstractStepper | None = None,
    inner: AbstractInnerSolver | None = None,
    boundary: Sequence[SoftBoundary] = (),
    saveat: Sequence[float] = (),
    atol: float | None = None,
    initial_error: float = 0.0,
    growth_rate: float = 0.0,
    check_points: CollocationPoints | None = None,
    max_steps: int = 100_000,
    max_seconds: float | None = None,
    progress: Callable[[MarchStatus], None] | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_seconds: float = 30.0,
    resume: bool = False,
    key: KeyArray | None = None,
    throw: bool = True,
) -> Solution:
    r"""March a network in time under ``u_t = rhs(t, x, u)`` (TENG).

    Parameters
    ----------
    rhs
        ``rhs(t, x, u)``: the time derivative at a point ``x`` of shape ``(dim,)``; ``u`` is a
        function of a point. See `laplacian`, `gradient`, `derivative`.
    network
        The initial state (`fit_initial`), in float64. Any module, also a `BoundaryAnsatz`.
    points
        Where functions are compared: fixed points, maybe sharded over devices, or a sampler that
        draws them anew at each step.
    t0, t1
        Where the march starts and ends.
    dt
        The step, the first one if it is adaptive; the last one is shortened.
    stepper
        `Explicit` (the classical RK4 by default), `ForwardEuler`, `DiagonallyImplicit`,
        `ImplicitMidpoint`, `ImplicitExplicit`, `AdamsBashforth` or `BackwardDifferentiation`.
    inner
        How stages are fitted; `DampedGaussNewton` by default, with ``refits=0`` if the step is
        adaptive.
    boundary
        Conditions that are met by least squares.
    saveat
        Times whose networks are kept; steps end on them. Of two that are equal up to rounding the
        later one is.
    atol
        If given, the step is chosen so that the estimated L2 error of a step and the residual of
        its fit stay below it. Ask for a few times the error of the initial fit: where shorter steps
        are fitted no better, the fit is accepted as it is (``fit_residual`` tells).
    initial_error
        The L2 error of ``network``, for the certificate.
    growth_rate
        :math:`\Lambda` in ``d|e|/dt <= Lambda |e|``, for the certificate; 0 for heat.
    check_points
        Other points, where each fit is judged; some between ``points`` by default.
    max_steps
        A limit on the steps of this call, refused ones included.
    max_seconds
        A budget of wall time of this call, looked at between steps.
    progress
        Called after each step; `ProgressMeter` shows a bar.
    checkpoint, checkpoint_seconds
        A folder in which the march is kept at these intervals (s) and at the end.
    resume
        Go on from ``checkpoint``, if there is one.
    key
        A random key, for a sampler.
    throw
        Raise if the march does not arrive.

    Returns
    -------
    Solution
        ``value`` is the network at ``stats["t"]``. ``stats`` also holds ``ts``, ``networks`` (those
        of ``saveat`` and the end); ``fit_residual``, ``stage_residual``, ``time_error``,
        ``off_grid_residual``, ``boundary_residual`` and ``dt`` of each step (L2 norms, of the
        boundary the root mean square); ``n_steps``, ``rejected``, ``overfitted`` (steps whose
        residual off the grid is ten times that on it, and above the time error), ``seconds``,
        ``tangent_residual`` (the part of the first slope outside the tangent space),
        ``fit_limit`` (what the next adaptive fit may miss) and ``error_bound``, the certificate at
        the end.

    Raises
    ------
    TypeError, ValueError
        If JAX computes in float32, ``t1`` is not after ``t0``, an argument is of another kind, or
        the right-hand side has another shape than the network.
    RuntimeError
        With ``throw``, if the march does not arrive.

    References
    ----------
    Chen et al., "TENG: time-evolving natural gradient for solving PDEs", 2024.

    Examples
    --------
    >>> import equinox as eqx, jax, jax.numpy as jnp
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
    check_not_traced("network", network, "a march takes its steps")
    check_positive("dt", dt)
    for name, value in (("t0", t0), ("t1", t1), ("growth_rate", growth_rate)):
        check_real(name, value)
    max_steps = check_count("max_steps", max_steps)
    if not t1 > t0:
        raise ValueError(f"`t1` must be after `t0`, got {t1} and {t0}.")
    if any(not t0 < t <= t1 for t in saveat):
        raise ValueError(f"`saveat` must lie in (t0, t1] = ({t0}, {t1}], got {tuple(saveat)}.")
    if atol is not None:
        check_positive("atol", atol)
    check_positive("checkpoint_seconds", checkpoint_seconds)
    check_non_negative("initial_error", initial_error)
    stepper = Explicit() if stepper is None else stepper
    if inner is None:
        # A shorter step repairs a fit more cheaply than new factors, and keeps the next fits easy.
        inner = DampedGaussNewton() if atol is None else DampedGaussNewton(refits=0)
    for name, given, kind in (
        ("stepper", stepper, AbstractStepper),
        ("inner", inner, AbstractInnerSolver),
    ):
        if not isinstance(given, kind):
            raise TypeError(f"`{name}` must be an {kind.__name__}, got {type(given).__name__}.")
    if resume and checkpoint is None:
        raise ValueError("`resume=True` needs the folder, `checkpoint`.")
    if isinstance(points, CollocationPoints):
        sampler, drawn = None, points
    elif key is None:
        raise ValueError("a sampler of points needs a `key`.")
    else:
        sampler, drawn = points, points.draw(jax.random.fold_in(key, 0))
    space, theta = function_space(network, drawn, tuple(boundary))
    check = space.at(drawn.between() if check_points is None else check_points)
    run = MarchLoop(
        space, check, rhs, stepper, inner, sampler, key, (float(t0), float(t1)),
        StepControl(atol, dt, stepper.error_order),
        Certificate(initial_error, growth_rate, float(jnp.sum(drawn.w))),
        _ends(saveat, t0, t1),
    )  # fmt: skip
    run.start(theta, checkpoint if resume else None)
    run.go(max_steps, max_seconds, progress, checkpoint, checkpoint_seconds)
    solution = run.solution()
    if not throw:
        return solution
    where = f"The march stopped at t = {run.t:.6g} in step {len(run.rows) + 1}:"
    return throw_if_failed(solution, where)


def _ends(saveat: Sequence[float], t0: float, t1: float) -> list[float]:
    """Return the times on which steps end; of two that are equal up to rounding the later one.

    A step of that length would divide rounding by rounding, in multistep methods above all.
    """
    ends = [float(t1)]
    for t in sorted({float(t) for t in saveat}, reverse=True):
        if ends[-1] - t > 1e-12 * (t1 - t0):
            ends.append(t)
    return ends[::-1]
