"""Figures and films of particles."""

import numpy as np
import pytest

from sciml.plot import animate_particles, plot_particles

TIMES = 0.1 * np.arange(5)
BOX = [[0, 2], [0, 1]]


def make_cloud(n, dim=2):
    x = np.random.default_rng(71).random((1, n, dim))
    return x * np.linspace(1, 0.5, 5)[:, None, None]


def test_one_row_a_cloud_and_one_colour_a_place():
    figure = plot_particles(
        {"truth": make_cloud(40), "model": make_cloud(10)}, times=TIMES, bounds=BOX, n_columns=3
    )
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes[:3]] == ["t = 0.0", "t = 0.2", "t = 0.4"]
    assert figure.axes[0].get_xlim() == (0, 2)
    drawn = [axes.collections[0] for axes in figure.axes]
    assert [len(d.get_offsets()) for d in drawn] == [40] * 3 + [10] * 3
    np.testing.assert_array_equal(drawn[0].get_array(), drawn[2].get_array())
    assert drawn[0].get_sizes()[0] <= drawn[3].get_sizes()[0], "few particles, large dots"


def test_of_three_axes_the_first_and_the_last_are_drawn():
    cloud = make_cloud(6, 3)
    box = [[0, 2], [0, 9], [0, 1]]
    colours = {"a": np.arange(6.0)}
    figure = plot_particles({"a": cloud}, times=TIMES, bounds=box, colour_by=colours, n_columns=1)
    dots = figure.axes[0].collections[0]
    np.testing.assert_allclose(dots.get_offsets(), cloud[0][:, [0, 2]])
    np.testing.assert_allclose(dots.get_array(), colours["a"])


def test_a_film_has_a_picture_a_frame(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = animate_particles(
        tmp_path / "films" / "a.gif", {"a": make_cloud(10)}, times=TIMES, bounds=BOX,
        dots_per_inch=40.0,
    )  # fmt: skip
    with image.open(path) as film:
        assert film.n_frames == 5
    assert [p.name for p in path.parent.iterdir()] == ["a.gif"]


def test_bad_input(tmp_path, monkeypatch):
    cloud = make_cloud(4)
    options = {"times": TIMES, "bounds": BOX}
    with pytest.raises(ValueError, match=r"must end in \.gif or \.mp4"):
        animate_particles(tmp_path / "a.avi", {"a": cloud}, **options)
    with pytest.raises(ValueError, match="`clouds` is empty"):
        plot_particles({}, **options)
    with pytest.raises(ValueError, match="axis 0 of `clouds"):
        plot_particles({"a": cloud[:3]}, **options)
    with pytest.raises(ValueError, match="non-finite"):
        plot_particles({"a": np.where(cloud > 0.5, np.nan, cloud)}, **options)
    with pytest.raises(ValueError, match="axis 0 of `colour_by"):
        plot_particles({"a": cloud}, colour_by={"a": np.ones(3)}, **options)
    monkeypatch.setattr("matplotlib.animation.FFMpegWriter.isAvailable", lambda: False)
    with pytest.raises(RuntimeError, match="ffmpeg"):
        animate_particles(tmp_path / "a.mp4", {"a": cloud}, **options)
