"""The work of ``sciml predict`` for a model of particles."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core import format_table, import_optional
from ..data import Trajectory, sample_particles, save_trajectories
from ..neural_operators import AbstractParticleStepper, BallisticStepper, rollout_particles
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
    runs = load_particle_part(options.data, options.split)
    check_scene(stepper, runs, options.data)
    frames = stepper.window + 1
    n_steps = options.n_steps or min(100, max(1, runs[0].n_times - frames))
    n_samples = options.n_samples or int(min(settings.get("samples", [0])))
    moved, truths = [], []
    for k, run in enumerate(runs):
        if run.n_times < frames:
            raise UsageError(
                f"the model starts from {frames} frames; trajectory {k} has {run.n_times}."
            )
        chosen = sample_particles(run, n_samples) if n_samples else run.mask
        run = run.select(chosen)
        solution = rollout_particles(
            stepper,
            jnp.asarray(run.position[:frames]),
            n_steps,
            particle_type=jnp.asarray(run.particle_type),
        )
        path = np.concatenate([run.position[:frames], np.asarray(solution.value)])
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


def check_scene(
    stepper: AbstractParticleStepper, runs: tuple[Trajectory, ...], source: str | Path
) -> None:
    """Raise unless the trajectories have the time step and the box that the model knows."""
    for run in runs:
        same_dt = abs(run.dt - stepper.normaliser.dt) <= 1e-6 * run.dt
        if run.dim != stepper.dim or not same_dt or not np.allclose(run.bounds, stepper.bounds):
            raise UsageError(
                f"the model was trained with frames {stepper.normaliser.dt:g} apart in the box "
                f"{stepper.bounds}; {source} has {run.dt:g} and {run.bounds.tolist()}."
            )
        if run.particle_type.max() >= stepper.n_types:
            raise UsageError(
                f"the model knows {stepper.n_types} particle types; {source} has the type "
                f"{run.particle_type.max()}."
            )


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
