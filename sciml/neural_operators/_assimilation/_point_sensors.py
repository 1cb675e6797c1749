"""Sensors that stand at grid points."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import Field, check_count, check_positive, cites
from ._bibliography import GASPARI_1999
from ._observation import AbstractObservation, check_measured, check_observed


@cites(GASPARI_1999)
class PointSensors(AbstractObservation):
    """Measure some channels at some grid points.

    The measurements are ordered by channel, then by sensor.

    Parameters
    ----------
    n_points
        Points of each space axis.
    positions
        The grid index of each sensor, one number an axis; no two sensors at one point.
    n_channels
        Channels of the field.
    channels
        The measured channels; all of them by default.

    Raises
    ------
    ValueError
        If there is no sensor, two share a point, or one stands outside the grid.

    References
    ----------
    .. [1] G. Gaspari and S. E. Cohn, "Construction of correlation functions in two and three
       dimensions", Q. J. R. Meteorol. Soc. 125 (1999), 723-757 (for `taper`).

    Examples
    --------
    Every fourth point of a line:

    >>> import jax.numpy as jnp
    >>> observe = PointSensors.every((64,), 4)
    >>> observe.n_measurements, observe(jnp.arange(64.0)[None])[:3]
    (16, Array([0., 4., 8.], dtype=float32))
    """

    n_points: tuple[int, ...] = eqx.field(static=True)
    positions: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    n_channels: int = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        n_points: Sequence[int],
        positions: Sequence[Sequence[int]],
        *,
        n_channels: int = 1,
        channels: Sequence[int] | None = None,
    ):
        self.n_points = tuple(check_count("n_points", n) for n in n_points)
        self.n_channels = check_count("n_channels", n_channels)
        self.positions = tuple(tuple(int(i) for i in position) for position in positions)
        self.channels = tuple(range(n_channels)) if channels is None else tuple(channels)
        _check_index("channels", [(c,) for c in self.channels], (n_channels,))
        _check_index("positions", self.positions, self.n_points)

    @classmethod
    def every(cls, n_points: Sequence[int], stride: int, *, n_channels: int = 1) -> "PointSensors":
        """Return sensors at every ``stride``-th point of each axis, from the first.

        Parameters
        ----------
        n_points
            Points of each space axis.
        stride
            Points from one sensor to the next.
        n_channels
            Channels of the field, all of them measured.
        """
        stride = check_count("stride", stride)
        lines = [range(0, n, stride) for n in n_points]
        grid = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, len(lines))
        return cls(n_points, grid.tolist(), n_channels=n_channels)

    @property
    def n_measurements(self) -> int:
        """Sensors times measured channels."""
        return len(self.positions) * len(self.channels)

    def __call__(self, z: Field) -> Float[Array, " measurements"]:
        """Return the values at the sensors."""
        check_observed(self, z)
        flat = z.reshape(self.n_channels, -1)
        return flat[np.asarray(self.channels)[:, None], self._flat_positions()].reshape(-1)

    def adjoint(self, e: Float[Array, " measurements"]) -> Field:
        """Return the field that is ``e`` at the sensors and zero elsewhere."""
        check_measured(self, e)
        flat = jnp.zeros((self.n_channels, math.prod(self.n_points)), e.dtype)
        index = np.asarray(self.channels)[:, None], self._flat_positions()
        flat = flat.at[index].set(e.reshape(len(self.channels), -1))
        return flat.reshape(self.n_channels, *self.n_points)

    def taper(self, radius: float | int) -> Float[np.ndarray, "measurements *space"]:
        """Return how far each measurement may reach on a periodic grid (Gaspari and Cohn).

        The weights fall from 1 at the sensor to 0 at ``radius`` and localise an
        `EnsembleKalmanFilter`.

        Parameters
        ----------
        radius
            Distance in grid points at which the weight vanishes.
        """
        check_positive("radius", radius)
        squared = np.zeros((len(self.positions), *self.n_points))
        for axis, n in enumerate(self.n_points):
            offset = np.arange(n)[None] - np.asarray(self.positions)[:, axis, None]
            offset = (offset + n // 2) % n - n // 2
            shape = [1] * len(self.n_points)
            shape[axis] = n
            squared = squared + (offset**2).reshape(-1, *shape)
        weights = _gaspari_cohn(2 * np.sqrt(squared) / radius)
        return np.tile(weights, (len(self.channels), *(1,) * len(self.n_points)))

    def _flat_positions(self) -> np.ndarray:
        return np.asarray(np.ravel_multi_index(np.asarray(self.positions).T, self.n_points))


def _check_index(name: str, index: Sequence[tuple[int, ...]], sizes: tuple[int, ...]) -> None:
    if not index:
        raise ValueError(f"`{name}` must not be empty.")
    for entry in index:
        if len(entry) != len(sizes) or not all(
            0 <= i < n for i, n in zip(entry, sizes, strict=True)
        ):
            raise ValueError(f"`{name}` must hold indices below {sizes}, one an axis; got {entry}.")
    if len(set(index)) != len(index):
        raise ValueError(f"`{name}` must not hold an entry twice.")


def _gaspari_cohn(z: np.ndarray) -> np.ndarray:
    """Return the fifth-order piecewise rational function (their equation 4.10), zero from 2 on."""
    near = 1 + z**2 * (-5 / 3 + z * (5 / 8 + z * (1 / 2 - z / 4)))
    safe = np.where(z > 1, z, 1.0)
    far = 4 + safe * (-5 + safe * (5 / 3 + safe * (5 / 8 + safe * (-1 / 2 + safe / 12))))
    far = far - 2 / (3 * safe)
    return np.where(z <= 1, near, np.where(z < 2, far, 0.0))
