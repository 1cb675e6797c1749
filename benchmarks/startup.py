"""How long a user waits: import, first call (compilation) and second call of each front door.

    python benchmarks/startup.py            # a few minutes
    python benchmarks/startup.py --quick    # two front doors, once; nothing is written

Every figure comes from a process of its own, and is the median of three. "First call" is tracing,
compiling and running at a small size (`front_doors`), "with the cache" the first call of
another process when JAX's persistent compilation cache holds the programs, as it does for the
command line of sciml. Clock time on two cores; compilation hardly depends on the size.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro
from front_doors import DOORS

from sciml.core import Target, format_table, write_report

HERE = Path(__file__).parent
RESULT = HERE / "results" / "startup.json"
WORKER = """
import json, sys, time
begin = time.perf_counter()
import jax
between = time.perf_counter()
import sciml
imported = time.perf_counter()
figures = {"import_jax": between - begin, "import_sciml": imported - between}
if len(sys.argv) > 1:
    jax.config.update("jax_enable_x64", True)
    if len(sys.argv) > 2:
        jax.config.update("jax_compilation_cache_dir", sys.argv[2])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    from front_doors import DOORS
    call = DOORS[sys.argv[1]]()
    for name in ("first_call", "second_call"):
        begin = time.perf_counter()
        jax.block_until_ready(jax.tree.leaves(call()))
        figures[name] = time.perf_counter() - begin
print(json.dumps(figures))
"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    repeats: int = 3
    quick: bool = False
    out: Path = RESULT


def measure(*arguments: str) -> dict[str, float]:
    """Return the figures of one process."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER, *arguments],
        cwd=HERE, capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{arguments} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main(settings: Settings) -> None:
    """Measure all, print a table, write the result file."""
    repeats = 1 if settings.quick else settings.repeats
    names = list(DOORS)[:2] if settings.quick else list(DOORS)
    plain = medians([measure() for _ in range(repeats)])
    rows = [{"front_door": "import sciml", **plain}]
    print(rows[-1], flush=True)
    for name in names:
        cold = medians([measure(name) for _ in range(repeats)])
        with tempfile.TemporaryDirectory() as folder:
            measure(name, folder)
            warm = medians([measure(name, folder) for _ in range(repeats)])
        figures = {key: cold[key] for key in ("first_call", "second_call")}
        rows.append({"front_door": name, **figures, "first_call_with_cache": warm["first_call"]})
        print(rows[-1], flush=True)
    columns = ("import_jax", "import_sciml", "first_call", "first_call_with_cache", "second_call")
    print(format_table(rows, {name: name for name in ("front_door", *columns)}))
    slowest = max(row["first_call"] for row in rows[1:])
    cached = statistics.median(row["first_call_with_cache"] / row["first_call"] for row in rows[1:])
    targets = [
        Target("seconds of import sciml beside those of jax", plain["import_sciml"], at_most=1.5),
        Target("seconds of the slowest first call", slowest, at_most=20.0),
        Target("first call with the cache over the one without (median)", cached, at_most=0.7),
    ]
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/startup.py",
            rows=rows,
            targets=targets,
            settings={"repeats": repeats, "unit": "seconds"},
        )


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
