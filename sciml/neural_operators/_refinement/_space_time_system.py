r"""A trajectory's residual as one nonlinear system in space and time, with its norms.

The residual is measured in the dual norm of the energy space, exactly by Parseval,

.. math:: \eta_m^2 = |\Omega| \sum_k \frac{|\hat R_{m,k}|^2}{\kappa^2 + |k|^2}, \qquad
          \eta^2 = \sum_m w_m \eta_m^2,

with :math:`\kappa` the smallest wavenumber of the box, so that the mean counts like the longest
wave, and quadrature weights :math:`w_m` in time.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from ...core import (
    RealScalar,
    Trajectory,
    check_finite,
    check_floating,
    check_positive,
    check_shape,
    real_dtype,
)
from ...numerics._fourier import host_half_spectrum_weights, host_squared_wavenumber, lift
from ...numerics._power_of_two import power_of_two_below
from ...numerics._safe_sqrt import safe_sqrt
from ...problems import AbstractSemilinearPDE
from ._snapshot_map import snapshot_map
from ._time_residual import AbstractTimeResidual, Coefficients

# Of the state over a time step: what rounding may leave of a difference.
_ROUNDINGS = 16


class SpaceTimeSystem(eqx.Module):
    """The equations ``R(unknowns) = 0`` of one window, what a refinement solves.

    Attributes
    ----------
    problem, residual
        The equation and the residual in time.
    history_hat
        Coefficients of the known snapshots.
    dt
        Time between snapshots.
    n_steps
        Snapshots of the window.
    mesh
        Devices that share the snapshots, or ``None``.
    """

    problem: AbstractSemilinearPDE
    residual: AbstractTimeResidual
    history_hat: Coefficients
    dt: Float[Array, ""]
    n_steps: int = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def evaluate(self, unknowns: Coefficients) -> Coefficients:
        """Return the residual."""
        return self.residual.evaluate(
            self.problem,
            self.history_hat,
            unknowns,
            self.n_steps,
            self.dt,
            snapshot_map(self.mesh),
        )

    def solve_linear_part(self, residual_hat: Coefficients) -> Coefficients:
        """Return the preconditioned residual, in units of the state."""
        return self.residual.solve_linear_part(
            self.problem, residual_hat, len(self.history_hat), self.n_steps, self.dt
        )

    def eta_t(self, residual_hat: Coefficients) -> Float[Array, " time"]:
        """Return the dual norm of each field of a residual."""
        squared, unit = self._squares(residual_hat, self._dual_weights())
        return unit * safe_sqrt(squared)

    def eta(self, residual_hat: Coefficients) -> Float[Array, ""]:
        """Return the norm of a residual over space and time."""
        squared, unit = self._squares(residual_hat, self._dual_weights())
        return unit * safe_sqrt(jnp.sum(self._time_weights(residual_hat) * squared))

    def norm(self, unknowns: Coefficients) -> Float[Array, ""]:
        """Return the L2 norm over space and time of a trajectory given by its unknowns."""
        squared, unit = self._squares(unknowns, self._weights())
        return unit * safe_sqrt(jnp.sum(self._time_weights(unknowns) * squared))

    def norm_of_fields(self, u_hat: Coefficients) -> Float[Array, ""]:
        """Return the L2 norm over space and time of snapshots, each of which is an interval."""
        squared, unit = self._squares(u_hat, self._weights())
        return unit * safe_sqrt(self.dt * jnp.sum(squared))

    def tendency(self, unknowns: Coefficients) -> Float[Array, ""]:
        """Return the norm of the time derivative, which makes ``eta`` relative."""
        return self.eta(jax.vmap(self.problem.rhs)(unknowns))

    def rounding(self, unknowns: Coefficients) -> Float[Array, ""]:
        """Return what rounding may leave of the norm of a difference in time."""
        size = self.eta(unknowns)
        return _ROUNDINGS * jnp.finfo(size.dtype).eps * size / self.dt

    def to_vector(self, unknowns: Coefficients) -> Float[Array, " n"]:
        """Return real numbers whose dot product is the inner product of space-time L2."""
        return _to_real(self._root(self._weights(), unknowns), unknowns)

    def from_vector(self, vector: Float[Array, " n"], like: Coefficients) -> Coefficients:
        """Undo `to_vector`."""
        return _to_complex(vector, self._root(self._weights(), like), like)

    def from_dual_vector(self, vector: Float[Array, " n"], like: Coefficients) -> Coefficients:
        """Return the residual whose ``eta`` is the length of the vector."""
        return _to_complex(vector, self._root(self._dual_weights(), like), like)

    def _root(self, weights: np.ndarray, like: Coefficients) -> Float[Array, "time 1 *modes"]:
        time = self._time_weights(like).reshape(-1, *(1,) * (like.ndim - 1))
        largest = weights.max()
        return math.sqrt(largest) * jnp.sqrt(time * lift(weights / largest, like))

    def _time_weights(self, like: Coefficients) -> Float[Array, " time"]:
        weights = jnp.asarray(self.residual.time_weights(self.n_steps), like.real.dtype)
        return weights * self.dt.astype(weights.dtype)

    def _weights(self) -> np.ndarray:
        extent, n_points = self.problem.domain_extent, self.problem.n_points
        weights = np.prod(extent) * host_half_spectrum_weights(n_points[-1])
        return np.broadcast_to(weights, host_squared_wavenumber(n_points, extent).shape)

    def _dual_weights(self) -> np.ndarray:
        extent, n_points = self.problem.domain_extent, self.problem.n_points
        smallest = (2 * np.pi / max(extent)) ** 2
        return self._weights() / (smallest + host_squared_wavenumber(n_points, extent))

    def _squares(
        self, u_hat: Coefficients, weights: np.ndarray
    ) -> tuple[Float[Array, " time"], Float[Array, ""]]:
        """Return the weighted sum of squares of each field, and the unit that its root is in.

        In the units of the caller squares might leave the range of float32: those of a box of
        nanometres do.
        """
        parts = u_hat.real, u_hat.imag
        largest = jnp.maximum(*(jnp.max(jnp.abs(part), initial=0.0) for part in parts))
        unit = power_of_two_below(jax.lax.stop_gradient(largest))
        density = sum(jnp.square(part / unit) for part in parts)
        heaviest = weights.max()
        squared = jnp.sum(lift(weights / heaviest, u_hat) * density, axis=range(1, u_hat.ndim))
        return squared, unit * math.sqrt(heaviest)


def _to_real(root: Float[Array, "..."], values: Coefficients) -> Float[Array, " n"]:
    return jnp.concatenate([(root * values.real).ravel(), (root * values.imag).ravel()])


def _to_complex(
    vector: Float[Array, " n"], root: Float[Array, "..."], like: Coefficients
) -> Coefficients:
    real, imag = vector.reshape(2, *like.shape)
    return jax.lax.complex(real / root, imag / root)


def ratio(part: Float[Array, "*batch"], whole: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return ``part / whole`` of two norms; where ``whole`` is zero 0 without a part, else inf."""
    empty = whole == 0
    quotient = part / jnp.where(empty, 1.0, whole)
    return jnp.where(empty, jnp.where(part == 0, 0.0, jnp.inf), quotient)


def check_kinds(problem: AbstractSemilinearPDE, residual: AbstractTimeResidual) -> None:
    """Raise ``TypeError`` unless both are objects of the right kind."""
    for name, argument, kind in (
        ("problem", problem, AbstractSemilinearPDE),
        ("residual", residual, AbstractTimeResidual),
    ):
        if not isinstance(argument, kind):
            raise TypeError(
                f"`{name}` must be an object of a class that derives from {kind.__name__}, got "
                f"{argument!r}."
            )


def check_trajectory(
    name: str, values: Array | np.ndarray, problem: AbstractSemilinearPDE
) -> Trajectory:
    """Return snapshots as JAX's default floats after checking grid, length and entries."""
    check_floating(name, values)
    check_shape(name, values, ("time", problem.n_channels, *problem.n_points))
    if not len(values):
        raise ValueError(f"`{name}` must hold at least one snapshot, got none.")
    check_finite(name, values)
    return jnp.asarray(values, real_dtype())


def make_system(
    problem: AbstractSemilinearPDE,
    residual: AbstractTimeResidual,
    inputs: Trajectory,
    dt: RealScalar,
    n_steps: int,
    mesh: Mesh | None = None,
) -> SpaceTimeSystem:
    """Return the system of ``n_steps`` snapshots after ``inputs``."""
    check_positive("dt", dt)
    residual.check(len(inputs), n_steps)
    # The filter_jit functions below are transparent to an outer jit, vmap or grad.
    dt = jnp.asarray(dt, inputs.dtype)
    history_hat = _to_spectral(problem, inputs)
    return SpaceTimeSystem(problem, residual, history_hat, dt, n_steps, mesh)


@eqx.filter_jit
def to_unknowns(system: SpaceTimeSystem, values: Trajectory) -> Coefficients:
    """Return the unknowns of a trajectory of snapshots."""
    u_hat = jax.vmap(system.problem.to_spectral)(values)
    return system.residual.to_unknowns(system.history_hat, u_hat)


@eqx.filter_jit
def to_snapshots(system: SpaceTimeSystem, unknowns: Coefficients) -> Trajectory:
    """Return the snapshots of a trajectory of unknowns."""
    u_hat = system.residual.from_unknowns(system.history_hat, unknowns, system.n_steps)
    return jax.vmap(system.problem.to_physical)(u_hat)


class Sizes(NamedTuple):
    """Norms of the residual, of the time derivative, and of what rounding leaves of differences."""

    eta: float
    tendency: float
    rounding: float

    @property
    def relative_eta(self) -> float:
        """The residual over the time derivative; zero if both are rounding."""
        if self.tendency > self.rounding:
            return self.eta / self.tendency
        return 0.0 if self.eta <= self.rounding else math.inf


def measure(system: SpaceTimeSystem, values: Trajectory) -> Sizes:
    """Return the norms of snapshots."""
    return measure_unknowns(system, to_unknowns(system, values))


def measure_unknowns(system: SpaceTimeSystem, unknowns: Coefficients) -> Sizes:
    """Return the norms of a trajectory of unknowns."""
    return Sizes(*map(float, _measure(system, unknowns)))


@eqx.filter_jit
def _measure(system: SpaceTimeSystem, unknowns: Coefficients) -> tuple[Array, Array, Array]:
    eta = system.eta(system.evaluate(unknowns))
    return eta, system.tendency(unknowns), system.rounding(unknowns)


@eqx.filter_jit
def _to_spectral(problem: AbstractSemilinearPDE, values: Trajectory) -> Coefficients:
    return jax.vmap(problem.to_spectral)(values)
