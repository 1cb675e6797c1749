"""How wrong is a prediction? An a posteriori estimate that needs the equation and no truth."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import RealScalar, Trajectory, cites
from ...core._bibliography import CAO_2025
from ...numerics._scaled_norm import scaled_norm
from ...problems import AbstractSemilinearPDE
from ._error_bound import error_bound
from ._finite_difference_residual import FiniteDifferenceResidual
from ._space_time_system import (
    SpaceTimeSystem,
    check_kinds,
    check_trajectory,
    make_system,
    ratio,
    to_unknowns,
)
from ._time_residual import AbstractTimeResidual

_DEFAULT_RESIDUAL = FiniteDifferenceResidual(4)


class ErrorEstimate(eqx.Module):
    r"""What `estimate` finds. All norms are those of the problem's box, not per point.

    Attributes
    ----------
    eta
        Norm of the residual in :math:`L^2(0, T; H^{-1})`.
    eta_t
        :math:`H^{-1}` norm of the residual at each of ``times``.
    times
        Where the residual was taken: physical times after the last input.
    residual
        The residual at those times on the grid, in units of the state over time.
    relative_eta
        ``eta`` over the same norm of the time derivative: 0 for a solution, about 1 for a field
        that has nothing to do with the equation, much more for noise.
    error
        Estimate of the error's norm in :math:`L^2(0, T; L^2)`: what the linear part of the
        equation makes of the residual. No bound; convection can make the error larger.
    relative_error
        ``error`` over the norm of the prediction.
    bound
        Upper bound of the error's :math:`L^2` norm at each predicted snapshot (derived in
        the module ``_error_bound``). It holds, and it is pessimistic: it grows
        exponentially with the steepest gradient of the prediction. Infinity where it overflows or
        the problem knows no growth of its nonlinear term.
    relative_bound
        The bounds over all times together, relative to the norm of the prediction.
    true_error
        Norm of the true error in :math:`L^2(0, T; L^2)`, if the truth was given, otherwise NaN.
    effectivity
        ``error`` over ``true_error``; NaN without truth. One is perfect.
    """

    eta: Float[Array, ""]
    eta_t: Float[Array, " times"]
    times: Float[Array, " times"]
    residual: Float[Array, "times channels *space"]
    relative_eta: Float[Array, ""]
    error: Float[Array, ""]
    relative_error: Float[Array, ""]
    bound: Float[Array, " n_steps"]
    relative_bound: Float[Array, ""]
    true_error: Float[Array, ""]
    effectivity: Float[Array, ""]


@cites(CAO_2025)
def estimate(
    prediction: Array | np.ndarray,
    inputs: Array | np.ndarray,
    problem: AbstractSemilinearPDE,
    *,
    dt: RealScalar,
    residual: AbstractTimeResidual = _DEFAULT_RESIDUAL,
    truth: Array | np.ndarray | None = None,
) -> ErrorEstimate:
    """Return how far a predicted trajectory is from solving ``problem``.

    It may be called under `jax.jit` and `jax.vmap` and differentiated in ``prediction``. In
    float32 the residual stops at about 1e-5 of the time derivative: round-off over ``dt``.

    Parameters
    ----------
    prediction
        Snapshots at ``dt, 2 dt, ...`` after the last input.
    inputs
        Known snapshots up to time zero, one at least; the last one is taken as exact.
    problem
        The equation, on the grid of the data.
    dt
        Time between snapshots.
    residual
        The residual in time. Its own error is the smallest ``eta`` that a perfect prediction can
        have: with differences of order 4 and snapshots that resolve the flow well 1e-6 of the
        time derivative; take order 6 or a `SolverDefectResidual` to see further down.
    truth
        The true snapshots, for the effectivity.

    Returns
    -------
    ErrorEstimate
        Residual, estimate and bound.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or shape, not finite, or there are too few snapshots.

    References
    ----------
    .. [1] S. Cao, F. Brarda, R. Li and Y. Xi, "Spectral-Refiner: accurate fine-tuning of
           spatiotemporal Fourier neural operator for turbulent flows", ICLR 2025.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.neural_operators import estimate
    >>> from sciml.problems import NavierStokes2D, taylor_green_vorticity
    >>> problem = NavierStokes2D((16, 16), viscosity=0.02)
    >>> exact = jnp.stack([
    ...     taylor_green_vorticity((16, 16), 1.0, viscosity=0.02, time=0.1 * i) for i in range(8)
    ... ])
    >>> found = estimate(exact[4:], exact[:4], problem, dt=0.1)
    >>> frozen = estimate(jnp.broadcast_to(exact[3], (4, 1, 16, 16)), exact[:4], problem, dt=0.1)
    >>> bool(found.relative_eta < 0.01), bool(frozen.relative_eta > 0.5)
    (True, True)
    """
    check_kinds(problem, residual)
    inputs = check_trajectory("inputs", inputs, problem)
    prediction = check_trajectory("prediction", prediction, problem)
    if truth is not None:
        truth = check_trajectory("truth", truth, problem)
        if truth.shape != prediction.shape:
            raise ValueError(
                "`truth` must have the shape of `prediction`, "
                f"got {truth.shape} and {prediction.shape}."
            )
    system = make_system(problem, residual, inputs, dt, len(prediction))
    return _estimate(system, prediction, truth)


@eqx.filter_jit
def _estimate(
    system: SpaceTimeSystem, prediction: Trajectory, truth: Trajectory | None
) -> ErrorEstimate:
    unknowns = to_unknowns(system, prediction)
    residual = system.evaluate(unknowns)
    u_hat = jax.vmap(system.problem.to_spectral)(prediction)
    bound = error_bound(system.problem, system.history_hat, u_hat, system.dt)
    eta, error, size = (
        system.eta(residual),
        system.norm(system.solve_linear_part(residual)),
        system.norm_of_fields(u_hat),
    )
    true_error = jnp.asarray(jnp.nan, eta.dtype)
    if truth is not None:
        true_error = system.norm_of_fields(jax.vmap(system.problem.to_spectral)(prediction - truth))
    return ErrorEstimate(
        eta=eta,
        eta_t=system.eta_t(residual),
        times=system.dt * jnp.asarray(system.residual.times(system.n_steps), eta.dtype),
        residual=jax.vmap(system.problem.to_physical)(residual),
        relative_eta=ratio(eta, system.tendency(unknowns)),
        error=error,
        relative_error=ratio(error, size),
        bound=bound,
        relative_bound=ratio(jnp.sqrt(system.dt) * scaled_norm(bound), size),
        true_error=true_error,
        effectivity=ratio(error, true_error),
    )
