"""The work of ``sciml predict`` for a model of particles."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import format_table, import_optional
from ..data import Trajectory, sample_particles, save_trajectories
from ..neural_operators import (
    AbstractParticleStepper,
    BallisticStepper,
    KernelReducedOrderModel,
    rollout_particles,
)
from ..neural_operators._giorom._evaluate_particles import check_scene
from ..plot import animate_particles, plot_particles, save_figure
from ._errors import UsageError
from ._load_particles import load_particle_part
from ._predict import Predict
from ._terminal import say


def run_particle_prediction(
    options: Predict, stepper: AbstractParticleStepper, settings: dict[str, Any]
) -> None:
    """Move sampled particles on, write them, print errors where the truth is known, and draw."""
    for name in ("n_in", "window", "n_points"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for models of fields.")
    if options.out.suffix != ".npz":
        raise UsageError(f"motions of particles are written to .npz, got {options.out}.")
    if options.animation is not None:
        if options.animation.suffix not in (".gif", ".mp4"):
            raise UsageError(f"--animation must end in .gif or .mp4, got {options.animation}.")
        import_optional("matplotlib", "Drawing the film")
    runs = load_particle_part(options.data, options.split, settings.get("trained_on", ()))
    for k, run in enumerate(runs):
        check_scene(stepper, run, f"the model does not fit trajectory {k} of {options.data}")
    frames = stepper.window + 1
    n_steps = options.n_steps or min(100, max(1, runs[0].n_times - frames))
    n_samples = options.n_samples or int(min(settings.get("samples", [0])))
    moved, truths = [], []
    for k, run in enumerate(runs):
        if run.n_times < frames:
            raise UsageError(
                f"the model starts from {frames} frames; trajectory {k} has {run.n_times}."
            )
        everyone = run.select(run.mask)
        chosen = sample_particles(run, n_samples) if n_samples else run.mask
        run = run.select(chosen)
        solution = rollout_particles(
            stepper,
            jnp.asarray(run.position[:frames]),
            n_steps,
            particle_type=jnp.asarray(run.particle_type),
        )
        following = np.asarray(solution.value)
        if options.all_particles:
            following = _carry(everyone, run.position[frames - 1], following, frames)
            run = everyone
        path = np.concatenate([run.position[:frames], following])
        moved.append(
            Trajectory.from_array(
                path,
                dt=run.dt,
                bounds=run.bounds,
                particle_type=run.particle_type,
                type_names=run.type_names,
                attributes=dict(run.attributes)
                | {"forecast_by": type(stepper).__name__, "forecast_from_frames": frames},
            )
        )
        truths.append(run)
    save_trajectories(options.out, moved)
    n = moved[0].n_particles
    say(f"Motions    {options.out}: {len(moved)} of {n} particles, {n_steps} frames")
    known = [
        (path, truth)
        for path, truth in zip(moved, truths, strict=True)
        if truth.n_times >= frames + n_steps
    ]
    if not known:
        say("The file does not hold the frames that were predicted: no errors to tell.")
    else:
        say()
        say(_errors(stepper, known, frames, n_steps))
    clouds = {type(stepper).__name__: moved[0].position}
    if truths[0].n_times >= len(moved[0].position):
        clouds = {"truth": truths[0].position[: len(moved[0].position)]} | clouds
    times = moved[0].dt * np.arange(moved[0].n_times)
    bounds = moved[0].bounds
    if options.figure is not None:
        figure = plot_particles(clouds, times=times, bounds=bounds)
        say(f"\nFigure     {save_figure(figure, options.figure)}")
    if options.animation is not None:
        film = animate_particles(options.animation, clouds, times=times, bounds=bounds)
        say(f"Film       {film}")


def _carry(
    everyone: Trajectory, last: np.ndarray, following: np.ndarray, frames: int
) -> np.ndarray:
    """Return the positions of all particles from those of the samples that were moved."""
    kernel = KernelReducedOrderModel(everyone.dim, key=jax.random.key(0))
    samples = np.concatenate([last[None], following])
    bounds = everyone.bounds.astype(samples.dtype)
    return np.asarray(kernel(everyone.position[frames - 1], samples, bounds=bounds))[1:]


def _errors(
    stepper: AbstractParticleStepper,
    known: list[tuple[Trajectory, Trajectory]],
    frames: int,
    n_steps: int,
) -> str:
    rows: dict[str, list[float]] = {}
    scales, bounds, walls = stepper.normaliser, stepper.bounds, stepper.walls
    types = stepper.n_types
    for path, truth in known:
        wanted = truth.position[frames : frames + n_steps]
        start = jnp.asarray(truth.position[:frames])
        found = {type(stepper).__name__: path.position[frames:]}
        for name, acceleration in (("no motion", None), ("constant velocity", (0,) * path.dim)):
            other = BallisticStepper(
                scales, bounds, acceleration, window=frames - 1, n_types=types, walls=walls
            )
            found[name] = np.asarray(rollout_particles(other, start, n_steps).value)
        for name, positions in found.items():
            rows.setdefault(name, []).append(float(np.mean((positions - wanted) ** 2)))
    table = [{"method": name, "mse": float(np.mean(values))} for name, values in rows.items()]
    return format_table(table, {"method": "method", "mse": "position MSE"})
