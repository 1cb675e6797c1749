"""GIOROM on water: single steps, motions of 100 frames, density of the samples, cost, end to end.

    python benchmarks/particle_stepper.py [--quick] [--resume] [--folder F] [--seeds 11 12 13]

Our material point method moves 1,200 particles of water in 52 scenes of 150 frames, 2.5 ms apart
(40 train, 4 validate, 8 test, whole trajectories). Models move P/30 to P/4 of the particles, chosen
by farthest-point sampling of the first frame, with one physical radius and one set of weights.
Trivial motions (none, constant velocity, free fall until a wall), linear extrapolation of the
acceleration, and a graph network simulator (GNS) of equal size, features, data and training time
stand beside it. Rollouts start from two frames of each test trajectory. End to end, a rollout of
P/8 particles is carried to all 1,200 by the kernel model and compared with the simulator; its error
is split into that of the motion of the samples and that of the kernel. Times are CPU seconds on one
thread, without compilation, in one process. Each part is written when it is done; ``--resume``
takes up what is there.
"""

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Comparable only with one thread; set before jax starts.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from particle_stepper_cases import (
    DT,
    FRAMES,
    GRAVITY,
    GRID,
    LEARNING_RATE,
    NOISE,
    RADIUS,
    RATIOS,
    ROLLOUT,
    SIZES,
    STAGES,
    STARTS,
    WIDTH,
    WINDOW,
    P,
    Settings,
    SizedLoss,
    build,
    count,
    make_data,
    run_folder,
    seconds_of,
    simulate,
    step_seconds,
    trained,
)

from sciml.core import Target, format_table, write_report
from sciml.data import ParticleNormaliser, ParticleWindows, TrajectorySplits, sample_particles
from sciml.neural_operators import (
    AbstractParticleStepper,
    BallisticStepper,
    KernelReducedOrderModel,
    evaluate_particles,
    rollout_particles,
)
from sciml.numerics import radius_neighbours
from sciml.train import fit, one_cycle_adam

RESULT = Path(__file__).parent / "results" / "particle_stepper.json"
FIGURES = (
    "acceleration_mse",
    "position_mse",
    "centre_error",
    "energy_ratio",
    "seconds_per_step",
    "n_failed",
)


def main(settings: Settings) -> None:
    """Run the parts one after another; write rows and targets after each."""
    if settings.quick:
        settings = dataclasses.replace(settings, steps=12, seeds=settings.seeds[:1])
    settings.folder.mkdir(parents=True, exist_ok=True)
    splits = make_data(settings)
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {}
    first = settings.seeds[0]
    for stage in STAGES:
        for seed in settings.seeds:
            call = functools.partial(train_part, settings, splits, "giorom", seed, stage)
            parts[f"train-giorom-{seed}-{stage}"] = call
        if stage == "one":
            call = functools.partial(train_part, settings, splits, "gns", first, stage)
            parts[f"train-gns-{first}-{stage}"] = call
    parts["trivial"] = functools.partial(trivial_part, splits)
    for name in list(parts):
        if name.startswith("train-"):
            _, kind, seed, stage = name.split("-")
            call = functools.partial(steps_part, settings, splits, kind, int(seed), stage)
            parts[name.replace("train", "test")] = call
    parts["ratios"] = functools.partial(ratios_part, settings, splits)
    parts["end-to-end"] = functools.partial(end_to_end_part, settings, splits)
    done: dict[str, list[dict[str, Any]]] = {}
    for name, run in parts.items():
        kept = settings.folder / f"part-{name}.json"
        if settings.only and name not in settings.only and not kept.exists():
            continue
        if (settings.resume or settings.only) and kept.exists() and name not in settings.only:
            done[name] = json.loads(kept.read_text())
            continue
        began = time.process_time()
        done[name] = run()
        print(f"-- {name}: {time.process_time() - began:.0f} CPU s", flush=True)
        for row in done[name]:
            print(row, flush=True)
        if not settings.quick:
            kept.write_text(json.dumps(done[name]))
            write(settings, done)
    if done and not settings.quick:
        write(settings, done)  # also where all parts were kept ones
    rows = [row for part in done.values() for row in part]
    for kind in dict.fromkeys(row["part"] for row in rows):
        some = [row for row in rows if row["part"] == kind]
        print(format_table(some, {key: key for key in some[0]}))


def train_part(
    settings: Settings, splits: TrajectorySplits, kind: str, seed: int, stage: str
) -> list[dict[str, Any]]:
    """Train, or train longer from what there is; GNS for the same CPU time."""
    model = build(kind, splits, seed)
    seconds = step_seconds_of(settings, splits, kind, model)
    share = 1.0 if kind == "giorom" else step_seconds_of(settings, splits, "giorom") / seconds
    n_frames, wanted, room, rate = STAGES[stage]
    if stage == "one" and not settings.quick:
        wanted = settings.steps
    steps = max(6, round(share * (6 if settings.quick else wanted)))
    if stage == "longer":
        model = trained(settings, kind, seed, "one")
    began = time.process_time()
    solution = fit(
        model,
        ParticleWindows(
            splits.train,
            window=WINDOW,
            n_steps=n_frames,
            n_samples=SIZES,
            particles_per_batch=room,
            n_copies=2,
            mirror_axes=(0,),
            seed=seed,
        ),
        loss=SizedLoss(NOISE),
        optimizer=one_cycle_adam(rate, steps),
        n_steps=steps,
        key=jax.random.key(seed),
        run_dir=run_folder(settings, kind, seed, stage),
        resume=settings.resume,
        overwrite=not settings.resume,
        config={"kind": kind, "seed": seed, "noise": NOISE, "steps": steps},
        checkpoint_every=250,
        progress=False,
    )
    (run_folder(settings, kind, seed, stage) / "done").touch()
    return [
        {
            "part": "training",
            "method": kind,
            "stage": stage,
            "seed": seed,
            "parameters": count(model),
            "frames": n_frames,
            "steps": steps,
            "cpu_ms_of_one_frame_step": 1e3 * seconds,
            "cpu_s_with_compilation": time.process_time() - began,
            "most_neighbours": float(max(solution.stats["history"]["neighbours"][1])),
        }
    ]


def step_seconds_of(
    settings: Settings, splits: TrajectorySplits, kind: str, model: Any = None
) -> float:
    """Return the CPU seconds of a training step on one frame, measured once a kind."""
    kept = settings.folder / f"seconds-{kind}.json"
    if not kept.exists():
        model = build(kind, splits, 1) if model is None else model
        kept.write_text(json.dumps(step_seconds(model, splits)))
    return json.loads(kept.read_text())


def scores(
    steppers: Mapping[str, AbstractParticleStepper],
    trajectories: Any,
    ratio: int,
    part: str,
    seed: int | None,
    starts: tuple[int, ...] = STARTS,
) -> list[dict[str, Any]]:
    """Return rows of errors."""
    found = evaluate_particles(
        steppers, trajectories, n_samples=P // ratio, n_steps=ROLLOUT, starts=starts
    )
    return [{"part": part, "seed": seed, "ratio": ratio} | score.row() for score in found]


def trivial_part(splits: TrajectorySplits) -> list[dict[str, Any]]:
    """Return what costs nothing, on the test trajectories at P/8."""
    normaliser, bounds = ParticleNormaliser.fit(splits.train), splits.train[0].bounds.tolist()
    steppers = {
        "no motion": BallisticStepper(normaliser, bounds, None),
        "constant velocity": BallisticStepper(normaliser, bounds, (0, 0)),
        "gravity only": BallisticStepper(normaliser, bounds, (0, -GRAVITY)),
    }
    rows = scores(steppers, splits.test, 8, "trivial", None)
    rows += scores(steppers, splits.test, 8, "trivial, first frame", None, (0,))
    mse = linear_extrapolation(splits)
    rows.append(
        {"part": "trivial", "seed": None, "ratio": 8, "method": "linear extrapolation"}
        | {"n_samples": P // 8, "acceleration_mse": mse}
    )
    return rows


def linear_extrapolation(splits: TrajectorySplits) -> float:
    """Return the error of the best linear map of the last four accelerations to the next."""

    def pairs(runs: Any, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = [], []
        for run in runs:
            x = run.position[:, sample_particles(run, n_samples)].astype(np.float64)
            a = np.diff(x, n=2, axis=0) / DT**2
            past = np.stack([a[4 - k : len(a) - 1 - k] for k in range(4)], axis=-1)
            inputs.append(past[::4].reshape(-1, 4))
            targets.append(a[5:][::4].reshape(-1))
        x = np.concatenate(inputs)
        return np.concatenate([x, np.ones((len(x), 1))], axis=1), np.concatenate(targets)

    x, y = pairs(splits.train, P // 8)
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    x, y = pairs(splits.test, P // 8)
    return float(np.mean((x @ weights - y) ** 2))


def steps_part(
    settings: Settings, splits: TrajectorySplits, kind: str, seed: int, stage: str
) -> list[dict[str, Any]]:
    """Return the errors of a trained model at P/8, on validation and test."""
    model = trained(settings, kind, seed, stage)
    rows = []
    for part in ("validation", "test"):
        runs = getattr(splits, part)
        rows += scores({kind: model}, runs, 8, f"{stage}, {part}", seed)
    return rows


def ratios_part(settings: Settings, splits: TrajectorySplits) -> list[dict[str, Any]]:
    """Return errors and times of one model at four densities, from the first frames."""
    rows = []
    for seed in settings.seeds:
        stage = last_stage(settings, seed)
        if stage is None:
            continue
        model = trained(settings, "giorom", seed, stage)
        for ratio in RATIOS:
            found = scores({"giorom": model}, splits.test, ratio, "ratios", seed, (0,))
            rows += [row | {"stage": stage} for row in found]
    return rows


def last_stage(settings: Settings, seed: int) -> str | None:
    """Return the last stage of the training that is done; None if none is."""
    done = [s for s in STAGES if (run_folder(settings, "giorom", seed, s) / "done").exists()]
    return done[-1] if done else None


def end_to_end_part(settings: Settings, splits: TrajectorySplits) -> list[dict[str, Any]]:
    """Return errors and times from P/8 particles to all of them, by frame 100.

    The kernel model carries all particles along with the samples. With the true samples its own
    error is left; the difference of the two answers is what the stepper adds.
    """
    stage = last_stage(settings, settings.seeds[0])
    if stage is None:
        raise RuntimeError("train a model first: leave out --only")
    model = trained(settings, "giorom", settings.seeds[0], stage)
    kernel = KernelReducedOrderModel(2, key=jax.random.key(settings.seeds[0]))
    first, frames = WINDOW, slice(WINDOW + 1, WINDOW + 1 + ROLLOUT)
    names = ("all", "stepper", "kernel", "samples", "motion", "motion_samples")
    sums: dict[str, float] = dict.fromkeys(names, 0.0)
    for run in splits.test:
        chosen = sample_particles(run, P // 8)
        x, everyone, box = run.position[:, chosen], run.position[first], run.bounds
        moved = rollout_particles(model, jnp.asarray(x[: first + 1]), ROLLOUT, throw=False).value
        paths = {
            "found": np.concatenate([x[first][None], np.asarray(moved)]),
            "true": x[first : frames.stop],
        }
        full = {
            name: np.asarray(kernel(everyone, path, bounds=box.astype(np.float32)))[1:]
            for name, path in paths.items()
        }
        truth = run.position[frames]
        pairs = {
            "all": (full["found"], truth),
            "stepper": (full["found"], full["true"]),
            "kernel": (full["true"], truth),
            "samples": (paths["found"][1:], x[frames]),
            "motion": (truth, everyone[None]),
            "motion_samples": (x[frames], x[first][None]),
        }
        for name, (one, other) in pairs.items():
            sums[name] += float(np.sum((one.astype(np.float64) - other) ** 2))
    row: dict[str, Any] = {
        "part": "end to end",
        "stage": stage,
        "samples": P // 8,
        "particles": P,
        "frames": ROLLOUT,
    }
    for name in ("all", "stepper", "kernel"):
        row[f"relative_error_{name}"] = float(np.sqrt(sums[name] / sums["motion"]))
    row["relative_error_samples"] = float(np.sqrt(sums["samples"] / sums["motion_samples"]))
    return [row | times(settings, splits, model, kernel)]


def times(
    settings: Settings,
    splits: TrajectorySplits,
    model: AbstractParticleStepper,
    kernel: KernelReducedOrderModel,
) -> dict[str, float]:
    """Return the CPU seconds for 100 frames of each way to them, without compilation."""
    run = splits.test[0]
    chosen = sample_particles(run, P // 8)
    x, box = jnp.asarray(run.position[:, chosen]), run.bounds.astype(np.float32)
    start, path = x[: WINDOW + 1], x[WINDOW : WINDOW + 1 + ROLLOUT]
    capacity = int(rollout_particles(model, start, ROLLOUT, throw=False).stats["capacity"])

    def roll(stepper: Any, start: Any, n: int, places: int) -> Any:
        return rollout_particles(stepper, start, n, capacity=places, throw=False).value

    _, simulate_again = simulate(settings.data_seed, 1)
    found = {
        "rollout_s": seconds_of(lambda: roll(model, start, ROLLOUT, capacity), 3),
        "kernel_s": seconds_of(lambda: kernel(run.position[WINDOW], path, bounds=box), 3),
        "simulator_s": seconds_of(lambda: simulate_again().value, 3) * ROLLOUT / FRAMES,
    }
    # All particles: with the radius of the samples, and with as many neighbours as the samples
    # have. Times do not depend on the weights.
    everyone = jnp.asarray(run.position[: WINDOW + 1])
    for name, radius, n in (("same_radius", RADIUS, 2), ("same_number", RADIUS / 8**0.5, 10)):
        for kind in ("gns",) if name == "same_radius" else ("gns", "giorom"):
            other = build(kind, splits, 1, radius=radius)
            near = radius_neighbours(everyone[-1], everyone[-1], radius)
            places = round(1.3 * int(near.needed))
            seconds = seconds_of(lambda o=other, m=n, k=places: roll(o, everyone, m, k), 2)
            found[f"{kind}_all_{name}_s"] = seconds / n * ROLLOUT
    return found


def write(settings: Settings, done: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write what there is."""
    write_report(
        RESULT,
        rows=[row for part in done.values() for row in part],
        targets=targets(settings, done),
        settings={
            "seeds": list(settings.seeds),
            "steps": settings.steps,
            "particles": P,
            "radius": RADIUS,
            "training_samples": list(SIZES),
            "noise": NOISE,
            "width": WIDTH,
            "grid": list(GRID),
            "learning_rate": LEARNING_RATE,
            "stages": {name: list(stage) for name, stage in STAGES.items()},
        },
    )


def targets(settings: Settings, done: Mapping[str, list[dict[str, Any]]]) -> list[Target]:
    """Return what was promised, as far as the parts are done."""

    def mean(part: str, key: str, method: str | None = None) -> float | None:
        rows = [r for name, some in done.items() for r in some if r["part"] == part]
        values = [r[key] for r in rows if key in r and method in (None, r["method"])]
        return float(np.mean(values)) if values else None

    def ratio(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a / b

    trivial = [r for r in done.get("trivial", []) if "position_mse" in r and r["part"] == "trivial"]
    best = min((r["position_mse"] for r in trivial), default=None)
    final = final_part(done)
    ours = {key: mean(final, key, "giorom") for key in FIGURES}
    one = {key: mean("one, test", key, "giorom") for key in FIGURES}
    gns = {key: mean("one, test", key, "gns") for key in FIGURES}
    worst = max(
        (
            r["position_mse"]
            for n in done
            if n.startswith("test-")
            for r in done[n]
            if (r["part"], r["method"]) == (final, "giorom")
        ),
        default=None,
    )
    gravity = mean("trivial", "acceleration_mse", "gravity only")
    linear = mean("trivial", "acceleration_mse", "linear extrapolation")
    found = [
        Target(
            "acceleration of one step: MSE over that of gravity alone, mean of the seeds",
            ratio(ours["acceleration_mse"], gravity),
            at_most=0.25,
        ),
        Target(
            "acceleration of one step: MSE over that of linear extrapolation",
            ratio(ours["acceleration_mse"], linear),
            at_most=1,
        ),
        Target(
            "100 frames: position MSE over that of the best trivial motion, mean of the seeds",
            ratio(ours["position_mse"], best),
            at_most=0.5,
        ),
        Target("100 frames: the same, worst seed", ratio(worst, best), at_most=0.5),
        Target("rollouts that failed", ours["n_failed"], at_most=0),
        Target(
            "centre of mass in frame 100: error over the box", ours["centre_error"], at_most=0.03
        ),
        Target(
            "kinetic energy over that of the simulator",
            ours["energy_ratio"],
            at_least=0.8,
        ),
        Target(
            "acceleration: MSE over that of GNS of equal size and time, both trained on one step",
            ratio(one["acceleration_mse"], gns["acceleration_mse"]),
            at_most=1,
        ),
        Target(
            "100 frames: position MSE over that of GNS, both trained on one step",
            ratio(one["position_mse"], gns["position_mse"]),
            at_most=1,
        ),
        Target(
            "time of a step over that of GNS",
            ratio(one["seconds_per_step"], gns["seconds_per_step"]),
            at_most=1,
        ),
    ]
    for key in ("acceleration_mse", "position_mse"):
        by_ratio = [
            float(np.mean([r[key] for r in done.get("ratios", []) if r["ratio"] == k] or [np.nan]))
            for k in RATIOS
        ]
        spread = max(by_ratio) / min(by_ratio)
        name = f"P/30 to P/4: largest over smallest {key}"
        found.append(Target(f"{name}, its root", spread**0.5, at_most=1.5))
        found.append(Target(name, spread, at_most=1.5))
    (end,) = done.get("end-to-end", [{}])
    spent = end.get("rollout_s", np.nan) + end.get("kernel_s", np.nan)
    rivals = {
        "the simulator": "simulator_s",
        "GNS of all particles, same radius": "gns_all_same_radius_s",
        "GNS of all particles, as many neighbours": "gns_all_same_number_s",
    }
    for name, key in rivals.items():
        speed = end.get(key, np.nan) / spent
        found.append(Target(f"end to end: speed over {name}", speed, at_least=1))
    error = end.get("relative_error_all")
    found.append(Target("end to end: error over the motion, all particles", error, at_most=0.5))
    return found


def final_part(done: Mapping[str, list[dict[str, Any]]]) -> str:
    """Return the rows that are of the models with all stages of their training, as far as done."""
    parts = {row["part"] for rows in done.values() for row in rows}
    return next((f"{s}, test" for s in reversed(STAGES) if f"{s}, test" in parts), "")


if __name__ == "__main__":
    main(tyro.cli(Settings))
