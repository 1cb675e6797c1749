"""Without matplotlib a command does its work and says in one line what its figure needs."""

import sys

import pytest

from sciml.cli._figures import draw_if_possible

from .conftest import TINY_TRAINING


def test_a_drawn_figure_gives_its_path(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    path = tmp_path / "figures" / "line.png"
    assert draw_if_possible(lambda: figure, path) == str(path)
    assert path.exists()


def test_training_needs_no_matplotlib(sciml, data_file, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ("train", "sfno", "--data", data_file, "--run-dir", "run", *TINY_TRAINING)
    outcome = sciml(*words)
    assert outcome.status == 0
    assert "relative L2" in outcome.out
    assert outcome.out.count("pip install 'sciml[plot]'") == 1
    assert (tmp_path / "run" / "checkpoint" / "config.json").exists()
    assert not (tmp_path / "run" / "figures").exists()


def test_a_broken_matplotlib_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "matplotlib.py").write_text("import a_part_that_is_absent")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_absent"):
        draw_if_possible(lambda: None, tmp_path / "a.png")
