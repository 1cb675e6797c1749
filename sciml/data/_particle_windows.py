"""Random windows of sampled particles: batches that a run sees again when it is resumed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core import check_count
from ..numerics import farthest_points
from ._trajectory import Trajectory, check_walls


class ParticleBatch(NamedTuple):
    """Windows of a batch.

    Attributes
    ----------
    position
        ``(batch, window + 1 + n_steps, particle, dim)``: the frames a model is given, then those
        after them.
    particle_type
        ``(batch, particle)``.
    mask
        ``(batch, particle)``: True for real particles.
    """

    position: np.ndarray
    particle_type: np.ndarray
    mask: np.ndarray


def sample_particles(
    trajectory: Trajectory, n_samples: int, *, start: int | None = None
) -> np.ndarray:
    """Return indices of particles that are spread evenly in the first frame.

    Parameters
    ----------
    trajectory
        Where to sample.
    n_samples
        How many; at most as many as there are real particles.
    start
        Index of the first one; by default that of the first real particle.

    Raises
    ------
    ValueError
        If there are too few particles, or ``start`` is padding.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.data import Trajectory
    >>> line = np.stack([np.arange(9.0) / 9, np.zeros(9)], axis=1)
    >>> run = Trajectory.from_array(line[None], dt=0.1, bounds=[[0, 1], [0, 1]])
    >>> print(sample_particles(run, 3))
    [0 8 4]
    """
    n_real = int(trajectory.mask.sum())
    n_samples = check_count("n_samples", n_samples)
    if n_samples > n_real:
        raise ValueError(
            f"`n_samples` = {n_samples} is more than the {n_real} particles of the trajectory."
        )
    start = int(np.argmax(trajectory.mask)) if start is None else start
    if not 0 <= start < trajectory.n_particles or not trajectory.mask[start]:
        raise ValueError(f"`start` = {start} is not a real particle.")
    first, mask = np.asarray(trajectory.position[0]), np.asarray(trajectory.mask)
    return np.asarray(farthest_points(first, n_samples, start=start, mask=mask))


class ParticleWindows:
    """``windows[step]`` is a batch of random windows, which depends on step and seed alone.

    Each window shows a trajectory through particles that are spread evenly in its first frame.
    Several sizes of the sample make a model that serves them all: steps take them in turn, each
    with as many windows as there is room for.

    Parameters
    ----------
    trajectories
        Those to train on.
    window
        Velocities that a model is given; it takes ``window + 1`` frames.
    n_steps
        Frames after those that the model is given.
    n_samples
        Particles of a window, or several such numbers.
    particles_per_batch
        Room of a batch: it holds ``particles_per_batch // n_samples`` windows, at least one.
    n_copies
        How many different samples of each trajectory.
    mirror_axes
        Axes along which windows are mirrored at random: a symmetry of a box whose walls are
        alike, where no force points along the axis.
    seed
        Seed of samples and order.

    Raises
    ------
    ValueError
        If a trajectory is too short, has too few particles, or a periodic box.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.data import Trajectory
    >>> path = np.random.default_rng(7).random((9, 20, 2)).cumsum(axis=0) / 20
    >>> run = Trajectory.from_array(path, dt=0.1, bounds=[[0, 1], [0, 1]])
    >>> windows = ParticleWindows([run], window=3, n_samples=(5, 10), particles_per_batch=20)
    >>> windows[0].position.shape, windows[1].position.shape
    ((4, 5, 5, 2), (2, 5, 10, 2))
    """

    def __init__(
        self,
        trajectories: Sequence[Trajectory],
        *,
        window: int = 5,
        n_steps: int = 1,
        n_samples: int | Sequence[int],
        particles_per_batch: int = 600,
        n_copies: int = 4,
        mirror_axes: Sequence[int] = (),
        seed: int = 0,
    ):
        self.window = check_count("window", window)
        self.n_steps = check_count("n_steps", n_steps)
        sizes = (n_samples,) if isinstance(n_samples, int | np.integer) else tuple(n_samples)
        self.n_samples = tuple(check_count("n_samples", size) for size in sizes)
        if not trajectories or not self.n_samples:
            raise ValueError("`trajectories` and `n_samples` must not be empty.")
        self.particles_per_batch = check_count("particles_per_batch", particles_per_batch)
        self.n_copies = check_count("n_copies", n_copies)
        self.seed = check_count("seed", seed, minimum=0)
        self.mirror_axes = tuple(mirror_axes)
        self.trajectories = tuple(trajectories)
        for k, run in enumerate(self.trajectories):
            check_walls(run)
            if run.n_times < self._n_frames:
                raise ValueError(
                    f"trajectory {k} has {run.n_times} frames; a window of {self.window} "
                    f"velocities and {self.n_steps} frames after it take {self._n_frames}."
                )
            if any(axis not in range(run.dim) for axis in self.mirror_axes):
                raise ValueError(f"`mirror_axes` must be axes of space, got {self.mirror_axes}.")
        rng = np.random.default_rng((self.seed, 1))
        most = max(self.n_samples)
        # A prefix of a sample is a sample: one order serves all sizes.
        self._orders = [
            [
                sample_particles(run, most, start=int(rng.choice(np.flatnonzero(run.mask))))
                for _ in range(self.n_copies)
            ]
            for run in self.trajectories
        ]

    def __getitem__(self, step: int) -> ParticleBatch:
        size = self.n_samples[step % len(self.n_samples)]
        windows, types = [], []
        for run_index, copy, first, flips in self._choices(step):
            run = self.trajectories[run_index]
            chosen = self._orders[run_index][copy][:size]
            position = run.position[first : first + self._n_frames, chosen]
            if flips.any():
                position = position.copy()
                for axis in np.asarray(self.mirror_axes)[flips]:
                    ends = run.bounds[axis].sum().astype(position.dtype)
                    position[..., axis] = ends - position[..., axis]
            windows.append(position)
            types.append(run.particle_type[chosen])
        position = np.stack(windows)
        return ParticleBatch(position, np.stack(types), np.ones(position.shape[::2][:2], bool))

    @property
    def _n_frames(self) -> int:
        return self.window + 1 + self.n_steps

    def describe(self, step: int) -> str:
        """Say which trajectories and frames batch ``step`` holds."""
        choices = [f"{run}:{first}" for run, _, first, _ in self._choices(step)]
        return f"batch {step} (trajectory:frame {', '.join(choices[:8])})"

    def _choices(self, step: int) -> list[tuple[int, int, int, np.ndarray]]:
        size = self.n_samples[step % len(self.n_samples)]
        rng = np.random.default_rng((self.seed, 2, step))
        found = []
        for _ in range(max(1, self.particles_per_batch // size)):
            run = int(rng.integers(len(self.trajectories)))
            last = self.trajectories[run].n_times - self._n_frames + 1
            copy, first = int(rng.integers(self.n_copies)), int(rng.integers(last))
            # Always as many numbers, so that windows with and without mirrors are the same ones.
            flips = rng.random(3)[: len(self.mirror_axes)] < 0.5
            found.append((run, copy, first, flips))
        return found
