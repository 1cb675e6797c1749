"""Damaged and forged files of every format that sciml reads: what comes of reading them.

    python benchmarks/fuzz_files.py [--quick] [--n-cases 420] [--seed 90127]

For each format one small valid file is made; each case changes a copy of it (a bit, a block, the
length, a line, a place in its JSON, an entry, a link, a type, a declared size) and reads it in a
process with a limit on memory and time. Where a format has checksums, three cases in ten are signed
again after the change, as a forger would. A file must be refused with an error that names it, or
give what was in it. A changed number in a format without checksums cannot be told from another
measurement: such cases are counted apart. Formats, mutations and verdicts are those of the tests.
"""

import collections
import dataclasses
import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax starts; children are forked from this process

import tyro

from sciml.core import Target, format_table, write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from contracts.file_faults import (  # pyright: ignore[reportMissingImports]
    FORMATS,
    Outcome,
    Verdict,
    run_apart,
)

RESULT = Path(__file__).parent / "results" / "fuzz_files.json"
NEVER = {
    "crashes": Verdict.CRASH,
    "hangs": Verdict.HANG,
    "cases out of memory": Verdict.MEMORY,
    "obscure errors": Verdict.OBSCURE,
    "links followed out of a file, objects unpickled": Verdict.HOSTILE,
    "changes read in spite of checksums": Verdict.SILENT,
}
SHORT = {
    Verdict.REFUSED: "refused",
    Verdict.EQUAL: "equal",
    Verdict.EDITED: "edited",
    Verdict.VALUES: "values",
    Verdict.STRUCTURE: "structure",
    Verdict.SILENT: "silent",
    Verdict.HOSTILE: "hostile",
    Verdict.OBSCURE: "obscure",
    Verdict.MEMORY: "memory",
    Verdict.HANG: "hang",
    Verdict.CRASH: "crash",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seed: int = 90127
    n_cases: int = 420
    """For each format."""
    memory: int = 2**30
    """Bytes that a process may take beyond what it has when it begins."""
    seconds: int = 10
    """Limit for a case."""
    only: str = ""
    """Formats with this in their name."""
    show: tuple[str, ...] = ()
    """Verdicts of which every case is printed, such as obscure."""
    quick: bool = False
    """Forty cases a format; nothing is written."""


def main(settings: Settings) -> None:
    """Run all cases, print a table and write it."""
    n_cases = 40 if settings.quick else settings.n_cases
    rows = []
    total: collections.Counter[Verdict] = collections.Counter()
    binary: collections.Counter[Verdict] = collections.Counter()
    for fmt in FORMATS:
        if settings.only not in fmt.name:
            continue
        counts: collections.Counter[Verdict] = collections.Counter()
        for outcome in run_apart(
            fmt,
            seed=settings.seed,
            n_cases=n_cases,
            memory=settings.memory,
            seconds=settings.seconds,
        ):
            counts[outcome.verdict] += 1
            _show(outcome, settings.show)
        total += counts
        binary += counts if not fmt.is_text else collections.Counter()
        row: dict[str, object] = {"format": fmt.name, "checksums": fmt.sign is not None}
        rows.append(row | {word: counts[verdict] for verdict, word in SHORT.items()})
    summary: dict[str, object] = {"format": "all", "checksums": None}
    rows.append(summary | {word: total[verdict] for verdict, word in SHORT.items()})
    print(format_table(rows, {key: key for key in rows[0]}))
    if settings.quick or settings.only:
        return
    targets = [Target(name, total[verdict], at_most=0) for name, verdict in NEVER.items()]
    targets.append(
        Target(
            "structures changed by damage where a format has no checksum and is not plain text",
            binary[Verdict.STRUCTURE],
            at_most=0,
        )
    )
    targets.append(Target("cases", sum(total.values()), at_least=10_000))
    kept = dataclasses.asdict(settings)
    del kept["show"], kept["only"]
    words = {"meaning": {word: verdict.value for verdict, word in SHORT.items()}}
    write_report(RESULT, rows=rows, targets=targets, settings=kept | words)


def _show(outcome: Outcome, wanted: tuple[str, ...]) -> None:
    if SHORT[outcome.verdict] in wanted:
        print(
            f"{outcome.format} {outcome.number} [{outcome.mutation}] "
            f"{SHORT[outcome.verdict]}: {outcome.detail}"
        )


if __name__ == "__main__":
    main(tyro.cli(Settings))
