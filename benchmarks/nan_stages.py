"""A NaN put in at every stage of the work, and how it is reported.

    python benchmarks/nan_stages.py [--quick]

The stages and cases are those of the tests (tests/contracts/nan_*.py): data, weights,
operator, preconditioner, observation, boundary, training loss, checkpoint. A NaN is refused, ends
in a failed status, shows in the answer of a function of arrays without one, or has no effect where
the documentation says so (masked places, safeguards that are counted). It never vanishes.
"""

import collections
import dataclasses
import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# Many small programs are compiled and run once.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import tyro

from sciml.core import Target, format_table, write_report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from contracts import nan_conditions, nan_stages  # noqa: F401  # pyright: ignore
from contracts.nan_report import (  # pyright: ignore[reportMissingImports]
    REPORTED,
    STAGES,
    report,
)

RESULT = Path(__file__).parent / "results" / "nan_stages.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run."""

    quick: bool = False
    """Nothing is written."""


def main(settings: Settings) -> None:
    """Run all cases, print a table and write it."""
    rows = []
    lost: dict[str, str] = {}
    for stage, cases in STAGES.items():
        counts: collections.Counter[str] = collections.Counter()
        for where, function in cases.items():
            found = report(function)
            counts[found.how] += 1
            if found.how not in REPORTED:
                lost[f"{stage}: {where}"] = f"{found.how} {found.detail}"
        row: dict[str, object] = {"stage": stage, "tried": len(cases)}
        row |= {how: counts[how] for how in REPORTED}
        rows.append(row | {"lost": sum(n for how, n in counts.items() if how not in REPORTED)})
    print(format_table(rows, {key: key for key in rows[0]}))
    print(*lost.items(), sep="\n")
    if settings.quick:
        return
    targets = [
        Target("NaN that vanished", len(lost), at_most=0),
        Target("stages", len(rows), at_least=8),
    ]
    write_report(RESULT, rows=rows, targets=targets, settings={"lost": lost})


if __name__ == "__main__":
    main(tyro.cli(Settings))
