import numpy as np
import pytest

from sciml.plot import plot_fields


def _trajectory(n_times=6, n_x=12, n_y=8):
    """A wave that goes up and down in x and is 10 times weaker in y, so that axes can be told."""
    x = np.arange(n_x) / n_x
    y = np.arange(n_y) / n_y
    t = np.arange(n_times)[:, None, None]
    wave = np.sin(2 * np.pi * (x[:, None] - 0.1 * t)) + 0.1 * np.cos(2 * np.pi * y)
    return np.stack([wave, 2 * wave], axis=1)


def _images(figure):
    return [axes.images[0] for axes in figure.axes if axes.images and not axes.get_label()]


def _draw(**changes):
    truth = _trajectory()
    settings = {"times": 0.5 * np.arange(6), "domain_extent": (2.0, 1.0)} | changes
    return plot_fields(truth, 1.1 * truth, **settings)


def test_truth_and_prediction_share_one_range_that_is_symmetric():
    figure = _draw(n_columns=3)
    limits = [image.get_clim() for image in _images(figure)]
    assert len(limits) == 9
    assert len(set(limits[:6])) == 1
    assert limits[0][0] == -limits[0][1]
    assert len(set(limits[6:])) == 1
    assert limits[6][1] == pytest.approx(limits[0][1] / 10)


def test_a_field_without_sign_gets_its_own_least_and_largest():
    truth = 5.0 + _trajectory()
    figure = plot_fields(truth, truth, times=np.arange(6), domain_extent=1, signed=False)
    image = _images(figure)[0]
    assert image.get_clim() == (truth[[0, 2, 3, 5], 0].min(), truth[[0, 2, 3, 5], 0].max())


def test_x_goes_right_and_y_goes_up():
    truth = _trajectory()
    image = _images(_draw(n_columns=1))[0]
    assert image.origin == "lower"
    np.testing.assert_array_equal(image.get_array(), truth[-1, 0].T)
    # Grid points are pixel centres: half a cell of 2/12 and of 1/8 to the left and below zero.
    np.testing.assert_allclose(image.get_extent(), (-1 / 12, 2 - 1 / 12, -1 / 16, 1 - 1 / 16))


def test_labels_name_rows_times_units_and_errors():
    figure = _draw(n_columns=2, prediction_name="SFNO", unit="1/s", time_unit="s", channel=1)
    words = [axes.get_ylabel() for axes in figure.axes]
    assert {"truth", "SFNO", "error", "vorticity (1/s)", "error (1/s)"} <= set(words)
    titles = [axes.get_title() for axes in figure.axes]
    assert {"t = 0.0 s", "t = 2.5 s"} <= set(titles)
    assert [axes.get_xlabel() for axes in figure.axes].count("relative L2 0.10") == 2


def test_the_last_time_is_always_shown():
    titles = [axes.get_title() for axes in _draw(n_columns=1).axes]
    assert "t = 2.5" in titles


def test_the_bar_is_pointed_where_the_prediction_leaves_the_range():
    bar = next(axes for axes in _draw().axes if axes.get_ylabel() == "vorticity")
    assert bar._colorbar.extend == "both"


def test_a_zero_truth_is_drawn():
    truth = np.zeros((3, 1, 4, 4))
    figure = plot_fields(truth, truth, times=np.arange(3), domain_extent=1.0)
    assert any("undefined" in axes.get_xlabel() for axes in figure.axes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"times": np.arange(5)}, "`times`.*size 6.*got shape \\(5,\\)"),
        ({"times": np.full(6, np.nan)}, "`times` has 6 non-finite"),
        ({"channel": 2}, "`channel` is 2, but `truth` has 2 channels"),
        ({"domain_extent": (1.0, 1.0, 1.0)}, "one length or two"),
        ({"domain_extent": (1.0, -1.0)}, "must be positive"),
        ({"n_columns": 0}, "`n_columns` must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        _draw(**changes)


def test_shapes_and_nan_are_named():
    truth = _trajectory()
    times = np.arange(6)
    with pytest.raises(ValueError, match=r"`prediction`.*got shape \(6, 2, 12, 7\)"):
        plot_fields(truth, truth[..., :-1], times=times, domain_extent=1.0)
    with pytest.raises(ValueError, match="`truth` must have 4 axes"):
        plot_fields(truth[0], truth[0], times=times, domain_extent=1.0)
    broken = truth.copy()
    broken[5, 0, 3, 3] = np.inf
    with pytest.raises(ValueError, match="`prediction` has 1 non-finite"):
        plot_fields(truth, broken, times=times, domain_extent=1.0)
