"""The residual of finite differences in time, across the known and the predicted snapshots."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ...numerics import full_precision
from ...numerics._fourier import scale
from ...problems import AbstractSemilinearPDE
from ._interpolation_weights import derivative_weights, nearest_window
from ._shifted_time_solve import shifted_time_solve
from ._snapshot_map import SnapshotMap
from ._snapshot_residual import AbstractSnapshotResidual
from ._time_residual import Coefficients

_ORDERS = (2, 4, 6)


class FiniteDifferenceResidual(AbstractSnapshotResidual):
    r"""Finite differences in time: :math:`R_m = \sum_j d_{mj} u_j - L u_m - N(u_m)`.

    Differences are central, reach into the known snapshots on the left (which ties the trajectory
    to its start) and become one-sided at the right end. ``order / 2`` known snapshots keep the
    left end central; with fewer it is one-sided too, and less accurate.

    Parameters
    ----------
    order
        2, 4 or 6. The error of the formula, and with it the floor of a refinement, falls with
        ``dt**order``; ``order + 1`` snapshots, known and predicted, are the least.

    Examples
    --------
    >>> from sciml.neural_operators import FiniteDifferenceResidual
    >>> FiniteDifferenceResidual(6).times(4)
    array([1., 2., 3., 4.])
    """

    order: int = eqx.field(static=True)

    def __init__(self, order: int = 4):
        if order not in _ORDERS:
            raise ValueError(f"`order` must be one of {_ORDERS}, got {order!r}.")
        self.order = order

    def check(self, n_history: int, n_steps: int) -> None:
        """Raise unless there are ``order + 1`` snapshots in all."""
        if n_history + n_steps < self.order + 1:
            raise ValueError(
                f"differences of order {self.order} need {self.order + 1} snapshots, known and "
                f"predicted together; got {n_history} + {n_steps}. Pass more known snapshots, or "
                "take a lower order or `SolverDefectResidual`, which needs one."
            )

    @full_precision
    def evaluate(
        self,
        problem: AbstractSemilinearPDE,
        history_hat: Coefficients,
        unknowns: Coefficients,
        n_steps: int,
        dt: ArrayLike,
        over_snapshots: SnapshotMap = jax.vmap,
    ) -> Coefficients:
        """Return the residual at each predicted snapshot."""
        differences = _difference_matrix(len(history_hat), len(unknowns), self.order)
        trajectory = jnp.concatenate([history_hat, unknowns])
        # The unit is divided out afterwards: the weights are constants then.
        tendency = jnp.tensordot(jnp.asarray(differences, trajectory.dtype), trajectory, axes=1)
        tendency = scale(1 / jnp.asarray(dt, trajectory.real.dtype), tendency)
        return tendency - over_snapshots(problem.rhs)(unknowns)

    def solve_linear_part(
        self,
        problem: AbstractSemilinearPDE,
        residual_hat: Coefficients,
        n_history: int,
        n_steps: int,
        dt: ArrayLike,
    ) -> Coefficients:
        """Solve ``(d - L) x = residual`` for each wavenumber."""
        dtype = residual_hat.real.dtype
        h = jnp.asarray(dt, dtype)
        matrix = np.ascontiguousarray(
            _difference_matrix(n_history, n_steps, self.order)[:, n_history:]
        )
        return shifted_time_solve(matrix, h * problem.linear_symbol(dtype), scale(h, residual_hat))


@functools.lru_cache(maxsize=64)
def _difference_matrix(n_history: int, n_steps: int, order: int) -> np.ndarray:
    """Weights of the first derivative at the predicted snapshots, in units of one over ``dt``."""
    n_points = n_history + n_steps
    matrix = np.zeros((n_steps, n_points))
    for row, position in zip(matrix, range(n_history, n_points), strict=True):
        first = nearest_window(n_points, order + 1, position)
        points = np.arange(first, first + order + 1)
        row[points] = derivative_weights(points.astype(float), float(position), 1)
    matrix.flags.writeable = False  # the cache hands out one array to all callers
    return matrix
