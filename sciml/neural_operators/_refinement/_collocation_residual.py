"""The residual of collocation in time: one polynomial over the whole window."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ...core import check_count
from ...numerics import full_precision
from ...numerics._fourier import scale
from ...problems import AbstractSemilinearPDE
from ._interpolation_weights import local_interpolation_matrix
from ._shifted_time_solve import shifted_time_solve
from ._snapshot_map import SnapshotMap
from ._time_residual import AbstractTimeResidual, Coefficients

# Snapshots are turned into values at the nodes piece by piece with polynomials of this degree: one
# polynomial through many equally spaced points would oscillate.
_DEGREE = 5


class CollocationResidual(AbstractTimeResidual):
    r"""Spectral in time: :math:`R = u' - L u - N(u)` at Chebyshev nodes of the window.

    The trajectory is one polynomial in time through the last known snapshot and its values at the
    Chebyshev-Gauss-Lobatto nodes of the window, which are the unknowns. For smooth flows the error
    falls exponentially with the nodes, at the cost of a window that should not be long compared
    with the time scale of the flow.

    Parameters
    ----------
    n_nodes
        Unknown nodes. By default five more than the window has snapshots, and eight at least.

    Examples
    --------
    >>> from sciml.neural_operators import CollocationResidual
    >>> CollocationResidual(2).times(10)
    array([ 5., 10.])
    """

    n_nodes: int | None = eqx.field(static=True)

    def __init__(self, n_nodes: int | None = None):
        self.n_nodes = None if n_nodes is None else check_count("n_nodes", n_nodes)

    def check(self, n_history: int, n_steps: int) -> None:
        """Accept anything: one known snapshot is enough."""

    def times(self, n_steps: int) -> np.ndarray:
        """Return the Chebyshev nodes but for time zero."""
        return _nodes(self._n(n_steps), n_steps)[1:]

    def time_weights(self, n_steps: int) -> np.ndarray:
        """Return the weights of Clenshaw and Curtis."""
        n = self._n(n_steps)
        # Exact for all polynomials through the nodes; solved on [-1, 1] in Chebyshev polynomials.
        nodes = _nodes(n, 2) - 1
        degrees = np.arange(n + 1)
        integrals = np.where(
            degrees % 2 == 0, 2 / (1 - degrees.astype(float) ** 2 + (degrees == 1)), 0.0
        )
        values = np.polynomial.chebyshev.chebvander(nodes, n)
        return (np.linalg.solve(values.T, integrals) * n_steps / 2)[1:]

    @full_precision
    def to_unknowns(self, history_hat: Coefficients, u_hat: Coefficients) -> Coefficients:
        """Interpolate the snapshots, the known ones included, piece by piece."""
        trajectory = jnp.concatenate([history_hat, u_hat])
        positions = len(history_hat) - 1 + self.times(len(u_hat))
        matrix = local_interpolation_matrix(len(trajectory), positions, _DEGREE)
        return jnp.tensordot(jnp.asarray(matrix, trajectory.dtype), trajectory, axes=1)

    @full_precision
    def from_unknowns(
        self, history_hat: Coefficients, unknowns: Coefficients, n_steps: int
    ) -> Coefficients:
        """Evaluate the polynomial at the snapshots."""
        matrix = _interpolation_matrix(len(unknowns), n_steps)
        values = jnp.concatenate([history_hat[-1:], unknowns])
        return jnp.tensordot(jnp.asarray(matrix, values.dtype), values, axes=1)

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
        """Return the residual at the nodes."""
        values = jnp.concatenate([history_hat[-1:], unknowns])
        derivative = jnp.asarray(_derivative_matrix(len(unknowns), n_steps), values.dtype)
        h = jnp.asarray(dt, values.real.dtype)
        tendency = scale(1 / h, jnp.tensordot(derivative, values, axes=1))
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
        matrix = np.ascontiguousarray(_derivative_matrix(len(residual_hat), n_steps)[:, 1:])
        return shifted_time_solve(matrix, h * problem.linear_symbol(dtype), scale(h, residual_hat))

    def _n(self, n_steps: int) -> int:
        return max(n_steps + 5, 8) if self.n_nodes is None else self.n_nodes


def _nodes(n_nodes: int, n_steps: int) -> np.ndarray:
    """Return the Chebyshev-Gauss-Lobatto nodes of ``[0, n_steps]`` in order of time, with zero."""
    return n_steps * (1 - np.cos(np.pi * np.arange(n_nodes + 1) / n_nodes)) / 2


@functools.lru_cache(maxsize=64)
def _derivative_matrix(n_nodes: int, n_steps: int) -> np.ndarray:
    """Return the derivative at the nodes but for time zero of the polynomial through all."""
    weights = _barycentric_weights(n_nodes)
    # Differences of nodes from the sine of half angles: they cancel near the ends otherwise.
    half = np.pi * np.arange(n_nodes + 1) / n_nodes / 2
    gaps = n_steps * np.sin(half[:, None] + half) * np.sin(half[:, None] - half)
    np.fill_diagonal(gaps, 1.0)
    matrix = weights / weights[:, None] / gaps
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    matrix = matrix[1:]
    matrix.flags.writeable = False  # the cache hands out one array to all callers
    return matrix


@functools.lru_cache(maxsize=64)
def _interpolation_matrix(n_nodes: int, n_steps: int) -> np.ndarray:
    """Return the values at ``1, ..., n_steps`` of the polynomial through all nodes."""
    gaps = np.arange(1.0, n_steps + 1)[:, None] - _nodes(n_nodes, n_steps)
    # A snapshot that is a node up to round-off takes its value.
    at_node = np.abs(gaps) < 1e-12 * n_steps
    shares = _barycentric_weights(n_nodes) / np.where(at_node, 1.0, gaps)
    hit = at_node.any(axis=1, keepdims=True)
    matrix = np.where(hit, at_node, shares / shares.sum(axis=1, keepdims=True))
    matrix.flags.writeable = False  # the cache hands out one array to all callers
    return matrix


def _barycentric_weights(n_nodes: int) -> np.ndarray:
    weights = (-1.0) ** np.arange(n_nodes + 1)
    weights[[0, -1]] /= 2
    return weights
