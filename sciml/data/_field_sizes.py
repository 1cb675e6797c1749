"""How many samples, times, channels and points there are, and where they lie."""

import numpy as np
from jaxtyping import Float

from ._stored_array import StoredArray


class FieldSizes:
    """What the shape of ``values`` (sample, time, channel, *space) and the units say of a dataset.

    Base of `FieldDataset` and `StoredDataset`, whose attributes it reads.
    """

    # An array in memory, or one in a file.
    values: np.ndarray | StoredArray
    domain_extent: tuple[float, ...]
    dt: float
    start_time: float

    @property
    def n_samples(self) -> int:
        """Number of trajectories."""
        return self.values.shape[0]

    @property
    def n_times(self) -> int:
        """Number of snapshots of each trajectory."""
        return self.values.shape[1]

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.values.shape[2]

    @property
    def n_points(self) -> tuple[int, ...]:
        """Number of grid points of each space axis."""
        return self.values.shape[3:]

    @property
    def times(self) -> Float[np.ndarray, " time"]:
        """Physical times of the snapshots, float64."""
        return self.start_time + self.dt * np.arange(self.n_times)

    @property
    def coordinates(self) -> tuple[Float[np.ndarray, " points"], ...]:
        """Positions ``i L / n`` along each space axis, float64."""
        return tuple(
            np.arange(n) * (extent / n)
            for n, extent in zip(self.n_points, self.domain_extent, strict=True)
        )

    def __len__(self) -> int:
        return self.n_samples

    def __repr__(self) -> str:
        points = " x ".join(str(n) for n in self.n_points)
        return (
            f"{type(self).__name__}({self.n_samples} samples x {self.n_times} times x "
            f"{self.n_channels} channels on {points} points, {self.values.dtype}{self._where()})"
        )

    def _where(self) -> str:
        return ""
