"""Scales of velocity and acceleration of a set of trajectories of particles."""

import math
from collections.abc import Sequence

import equinox as eqx
import numpy as np

from ..core import check_positive
from ._trajectory import Trajectory, check_walls


class ParticleNormaliser(eqx.Module):
    r"""Mean and deviation of velocities and accelerations, in physical units.

    With frames ``dt`` apart, :math:`v_t = (x_t - x_{t-1}) / dt` and
    :math:`a_t = (v_{t+1} - v_t) / dt`. The figures are static: no optimiser changes them.

    Parameters
    ----------
    velocity_mean, velocity_std, acceleration_mean, acceleration_std
        One number an axis of space; deviations are positive.
    dt
        Time between frames.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.data import Trajectory
    >>> t = 0.1 * np.arange(50)[:, None, None]
    >>> path = np.concatenate([np.sin(t), np.cos(t)], axis=2)
    >>> run = Trajectory.from_array(path, dt=0.1, bounds=[[-1, 1], [-1, 1]])
    >>> print(ParticleNormaliser.fit([run]).acceleration_std[0] < 1)
    True
    """

    velocity_mean: tuple[float, ...] = eqx.field(static=True)
    velocity_std: tuple[float, ...] = eqx.field(static=True)
    acceleration_mean: tuple[float, ...] = eqx.field(static=True)
    acceleration_std: tuple[float, ...] = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __init__(
        self,
        velocity_mean: Sequence[float | int],
        velocity_std: Sequence[float | int],
        acceleration_mean: Sequence[float | int],
        acceleration_std: Sequence[float | int],
        dt: float | int,
    ):
        check_positive("dt", dt)
        self.dt = float(dt)
        self.velocity_mean = tuple(float(v) for v in velocity_mean)
        self.velocity_std = tuple(float(v) for v in velocity_std)
        self.acceleration_mean = tuple(float(v) for v in acceleration_mean)
        self.acceleration_std = tuple(float(v) for v in acceleration_std)
        for name in ("velocity_std", "acceleration_mean", "acceleration_std"):
            if len(getattr(self, name)) != len(self.velocity_mean):
                raise ValueError(
                    f"`{name}` must have one number an axis, like `velocity_mean`: "
                    f"{len(self.velocity_mean)}; got {len(getattr(self, name))}."
                )
        for name in ("velocity_mean", "acceleration_mean"):
            if not all(math.isfinite(v) for v in getattr(self, name)):
                raise ValueError(f"`{name}` must be finite, got {getattr(self, name)}.")
        for name in ("velocity_std", "acceleration_std"):
            for value in getattr(self, name):
                check_positive(name, value)

    @classmethod
    def fit(cls, trajectories: Sequence[Trajectory]) -> "ParticleNormaliser":
        """Return the figures over all frames and real particles of the training trajectories.

        The deviations are those of the data, not of figures by trajectory. Where nothing moves
        along an axis, its deviation is that of the other axes.

        Parameters
        ----------
        trajectories
            Those to train on, and no others; at least three frames each, of one ``dt``.

        Raises
        ------
        ValueError
            If there is none, they differ in ``dt`` or dimension, one is too short or periodic, or
            nothing moves.
        """
        if not trajectories:
            raise ValueError("`trajectories` is empty.")
        dt, dim = trajectories[0].dt, trajectories[0].dim
        velocities, accelerations = [], []
        for k, run in enumerate(trajectories):
            if run.dim != dim or not math.isclose(run.dt, dt, rel_tol=1e-6):
                raise ValueError(
                    f"trajectory {k} has dt={run.dt:g} in {run.dim} dimensions, the first has "
                    f"dt={dt:g} in {dim}: they must agree."
                )
            if run.n_times < 3:
                raise ValueError(
                    f"trajectory {k} has {run.n_times} frames; an acceleration takes three."
                )
            check_walls(run)
            position = run.position[:, run.mask].astype(np.float64)
            velocity = np.diff(position, axis=0) / dt
            velocities.append(velocity.reshape(-1, dim))
            accelerations.append((np.diff(velocity, axis=0) / dt).reshape(-1, dim))
        figures = []
        for name, parts in (("velocity", velocities), ("acceleration", accelerations)):
            values = np.concatenate(parts)
            std = values.std(axis=0)
            if not std.any():
                raise ValueError(f"the {name} never changes in these trajectories: no scale.")
            figures += [values.mean(axis=0), np.where(std > 1e-6 * std.max(), std, std.max())]
        return cls(*(figure.tolist() for figure in figures), dt=dt)
