"""Poisson's equation on a rectangle by dense matrices of sines: four products a solve."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..numerics import full_precision


class _Modes(NamedTuple):
    """Eigenvectors of the second difference along an axis: to them, back, and eigenvalues."""

    forward: np.ndarray
    backward: np.ndarray
    eigenvalues: np.ndarray


class DensePoisson(NamedTuple):
    r"""Solve the five-point :math:`\Delta_h \psi = f` on ``(y, x)`` nodes.

    For a few hundred nodes an axis, four matrix products beat a fast transform, in particular in
    JAX, where fast sine transforms do not exist. The solution is exact to round-off.
    """

    y: _Modes
    x: _Modes

    @full_precision
    def __call__(self, f: Float[Array, "y x"]) -> Float[Array, "y x"]:
        """Return the values at the unknown nodes; boundary values are zero."""
        total = self.y.eigenvalues[:, None] + self.x.eigenvalues[None, :]
        host = (self.y.forward, self.x.forward.T, total, self.y.backward, self.x.backward.T)
        to_y, to_x, total, from_y, from_x = (jnp.asarray(matrix, f.dtype) for matrix in host)
        return from_y @ (to_y @ f @ to_x / total) @ from_x


def dirichlet_modes(n: int, spacing: float) -> _Modes:
    """Return the modes of ``n`` inner nodes between two nodes of value zero."""
    k = np.arange(1, n + 1)
    matrix = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(k, k) / (n + 1))
    return _Modes(matrix, matrix, -(2 - 2 * np.cos(np.pi * k / (n + 1))) / spacing**2)


def open_modes(n: int, spacing: float) -> _Modes:
    """Return the modes of ``n`` nodes after one of value zero; at the last the slope is zero."""
    j, k = np.arange(1, n + 1), np.arange(n) + 0.5
    backward = np.sin(np.pi * np.outer(j, k) / n)
    weights = np.where(j == n, 1 / n, 2 / n)
    eigenvalues = -(2 - 2 * np.cos(np.pi * k / n)) / spacing**2
    return _Modes(backward.T * weights[None], backward, eigenvalues)
