"""Public calls under jit, vmap and differentiation, which must give what the plain call gives.

    python benchmarks/transform_cases.py [--quick] [--only graph_solvers]

For each public call in the tables (tests/contracts/property_*.py) arguments are drawn; all floating
arrays among them, also those inside modules, are made float64. jit with these arrays traced and
vmap over copies of one argument must give what the plain call and the loop give; directional
derivatives of a smooth scalar of the answer, forward and reverse, what central differences give;
and the gradient under vmap what a loop of gradients gives. A refusal must be sciml's own and say
what works; host work must be documented.
"""

import collections
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax starts; children are forked from this process
# Many small programs are compiled and run once.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import tyro
from hypothesis import strategies as st

from sciml.core import Target, format_table, write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from contracts.case_runs import (  # pyright: ignore[reportMissingImports]
    drawn,
    packages,
    run_cases,
)
from contracts.property_cases import CALLS, Call  # pyright: ignore[reportMissingImports]
from contracts.property_tables import TABLES  # pyright: ignore[reportMissingImports]
from contracts.transform_cases import (  # pyright: ignore[reportMissingImports]
    FINDINGS,
    Judgement,
    Verdict,
    judge_transforms,
)

RESULT = Path(__file__).parent / "results" / "transform_cases.json"
NEVER = {
    "answers under a transform that differ": Verdict.DIFFERENT,
    "wrong derivatives": Verdict.WRONG,
    "zero derivatives without a word": Verdict.ZERO,
    "derivatives that are not finite": Verdict.NAN,
    "obscure errors": Verdict.OBSCURE,
    "crashes": Verdict.CRASH,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seed: int = 90131
    n_cases: int = 1
    """For each public call. One is a dozen programs to compile, and a quarter of an hour in all."""
    memory: int = 3 * 2**30
    """Bytes that a process may take beyond what it has when it begins."""
    seconds: int = 120
    """Limit for a case; what it compiles is most of its time."""
    only: str = ""
    """Calls with this in their name."""
    show: tuple[str, ...] = tuple(verdict.name.lower() for verdict in FINDINGS)
    """Verdicts of which every case is printed."""
    quick: bool = False
    """Every fifth call; nothing is written."""


class Case(NamedTuple):
    """A call with sound arguments."""

    call: Call
    arguments: dict[str, Any]


def main(options: Settings) -> None:
    """Run all cases, print a table by package and write it."""
    counts: dict[tuple[str, str], collections.Counter[Verdict]] = collections.defaultdict(
        collections.Counter
    )
    total: collections.Counter[Verdict] = collections.Counter()
    judged: list[dict[str, object]] = []
    calls: collections.Counter[str] = collections.Counter()
    for package in packages():
        cases = [
            case
            for name, call in sorted(CALLS.items())[:: 5 if options.quick else 1]
            if name.startswith(f"{package}.") and options.only in name
            for case in _draw(call, options)
        ]
        calls[package] = len({case.call.name for case in cases})
        seen: dict[tuple[object, ...], dict[str, object]] = {}
        for name, judgement in _judgements(cases, options):
            counts[package, judgement.transform][judgement.verdict] += 1
            total[judgement.verdict] += 1
            row = _row(name, judgement)
            if judgement.verdict.name.lower() in options.show:
                print(*row.values(), judgement.detail, sep="  ", flush=True)
            if judgement.verdict in FINDINGS:
                row["detail"] = judgement.detail
            key = tuple(row.values())[:4]
            seen.setdefault(key, row | {"cases": 0})
            seen[key]["cases"] = int(str(seen[key]["cases"])) + 1
        judged += seen.values()
    table = [
        {"package": package, "calls": calls[package], "transform": transform}
        | {verdict.name.lower(): counts[package, transform][verdict] for verdict in Verdict}
        for package, transform in counts
    ]
    table.append(
        {"package": "all", "calls": calls.total(), "transform": "all"}
        | {verdict.name.lower(): total[verdict] for verdict in Verdict}
    )
    used = [key for key in table[0] if any(row[key] for row in table)]
    print(format_table(table, {key: key for key in used}))
    if options.quick or options.only:
        return
    targets = [Target(name, total[verdict], at_most=0) for name, verdict in NEVER.items()]
    targets.append(Target("calls", calls.total(), at_least=140))
    kept = dataclasses.asdict(options)
    del kept["show"], kept["only"], kept["quick"]
    words = {"meaning": {v.name.lower(): v.value for v in Verdict}, "tables": TABLES}
    write_report(RESULT, rows=[*judged, *table], targets=targets, settings=kept | words)


def _draw(call: Call, options: Settings) -> list[Case]:
    n_cases = options.n_cases
    # One more: the first that hypothesis draws is the simplest, often with axes of size 1.
    arguments = st.composite(lambda draw: call.draw(draw))()
    both = drawn(arguments, call.name, seed=options.seed, n_cases=n_cases + 1)
    return [Case(call, one) for one in both[-n_cases:]]


def _judgements(cases: list[Case], options: Settings) -> Any:
    def run(case: Case) -> list[tuple[str, str, str, str]]:
        found = judge_transforms(case.call, case.arguments, seconds=options.seconds)
        return [(j.transform, j.arguments, j.verdict.name, j.detail) for j in found]

    limits = {"memory": options.memory, "seconds": options.seconds}
    for case, ended in run_cases(cases, run, **limits):
        if ended.record is None:
            verdict = Verdict.SLOW if ended.hung else Verdict.CRASH
            yield case.call.name, Judgement("jit", "", verdict, f"exit status {ended.status}")
            continue
        for transform, arguments, verdict, detail in ended.record:
            yield case.call.name, Judgement(transform, arguments, Verdict[verdict], detail)


def _row(name: str, judgement: Judgement) -> dict[str, object]:
    return {
        "call": name,
        "transform": judgement.transform,
        "arguments": judgement.arguments,
        "verdict": judgement.verdict.name.lower(),
    }


if __name__ == "__main__":
    main(tyro.cli(Settings))
