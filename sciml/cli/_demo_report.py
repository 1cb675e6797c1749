"""What the demo says: rows, table, targets, and its findings in words."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import Target, format_table
from ..neural_operators import ForecastScore


@dataclasses.dataclass(frozen=True, eq=False)
class DemoScores:
    """How the methods did.

    Parameters
    ----------
    scores
        Persistence, FNO3d, SFNO and the solvers, on the grid ``n_points``.
    fine
        SFNO on the finer grid ``n_fine``.
    n_points, n_fine, n_training
        Points along each axis: of the comparison, of the finer grid, of the training.
    training_seconds
        Wall time of the training by method.
    """

    scores: Sequence[ForecastScore]
    fine: ForecastScore
    n_points: int
    n_fine: int
    n_training: int
    training_seconds: Mapping[str, float]

    def error(self, method: str) -> float:
        """Return the relative L2 error of a method."""
        return next(s.relative_l2 for s in self.scores if s.method == method)

    @property
    def solvers(self) -> list[ForecastScore]:
        """The classical solvers."""
        return [s for s in self.scores if s.method not in ("persistence", "FNO3d", "SFNO")]


def demo_rows(result: DemoScores) -> list[dict[str, Any]]:
    """Return one record a method, in the order of the table."""
    rows = []
    for score in result.scores:
        rows.append(_row(score, score.method, result.n_points, result))
        if score.method == "SFNO":
            rows.append(_row(result.fine, "SFNO, finer grid", result.n_fine, result))
    return rows


def demo_table(result: DemoScores) -> str:
    """Return the table of the terminal."""
    rows = [row | {"grid": f"{row['n_points']} x {row['n_points']}"} for row in demo_rows(result)]
    columns = {
        "method": "method",
        "grid": "grid",
        "relative_l2": "relative L2",
        "relative_h1": "relative H1",
        "seconds": "s/forecast",
        "training_seconds": "s training",
    }
    return format_table(rows, columns)


def demo_targets(result: DemoScores, *, quick: bool) -> list[Target]:
    """Return what the demo promises; the short form promises to beat persistence, no more."""
    sfno, persistence = result.error("SFNO"), result.error("persistence")
    if quick:
        return [
            Target("SFNO relative L2 over that of persistence", sfno / persistence, at_most=1.0)
        ]
    return [
        Target(
            f"SFNO relative L2 on held-out trajectories at {result.n_points} x {result.n_points}",
            sfno,
            at_most=0.02,
        ),
        Target(
            f"SFNO relative L2 at {result.n_fine} x {result.n_fine} over that at "
            f"{result.n_points} x {result.n_points}, trained at {result.n_training} x "
            f"{result.n_training}",
            result.fine.relative_l2 / sfno,
            at_most=1.1,
        ),
        Target("SFNO relative L2 over that of FNO3d", sfno / result.error("FNO3d"), at_most=1.0),
    ]


def demo_title(result: DemoScores, *, quick: bool) -> str:
    """Return the headline of the figure."""
    persistence, rival = result.error("persistence"), result.error("FNO3d")
    sfno = result.error("SFNO")
    return (
        f"{'Hardly trained, ' if quick else ''}SFNO forecasts the flow with {_percent(sfno)} error "
        f"(FNO3d {_percent(rival)}, persistence {_percent(persistence)})"
    )


def findings(result: DemoScores, *, quick: bool) -> str:
    """Return what the table shows, in words."""
    sfno = next(s for s in result.scores if s.method == "SFNO")
    sentences = [
        *(["This was the short form: the models are hardly trained."] if quick else []),
        f"SFNO: {_compared(sfno.relative_l2, result.error('persistence'), 'persistence')} and "
        f"{_compared(sfno.relative_l2, result.error('FNO3d'), 'FNO3d')} (trained for "
        f"{result.training_seconds['SFNO']:.0f} s and {result.training_seconds['FNO3d']:.0f} s).",
        _finer_grid(result, sfno),
        _solvers(result, sfno),
    ]
    return textwrap.fill(" ".join(sentences), 100)


def _finer_grid(result: DemoScores, sfno: ForecastScore) -> str:
    trained, fine = (f"{n} x {n}" for n in (result.n_training, result.n_fine))
    if result.fine.relative_l2 <= 1.1 * sfno.relative_l2:
        return f"Trained on {trained} points, it keeps its error on {fine}."
    error = _percent(result.fine.relative_l2)
    return f"Trained on {trained} points, its error grows to {error} on {fine}."


def _solvers(result: DemoScores, sfno: ForecastScore) -> str:
    """Say who wins against the solvers: usually they do, and then this says so."""
    best = min(result.solvers, key=lambda s: s.relative_l2)
    name = best.method.partition(",")[0]
    ratio = best.seconds / sfno.seconds
    speed = f"takes {ratio:.2g} times" if ratio > 1 else f"takes only {ratio:.2g} of"
    if not best.relative_l2 < sfno.relative_l2:
        return f"No classical solver is more accurate here; {name} {speed} the time of SFNO."
    return (
        f"The classical solvers know the equation, SFNO saw examples only: {name} is "
        f"{sfno.relative_l2 / best.relative_l2:,.0f} times more accurate here and {speed} the time "
        "of SFNO. If you have the equation and a smooth flow like this, use the solver."
    )


def _compared(value: float, other: float, name: str) -> str:
    if value <= other:
        return f"{other / value:.3g} times the accuracy of {name}"
    return f"{value / other:.3g} times the error of {name}"


def _percent(error: float) -> str:
    return f"{100 * error:.2g} %"


def _row(score: ForecastScore, method: str, n_points: int, result: DemoScores) -> dict[str, Any]:
    return {
        **score.row(),
        "method": method,
        "n_points": n_points,
        "training_seconds": result.training_seconds.get(score.method),
    }
