"""What `particle_stepper` is run on: constants, trajectories, models, and how they are timed."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

import sciml
from sciml.data import (
    ParticleBatch,
    ParticleNormaliser,
    ParticleWindows,
    Trajectory,
    TrajectorySplits,
    load_trajectories,
    save_trajectories,
)
from sciml.neural_operators import GIOROM, GNS, AbstractParticleStepper, LatentGrid, ParticleLoss
from sciml.problems import MaterialPointMethod, Water, march_particles, random_blocks

P, CELL, DT, FRAMES, GRAVITY = 1200, 1 / 48, 0.0025, 150, 9.8
RADIUS, WINDOW = 0.09, 5
SIZES = (40, 110, 300)  # of training: P/30, about P/11, P/4
ROOM = 400  # particles of a batch
RATIOS = (30, 16, 8, 4)
# Places for neighbours in training, noise included.
CAPACITY = {40: 14, 110: 30, 300: 72}
ROLLOUT, STARTS = 100, (0, 40)
WIDTH, LAYERS, GRID, NOISE, LEARNING_RATE = 48, (2, 2), (16, 16), 0.5, 3e-3
# Of the training: frames that it runs through, steps, particles of a batch, learning rate.
STAGES = {"one": (1, 2000, 400, LEARNING_RATE), "longer": (1, 8000, 600, 2e-3)}
GNS_WIDTH, GNS_LAYERS = 50, 4


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seeds: tuple[int, ...] = (11, 12, 13)
    steps: int = 2000
    data_seed: int = 50321
    folder: Path = Path("runs/particle_stepper")
    """Keeps trajectories, models and finished parts."""
    resume: bool = False
    """Take up what the folder holds."""
    only: tuple[str, ...] = ()
    """Run these parts only."""
    quick: bool = False
    """Few trajectories and steps, one seed; nothing is written."""


@dataclasses.dataclass(frozen=True, eq=False)
class SizedLoss:
    """The loss with the places that the sample of a batch needs."""

    noise: float

    def __call__(self, model: Any, batch: ParticleBatch, key: Any):
        """Return the loss and what is logged."""
        capacity = CAPACITY[batch.position.shape[2]]
        loss = ParticleLoss(capacity, noise=self.noise)
        return loss(model, batch, key)


def make_data(settings: Settings) -> TrajectorySplits:
    """Return the trajectories; they are made once."""
    path = settings.folder / ("quick.npz" if settings.quick else "water.npz")
    if path.exists():
        found = load_trajectories(path)
        assert isinstance(found, TrajectorySplits)
        return found
    counts = (4, 1, 2) if settings.quick else (40, 4, 8)
    runs = [simulate(settings.data_seed + k, 1 + k % 2)[0] for k in range(sum(counts))]
    a, b = counts[0], counts[0] + counts[1]
    splits = TrajectorySplits(runs[:a], runs[a:b], runs[b:])
    save_trajectories(path, splits)
    return splits


def simulator() -> MaterialPointMethod:
    """Return the reference."""
    return MaterialPointMethod([Water()], cell_size=CELL)


def simulate(seed: int, n_blocks: int) -> tuple[Trajectory, Callable[[], Any]]:
    """Return a trajectory, and the call that computes it once more."""
    method = simulator()
    scene = random_blocks(P, spacing=CELL / 2, n_blocks=n_blocks, key=jax.random.key(seed))
    state = method.state(
        np.asarray(scene.position, np.float32),
        spacing=CELL / 2,
        velocity=np.asarray(scene.velocity, np.float32),
    )
    call = functools.partial(march_particles, method, state, dt=DT, n_frames=FRAMES)
    positions = np.asarray(call().value)
    return Trajectory.from_array(positions, dt=DT, bounds=[[0, 1], [0, 1]]), call


def build(
    kind: str, splits: TrajectorySplits, seed: int, *, radius: float = RADIUS
) -> AbstractParticleStepper:
    """Return an untrained model."""
    normaliser = ParticleNormaliser.fit(splits.train)
    bounds = splits.train[0].bounds.tolist()
    key = jax.random.key(seed)
    if kind == "gns":
        return GNS(
            normaliser,
            bounds,
            radius=radius,
            window=WINDOW,
            hidden_channels=GNS_WIDTH,
            n_layers=GNS_LAYERS,
            key=key,
        )
    return GIOROM(
        normaliser,
        bounds,
        radius=radius,
        window=WINDOW,
        hidden_channels=WIDTH,
        n_layers=LAYERS,
        latent=LatentGrid(GRID),
        key=key,
    )


def run_folder(settings: Settings, kind: str, seed: int, stage: str) -> Path:
    """Return where a trained model lies."""
    name = f"{'quick-' if settings.quick else ''}{kind}-{seed}-{stage}"
    return settings.folder / name


def step_seconds(model: AbstractParticleStepper, splits: TrajectorySplits) -> float:
    """Return the CPU seconds of loss and gradient on one frame, for samples of middle size."""
    windows = ParticleWindows(
        splits.train[:1],
        window=WINDOW,
        n_samples=SIZES[1],
        particles_per_batch=ROOM,
        n_copies=1,
    )
    call = eqx.filter_jit(eqx.filter_value_and_grad(lambda *args: SizedLoss(NOISE)(*args)[0]))
    return seconds_of(lambda: call(model, windows[0], jax.random.key(1)), 5)


def seconds_of(call: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU seconds of a call, compiled before."""
    jax.block_until_ready(call())
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        jax.block_until_ready(call())
        found.append(time.process_time() - begin)
    return min(found)


def count(model: Any) -> int:
    """Return the number of parameters."""
    return sum(a.size for a in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def trained(settings: Settings, kind: str, seed: int, stage: str) -> AbstractParticleStepper:
    """Return a trained model."""
    return sciml.load(run_folder(settings, kind, seed, stage) / "checkpoint")
