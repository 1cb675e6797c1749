r"""The interface of residuals in time: what couples the snapshots of a trajectory.

For a semilinear equation :math:`\hat u' = L \hat u + N(\hat u)` a residual turns a trajectory into
as many fields :math:`R_m` as it has unknowns, all zero for the solution up to the error of the
formula in time. Whatever it does in space is exact on the grid: the equation is evaluated in
Fourier space.

The residual that was published with SFNO [1]_ differs from all of these: it takes the time
derivative of each snapshot from a solver started at that same snapshot, so that no snapshot knows
of its neighbours, and is zero for every trajectory, white noise included (docs/trust.md).
"""

import abc

import equinox as eqx
import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Complex

from ...core import cites
from ...core._bibliography import CAO_2025
from ...problems import AbstractSemilinearPDE
from ._snapshot_map import SnapshotMap

# The number of fields is not bound: known snapshots, predicted ones and unknowns meet in one call.
Coefficients = Complex[Array, "_ channels *modes"]


@cites(CAO_2025)
class AbstractTimeResidual(eqx.Module):
    """A residual of trajectories sampled at equal distances, and the solver of its linear part.

    Trajectories are Fourier coefficients ``(time, channels, *modes)``: ``history_hat`` holds the
    known snapshots, the last one at time zero, ``u_hat`` those at ``dt, 2 dt, ...``.

    References
    ----------
    .. [1] S. Cao, F. Brarda, R. Li and Y. Xi, "Spectral-Refiner: accurate fine-tuning of
           spatiotemporal Fourier neural operator for turbulent flows", ICLR 2025.
    """

    @abc.abstractmethod
    def check(self, n_history: int, n_steps: int) -> None:
        """Raise ``ValueError`` if so many known and predicted snapshots are too few."""

    @abc.abstractmethod
    def times(self, n_steps: int) -> np.ndarray:
        """Return the times of the unknowns, in units of the time between snapshots."""

    @abc.abstractmethod
    def time_weights(self, n_steps: int) -> np.ndarray:
        """Return the quadrature weights of those times, in the same unit."""

    @abc.abstractmethod
    def to_unknowns(self, history_hat: Coefficients, u_hat: Coefficients) -> Coefficients:
        """Return the unknowns of a trajectory: its values at `times`."""

    @abc.abstractmethod
    def from_unknowns(
        self, history_hat: Coefficients, unknowns: Coefficients, n_steps: int
    ) -> Coefficients:
        """Return the snapshots of a trajectory that is given by its unknowns."""

    @abc.abstractmethod
    def evaluate(
        self,
        problem: AbstractSemilinearPDE,
        history_hat: Coefficients,
        unknowns: Coefficients,
        n_steps: int,
        dt: ArrayLike,
        over_snapshots: SnapshotMap = jax.vmap,
    ) -> Coefficients:
        """Return the residual, in units of the state over time, one field an unknown.

        ``over_snapshots`` applies a function of one snapshot to all of them, as `jax.vmap` does;
        it may spread them over devices.
        """

    @abc.abstractmethod
    def solve_linear_part(
        self,
        problem: AbstractSemilinearPDE,
        residual_hat: Coefficients,
        n_history: int,
        n_steps: int,
        dt: ArrayLike,
    ) -> Coefficients:
        """Return the change of the unknowns that the residual would ask for without ``N``."""
