"""Flows in the form of CFDBench: generators against what is known, models against persistence.

    python benchmarks/cfdbench_like.py            # seven CPU minutes on one busy core
    python benchmarks/cfdbench_like.py --quick    # smaller, a few minutes; nothing is written

The data are generated here (``cfdbench_like``); they are not CFDBench. First the generators are
compared with what is known: the extreme velocities on the centre lines of the cavity (Ghia et al.
1982), the parabola at the end of a channel, the shedding frequency of a cylinder between walls.
Then 48 cavities (24 speeds of the lid, 24 viscosities, Reynolds numbers 100 to 1000) of 60 frames
on 48 x 48 nodes are split by case, 38 / 5 / 5, and models of one step are compared: persistence,
ridge regression on the principal components, U-Net, FNO with and without residual, T1 with cosines
and with Fourier modes, as published and with the activation on a grid. Errors are sums of squares
over sums of squares, in units of the lid's speed, in the fluid. Roll-outs start from rest (frame 0)
and from frame 20, with the boundary put in after each step.
``cpu_seconds`` is process time of training, compilation included.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from sciml.core import Target, format_table, write_report
from sciml.data import FlowCase, FlowNormaliser, frame_pairs, generate_cavity
from sciml.neural_operators import (
    FNO,
    FlowStep,
    ModeMixing,
    TransformOnce,
    flow_loss,
    rollout_flow,
)
from sciml.nn import UNet
from sciml.numerics import CosineBasis, FourierBasis
from sciml.problems import ChannelFlow, Disc, LidDrivenCavity, march_flow
from sciml.train import fit, one_cycle_adam

RESULT = Path(__file__).parent / "results" / "cfdbench_like.json"
STARTS, N_ROLLOUT = (0, 20), 20
# u_min on the vertical centre line, v_max and v_min on the horizontal one: Ghia et al. 1982.
GHIA = {
    100: (-0.21090, 0.17527, -0.24533),
    400: (-0.32726, 0.30203, -0.44993),
    1000: (-0.38289, 0.37095, -0.51550),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seeds: tuple[int, ...] = (11, 12, 13)
    """Training runs of the cheap models (T1); the others take the first seed."""
    steps: int = 250
    """Training steps of each model, 8 pairs a step."""
    quick: bool = False
    """A few minutes: coarse grids, fewer cases and steps; nothing is written."""
    out: Path = RESULT


def main(settings: Settings) -> None:
    """Run everything, print tables, write the result file."""
    checks = [*cavity_rows(settings), channel_row(), cylinder_row(settings)]
    print_rows(checks, ("check", "value", "reference", "deviation", "cpu_seconds"))
    begin = time.process_time()
    splits = make_cases(settings)
    generation = time.process_time() - begin
    print(f"{sum(len(s) for s in splits.values())} cases in {generation:.0f} CPU s")
    rows = model_rows(splits, settings)
    columns = ("method", "seed", "one_step_nmse", "rollout_nmse", "last_frame_nmse", "cpu_seconds")
    print_rows(rows, columns)
    targets = make_targets(checks, rows)
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            rows=[*checks, *rows],
            targets=targets,
            settings={
                "seeds": list(settings.seeds),
                "steps": settings.steps,
                "cases": {part: len(cases) for part, cases in splits.items()},
                "generation_cpu_seconds": generation,
                "rollout_starts": list(STARTS),
                "rollout_steps": N_ROLLOUT,
            },
        )
        print(f"written: {settings.out}")


def cavity_rows(settings: Settings) -> list[dict[str, Any]]:
    """Compare stationary cavities with the published extremes, on the data's grid and a finer."""
    rows = []
    for nodes in (65,) if settings.quick else (65, 129):
        for reynolds, reference in GHIA.items():
            begin = time.process_time()
            n_frames = {100: 20, 400: 30, 1000: 50}[reynolds]
            flow = LidDrivenCavity((nodes, nodes), viscosity=1 / reynolds)
            u, v = np.asarray(march_flow(flow, dt=1.0, n_frames=n_frames).value[-1])
            middle = nodes // 2
            found = (u[:, middle].min(), v[middle].max(), v[middle].min())
            seconds = time.process_time() - begin
            for name, value, wanted in zip(
                ("u_min", "v_max", "v_min"), found, reference, strict=True
            ):
                rows.append(
                    {
                        "check": f"cavity, Re {reynolds}, {nodes} nodes: {name}",
                        "value": float(value),
                        "reference": wanted,
                        "deviation": abs(float(value) / wanted - 1),
                        "cpu_seconds": seconds,
                    }
                )
    return rows


def channel_row() -> dict[str, Any]:
    """Compare the outlet of a channel with the parabola."""
    begin = time.process_time()
    flow = ChannelFlow((33, 97), viscosity=0.01, domain_extent=(1.0, 8.0))
    frame = np.asarray(march_flow(flow, dt=1.0, n_frames=30).value[-1])
    y, _ = flow.positions()
    largest = float(np.abs(frame[0, :, -1] - 6 * y * (1 - y)).max() / 1.5)
    return {
        "check": "channel, Re 100: outlet profile, largest error over the maximum",
        "value": float(frame[0, :, -1].max()),
        "reference": 1.5,
        "deviation": largest,
        "cpu_seconds": time.process_time() - begin,
    }


def cylinder_row(settings: Settings) -> dict[str, Any]:
    """Measure the Strouhal number in the box of CFDBench (a sixth of it blocked), Re 150."""
    begin = time.process_time()
    diameter, dt = 0.02, 0.004
    nodes = (65, 119) if settings.quick else (97, 177)
    flow = ChannelFlow(
        nodes,
        viscosity=diameter / 150,
        domain_extent=(0.12, 0.22),
        obstacle=Disc((0.06, 0.06), diameter / 2),
    )
    frames = np.asarray(march_flow(flow, dt=dt, n_frames=200).value)
    x = int(0.10 / 0.22 * nodes[1])
    probe = frames[100:, 1, nodes[0] // 2, x]
    probe = probe - probe.mean()
    up = np.nonzero((probe[:-1] < 0) & (probe[1:] >= 0))[0]
    crossings = up - probe[up] / (probe[up + 1] - probe[up])
    strouhal = float(diameter / (np.diff(crossings).mean() * dt)) if len(up) > 1 else float("nan")
    return {
        "check": "cylinder between walls, Re 150: Strouhal number (reported, no reference)",
        "value": strouhal,
        "reference": None,
        "deviation": None,
        "cpu_seconds": time.process_time() - begin,
    }


def make_cases(settings: Settings) -> dict[str, list[FlowCase]]:
    """Generate the cavities and split them by case."""
    n, n_frames, count = (30, 25, 8) if settings.quick else (46, 60, 24)
    reynolds = np.geomspace(100, 1000, count)
    common = {"density": 1.0, "size": 0.1, "n": n, "n_frames": n_frames, "dt": 0.1}
    cases = [generate_cavity(lid=r * 1e-3, viscosity=1e-4, **common) for r in reynolds]
    cases += [generate_cavity(lid=0.4, viscosity=0.04 / r, **common) for r in reynolds * 1.02]
    order = np.random.default_rng(2026).permutation(len(cases))
    held = max(1, len(cases) // 10 + 1)
    parts = np.split(order, (len(cases) - 2 * held, len(cases) - held))
    names = ("train", "validation", "test")
    return {k: [cases[i] for i in part] for k, part in zip(names, parts, strict=True)}


def model_rows(splits: dict[str, list[FlowCase]], settings: Settings) -> list[dict[str, Any]]:
    """Train and score all models."""
    normaliser = FlowNormaliser.fit(splits["train"])
    train = frame_pairs(splits["train"], normaliser)
    n_in = 3 + len(normaliser.names)
    modes = 6 if settings.quick else 10
    rows = [row("persistence", None, lambda frame, inputs: frame, splits, normaliser, 0.0)]
    begin = time.process_time()
    ridge = fit_ridge(train, splits["validation"], normaliser)
    rows.append(row("ridge on principal components", None, ridge, splits, normaliser,
                    time.process_time() - begin))  # fmt: skip

    def network(name: str, key: Any) -> FlowStep:
        residual = not name.endswith("plain")
        if name.startswith("FNO"):
            net: Any = FNO(n_in, 2, (modes, modes), hidden_channels=12, n_layers=3, periodic=False,
                           key=key)  # fmt: skip
        elif name == "U-Net":
            net = UNet(n_in, 2, (False, False), hidden_channels=8, n_levels=3, key=key)
        else:
            kind = CosineBasis if "cosines" in name else FourierBasis
            basis = kind((2 * modes, 2 * modes))
            mixing = ModeMixing.GRID if ", grid" in name else ModeMixing.DENSE
            net = TransformOnce(
                n_in, 2, basis, hidden_channels=20, n_layers=4, mixing=mixing, key=key
            )
        return FlowStep(net, residual=residual)

    names = ("FNO, residual", "FNO, plain", "U-Net")
    forms = ("", ", grid", ", plain", ", grid, plain")
    names += tuple(f"T1, {basis}{form}" for form in forms for basis in ("cosines", "Fourier"))
    for name in names:
        for seed in settings.seeds if name.startswith("T1") else settings.seeds[:1]:
            begin = time.process_time()
            steps = 40 if settings.quick else settings.steps
            solution = fit(
                network(name, jax.random.key(seed)),
                train.batches(8, seed=seed),
                loss=flow_loss,
                optimizer=one_cycle_adam(3e-3, steps),
                n_steps=steps,
                key=jax.random.key(seed),
                progress=False,
            )
            seconds = time.process_time() - begin
            rows.append(row(name, seed, solution.value, splits, normaliser, seconds))
            print(rows[-1], flush=True)
    rows += floor_rows(splits, normaliser, modes)
    return rows


def floor_rows(splits, normaliser, modes) -> list[dict[str, Any]]:
    """Report what truncation alone costs, of the change of a frame and of the frame itself.

    The change vanishes on the whole boundary, so it continues periodically; the frame does not. The
    boundary counts in the projection and not in the error, so a network can be below that of the
    frame: it need not follow the jump at the lid.
    """
    rows = []
    for name, basis in (
        ("truncation to the cosines", CosineBasis((2 * modes, 2 * modes))),
        ("truncation to the Fourier modes", FourierBasis((2 * modes, 2 * modes))),
    ):
        sums = np.zeros(3)
        for case in splits["test"]:
            frames = jnp.asarray(case.frames()) / case.speed
            fields = (frames[1:] - frames[:-1], frames[1:])
            for index, field in enumerate(fields):
                kept = jax.vmap(lambda u, b=basis: b.decode(b.encode(u), u.shape[1:]))(field)
                sums[index] += float(jnp.sum(jnp.where(case.mask, kept - field, 0) ** 2))
            sums[2] += float(jnp.sum(jnp.where(case.mask, frames[1:], 0) ** 2))
        rows += [
            {"method": f"{name}: {kind}", "one_step_nmse": float(sums[index] / sums[2])}
            for index, kind in enumerate(("change of a frame", "frame"))
        ]
    return rows


def fit_ridge(train, validation, normaliser):
    """Return a linear map of principal components and features; its ridge is tuned."""
    batch = train.batch()
    scale = batch.inputs.scale[:, None, None, None]
    x, y = batch.frames / scale, batch.targets / scale
    shape = x.shape[1:]
    mean = x.mean(axis=0)
    flat = (x - mean).reshape(len(x), -1)
    _, _, components = np.linalg.svd(flat[:: max(1, len(flat) // 500)], full_matrices=False)
    components = components[:128]
    z, change = flat @ components.T, (y - x).reshape(len(x), -1) @ components.T
    ones = np.ones((len(z), 1))
    design = np.concatenate([z, batch.inputs.features, ones], axis=1)
    products = batch.inputs.features[:, :2, None] * z[:, None, :32]
    design = np.concatenate([design, products.reshape(len(z), -1)], axis=1)

    def model(weights):
        def step(frame, inputs):
            u = frame / inputs.scale
            z = jnp.asarray(components) @ (u - mean).reshape(-1)
            products = (inputs.features[:2, None] * z[None, :32]).reshape(-1)
            row = jnp.concatenate([z, inputs.features, jnp.ones(1, z.dtype), products])
            change = (row @ weights) @ jnp.asarray(components)
            return inputs.scale * (u + change.reshape(shape))

        return step

    found = []
    gram, right = design.T @ design, design.T @ change
    for ridge in (1e-4, 1e-2, 1.0, 1e2):
        weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), right).astype(np.float32)
        step = model(jnp.asarray(weights))
        found.append((one_step(step, validation, normaliser), step))
    return min(found, key=lambda pair: pair[0])[1]


def compiled(step):
    """Return functions of arrays, compiled once, for a step and for a roll-out."""
    arrays, static = eqx.partition(step, eqx.is_array)

    @jax.jit
    def following(arrays, frames, inputs):
        return jax.vmap(lambda u: eqx.combine(arrays, static)(u, inputs))(frames)

    @jax.jit
    def rolled(arrays, frame, inputs):
        return rollout_flow(eqx.combine(arrays, static), frame, inputs, N_ROLLOUT)

    return (lambda *a: following(arrays, *a)), (lambda *a: rolled(arrays, *a))


def as_arrays(inputs):
    """Return the inputs of a case as JAX arrays."""
    return jax.tree.map(jnp.asarray, inputs)


def squares(prediction, truth, case) -> tuple[float, float]:
    """Return the sums of squares of error and truth, in the fluid, in units of the lid."""
    error = np.where(case.mask, np.asarray(prediction) - truth, 0) / case.speed
    return float(np.sum(error**2)), float(np.sum(np.where(case.mask, truth / case.speed, 0) ** 2))


def one_step(step, cases, normaliser) -> float:
    """Return the pooled error of one step over all pairs of the cases."""
    following, _ = compiled(step)
    sums = np.zeros(2)
    for case in cases:
        frames = case.frames()
        guess = following(frames[:-1], as_arrays(normaliser.inputs(case)))
        sums += squares(guess, frames[1:], case)
    return float(sums[0] / sums[1])


def row(method, seed, step, splits, normaliser, seconds) -> dict[str, Any]:
    """Score a model on the test cases."""
    _, rolled = compiled(step)
    sums, last = np.zeros(2), np.zeros(2)
    for case in splits["test"]:
        frames, inputs = case.frames(), as_arrays(normaliser.inputs(case))
        for start in STARTS:
            truth = frames[start + 1 : start + 1 + N_ROLLOUT]
            guess = np.asarray(rolled(frames[start], inputs))[: len(truth)]
            sums += squares(guess, truth, case)
            last += squares(guess[-1], truth[-1], case)
    return {
        "method": method,
        "seed": seed,
        "one_step_nmse": one_step(step, splits["test"], normaliser),
        "rollout_nmse": float(sums[0] / sums[1]),
        "last_frame_nmse": float(last[0] / last[1]),
        "cpu_seconds": seconds,
    }


def make_targets(checks, rows) -> list[Target]:
    """Return what was promised beside what came out."""

    def mean(method: str, name: str) -> float:
        return float(np.mean([r[name] for r in rows if r["method"] == method]))

    targets = [
        Target(f"{c['check']}: deviation from Ghia et al.", c["deviation"], at_most=0.03)
        for c in checks
        if "129 nodes" in c["check"]
    ]
    channel = next(c for c in checks if c["check"].startswith("channel"))
    targets.append(Target("channel: outlet profile", channel["deviation"], at_most=0.02))
    identity = mean("persistence", "one_step_nmse")
    for name in ("FNO, residual", "FNO, plain", "U-Net", "T1, cosines", "T1, cosines, grid"):
        targets.append(
            Target(
                f"one step: persistence over {name}",
                identity / mean(name, "one_step_nmse"),
                at_least=1.0 if name == "FNO, plain" else 2.0,
            )
        )
        targets.append(
            Target(
                f"20 steps: persistence over {name}",
                mean("persistence", "rollout_nmse") / mean(name, "rollout_nmse"),
                at_least=1.0,
            )
        )
    for name, words in (("one_step_nmse", "one step"), ("rollout_nmse", "20 steps")):
        for kind in ("", ", grid", ", plain", ", grid, plain"):
            ratio = mean(f"T1, cosines{kind}", name) / mean(f"T1, Fourier{kind}", name)
            words_of = f"{words}: relative L2 error of T1{kind}, cosines over Fourier"
            targets.append(Target(words_of, float(np.sqrt(ratio)), at_most=0.8))
    return targets


def print_rows(rows, columns) -> None:
    """Print a table."""
    print(format_table(rows, {name: name for name in columns}))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
