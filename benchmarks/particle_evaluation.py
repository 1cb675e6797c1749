"""Evaluation of particles at full order: the kernel model against classical interpolation.

Blocks of water, elastic matter and sand fall, slide and splash (material point method, 2025
particles, 125 frames). One particle in 8 or in 30 is known in all frames, the others in the first
one only: where are they? Trajectories are whole: 16 to learn from, 4 to choose by, 8 to test. The
classical rivals interpolate displacements in the first frame; their parameters are chosen on the
validation
trajectories, and the best of them on the test trajectories themselves is the one to beat.

    python benchmarks/particle_evaluation.py            # all, about 12 minutes of one core
    python benchmarks/particle_evaluation.py --quick    # a small version, to see that it runs
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import tyro
from scipy.spatial import cKDTree

from sciml.core import Target, format_table, write_report
from sciml.data import ParticleRecipe, generate_particles, sample_particles
from sciml.neural_operators import (
    CandidateBatches,
    GappyPOD,
    KernelReducedOrderModel,
    MovingLeastSquares,
    NearestSample,
    NoMotion,
    ShepardInterpolant,
    ThinPlateSpline,
    train_full_order,
)

RECIPES = {
    "water": ParticleRecipe.water,
    "elastic": ParticleRecipe.elastic,
    "sand": ParticleRecipe.sand,
}
CLASSICAL = {
    "no motion": [NoMotion()],
    "nearest sample": [NearestSample()],
    "Shepard": [ShepardInterpolant(k, p) for k in (4, 8) for p in (2, 4)],
    "moving least squares": [MovingLeastSquares(k) for k in (4, 5, 6, 8, 12)],
    "thin-plate spline": [ThinPlateSpline(), ThinPlateSpline(1e-4)],
}
CANDIDATES = (
    "reference spline",
    "reference least squares",
    "carried by a smooth spline",
    "carried by a rough spline",
    "carried by splats",
)
COLUMNS = ("material", "ratio", "method", "seed", "relative_error", "mean_of_trajectories",
           "inside", "at_the_surface", "cpu_seconds")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run."""

    out: Path = Path("benchmarks/results/particle_evaluation.json")
    """The result file."""
    quick: bool = False
    """A small version; its figures mean nothing."""
    seed: int = 6311
    """Seed of the scenes."""
    seeds: tuple[int, ...] = (17, 18, 19)
    """Seeds of the trainings."""
    steps: int = 600
    """Steps of a training."""
    materials: tuple[str, ...] = ("water", "elastic", "sand")
    """What is simulated; rows of other materials are kept from the result file, if it is there."""


def main(settings: Settings) -> None:
    """Run everything and write the report."""
    n, frames = (400, 31) if settings.quick else (2025, 126)
    counts = (4, 2, 2) if settings.quick else (16, 4, 8)
    rows = kept_rows(settings)
    model: Any = KernelReducedOrderModel(2, key=jax.random.key(2))
    for material in settings.materials:
        make = RECIPES[material]
        begin = time.process_time()
        splits = generate_particles(
            None,
            recipe=make(n_particles=n, n_frames=frames),
            n_train=counts[0],
            n_validation=counts[1],
            n_test=counts[2],
            seed=settings.seed,
            progress=False,
        )
        print(f"{material}: simulated in {time.process_time() - begin:.0f} s", flush=True)
        for ratio in (8, 30):
            found, model = compare(material, ratio, n // ratio, splits, settings)
            rows += found
            print(format_table(found, {name: name for name in COLUMNS}), flush=True)
            write(settings, rows, [])
    rigid = rigid_error(model)
    timings = time_queries(settings.quick)
    print(format_table(timings, {name: name for name in timings[0]}))
    write(settings, rows + timings, make_targets(rows, timings, rigid))


def kept_rows(settings) -> list[dict[str, Any]]:
    """Return the rows of materials that are not run again."""
    if set(settings.materials) == set(RECIPES) or not settings.out.is_file():
        return []
    rows = json.loads(settings.out.read_text())["rows"]
    return [r for r in rows if r.get("material") in RECIPES
            and r["material"] not in settings.materials]  # fmt: skip


def write(settings, rows, targets) -> None:
    """Write what there is."""
    facts = dataclasses.asdict(settings) | {"out": settings.out.name}
    path = write_report(settings.out, rows=rows, targets=targets, settings=facts)
    if targets:
        for target in targets:
            print(target.as_record())
        print(path)


def compare(material, ratio, n_samples, splits, settings) -> tuple[list[dict[str, Any]], Any]:
    """Return the rows of one material and one number of samples."""
    tests = [Case(run, n_samples) for run in splits.test]
    checks = [Case(run, n_samples) for run in splits.validation]

    def row(method, predict):
        begin = time.process_time()
        score = pooled([case.score(predict(case)) for case in tests])
        return {"material": material, "ratio": ratio, "method": method, "seed": None,
                **score, "cpu_seconds": time.process_time() - begin}  # fmt: skip

    rows = []
    for name, rivals in CLASSICAL.items():
        best = min(
            rivals,
            key=lambda r: pooled([c.score(c.by(r)) for c in checks])["relative_error"],
        )
        label = name if len(rivals) == 1 else f"{name} {best.__dict__}"
        rows.append(row(label, lambda case, r=best: case.by(r)))
    pods = [GappyPOD.from_trajectories(splits.train, k, ridge=1e-4) for k in (8, 32)]
    pod = min(pods, key=lambda p: pooled([c.score(c.pod(p)) for c in checks])["relative_error"])
    rows.append(row(f"gappy POD, {len(pod.modes)} modes", lambda case: case.pod(pod)))

    start = KernelReducedOrderModel(2, key=jax.random.key(0))
    begin = time.process_time()
    batches = (
        CandidateBatches(start, splits.train, n_samples),
        CandidateBatches(start, splits.validation, n_samples),
    )
    preparing = time.process_time() - begin
    tracks = [case.candidates(start) for case in tests]
    for k, name in enumerate(CANDIDATES):
        score = pooled([c.score(t[0][:, :, k]) for c, t in zip(tests, tracks, strict=True)])
        rows.append({"material": material, "ratio": ratio, "method": f"untrained: {name}",
                     "seed": None, **score, "cpu_seconds": None})  # fmt: skip
    model = start
    for seed in settings.seeds:
        begin = time.process_time()
        solution = train_full_order(
            KernelReducedOrderModel(2, key=jax.random.key(seed)),
            splits.train,
            splits.validation,
            n_samples,
            n_steps=60 if settings.quick else settings.steps,
            batches=batches,
            key=jax.random.key(seed),
            progress=False,
        )
        model = solution.value
        seconds = preparing + time.process_time() - begin
        # The candidates are there already; `model(...)` gives the same to rounding.
        score = pooled([c.score(c.mixed(model, *t)) for c, t in zip(tests, tracks, strict=True)])
        rows.append({"material": material, "ratio": ratio, "method": "kernel model", "seed": seed,
                     **score, "cpu_seconds": seconds})  # fmt: skip
    return rows, model


@eqx.filter_jit
def mix(model, tracks, features):
    """Return the mixture of a frame."""
    return model.mix(tracks, features)


class Case:
    """A trajectory with its samples and queries."""

    def __init__(self, run, n_samples):
        self.run = run
        self.samples = sample_particles(run, n_samples)
        self.queries = np.setdiff1d(np.arange(run.n_particles), self.samples)
        start = run.position[0].astype(float)
        around = cKDTree(start).query_ball_point(
            start[self.queries], 1.6 * run.attributes["spacing"], return_length=True
        )
        self.surface = around < 9

    def by(self, rival):
        """Return positions by a classical rule."""
        return rival(self.run.position[0, self.queries], self.run.position[:, self.samples])[1:]

    def pod(self, pod):
        """Return positions by modes."""
        displacement = pod(self.samples, self.run.displacement[:, self.samples])
        return (self.run.position[0] + displacement)[1:, self.queries]

    def candidates(self, model):
        """Return positions by each candidate of the kernel model, and the network's view."""
        found = model.candidates(
            self.run.position[0, self.queries],
            self.run.position[:, self.samples],
            bounds=self.run.bounds,
        )
        return tuple(np.asarray(array) for array in found)

    def mixed(self, model, tracks, features):
        """Return the mixture of the candidates."""
        return np.stack([mix(model, *pair) for pair in zip(tracks, features, strict=True)])

    def score(self, position):
        """Return sums of squares of error and displacement, of all queries and by place."""
        truth = self.run.position[1:, self.queries]
        error = np.sum((position - truth) ** 2, (0, 2), dtype=float)
        moved = np.sum((truth - self.run.position[0, self.queries]) ** 2, (0, 2), dtype=float)
        where = (slice(None), ~self.surface, self.surface)
        return np.array([[error[w].sum(), moved[w].sum()] for w in where])


def pooled(scores) -> dict[str, float]:
    """Return the error over all trajectories, relative to the displacement."""
    sums = np.sum(scores, axis=0)
    every, inside, surface = np.sqrt(sums[:, 0] / sums[:, 1])
    each = np.sqrt([s[0, 0] / s[0, 1] for s in scores])
    return {
        "relative_error": float(every),
        "mean_of_trajectories": float(each.mean()),
        "inside": float(inside),
        "at_the_surface": float(surface),
    }


def rigid_error(model) -> float:
    """Return the largest error on a rigid motion, relative to the largest displacement."""
    rng = np.random.default_rng(5)
    start = rng.uniform(size=(300, 2)).astype(np.float32)
    frames = []
    for k in range(20):
        angle = 0.15 * k
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        frames.append(start @ turn.T + k * np.array([0.1, -0.05]))
    frames = np.stack(frames).astype(np.float32)
    found = np.asarray(model(start[64:], frames[:, :64]))
    return float(np.abs(found - frames[:, 64:]).max() / np.abs(frames - frames[0]).max())


def time_queries(quick) -> list[dict[str, Any]]:
    """Return CPU seconds a frame against the number of queries and of samples."""
    rng = np.random.default_rng(11)
    model = KernelReducedOrderModel(2, key=jax.random.key(1))
    rows = []
    n_frames = 4
    for n_samples in (67, 253):
        start = rng.uniform(size=(n_samples, 2)).astype(np.float32)
        steps = 0.01 * rng.normal(size=(n_frames - 1, n_samples, 2)).astype(np.float32)
        samples = np.concatenate([start[None], start + np.cumsum(steps, 0)])
        for n in (1000, 10_000) if quick else (1000, 10_000, 100_000):
            queries = rng.uniform(size=(n, 2)).astype(np.float32)
            ours = spent(lambda q=queries, s=samples: jax.block_until_ready(model(q, s)))
            plate = spent(lambda q=queries, s=samples: ThinPlateSpline()(q, s))
            local = spent(lambda q=queries, s=samples: MovingLeastSquares()(q, s))
            rows.append(
                {"timing": "CPU seconds a frame", "n_samples": n_samples, "n_queries": n,
                 "kernel model": ours / (n_frames - 1),
                 "thin-plate spline": plate / (n_frames - 1),
                 "moving least squares": local / (n_frames - 1)}
            )  # fmt: skip
    return rows


def spent(call) -> float:
    """Return the least CPU seconds of two calls, after one that compiles."""
    call()
    times = []
    for _ in range(2):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def make_targets(rows, timings, rigid) -> list[Target]:
    """Return what was promised beside what came out."""
    targets = []
    for material in RECIPES:
        for ratio in (8, 30):
            mine = [r for r in rows if r["material"] == material and r["ratio"] == ratio]
            if not mine:
                continue
            ours = [r["relative_error"] for r in mine if r["method"] == "kernel model"]
            plain = min(r["relative_error"] for r in mine if r["method"].startswith("untrained"))
            classical = min(
                r["relative_error"]
                for r in mine
                if r["method"] != "kernel model" and not r["method"].startswith("untrained")
            )
            name = f"{material}, one in {ratio}: error over that of the best "
            targets.append(
                Target(
                    f"{name}classical rule, mean of the seeds",
                    float(np.mean(ours)) / classical,
                    at_most=0.8 if material == "water" else 1.0,
                )
            )
            targets.append(
                Target(f"{name}of its own candidates", float(np.mean(ours)) / plain, at_most=1.0)
            )
    targets.append(Target("rigid motion: largest relative error, float32", rigid, at_most=1e-5))
    most = [r for r in timings if r["n_queries"] == max(t["n_queries"] for t in timings)]
    for r in most:
        targets.append(
            Target(
                f"{r['n_queries']} queries, {r['n_samples']} samples: CPU seconds a frame",
                r["kernel model"],
                at_most=1.0,
            )
        )
    return targets


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
