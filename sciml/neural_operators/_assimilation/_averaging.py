"""Measurements that are weighted sums of the field."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import Field, check_finite, check_floating
from ...numerics import full_precision
from ._observation import AbstractObservation, check_measured, check_observed


class Averaging(AbstractObservation):
    """Measure weighted sums of the field: averages over cells, line integrals, any linear map.

    Parameters
    ----------
    weights
        One field of weights for each measurement, ``(measurements, channels, *space)``.
    trainable
        Whether training may change the weights: an observation operator that is learned. The
        published method learns it even where it is known; leave it fixed then.

    Raises
    ------
    ValueError
        If the weights have no space axis, no measurement, or non-finite entries.

    Examples
    --------
    The mean of each half of a line:

    >>> import jax.numpy as jnp
    >>> observe = Averaging.cells((8,), (2,))
    >>> observe(jnp.arange(8.0)[None])
    Array([1.5, 5.5], dtype=float32)
    """

    weights: Float[Array, "measurements channels *space"]
    trainable: bool = eqx.field(static=True)

    def __init__(
        self,
        weights: Float[Array | np.ndarray, "measurements channels *space"],
        *,
        trainable: bool = False,
    ):
        check_floating("weights", weights)
        check_finite("weights", weights)
        if np.ndim(weights) < 3 or 0 in np.shape(weights):
            raise ValueError(
                "`weights` must have the axes (measurements, channels, *space), none of them "
                f"empty; got shape {np.shape(weights)}."
            )
        self.weights = jnp.asarray(weights)
        self.trainable = trainable

    @classmethod
    def cells(
        cls, n_points: Sequence[int], n_cells: Sequence[int], *, n_channels: int = 1
    ) -> "Averaging":
        """Return the means over equal cells of a grid, each channel by itself.

        Parameters
        ----------
        n_points
            Points of each space axis.
        n_cells
            Cells along each axis; they must divide the points.
        n_channels
            Channels of the field.
        """
        if len(n_points) != len(n_cells):
            raise ValueError(
                f"`n_cells` must hold the cells of each of the {len(n_points)} axes of `n_points`, "
                f"got {tuple(n_cells)}."
            )
        for n, cells in zip(n_points, n_cells, strict=True):
            if cells < 1 or n % cells:
                raise ValueError(f"{cells} cells do not divide the {n} points of an axis.")
        weights = np.ones((1, 1), np.float32)
        for n, cells in zip(n_points, n_cells, strict=True):
            line = np.kron(np.eye(cells), np.ones((1, n // cells)) * cells / n)
            weights = np.kron(weights, line.astype(np.float32))
        weights = np.kron(np.eye(n_channels, dtype=np.float32), weights)
        return cls(weights.reshape(-1, n_channels, *n_points))

    @property
    def n_channels(self) -> int:
        """Channels of the field."""
        return self.weights.shape[1]

    @property
    def n_points(self) -> tuple[int, ...]:
        """Points of each space axis."""
        return self.weights.shape[2:]

    @property
    def n_measurements(self) -> int:
        """Number of weighted sums."""
        return self.weights.shape[0]

    @full_precision
    def __call__(self, z: Field) -> Float[Array, " measurements"]:
        """Return the weighted sums of ``z``."""
        check_observed(self, z)
        return jnp.tensordot(self._matrix(z), z, axes=z.ndim)

    @full_precision
    def adjoint(self, e: Float[Array, " measurements"]) -> Field:
        """Return the sum of the weights, each times its entry of ``e``."""
        check_measured(self, e)
        return jnp.tensordot(e, self._matrix(e), axes=1)

    def _matrix(self, like: Array) -> Array:
        weights = self.weights.astype(like.dtype)
        return weights if self.trainable else jax.lax.stop_gradient(weights)
