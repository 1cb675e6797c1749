"""What the demo says about its figures, and that it does not flatter."""

import numpy as np
import pytest

from sciml.cli._demo_report import (
    DemoScores,
    demo_rows,
    demo_table,
    demo_targets,
    demo_title,
    findings,
)
from sciml.neural_operators import ForecastScore


def _score(method: str, error: float, seconds: float) -> ForecastScore:
    return ForecastScore(method, error, 2 * error, seconds, np.ones((1, 2)), np.ones((2, 1, 4, 4)))


def _result(sfno=0.01, fno3d=0.03, solver=1e-5, fine=0.0101) -> DemoScores:
    scores = [
        _score("persistence", 0.3, 1e-4),
        _score("FNO3d", fno3d, 0.1),
        _score("SFNO", sfno, 0.02),
        _score("ETDRK4, 2 steps/snapshot", solver, 0.05),
    ]
    times = {"SFNO": 40.0, "FNO3d": 41.0}
    return DemoScores(scores, _score("SFNO", fine, 0.2), 64, 128, 16, times)


def test_rows_have_what_results_need():
    rows = demo_rows(_result())
    names = [row["method"] for row in rows]
    assert names == ["persistence", "FNO3d", "SFNO", "SFNO, finer grid", "ETDRK4, 2 steps/snapshot"]
    assert len(set(names)) == len(names)
    assert all({"relative_l2", "relative_h1", "seconds"} <= set(row) for row in rows)
    assert [row["n_points"] for row in rows] == [64, 64, 64, 128, 64]
    assert len({len(line) for line in demo_table(_result()).splitlines()[:2]}) == 1


def test_targets_hold_or_say_that_they_do_not():
    assert [target.holds for target in demo_targets(_result(), quick=False)] == [True, True, True]
    bad = _result(sfno=0.05, fine=0.2)
    assert [target.holds for target in demo_targets(bad, quick=False)] == [False, False, False]
    (target,) = demo_targets(bad, quick=True)
    assert target.holds
    assert target.value == pytest.approx(0.05 / 0.3)


def test_findings_name_the_winner():
    words = " ".join(findings(_result(), quick=False).split())
    assert "30 times the accuracy of persistence" in words
    assert "3 times the accuracy of FNO3d" in words
    assert "keeps its error on 128 x 128" in words
    assert "ETDRK4 is 1,000 times more accurate here and takes 2.5 times the time" in words


def test_findings_tell_defeats_too():
    words = " ".join(findings(_result(sfno=0.06, fine=0.2), quick=True).split())
    assert "short form" in words
    assert "2 times the error of FNO3d" in words
    assert "grows to 20 % on 128 x 128" in words
    assert "No classical solver" in findings(_result(solver=float("nan")), quick=False)


def test_title_is_the_finding():
    assert demo_title(_result(), quick=False).startswith("SFNO forecasts the flow with 1 % error")
    assert "hardly trained" in demo_title(_result(), quick=True).lower()
