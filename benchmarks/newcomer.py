"""What a newcomer does with a fresh clone, and how long each thing takes.

    python benchmarks/newcomer.py                      # half an hour on two cores
    python benchmarks/newcomer.py --python python3.12 --out benchmarks/results/newcomer_3_12.json
    python benchmarks/newcomer.py --steps demo         # one thing; nothing is written

The clone has no environment: each target sets up what it needs, as the README says. ``docs`` runs
every example of the gallery and the code of the extension page; the slowest of each system is a row
of its own. ``package`` installs the wheel into a bare environment and trains there, then runs the
tests of `sciml.core` from the sdist. What is committed is what is tried, not the working tree.
"""

import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tyro

from sciml.core import Target, format_table, write_report

HERE = Path(__file__).parent
RESULT = HERE / "results" / "newcomer.json"
COMMANDS = {
    "demo": "make demo",
    "test": "make test",
    "docs": "make docs",
    "package": "make package ARGS=tests/core",
}
LIMITS = {"demo": 360, "test": 720, "docs": 1200}
"""Seconds."""
EXAMPLE_LIMIT = 60
CLOSING = re.compile(r"^(?:=+ )?(\d+ (?:passed|failed).* in [\d.]+s.*?)(?: =+)?$", re.M)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    steps: tuple[str, ...] = tuple(COMMANDS)
    python: str = ""
    """Which interpreter makes the environment; by default the one that `make` finds."""
    out: Path = RESULT


def main(settings: Settings) -> None:
    """Clone, run the steps one after another, print and write their times."""
    unknown = sorted(set(settings.steps) - set(COMMANDS))
    if unknown:
        sys.exit(f"unknown steps {unknown}; there are {', '.join(COMMANDS)}.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "sciml"
        subprocess.run(["git", "clone", "--quiet", str(HERE.parent), str(clone)], check=True)
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=clone, capture_output=True, text=True
        ).stdout.strip()
        for step in settings.steps:
            rows.append(_run(step, clone, settings.python))
            print(rows[-1], flush=True)
            if step == "docs":
                rows += _examples(clone)
        versions = _versions(clone)
    print(format_table(rows, {key: key for key in rows[0]}))
    if set(settings.steps) != set(COMMANDS):
        return
    failed = [row["what"] for row in rows if row["outcome"] == "failed"]
    # What failed has no time; a gallery that stopped has not run its slowest example.
    seconds = {row["what"]: None if row["what"] in failed else row["seconds"] for row in rows}
    targets = [Target("steps that failed", len(failed), at_most=0)]
    targets += [
        Target(f"seconds of {COMMANDS[step]}, with what it installs", seconds[step], at_most=limit)
        for step, limit in LIMITS.items()
    ]
    examples = [value for name, value in seconds.items() if name.startswith("example")]
    if "docs" in failed:
        examples = []
    targets.append(
        Target("slowest example (s)", max(examples, default=None), at_most=EXAMPLE_LIMIT)
    )
    # What ran in the clone; the file's own versions are those of this process.
    kept = {"commit": commit, **versions}
    write_report(settings.out, rows=rows, targets=targets, settings=kept)


def _run(step: str, clone: Path, python: str) -> dict:
    # What this process was started with is nobody else's business.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("XLA_FLAGS", "JAX_PLATFORMS", "VIRTUAL_ENV", "PYTHONPATH")
    }
    before, begin = _cpu(), time.perf_counter()
    command = [*COMMANDS[step].split(), *([f"PYTHON={python}"] if python else [])]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    seconds, cpu = time.perf_counter() - begin, _cpu() - before
    closing = CLOSING.findall(done.stdout)
    outcome = closing[-1] if closing else "done"
    if step == "demo" and done.returncode == 0:
        results = json.loads((clone / "runs" / "demo" / "results.json").read_text())
        errors = {row["method"]: row["relative_l2"] for row in results["rows"]}
        outcome = f"relative L2 of SFNO {errors['SFNO']:.3g}, FNO3d {errors['FNO3d']:.3g}"
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], sep="\n")
        outcome = "failed"
    return {"what": step, "command": COMMANDS[step], "seconds": seconds, "cpu_seconds": cpu,
            "outcome": outcome}  # fmt: skip


def _versions(clone: Path) -> dict[str, str]:
    """Return the versions in the clone's environment: newer Pythons get newer libraries."""
    program = (
        "import platform, importlib.metadata as m; "
        "print(platform.python_version(), *map(m.version, ('jax', 'equinox', 'numpy')))"
    )
    command = [clone / ".venv" / "bin" / "python", "-c", program]
    found = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return dict(zip(("python", "jax", "equinox", "numpy"), found, strict=True))


def _examples(clone: Path) -> list[dict]:
    """Return the slowest example of each folder of the gallery, from what the build noted."""
    slowest: dict[str, tuple[float, str]] = {}
    for times in (clone / "docs" / "gallery").rglob("sg_execution_times.rst"):
        text = times.read_text()
        for name, minutes, seconds in re.findall(
            r"``(plot_\w+\.py)``.*?\n +- (\d+):([\d.]+)", text, re.S
        ):
            system = times.parent.name
            found = (60 * int(minutes) + float(seconds), name)
            slowest[system] = max(slowest.get(system, (0.0, "")), found)
    return [
        {"what": f"example {system}", "command": name, "seconds": seconds, "cpu_seconds": None,
         "outcome": "done"}
        for system, (seconds, name) in sorted(slowest.items())
    ]  # fmt: skip


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(tyro.cli(Settings))
