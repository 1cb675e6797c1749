"""Errors of steppers on whole trajectories: single steps, and long motions beside the truth."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...core import check_count, is_successful
from ...data import Trajectory, sample_particles
from ...data._trajectory import check_walls, same_box
from ...numerics import bucket_size, most_neighbours
from ._particle_rollout import rollout_particles
from ._particle_stepper import AbstractParticleStepper


@dataclasses.dataclass(frozen=True)
class ParticleScore:
    """How well one stepper does.

    Attributes
    ----------
    method
        Its name.
    n_samples
        Particles that were moved.
    acceleration_mse
        Mean squared error of the acceleration of one step from true frames, in physical units.
    position_mse
        Mean squared error of a coordinate over all frames of the rollouts.
    final_mse
        The same, of the last frame alone.
    centre_error
        Distance of the centre of mass from the true one in the last frame, over the longest edge
        of the box.
    chamfer
        Mean distance of a particle to the nearest true one and back, over the frames: it does not
        ask which particle is where.
    energy_ratio
        Kinetic energy over the true one, both summed over the rollouts.
    seconds_per_step
        CPU time of this process for a frame of a rollout, compilation left out.
    n_rollouts, n_failed
        How many, and how many of them did not end well; these count with the positions they had,
        held in the box.
    """

    method: str
    n_samples: int
    acceleration_mse: float
    position_mse: float
    final_mse: float
    centre_error: float
    chamfer: float
    energy_ratio: float
    seconds_per_step: float
    n_rollouts: int
    n_failed: int

    def row(self) -> dict[str, Any]:
        """Return the figures as a record of `sciml.core.format_table`."""
        return dataclasses.asdict(self)


def evaluate_particles(
    steppers: Mapping[str, AbstractParticleStepper],
    trajectories: Sequence[Trajectory],
    *,
    n_samples: int | None = None,
    n_steps: int = 100,
    starts: Sequence[int] = (0,),
    stride: int = 4,
) -> list[ParticleScore]:
    """Return the errors of steppers on trajectories that none of them was trained on.

    Parameters
    ----------
    steppers
        By name; all have one ``window``.
    trajectories
        Whole trajectories.
    n_samples
        Particles to move, spread evenly in the first frame; all by default.
    n_steps
        Frames of a rollout.
    starts
        First frames of the windows that rollouts start from; those that leave too few frames of a
        trajectory are skipped.
    stride
        Single steps start from every so many frames.

    Raises
    ------
    ValueError
        If no trajectory is long enough for a rollout, windows differ, or a trajectory has another
        box or time step than a stepper was trained with, or a periodic box.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.data import ParticleNormaliser, Trajectory
    >>> from sciml.neural_operators import BallisticStepper
    >>> t = 0.1 * np.arange(9.0)[:, None, None]
    >>> fall = np.concatenate([0 * t + 0.5, 0.9 - t**2], axis=2)
    >>> run = Trajectory.from_array(fall, dt=0.1, bounds=[[0, 1], [0, 1]])
    >>> scales = ParticleNormaliser((0, 0), (1, 1), (0, 0), (1, 1), dt=0.1)
    >>> stepper = BallisticStepper(scales, run.bounds, (0, -2))
    >>> (score,) = evaluate_particles({"gravity": stepper}, [run], n_steps=2)
    >>> score.position_mse < 1e-9
    True
    """
    n_steps = check_count("n_steps", n_steps)
    stride = check_count("stride", stride)
    windows = {stepper.window for stepper in steppers.values()}
    if len(windows) != 1:
        raise ValueError(f"the steppers must have one `window`, got {sorted(windows)}.")
    frames = windows.pop() + 1
    for name, stepper in steppers.items():
        for k, trajectory in enumerate(trajectories):
            check_scene(stepper, trajectory, f"trajectory {k} does not fit the stepper {name!r}")
    runs = []
    for trajectory in trajectories:
        if trajectory.n_times <= frames:
            continue
        if n_samples is None:
            runs.append(trajectory.select(trajectory.mask))
        else:
            runs.append(trajectory.select(sample_particles(trajectory, n_samples)))
    tasks = [
        (run, start) for run in runs for start in starts if start + frames + n_steps <= run.n_times
    ]
    if not tasks:
        raise ValueError(
            f"no trajectory has the {frames + n_steps} frames that a window and {n_steps} steps "
            "take: lower `n_steps`."
        )
    return [
        _score(name, stepper, runs, tasks, n_steps, stride) for name, stepper in steppers.items()
    ]


def check_scene(stepper: AbstractParticleStepper, run: Trajectory, what: str) -> None:
    """Raise unless a trajectory has the time step, the box and the types that a stepper knows."""
    check_walls(run)
    same_dt = abs(run.dt - stepper.normaliser.dt) <= 1e-6 * run.dt
    if run.dim != stepper.dim or not same_dt or not same_box(run.bounds, stepper.bounds):
        raise ValueError(
            f"{what}: it was trained with frames {stepper.normaliser.dt:g} apart in the box "
            f"{stepper.bounds}; these are {run.dt:g} apart in {run.bounds.tolist()}."
        )
    if run.particle_type.max() >= stepper.n_types:
        raise ValueError(
            f"{what}: it knows {stepper.n_types} particle types; there is the type "
            f"{run.particle_type.max()}."
        )


def _score(
    name: str,
    stepper: AbstractParticleStepper,
    runs: list[Trajectory],
    tasks: list[tuple[Trajectory, int]],
    n_steps: int,
    stride: int,
) -> ParticleScore:
    frames = stepper.window + 1
    low, high = (np.asarray(end) for end in zip(*stepper.bounds, strict=True))
    capacity = _capacity(stepper, [run.position for run in runs])
    single = [_single_steps(stepper, run, capacity, stride) for run in runs]
    names = ("mse", "final", "centre", "chamfer", "energy", "true_energy")
    sums: dict[str, float] = dict.fromkeys(names, 0.0)
    seconds, failed = [], 0
    for run, start in tasks:
        known = jnp.asarray(run.position[start : start + frames])
        truth = run.position[start + frames : start + frames + n_steps]
        types = jnp.asarray(run.particle_type)
        # A lone rollout goes twice, since the first time compiles.
        for _ in range(2 if len(tasks) == 1 else 1):
            begin = time.process_time()
            solution = rollout_particles(
                stepper, known, n_steps, particle_type=types, capacity=capacity, throw=False
            )
            positions = np.asarray(solution.value)
            seconds.append(time.process_time() - begin)
        if int(solution.stats["neighbours"]) > capacity:
            solution = rollout_particles(stepper, known, n_steps, particle_type=types, throw=False)
            positions = np.asarray(solution.value)
        failed += not bool(is_successful(solution.result))
        positions = np.clip(np.nan_to_num(positions, nan=0.0), low, high)
        difference = positions - truth
        sums["mse"] += float(np.mean(difference**2))
        sums["final"] += float(np.mean(difference[-1] ** 2))
        centre = np.linalg.norm(difference[-1].mean(axis=0))
        sums["centre"] += float(centre / (high - low).max())
        sums["chamfer"] += float(np.mean([_chamfer(*pair) for pair in _every(positions, truth)]))
        for key, path in (("energy", positions), ("true_energy", truth)):
            path = np.concatenate([np.asarray(known[-1:]), path])
            sums[key] += float(np.mean(np.diff(path, axis=0) ** 2))
    n = len(tasks)
    return ParticleScore(
        name,
        runs[0].n_particles,
        float(np.mean(np.concatenate(single))),
        sums["mse"] / n,
        sums["final"] / n,
        sums["centre"] / n,
        sums["chamfer"] / n,
        sums["energy"] / max(sums["true_energy"], 1e-300),
        # The first call compiles; the least of the others is what is not disturbed.
        min(seconds[1:] or seconds) / n_steps,
        n,
        failed,
    )


def _single_steps(
    stepper: AbstractParticleStepper, run: Trajectory, capacity: int, stride: int
) -> np.ndarray:
    """Return the squared error of the acceleration in each coordinate, frame by frame."""
    frames = stepper.window + 1
    firsts = range(0, run.n_times - frames, stride)
    windows = np.stack([run.position[k : k + frames] for k in firsts])
    following = np.stack([run.position[k + frames] for k in firsts]).astype(np.float64)
    scaled = np.asarray(_scaled(stepper, jnp.asarray(windows), _types(run), capacity))
    scales = stepper.normaliser
    found = scaled * np.array(scales.acceleration_std) + np.array(scales.acceleration_mean)
    windows = windows.astype(np.float64)
    wanted = (following - 2 * windows[:, -1] + windows[:, -2]) / scales.dt**2
    return np.mean((found - wanted) ** 2, axis=(1, 2))


def _types(run: Trajectory) -> jax.Array:
    return jnp.asarray(run.particle_type)


@eqx.filter_jit
def _scaled(stepper, windows, types, capacity):
    mask = jnp.ones(windows.shape[2], bool)

    def one(window):
        near = stepper.neighbours(window[-1], mask, capacity)
        return stepper(window, types, mask, near)

    return jax.lax.map(one, windows)


def _capacity(stepper: AbstractParticleStepper, positions: list[np.ndarray]) -> int:
    """Return places that are enough for all of these frames, with a reserve for rollouts."""
    most = max(most_neighbours(jnp.asarray(frames), stepper.radius) for frames in positions)
    return min(bucket_size(round(1.2 * most) + 1), max(p.shape[1] for p in positions))


def _every(a: np.ndarray, b: np.ndarray) -> Any:
    """Yield every tenth pair of frames, the last one among them."""
    return zip(a[::-10], b[::-10], strict=True)


def _chamfer(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.spatial import KDTree  # slow to import

    forth = KDTree(b).query(a)[0].mean()
    return float(forth + KDTree(a).query(b)[0].mean()) / 2
