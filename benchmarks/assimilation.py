"""Data assimilation: NODA beside tuned nudging and ensemble Kalman filters, one model for all.

    python benchmarks/assimilation.py            # some forty minutes on one busy core
    python benchmarks/assimilation.py --resume   # the parts that the result file lacks
    python benchmarks/assimilation.py --quick    # one seed, short runs; nothing is written

A trajectory is followed from a first guess of zero by a learned model and by noisy sensors that
report at a share of the times (the availability); the first ten times are always measured. Noise
is a tenth of the standard deviation. Errors are relative mean squares (of the error over the
truth) over the second half of the run, mean over test trajectories.

Systems: Kuramoto-Sivashinsky of length 22 on 64 points with 16 sensors (three seeds), Korteweg-de
Vries on 64 points with 16 sensors, two-dimensional Navier-Stokes on 32 x 32 points with 8 x 8
sensors (the shipped sample), and a linear system whose Kalman filter is known in closed form.
Nudging and the ensemble filters take the predictor that was trained with NODA. Nudging is tuned on
validation trajectories (gain, and spread of the innovations) for each availability by itself; the
filters' inflation and taper are tuned there, too. ``cpu_seconds`` is process time, compilation
included; for the rivals it is that of following the test trajectories.
"""

import dataclasses
import functools
import itertools
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from assimilation_cases import (
    NOISE,
    System,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    navier_stokes,
    solver_step,
)

from sciml.core import Target, format_table, write_report
from sciml.data import FieldDataset, GaussianNormaliser
from sciml.neural_operators import (
    FNO,
    NODA,
    AssimilationLoss,
    EnsembleKalmanFilter,
    GatedGain,
    Nudging,
    PointSensors,
    ResidualPredictor,
    SemilinearStep,
    simulate_measurements,
)
from sciml.nn import LayerForm
from sciml.problems import KuramotoSivashinsky1D
from sciml.train import fit, one_cycle_adam

RESULT = Path(__file__).parent / "results" / "assimilation.json"
WARM_UP = 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seeds: tuple[int, ...] = (11, 12, 13)
    """Training runs on Kuramoto-Sivashinsky; the other systems take the first."""
    data_seed: int = 2027
    resume: bool = False
    """Keep the parts that the result file has, and run the others."""
    quick: bool = False
    """One seed, short runs; nothing is written."""
    out: Path = RESULT


def main(settings: Settings) -> None:
    """Run everything, print tables, write the result file anew after each part."""
    first, *others = settings.seeds[:1] if settings.quick else settings.seeds
    data = (settings.data_seed, settings.quick)
    ks = kuramoto_sivashinsky(*data)
    parts = {
        f"KS, seed {first}": lambda: system_rows(ks, first, settings, filters=True),
        "linear": lambda: kalman_rows(settings),
        "KdV": lambda: system_rows(
            korteweg_de_vries(settings.data_seed, settings.quick), first, settings, filters=True
        ),
        "NS": lambda: system_rows(
            navier_stokes(settings.data_seed, settings.quick), first, settings, filters=True
        ),
        "KS, linear part known": lambda: semilinear_rows(ks, first, settings),
    } | {
        f"KS, seed {s}": functools.partial(system_rows, ks, s, settings, filters=False)
        for s in others
    }
    rows: list[dict[str, Any]] = []
    if settings.resume and settings.out.exists():
        rows = json.loads(settings.out.read_text())["rows"]
    done = {row["part"] for row in rows}
    for name, part in parts.items():
        if name in done:
            continue
        rows += [{"part": name, **row} for row in part()]
        if not settings.quick:
            report(rows, settings)
    print_rows(rows)
    for target in make_targets(rows):
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")


def report(rows: list[dict], settings: Settings) -> None:
    """Write the result file."""
    path = write_report(
        settings.out,
        rows=rows,
        targets=make_targets(rows),
        settings={
            "seeds": list(settings.seeds),
            "data_seed": settings.data_seed,
            "noise_over_standard_deviation": NOISE,
            "always_measured_first_times": WARM_UP,
        },
    )
    print(f"written: {path}", flush=True)


def train_noda(system: System, predictor, seed: int) -> tuple[NODA, float]:
    """Train the predictor alone on single steps, then all parts unrolled; return CPU seconds."""
    begin = time.process_time()
    n_single, n_unrolled = system.steps
    key = jax.random.key(seed)
    # Open loop is nudging by nothing: the predictor alone is trained.
    single = fit(
        Nudging(predictor, system.observe, 0.0),
        system.train.windows(1, 2, batch_size=4 * system.batch_size, seed=seed),
        loss=AssimilationLoss(0.0, initial_errors=(0.0,), max_availability=0.0),
        optimizer=one_cycle_adam(5e-3, n_single),
        n_steps=n_single,
        key=key,
        progress=False,
    )
    n_space = len(system.train.n_points)
    gain = GatedGain(
        1,
        (system.n_modes,) * n_space,
        lengths=system.lengths,
        hidden_channels=system.width // 2,
        normaliser=GaussianNormaliser.fit(system.train),
        key=jax.random.fold_in(key, 2),
    )
    unrolled = fit(
        NODA(single.value.predictor, system.observe, gain),
        system.train.windows(1, system.unrolled, batch_size=system.batch_size, seed=seed + 1),
        loss=AssimilationLoss(
            system.noise_std,
            initial_errors=(0.02, 0.05, 0.2, 1.0),
            log_weight=0.5,
            full_share=0.25,
        ),
        optimizer=one_cycle_adam(3e-3, n_unrolled),
        n_steps=n_unrolled,
        key=key,
        progress=False,
    )
    return unrolled.value, time.process_time() - begin


def residual_predictor(system: System, seed: int) -> ResidualPredictor:
    """Return the predictor of the published method: the state plus what an FNO says."""
    n_space = len(system.train.n_points)
    network = FNO(
        1,
        1,
        (system.n_modes,) * n_space,
        hidden_channels=system.width,
        n_layers=4,
        form=LayerForm.PLAIN,  # on a line three times cheaper than with an MLP in each layer
        coordinates=n_space == 2,  # a forcing that stands still breaks the shift symmetry
        key=jax.random.key(seed),
    )
    return ResidualPredictor(network, normaliser=GaussianNormaliser.fit(system.train))


def relative_mse(model, system: System, truth: np.ndarray, availability: float) -> float:
    """Follow trajectories from zero; the same measurements for every model."""
    return float(np.mean(_errors(*eqx.partition(model, eqx.is_array), system.observe,
                                 jnp.asarray(truth), jnp.float32(availability),
                                 system.noise_std, system.first_scored)))  # fmt: skip


@functools.partial(jax.jit, static_argnums=(1, 2, 6))
def _errors(arrays, static, observe, truth, availability, noise_std, first_scored):
    model = eqx.combine(arrays, static)

    def one(truth, key):
        y, mask = simulate_measurements(
            observe, truth[1:], availability=availability, noise_std=0.0, key=key
        )
        y = y + noise_std * jax.random.normal(jax.random.fold_in(key, 7), y.shape)
        mask = mask | (jnp.arange(len(mask)) < WARM_UP)
        analyses, _ = model(jnp.zeros_like(truth[0]), y, mask)
        scored = truth[1:][first_scored:]
        return jnp.sum((analyses[first_scored:] - scored) ** 2) / jnp.sum(scored**2)

    return jax.vmap(one)(truth, jax.random.split(jax.random.key(5), len(truth)))


def rows_of(method, model, system, seed, seconds=None, *, chosen=None, only=None) -> list[dict]:
    """Score a model at each availability."""
    rows = []
    for availability in system.availabilities if only is None else only:
        begin = time.process_time()
        error = relative_mse(model, system, system.test, availability)
        spent = time.process_time() - begin
        rows.append(
            {
                "system": system.name,
                "method": method,
                "seed": seed,
                "availability": availability,
                "relative_mse": error,
                "cpu_seconds": spent if seconds is None else seconds,
                "chosen": chosen,
            }
        )
        print(rows[-1], flush=True)
    return rows


def system_rows(system: System, seed: int, settings: Settings, *, filters: bool) -> list[dict]:
    """Train NODA on a system, tune its rivals, score all of them."""
    model, seconds = train_noda(system, residual_predictor(system, seed), seed)
    rows = rows_of("NODA", model, system, seed, seconds)
    rows.append(free_run(model, system, seed))
    gains = (0.5, 1.0) if settings.quick else (0.25, 0.4, 0.6, 0.8, 1.0)
    for method, lengths in (
        ("nudging at the sensors", (None,)),
        ("nudging, spread", (2.0,) if settings.quick else (1.5, 2.0, 2.5)),
    ):
        for availability in system.availabilities[1:]:
            found = []
            for length, gain in itertools.product(lengths, gains):
                nudging = Nudging(model.predictor, system.observe, gain, length=length)
                error = relative_mse(nudging, system, system.validation, availability)
                found.append((error, gain, length, nudging))
            _, gain, length, nudging = min(found, key=lambda entry: entry[0])
            chosen = f"gain {gain:g}, length {length}"
            rows += rows_of(method, nudging, system, seed, chosen=chosen, only=(availability,))
    if filters:
        rows += filter_rows("ensemble Kalman filter", model.predictor, system, seed, settings)
        if system.name.startswith("Kuramoto"):
            rows += filter_rows("ensemble Kalman filter, true solver", solver_step(), system, seed,
                                settings)  # fmt: skip
    return rows


def filter_rows(method, predictor, system, seed, settings) -> list[dict]:
    """Tune an ensemble of 32 on a few validation trajectories and score it."""
    states = system.train.values[:, ::20].reshape(-1, *system.train.values.shape[2:])
    order = np.random.default_rng(seed).permutation(len(states))[:32]
    rows = []

    def make(inflation, radius):
        return EnsembleKalmanFilter(
            predictor,
            system.observe,
            system.noise_std,
            states[order],
            taper=system.observe.taper(radius),
            inflation=inflation,
        )

    grid = [(1.02, 14.0), (1.1, 14.0), (1.1, 24.0)]
    if settings.quick or not system.name.startswith("Kuramoto"):
        grid = [(1.05, 14.0)]
    for availability in system.availabilities[1:]:
        few = system.validation[:3]
        found = [(relative_mse(make(*c), system, few, availability), c) for c in grid]
        _, (inflation, radius) = min(found)
        chosen = f"inflation {inflation:g}, radius {radius:g}"
        rows += rows_of(method, make(inflation, radius), system, seed, chosen=chosen,
                        only=(availability,))  # fmt: skip
    return rows


def free_run(model: NODA, system: System, seed: int) -> dict[str, Any]:
    """Run 1000 steps without measurements; return the largest value over that of the data."""
    n = 100 if len(system.train.n_points) == 2 else 1000

    @eqx.filter_jit
    def run(model, z0):
        y = jnp.zeros((n, system.observe.n_measurements))
        return jnp.max(jnp.abs(model(z0, y, jnp.zeros(n, bool))[0]))

    starts = jnp.asarray(system.test[:8, 0])
    largest = float(jnp.max(jax.vmap(lambda z0: run(model, z0))(starts)))
    ratio = largest / float(np.abs(system.train.values).max())
    return {
        "system": system.name,
        "method": f"NODA, {n} steps without measurements: largest value over that of the data",
        "seed": seed,
        "value": ratio,
    }


def semilinear_rows(system: System, seed: int, settings: Settings) -> list[dict]:
    """Train NODA with a predictor that knows the linear part of the equation."""
    problem = KuramotoSivashinsky1D((64,), domain_extent=22.0)
    network = FNO(1, 1, (16,), hidden_channels=system.width, n_layers=4, coordinates=False,
                  form=LayerForm.PLAIN,
                  key=jax.random.key(seed))  # fmt: skip
    predictor = SemilinearStep(problem, network, 1.0, order=1)
    model, seconds = train_noda(system, predictor, seed)
    return rows_of("NODA, linear part known", model, system, seed, seconds)


def kalman_rows(settings: Settings) -> list[dict]:
    """Train the gain of a known linear system and compare with the stationary Kalman filter."""
    n, noise, forcing = 16, 0.3, 0.15
    k = np.fft.fftfreq(n, 1 / n)
    symbol = np.exp(-0.02 * k**2 + 0.5j * k)
    symbol[n // 2] = symbol[n // 2].real
    step = np.fft.ifft(symbol[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real
    observe = PointSensors.every((n,), 4)
    rng = np.random.default_rng(settings.data_seed)
    z = rng.normal(size=(48, n))
    states = []
    for _ in range(120):
        z = z @ step.T + forcing * rng.normal(size=z.shape)
        states.append(z)
    values = np.stack(states, axis=1)[:, 20:, None].astype(np.float32)
    train = FieldDataset.from_array(values[:40], dt=1.0, domain_extent=1.0)
    matrix = jnp.asarray(step.T, jnp.float32)
    gain = GatedGain(1, (8,), lengths=(1.0, 2.0), hidden_channels=6, key=jax.random.key(1))
    steps = 20 if settings.quick else 300

    @dataclasses.dataclass(frozen=True)
    class Known:
        def __call__(self, z):
            return z @ jax.lax.stop_gradient(matrix)

    begin = time.process_time()
    model = fit(
        NODA(Known(), observe, gain),
        train.windows(1, 24, batch_size=16, seed=1),
        loss=AssimilationLoss(
            noise, initial_errors=(0.1, 0.3), forecast_weight=0.0, log_weight=0.5, full_share=0.5
        ),
        optimizer=one_cycle_adam(1e-2, steps),
        n_steps=steps,
        key=jax.random.key(2),
        progress=False,
    ).value
    seconds = time.process_time() - begin
    truth = jnp.asarray(values[40:])
    y = jax.vmap(jax.vmap(observe))(truth)
    y = y + noise * jax.random.normal(jax.random.key(3), y.shape)
    run = eqx.filter_jit(lambda y: model(jnp.zeros((1, n)), y, jnp.ones(y.shape[0], bool))[0])
    learned = np.asarray(jax.vmap(run)(y))
    # The stationary covariance of the forecast, by iteration.
    C, cov = np.eye(n)[::4], np.eye(n)
    for _ in range(500):
        exact = cov @ C.T @ np.linalg.inv(C @ cov @ C.T + noise**2 * np.eye(len(C)))
        cov = step @ (cov - exact @ C @ cov) @ step.T + forcing**2 * np.eye(n)
    mean, best = np.zeros((len(truth), n)), []
    for t in range(y.shape[1]):
        mean = mean @ step.T
        mean = mean + (np.asarray(y)[:, t] - mean @ C.T) @ exact.T
        best.append(mean)
    size = np.sum(values[40:, 30:] ** 2)
    errors = {
        "NODA, predictor known": np.sum((learned[:, 30:] - values[40:, 30:]) ** 2) / size,
        "Kalman filter, closed form": np.sum(
            (np.stack(best, axis=1)[:, 30:] - values[40:, 30:, 0]) ** 2
        ) / size,
    }  # fmt: skip
    return [
        {
            "system": "linear, 16 values, 4 sensors",
            "method": method,
            "seed": 1,
            "availability": 1.0,
            "relative_mse": float(error),
            "cpu_seconds": seconds if method.startswith("NODA") else None,
        }
        for method, error in errors.items()
    ]


def make_targets(rows: list[dict]) -> list[Target]:
    """Return what was promised beside what came out; None where a part has not run."""

    def mean(method, availability, system):
        found = [
            r["relative_mse"]
            for r in rows
            if (r["system"], r["method"], r.get("availability")) == (system, method, availability)
        ]
        return float(np.mean(found)) if found else float("nan")

    ks, nudging = "Kuramoto-Sivashinsky", ("nudging at the sensors", "nudging, spread")
    targets = [
        Target(
            f"{ks}, availability {availability:g}: error of {method}, tuned, over that of NODA",
            mean(method, availability, ks) / mean("NODA", availability, ks),
            at_least=2.0,
        )
        for availability in (0.3, 1.0)
        for method in nudging
    ]
    errors = [mean("NODA", a, ks) for a in (0.0, 0.1, 0.3, 1.0)]
    name = f"{ks}: largest ratio of an error and that at the next lower availability"
    targets.append(Target(name, max(b / a for a, b in itertools.pairwise(errors)), at_most=1.0))
    free = [r["value"] for r in rows if "value" in r and r["system"] == ks]
    name = f"{ks}: largest value in 1000 free steps over that of the data"
    targets.append(Target(name, max(free, default=float("nan")), at_most=1.5))
    for system in ("Korteweg-de Vries", "Navier-Stokes"):
        best = min(mean(method, 0.3, system) for method in nudging)
        name = f"{system}, availability 0.3: error of the best nudging over that of NODA"
        targets.append(Target(name, best / mean("NODA", 0.3, system), at_least=1.0))
    linear = {r["method"]: r["relative_mse"] for r in rows if r["system"].startswith("linear")}
    if linear:
        ratio = linear["NODA, predictor known"] / linear["Kalman filter, closed form"]
        name = "linear system: error of NODA over that of the Kalman filter"
        targets.append(Target(name, ratio, at_most=1.1))
    return targets


def print_rows(rows: list[dict]) -> None:
    """Print the table."""
    names = ("system", "method", "seed", "availability", "relative_mse", "value", "cpu_seconds")
    print(format_table([{n: r.get(n) for n in names} for r in rows], {n: n for n in names}))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
