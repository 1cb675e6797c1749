"""Public calls with drawn arguments, sound and spoiled: what comes of each.

    python benchmarks/property_cases.py [--quick] [--n-cases 8] [--seed 90131]

hypothesis draws the arguments of each public call in the table (tests/contracts/property_*.py):
shapes, dtypes, axis orders, options; in three cases of four one argument is spoiled (a NaN, an
empty axis, an axis more, another type, a string, an index out of range). The cases of a package run
in a process with limits on memory and time. Each must end with an answer that keeps the properties
of the table (agreement with NumPy or an identity, shape, dtype), or an error that names the
argument, or a failed status.
"""

import collections
import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax starts; children are forked from this process
# Many small programs are compiled and run once.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import tyro

from sciml.core import Target, format_table, write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from contracts.case_runs import (  # pyright: ignore[reportMissingImports]
    drawn,
    packages,
    run_cases,
)
from contracts.property_cases import (  # pyright: ignore[reportMissingImports]
    CALLS,
    Case,
    Outcome,
    Verdict,
    cases,
    run_case,
)
from contracts.property_tables import TABLES  # pyright: ignore[reportMissingImports]

RESULT = Path(__file__).parent / "results" / "property_cases.json"
NEVER = {
    "crashes": Verdict.CRASH,
    "hangs": Verdict.HANG,
    "cases out of memory": Verdict.MEMORY,
    "obscure errors": Verdict.OBSCURE,
    "answers without the stated properties": Verdict.WRONG,
    "NaN without a word": Verdict.SILENT,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seed: int = 90131
    n_cases: int = 8
    """For each public call."""
    memory: int = 3 * 2**30
    """Bytes that a process may take beyond what it has when it begins."""
    seconds: int = 60
    """Limit for a case; what it compiles is most of its time."""
    only: str = ""
    """Calls with this in their name."""
    show: tuple[str, ...] = ()
    """Verdicts of which every case is printed, such as obscure."""
    quick: bool = False
    """Three cases a call; nothing is written."""


def main(options: Settings) -> None:
    """Run all cases, print a table and write it."""
    n_cases = 3 if options.quick else options.n_cases
    counts: dict[str, collections.Counter[Verdict]] = collections.defaultdict(collections.Counter)
    total: collections.Counter[Verdict] = collections.Counter()
    for package in packages():
        of_package = [
            case
            for name, call in sorted(CALLS.items())
            if name.startswith(f"{package}.") and options.only in name
            for case in drawn(cases(call), name, seed=options.seed, n_cases=n_cases)
        ]
        for case, outcome in _outcomes(of_package, options):
            counts[case.call.name][outcome.verdict] += 1
            total[outcome.verdict] += 1
            if outcome.verdict.name.lower() in options.show:
                word = f"{case.call.name} [{case.spoil}] x64={case.double} {outcome.verdict.name}"
                print(f"{word}: {outcome.detail}", flush=True)
    rows: list[dict[str, object]] = [
        {"call": name} | {v.name.lower(): counts[name][v] for v in Verdict} for name in counts
    ]
    rows.append({"call": "all"} | {v.name.lower(): total[v] for v in Verdict})
    print(format_table(rows, {key: key for key in rows[0]}))
    if options.quick or options.only:
        return
    targets = [Target(name, total[verdict], at_most=0) for name, verdict in NEVER.items()]
    targets.append(Target("cases", sum(total.values()), at_least=1_000))
    kept = dataclasses.asdict(options)
    del kept["show"], kept["only"], kept["quick"]
    words = {"meaning": {v.name.lower(): v.value for v in Verdict}, "tables": TABLES}
    write_report(RESULT, rows=rows, targets=targets, settings=kept | words)


def _outcomes(drawn_cases: list[Case], options: Settings) -> Iterator[tuple[Case, Outcome]]:
    def run(case: Case) -> list[str]:
        outcome = run_case(case, seconds=options.seconds)
        return [outcome.verdict.value, outcome.detail]

    limits = {"memory": options.memory, "seconds": options.seconds}
    for case, ended in run_cases(drawn_cases, run, **limits):
        if ended.record is None:
            verdict = Verdict.HANG if ended.hung else Verdict.CRASH
            outcome = Outcome(verdict, f"exit status {ended.status}")
        else:
            outcome = Outcome(Verdict(ended.record[0]), ended.record[1])
        yield case, outcome


if __name__ == "__main__":
    main(tyro.cli(Settings))
