"""What grows in a process that trains, saves, loads, predicts and solves again and again.

    python benchmarks/soak.py [--quick] [--n-cycles 120] [--seed 90163]

A cycle trains a small FNO for a few steps in a run folder with checkpoints, saves and loads it,
forecasts with it, refines the forecast, marches the equation, and solves a linear system at the
SciPy door with a preconditioner of its own. An hour in which a user makes such a cycle every half
minute has 120 of them. After each the process is asked for its resident memory, the arrays and
compiled programs that JAX keeps alive, and open files. The first third is warm-up: caches fill.
What Python has not collected yet is collected first, and what the C library keeps of freed memory
is given back, so that only what is held counts.

Each cycle trains on other data: what a model knows of them must not become part of a program that
is kept.
"""

import contextlib
import ctypes
import dataclasses
import gc
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a cycle is compilation; the quick one lets an hour's cycles pass in minutes.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse
import tyro

import sciml
from sciml.core import Target, format_table, write_report
from sciml.data import FieldDataset, GaussianNormaliser
from sciml.linear_solvers import aspreconditioner, cg
from sciml.neural_operators import AutoregressiveFNO, refine
from sciml.problems import Burgers1D, solve
from sciml.train import fit

RESULT = Path(__file__).parent / "results" / "soak.json"
N_POINTS = 16
PROBLEM = {"n_points": (N_POINTS,), "viscosity": 0.1}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    n_cycles: int = 120
    """An hour of one every half minute."""
    seed: int = 90163
    quick: bool = False
    """Twelve cycles; nothing is written."""


def main(settings: Settings) -> None:
    """Run the cycles, print and write what grew."""
    n_cycles = 12 if settings.quick else settings.n_cycles
    generator = np.random.default_rng(settings.seed)
    found = []
    begin = time.perf_counter()
    with jax.enable_x64(True):
        for number in range(n_cycles):
            _cycle(generator, number)
            found.append(_measure())
            if number % max(1, n_cycles // 12) == 0:
                print(number, found[-1], flush=True)
    seconds = time.perf_counter() - begin
    figures = {name: np.array([row[name] for row in found], float) for name in found[0]}
    settled = slice(n_cycles // 3, None)
    rows = [
        {
            "figure": name,
            "after warm-up": values[settled][0],
            "largest after warm-up": values[settled].max(),
            "at the end": values[-1],
            "slope per cycle": _slope(values[settled]),
        }
        for name, values in figures.items()
    ]
    print(format_table(rows, {key: key for key in rows[0]}))
    if settings.quick:
        return
    slope = {row["figure"]: row["slope per cycle"] for row in rows}
    grown = {row["figure"]: row["at the end"] - row["after warm-up"] for row in rows}
    targets = [
        Target("cycles", n_cycles, at_least=120),
        Target("growth of resident memory (MiB per cycle)", slope["memory (MiB)"], at_most=0.1),
        Target("growth of live arrays (per cycle)", slope["live arrays"], at_most=0.01),
        Target("growth of compiled programs (per cycle)", slope["compiled programs"], at_most=0.01),
        Target("open files more at the end", grown["open files"], at_most=0),
    ]
    kept = dataclasses.asdict(settings) | {
        "seconds": seconds,
        "seconds_per_cycle": seconds / n_cycles,
    }
    del kept["quick"]
    write_report(RESULT, rows=rows, targets=targets, settings=kept)


def _cycle(generator: np.random.Generator, number: int) -> None:
    values = 0.1 * generator.normal(size=(4, 6, 1, N_POINTS))
    dataset = FieldDataset.from_array(values, dt=0.01, domain_extent=1.0)
    folder = Path(tempfile.mkdtemp())
    key = jax.random.key(number)
    try:
        model = AutoregressiveFNO(
            1, 2, (3,), hidden_channels=3, n_layers=1, key=key,
            normaliser=GaussianNormaliser.fit(dataset),
        )  # fmt: skip
        trained = fit(
            model, dataset.windows(2, 2, batch_size=2, seed=number), optimizer=optax.adam(1e-3),
            n_steps=4, key=key, run_dir=folder / "run", checkpoint_every=2, progress=False,
        )  # fmt: skip
        sciml.save(folder / "model", trained.value)
        model = sciml.load(folder / "model")
        inputs = jnp.asarray(dataset.values[0, :2])
        forecast = model(inputs, 4)
        assert np.isfinite(np.asarray(forecast)).all()
        problem = Burgers1D(**PROBLEM)
        marched = solve(problem, inputs[-1], dt=0.01, n_steps=4).value
        known = jnp.concatenate([inputs[-1:]] * 1 + [marched[1:4]])
        refine(marched[-4:], known, problem, dt=0.01, throw=False)
        diagonal = 2.1 + 0.1 * generator.random(40)
        A = scipy.sparse.diags_array(
            [-np.ones(39), diagonal, -np.ones(39)], offsets=[-1, 0, 1], format="csr"
        )
        x, info = cg(A, np.ones(40), M=aspreconditioner(A), rtol=1e-8)
        assert info == 0
        assert np.linalg.norm(A @ x - 1) < 1e-6
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure() -> dict[str, float]:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory (MiB)": pages * resource.getpagesize() / 2**20,
        "live arrays": len(jax.live_arrays()),
        "compiled programs": len(jax.devices()[0].client.live_executables()),
        "open files": len(os.listdir("/proc/self/fd")),
    }


def _slope(values: np.ndarray) -> float:
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
