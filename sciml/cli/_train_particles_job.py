"""The work of ``sciml train giorom``."""

import dataclasses
import os
import shlex
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import format_table
from ..data import ParticleNormaliser, ParticleWindows, Trajectory, TrajectorySplits
from ..data import sample_particles as sample
from ..data._trajectory import same_box
from ..neural_operators import (
    BallisticStepper,
    GraphInteractionStepper,
    LatentGrid,
    ParticleLoss,
    evaluate_particles,
)
from ..numerics import bucket_size, most_neighbours
from ..train import fit, one_cycle_adam
from ._errors import UsageError
from ._load_particles import fingerprint, load_particle_splits
from ._terminal import say, shows_progress
from ._train_particles import TrainGIOROM
from ._training_run import check_run, how_to_resume, tell_end

# More than the clean frames need, because noise moves particles.
_RESERVE = 1.25


def run_particle_training(options: TrainGIOROM) -> None:
    """Train, draw the curve, and print the errors beside those of the simplest motions."""
    _check(options)
    splits = load_particle_splits(options.data, options.n_test)
    _check_scenes(options, splits)
    first = splits.train[0]
    bounds = tuple((float(low), float(high)) for low, high in first.bounds)
    normaliser = ParticleNormaliser.fit(splits.train)
    radius = options.radius or _typical_radius(splits.train, min(options.samples))
    capacity = _capacity(splits.train, max(options.samples), radius)
    types = 1 + max(int(run.particle_type.max()) for _, part in splits.items() for run in part)
    model_key, training_key = jax.random.split(jax.random.key(options.seed))
    model = GraphInteractionStepper(
        normaliser,
        bounds,
        radius=radius,
        window=options.window,
        n_types=types,
        hidden_channels=options.width,
        n_layers=(options.layers, options.layers),
        latent=_latent(options.grid, bounds),
        key=model_key,
    )
    windows = ParticleWindows(
        splits.train,
        window=options.window,
        n_samples=options.samples,
        particles_per_batch=options.particles_per_batch,
        mirror_axes=(0,) if options.mirror else (),
        seed=options.seed,
    )
    say(
        f"Training giorom on {len(splits.train)} trajectories of {first.n_particles} particles, "
        f"{', '.join(map(str, options.samples))} of them, radius {radius:.4g}, {options.steps} "
        f"steps, in {options.folder}"
    )
    try:
        solution = fit(
            model,
            windows,
            loss=ParticleLoss(capacity, noise=options.noise),
            optimizer=one_cycle_adam(options.learning_rate, options.steps),
            n_steps=options.steps,
            key=training_key,
            run_dir=options.folder,
            resume=options.resume,
            overwrite=options.overwrite,
            checkpoint_every=options.checkpoint_every,
            config=_config(options, splits, radius, capacity),
            progress=shows_progress(),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how_to_resume(options)) from None
    say(f"Trained for {solution.stats['seconds']:.0f} s.")
    _tell_overflow(solution.stats["history"], capacity)
    words = ["sciml", "predict", str(options.folder), str(options.data), "--out", "motion.npz"]
    following = shlex.join(words)
    tell_end(options, solution, _errors(options, splits, solution.value), following)


def _check(options: TrainGIOROM) -> None:
    counts = ("window", "width", "steps", "particles_per_batch", "checkpoint_every", "test_steps")
    check_run(options, counts)
    if options.window < 2:
        raise UsageError(f"--window must be at least 2, got {options.window}.")
    if options.layers < 0 or options.grid < 0 or options.grid == 1:
        raise UsageError("--layers must not be negative, and --grid 0 or at least 2.")
    if not options.samples or min(options.samples) < 1:
        raise UsageError(f"--samples must be positive numbers, got {options.samples}.")
    if options.radius is not None and not options.radius > 0:
        raise UsageError(f"--radius must be positive, got {options.radius}.")
    if not options.noise >= 0:
        raise UsageError(f"--noise must not be negative, got {options.noise}.")


def _check_scenes(options: TrainGIOROM, splits: TrajectorySplits) -> None:
    runs = [run for _, part in splits.items() for run in part]
    for run in runs:
        if not same_box(run.bounds, runs[0].bounds):
            raise UsageError("all trajectories must have one box; train on one at a time.")
        if any(run.periodic):
            raise UsageError("giorom does not know periodic boxes.")
        if run.mask.sum() < max(options.samples):
            raise UsageError(
                f"--samples {max(options.samples)} is more than the {run.mask.sum()} particles of "
                "a trajectory."
            )


def _typical_radius(runs: Any, n_samples: int) -> float:
    """Return 2.5 times the mean distance of sampled particles in the first frames."""
    near = []
    for run in list(runs)[:8]:
        x = run.position[0][sample(run, n_samples)].astype(np.float64)
        distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
        distance[np.arange(len(x)), np.arange(len(x))] = np.inf
        near.append(distance.min(axis=1).mean())
    radius = 2.5 * float(np.mean(near))
    if not np.isfinite(radius) or radius <= 0:
        raise UsageError("one particle has no neighbours: give --radius.")
    return radius


def _capacity(runs: Any, n_samples: int, radius: float) -> int:
    """Return places for the neighbours of every particle in the frames that are looked at."""
    most = 1
    for run in list(runs)[:16]:
        frames = np.linspace(0, run.n_times - 1, 6).astype(int)
        x = run.position[frames][:, sample(run, n_samples)]
        most = max(most, most_neighbours(jnp.asarray(x), radius))
    return min(bucket_size(round(_RESERVE * most)), n_samples)


def _latent(nodes: int, bounds: tuple[tuple[float, float], ...]) -> LatentGrid | None:
    if nodes == 0:
        return None
    edges = [high - low for low, high in bounds]
    shape = [max(4, round(nodes * edge / max(edges))) for edge in edges]
    return LatentGrid(shape)


def _config(
    options: TrainGIOROM, splits: TrajectorySplits, radius: float, capacity: int
) -> dict[str, Any]:
    where = ("run_dir", "resume", "overwrite", "checkpoint_every", "test_steps")
    settings = {k: v for k, v in dataclasses.asdict(options).items() if k not in where}
    settings |= {"data": os.path.normpath(options.data), "samples": list(options.samples)}
    return settings | {
        "model": options.NAME,
        "radius": radius,
        "capacity": capacity,
        # What `sciml predict` must not call new.
        "trained_on": [fingerprint(run) for run in (*splits.train, *splits.validation)],
    }


def _tell_overflow(history: Any, capacity: int) -> None:
    _, most = history.get("neighbours", ((), ()))
    if len(most) and max(most) > capacity:
        say(
            f"Up to {int(max(most))} neighbours met {capacity} places in training; some were left "
            "out."
        )


def _errors(options: TrainGIOROM, splits: TrajectorySplits, model: GraphInteractionStepper) -> str:
    if not splits.test:
        return "No test trajectories: the error on new data is not known."
    tests: list[Trajectory] = list(splits.test)
    longest = min(run.n_times for run in tests) - model.window - 1
    n_steps = min(options.test_steps, longest)
    if n_steps < 1:
        return "The test trajectories are too short for a rollout."
    common: dict[str, Any] = {"window": model.window, "n_types": model.n_types}
    box = (model.normaliser, model.bounds)
    still = (0,) * model.dim
    fall = (*still[:-1], -9.8)
    steppers = {
        "no motion": BallisticStepper(*box, None, **common),
        "constant velocity": BallisticStepper(*box, still, **common),
        "free fall": BallisticStepper(*box, fall, **common),
        "giorom": model,
    }
    scores = evaluate_particles(steppers, tests, n_samples=min(options.samples), n_steps=n_steps)
    columns = {
        "method": "method",
        "acceleration_mse": "acceleration MSE",
        "position_mse": f"position MSE, {n_steps} frames",
        "chamfer": "Chamfer",
        "seconds_per_step": "s/frame",
    }
    return format_table([score.row() for score in scores], columns)
