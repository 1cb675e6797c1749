"""A figure is drawn if matplotlib is there, and a broken one is not called missing."""

import sys

import pytest

from sciml.cli._figures import draw_if_possible


def test_a_drawn_figure_gives_its_path(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    path = tmp_path / "figures" / "line.png"
    assert draw_if_possible(lambda: figure, path) == str(path)
    assert path.exists()


def test_a_broken_matplotlib_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "matplotlib.py").write_text("import a_part_that_is_absent")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_absent"):
        draw_if_possible(lambda: None, tmp_path / "a.png")
