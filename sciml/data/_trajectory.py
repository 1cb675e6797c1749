"""The motion of a cloud of particles: positions frame by frame, types, mask, box."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import check_count, check_finite, check_flags, check_floating, check_positive
from ._field_checks import as_names, as_plain_array, check_attributes


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectory:
    """Positions of particles at equal steps of time, in a box.

    `Trajectory.from_array` fills in what is usually the same: one type, no padding.

    Parameters
    ----------
    position
        ``(time, particle, dim)`` with ``dim`` 2 or 3, float32 or float64. Where ``mask`` is
        False it is padding: whatever it holds is replaced by the lower corner of the box.
    particle_type
        A non-negative integer a particle, ``(particle,)``.
    mask
        True for real particles, ``(particle,)``; at least one is.
    dt
        Time between frames.
    bounds
        Lower and upper end of the box along each axis, ``(dim, 2)``.
    periodic
        Whether opposite ends of the box are joined, one answer an axis; () if none are.
    type_names
        What the types are called, or ().
    attributes
        Facts by name: strings, numbers, booleans.

    Raises
    ------
    ValueError
        If a shape does not fit, a real particle is not finite, a type is negative or has no
        name, no particle is real, or the box is empty along an axis.
    TypeError
        If a dtype is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> drop = Trajectory.from_array(np.zeros((5, 3, 2)), dt=0.01, bounds=[[0, 1], [0, 1]])
    >>> drop.n_times, drop.n_particles, drop.dim
    (5, 3, 2)
    """

    position: np.ndarray
    particle_type: np.ndarray
    mask: np.ndarray
    dt: float | int
    bounds: np.ndarray
    periodic: tuple[bool, ...] = ()
    type_names: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_positive("dt", self.dt)
        position = as_plain_array("position", self.position)
        check_floating("position", position)
        if position.dtype.itemsize not in (4, 8):
            raise TypeError(f"`position` must be float32 or float64, got {position.dtype}.")
        shape = position.shape
        if position.ndim != 3 or 0 in shape or shape[2] not in (2, 3):
            raise ValueError(
                "`position` must have the axes (time, particle, dim) with dim 2 or 3, none of "
                f"them empty; got shape {shape}."
            )
        _, n_particles, dim = shape
        bounds = np.asarray(self.bounds, np.float64)
        if bounds.shape != (dim, 2):
            raise ValueError(
                f"`bounds` must have shape ({dim}, 2), lower and upper end of each axis; got "
                f"{bounds.shape}."
            )
        check_finite("bounds", bounds)
        if (bounds[:, 0] >= bounds[:, 1]).any():
            raise ValueError(f"`bounds` must rise along each axis, got {bounds.tolist()}.")
        mask = _one_each("mask", self.mask, n_particles)
        if mask.dtype != bool:
            raise TypeError(f"`mask` must be boolean, got {mask.dtype}.")
        if not mask.any():
            raise ValueError("`mask` is False everywhere: there is no particle.")
        types = _one_each("particle_type", self.particle_type, n_particles)
        if types.dtype.kind not in "iu":
            raise TypeError(f"`particle_type` must hold integers, got {types.dtype}.")
        types = np.where(mask, types, 0).astype(np.int32)
        names = as_names("type_names", self.type_names)
        _check_types(types, names)
        lower = bounds[:, 0].astype(position.dtype)
        position = np.where(mask[:, None], position, lower).astype(position.dtype.newbyteorder("="))
        _check_finite_positions(position)
        periodic = check_flags("periodic", self.periodic or (False,) * dim, dim)
        for array in (position, types, mask, bounds):
            array.flags.writeable = False
        values = {
            "position": position,
            "particle_type": types,
            "mask": mask,
            "dt": float(self.dt),
            "bounds": bounds,
            "periodic": periodic,
            "type_names": names,
            "attributes": check_attributes(self.attributes),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_array(
        cls,
        position: Any,
        *,
        dt: float | int,
        bounds: Any,
        particle_type: Any = None,
        mask: Any = None,
        periodic: Sequence[bool] = (),
        type_names: Sequence[str] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> "Trajectory":
        """Return a trajectory; particles are real and of type 0 unless told otherwise.

        Parameters
        ----------
        position, dt, bounds, particle_type, mask, periodic, type_names, attributes
            As in the class.
        """
        position = as_plain_array("position", position)
        n = position.shape[1] if position.ndim == 3 else 0
        return cls(
            position,
            np.zeros(n, np.int32) if particle_type is None else np.asarray(particle_type),
            np.ones(n, bool) if mask is None else np.asarray(mask),
            dt,
            np.asarray(bounds, np.float64),
            tuple(periodic),
            tuple(type_names),
            dict(attributes or {}),
        )

    @property
    def n_times(self) -> int:
        """Number of frames."""
        return self.position.shape[0]

    @property
    def n_particles(self) -> int:
        """Number of particles, padding included."""
        return self.position.shape[1]

    @property
    def dim(self) -> int:
        """2 or 3."""
        return self.position.shape[2]

    @property
    def displacement(self) -> np.ndarray:
        """Position minus that in the first frame, ``(time, particle, dim)``."""
        return self.position - self.position[0]

    def select(self, particles: Any) -> "Trajectory":
        """Return the trajectory of some particles.

        Parameters
        ----------
        particles
            Indices, or a boolean array over the particles.
        """
        return dataclasses.replace(
            self,
            position=self.position[:, particles],
            particle_type=self.particle_type[particles],
            mask=self.mask[particles],
        )

    def frames(self, times: slice) -> "Trajectory":
        """Return some frames; a step in ``times`` multiplies ``dt``.

        Parameters
        ----------
        times
            Which frames, rising.
        """
        step = check_count("times.step", 1 if times.step is None else times.step)
        return dataclasses.replace(self, position=self.position[times], dt=self.dt * step)

    def pad(self, n_particles: int) -> "Trajectory":
        """Return the trajectory with padding up to ``n_particles``.

        Parameters
        ----------
        n_particles
            Particles with padding; at least as many as there are.
        """
        extra = check_count("n_particles", n_particles, minimum=self.n_particles) - (
            self.n_particles
        )
        return dataclasses.replace(
            self,
            position=np.pad(self.position, ((0, 0), (0, extra), (0, 0))),
            particle_type=np.pad(self.particle_type, (0, extra)),
            mask=np.pad(self.mask, (0, extra)),
        )

    def checksum(self) -> str:
        """Return the SHA-256 sum of the real particles' positions, which tells runs apart."""
        real = np.ascontiguousarray(self.position[:, self.mask], "<f4")
        return hashlib.sha256(real.tobytes()).hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class TrajectorySplits:
    """Whole trajectories for training, validation and test; none stands in two of them.

    Parameters
    ----------
    train
        To learn from; at least one.
    validation, test
        To choose by, and to report; may be empty.

    Raises
    ------
    ValueError
        If one trajectory stands in two splits (compared by `Trajectory.checksum`), or there is
        nothing to train on.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.data import Trajectory, TrajectorySplits
    >>> runs = [
    ...     Trajectory.from_array(np.full((2, 3, 2), k / 9), dt=0.1, bounds=[[0, 1], [0, 1]])
    ...     for k in range(3)
    ... ]
    >>> splits = TrajectorySplits(runs[:2], test=runs[2:])
    >>> {name: len(part) for name, part in splits.items()}
    {'train': 2, 'test': 1}
    """

    train: Sequence[Trajectory]
    validation: Sequence[Trajectory] = ()
    test: Sequence[Trajectory] = ()

    def __post_init__(self):
        seen: dict[str, str] = {}
        for name in ("train", "validation", "test"):
            part = tuple(getattr(self, name))
            object.__setattr__(self, name, part)
            for k, trajectory in enumerate(part):
                if not isinstance(trajectory, Trajectory):
                    raise TypeError(
                        f"`{name}` must hold objects of the class Trajectory, got "
                        f"{type(trajectory).__name__}."
                    )
                here, digest = f"number {k} of {name}", trajectory.checksum()
                other = seen.setdefault(digest, here)
                if other.split()[-1] != name:
                    raise ValueError(
                        f"{here} is also {other}: an error on it would not be one on unseen data. "
                        "Split by whole trajectories that differ."
                    )
        if not self.train:
            raise ValueError("`train` is empty.")

    def items(self) -> Iterator[tuple[str, tuple[Trajectory, ...]]]:
        """Yield name and trajectories of each split that has some."""
        for name in ("train", "validation", "test"):
            part = getattr(self, name)
            if part:
                yield name, tuple(part)


def same_box(a: Any, b: Any) -> bool:
    """Return whether bounds ``(dim, 2)`` are equal up to rounding, in any unit."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= 1e-5 * np.ptp(a, axis=1).max()))


def check_walls(run: Trajectory) -> None:
    """Raise where a box is periodic: differences of wrapped positions are no motions.

    Raises
    ------
    ValueError
        If opposite ends of the box are joined.
    """
    if any(run.periodic):
        raise ValueError(
            f"the box is periodic (`periodic` = {run.periodic}), and positions that wrap make "
            "velocities of no meaning. Unwrap the positions and pass `periodic=()`, or take a "
            "box with walls."
        )


def _one_each(name: str, array: Any, n_particles: int) -> np.ndarray:
    array = np.array(array)
    if array.shape != (n_particles,):
        raise ValueError(
            f"`{name}` must have one entry a particle, shape ({n_particles},); got {array.shape}."
        )
    return array


def _check_types(types: np.ndarray, names: tuple[str, ...]) -> None:
    if types.min() < 0:
        raise ValueError(f"`particle_type` must not be negative, got {types.min()}.")
    if names and types.max() >= len(names):
        raise ValueError(
            f"`particle_type` holds {types.max()}, but `type_names` has {len(names)} names "
            f"{names}, for 0 to {len(names) - 1}."
        )


def _check_finite_positions(position: np.ndarray) -> None:
    bad = ~np.isfinite(position).all(axis=-1)
    if bad.any():
        time, particle = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"`position` must be finite, got {position[time, particle]} at frame {time}, particle "
            f"{particle} ({int(bad.sum())} such entries)."
        )
