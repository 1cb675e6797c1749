r"""A computable bound on the error of a trajectory, by the energy argument.

Let :math:`v(t)` be a function of time through the snapshots, exact at time zero, and
:math:`R = v' - L v - N(v)` its residual. The error :math:`e = u - v` obeys, for any positive
numbers :math:`d_k`,

.. math::
    \frac{d}{dt} \|e\|^2 &= 2 \sum_k \mathrm{Re} L_k |e_k|^2 + 2 \langle N(v + e) - N(v), e \rangle
                            - 2 \langle R, e \rangle \\
                         &\le \sum_k |R_k|^2 / d_k + 2 (c + g) \|e\|^2, \qquad
    c = \max_k (\mathrm{Re} L_k + d_k / 2),

with the growth :math:`g` of the nonlinear term (`AbstractSemilinearPDE.nonlinear_growth`), and
Gronwall's lemma turns that into a bound on :math:`\|e(t)\|`. With :math:`d_k = -\mathrm{Re} L_k`
the first sum is the dual norm :math:`\nu^{-1} \|R\|_{-1}^2`. The bound is rigorous for the
equation on the grid but for one thing: integrals over an interval between snapshots are Gauss
quadratures, and the growth is taken at their points.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...numerics import full_precision
from ...numerics._fourier import host_half_spectrum_weights, lift, scale, spectrum_shape
from ...numerics._power_of_two import power_of_two_below
from ...problems import AbstractSemilinearPDE
from ._interpolation_weights import local_interpolation_matrix
from ._time_residual import Coefficients

# Degree of the polynomial through the nearest snapshots, and quadrature points an interval. Three
# points integrate its square's leading part; more change bounds by less than a percent.
_DEGREE = 5
_QUADRATURE = np.polynomial.legendre.leggauss(4)


@eqx.filter_jit
@full_precision
def error_bound(
    problem: AbstractSemilinearPDE,
    history_hat: Coefficients,
    u_hat: Coefficients,
    dt: Float[Array, ""],
) -> Float[Array, " time"]:
    """Return bounds on the L2 norm of the error at each predicted snapshot.

    Parameters
    ----------
    problem
        The equation.
    history_hat
        Coefficients of the known snapshots; the last one is taken as exact.
    u_hat
        Coefficients of the predicted snapshots.
    dt
        Time between snapshots.
    """
    nodes, quadrature = (_QUADRATURE[0] + 1) / 2, _QUADRATURE[1] / 2
    n_history, n_steps = len(history_hat), len(u_hat)
    trajectory = jnp.concatenate([history_hat, u_hat])
    positions = (n_history - 1 + np.arange(n_steps)[:, None] + nodes).ravel()
    values, slopes = (
        jnp.tensordot(
            jnp.asarray(
                local_interpolation_matrix(len(trajectory), positions, _DEGREE, order),
                trajectory.dtype,
            ),
            trajectory,
            axes=1,
        )
        for order in (0, 1)
    )
    weights, growth = _weights(problem, u_hat.real.dtype)
    heaviest = jnp.max(weights)

    def at_point(pair):
        value, slope = pair
        residual = scale(1 / dt, slope) - problem.rhs(value)
        # In a unit of each point: squares in that of the caller might leave the range.
        parts = residual.real, residual.imag
        largest = jax.lax.stop_gradient(jnp.maximum(*(jnp.max(jnp.abs(part)) for part in parts)))
        unit = power_of_two_below(largest)
        density = sum(jnp.square(part / unit) for part in parts)
        squared = jnp.sum(weights / heaviest * density)
        # A point without a residual, or without a finite one, must not set the unit of the others.
        has_unit = jnp.isfinite(largest) & (largest > 0)
        return squared, jnp.where(has_unit, unit, 0.0), growth + problem.nonlinear_growth(value)

    # One field at a time: the points of all intervals together would be many trajectories.
    squared, units, rate = jax.lax.map(at_point, (values, slopes), batch_size=len(nodes))
    unit = power_of_two_below(jnp.max(units))
    squared = jnp.where(jnp.isfinite(squared), squared * jnp.square(units / unit), squared)
    squared, rate = squared.reshape(n_steps, -1), rate.reshape(n_steps, -1)
    rate = 2 * jnp.max(rate, axis=1)

    def advance(bound, interval):
        rho, gamma = interval
        left = jnp.exp(gamma * dt * (1 - jnp.asarray(nodes, rho.dtype)))
        added = dt * jnp.sum(jnp.asarray(quadrature, rho.dtype) * left * rho)
        bound = jnp.exp(gamma * dt) * bound + added
        return bound, bound

    _, bounds = jax.lax.scan(advance, jnp.zeros((), squared.dtype), (squared, rate))
    return unit * jnp.sqrt(heaviest) * jnp.sqrt(bounds)


def _weights(problem: AbstractSemilinearPDE, dtype: Any) -> tuple[Array, Float[Array, ""]]:
    """Return what the squared coefficients of a residual count, and the linear growth ``c``."""
    symbol = jnp.broadcast_to(
        problem.linear_symbol(dtype).real, (problem.n_channels, *spectrum_shape(problem.n_points))
    )
    decay = -symbol
    # Modes that grow or stand still have no decay to balance the residual with; they borrow the
    # slowest one there is.
    slowest = jnp.min(jnp.where(decay > 0, decay, jnp.inf))
    slowest = jnp.where(jnp.isfinite(slowest), slowest, 1.0)
    shares = jnp.maximum(decay, slowest)
    half = host_half_spectrum_weights(problem.n_points[-1])
    parseval = np.prod(problem.domain_extent) * half
    return lift(parseval, shares) / shares, jnp.max(symbol + shares / 2)
