import subprocess
import sys

import numpy as np
import pytest

from sciml.plot import plot_error_curves, save_figure
from sciml.plot._style import _figure_class

TIMES = np.arange(1.0, 4.0)


@pytest.fixture
def figure():
    return plot_error_curves({"model": TIMES}, times=TIMES)


@pytest.mark.parametrize(
    ("name", "magic"), [("a.png", b"\x89PNG"), ("b.pdf", b"%PDF"), ("c.SVG", b"<?xml")]
)
def test_formats(figure, tmp_path, name, magic):
    path = save_figure(figure, tmp_path / "new" / "folder" / name)
    assert path.read_bytes().startswith(magic)
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_unknown_format_is_named(figure, tmp_path):
    with pytest.raises(ValueError, match=r"\.png, \.pdf, \.svg.*a\.jpg"):
        save_figure(figure, tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_the_older_file(figure, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("older")

    def full_disk(target, **settings):
        target.write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(figure, "savefig", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_figure(figure, path)
    assert path.read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_drawing_and_saving_touch_no_pyplot_and_no_settings(tmp_path):
    program = f"""
import sys, numpy as np
import sciml.plot
assert "matplotlib" not in sys.modules
import matplotlib
before = matplotlib.rcParams.copy()
times = np.arange(1.0, 4.0)
figure = sciml.plot.plot_error_curves({{"model": times}}, times=times)
sciml.plot.save_figure(figure, {str(tmp_path / "a.png")!r})
assert "matplotlib.pyplot" not in sys.modules
assert dict.__eq__(matplotlib.rcParams, before)  # without asking for the backend
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_notebook_gets_a_picture(figure):
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    _figure_class.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"sciml\[plot\]"):
        plot_error_curves({"model": TIMES}, times=TIMES)
