"""Whether sciml became slower: each front door in units of a calibration kernel, against before.

    python benchmarks/regressions.py             # compare with the stored figures; exit 1 if slower
    python benchmarks/regressions.py --update    # measure and store them
    python benchmarks/regressions.py --twice "TENG, 3 steps"  # is it caught? exit 1

Machines differ and are busy, so seconds say little. Every call is timed between two runs of a
kernel of NumPy and JAX that sciml has no part in (a matrix product, a Fourier transform, a sum over
memory), in processor time, and the median ratio of the two is compared. A front door that takes
more than ``--most`` times its stored ratio is slower, one that takes less than the inverse of it is
faster than what is stored: then store it. Another version of JAX changes the ratios, too; the
result file tells the versions.
"""

# ruff: noqa: E402  (the threads are fixed before numpy and jax start)
import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

jax.config.update("jax_enable_x64", True)

from front_doors import DOORS

from sciml.core import Target, format_table, write_report

RESULT = Path(__file__).parent / "results" / "regressions.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run."""

    update: bool = False
    """Store what is measured instead of comparing with it."""
    most: float = 1.5
    """Largest ratio of a figure and the stored one that is let pass."""
    rounds: int = 9
    quick: bool = False
    """Two front doors, three rounds; nothing is written or judged."""
    twice: str = ""
    """A front door to call twice where once is meant; only it is measured."""
    out: Path = RESULT


def calibration():
    """Return a kernel of a few milliseconds: what networks, spectra and memory are made of."""
    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.normal(size=(384, 384)), jnp.float32)
    u = jnp.asarray(rng.normal(size=(8, 128, 128)), jnp.float32)
    big = rng.normal(size=1 << 20)
    kernel = jax.jit(lambda a, u: (a @ a, jnp.fft.irfft2(jnp.fft.rfft2(u))))

    def run():
        jax.block_until_ready(kernel(a, u))
        return (big * 1.5 + big).sum()

    return run


def seconds(function) -> float:
    """Return the processor time of one call."""
    begin = time.process_time()
    jax.block_until_ready(jax.tree.leaves(function()))
    return time.process_time() - begin


def figures(make, kernel, rounds: int) -> dict[str, float]:
    """Return one front door in units of the kernel, and its seconds."""
    call = make()
    call()  # compiled
    seconds(kernel)
    # Short calls are repeated: a clock and a cache disturb what takes no time.
    repeats = max(1, round(0.02 / max(1e-4, min(seconds(call) for _ in range(2)))))
    taken, ratios = [], []
    for _ in range(rounds):
        before = seconds(kernel)
        mine = sum(seconds(call) for _ in range(repeats)) / repeats
        after = seconds(kernel)
        taken.append(mine)
        ratios.append(mine / (0.5 * (before + after)))
    return {"ratio": statistics.median(ratios), "cpu_ms": 1e3 * statistics.median(taken)}


def _twice(make):
    def made():
        call = make()
        return lambda: (jax.block_until_ready(jax.tree.leaves(call())), call())

    return made


def main(settings: Settings) -> int:
    """Measure all, compare or store; return the exit status."""
    doors = dict(DOORS)
    if settings.twice:
        if settings.twice not in doors or settings.update:
            sys.exit(f"--twice takes one of {', '.join(doors)}, and no --update.")
        doors = {settings.twice: _twice(doors[settings.twice])}
    names = list(doors)[:2] if settings.quick else list(doors)
    rounds = 3 if settings.quick else settings.rounds
    stored = {}
    if settings.out.exists():
        stored = {row["front_door"]: row for row in json.loads(settings.out.read_text())["rows"]}
    kernel = calibration()
    rows, slower = [], []
    for name in names:
        row = {"front_door": name, **figures(doors[name], kernel, rounds)}
        before = stored.get(name)
        if before and not settings.update and row["ratio"] > settings.most * before["ratio"]:
            # Once more before it is called slower: a disturbed run is no regression.
            row |= figures(doors[name], kernel, 2 * rounds)
        if before:
            row["over_stored"] = row["ratio"] / before["ratio"]
            if row["over_stored"] > settings.most:
                slower.append(name)
        rows.append(row)
        print(row, flush=True)
    columns = ("front_door", "ratio", "cpu_ms", "over_stored")
    print(format_table(rows, {name: name for name in columns}))
    if settings.quick:
        return 0
    if settings.update or not stored:
        write_report(
            settings.out,
            command="python benchmarks/regressions.py --update",
            rows=[{key: row[key] for key in columns[:3]} for row in rows],
            targets=[Target("front doors measured", len(rows), at_least=len(DOORS))],
            settings={"rounds": rounds, "threads": 1},
        )
        return 0
    for name in slower:
        print(f"SLOWER: {name}. If it is meant to be: python benchmarks/regressions.py --update")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))
