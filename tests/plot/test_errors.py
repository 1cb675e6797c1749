import itertools

import numpy as np
import pytest

from sciml.plot import plot_error_curves

TIMES = 0.2 * np.arange(1, 11)


def _texts(axes):
    return [text.get_text() for text in axes.texts]


def test_lines_are_named_and_the_axis_is_logarithmic():
    axes = plot_error_curves(
        {"persistence": TIMES, "model": 0.01 * TIMES}, times=TIMES, time_unit="s"
    ).axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "lead time (s)"
    assert axes.get_ylabel() == "relative L2 error"
    assert sorted(_texts(axes)) == ["model", "persistence"]
    persistence, model = axes.lines
    assert persistence.get_linestyle() == "--"
    assert model.get_linestyle() == "-"
    assert persistence.get_color() != model.get_color()


def test_several_samples_give_their_median_and_a_band():
    curves = np.outer([1.0, 3.0, 2.0], TIMES)
    axes = plot_error_curves({"model": curves}, times=TIMES).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 2 * TIMES)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.2)
    assert band[:, 1].max() == pytest.approx(6.0)


def test_a_line_ends_with_a_cross_where_one_sample_blows_up():
    curves = np.outer([1.0, 2.0], TIMES)
    curves[1, 6:] = np.inf
    axes = plot_error_curves({"model": curves}, times=TIMES).axes[0]
    line, cross = axes.lines
    assert len(line.get_xdata()) == 6
    assert cross.get_marker() == "x"
    assert cross.get_xdata()[0] == pytest.approx(TIMES[5])


def test_an_exact_start_is_left_out():
    times = np.arange(4.0)
    axes = plot_error_curves({"model": times}, times=times).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1.0, 2.0, 3.0])


def test_labels_of_close_lines_do_not_overlap():
    curves = {name: (1 + 1e-3 * i) * TIMES for i, name in enumerate("abcde")}
    figure = plot_error_curves(curves, times=TIMES)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(lower[1] <= upper[0] for lower, upper in itertools.pairwise(heights))


@pytest.mark.parametrize(
    ("errors", "times", "message"),
    [
        ({}, TIMES, "at least one method"),
        ({"m": TIMES[:-1]}, TIMES, r"axis 1 of `errors\['m'\]` must have size 10"),
        ({"m": -TIMES}, TIMES, "must not be negative"),
        ({"m": np.full(10, np.nan)}, TIMES, "no finite positive entry"),
        ({"m": TIMES}, TIMES[::-1], "`times` must increase"),
        ({"m": TIMES}, np.where(TIMES > 1, np.nan, TIMES), "`times` has 5 non-finite"),
    ],
)
def test_wrong_arguments_are_named(errors, times, message):
    with pytest.raises(ValueError, match=message):
        plot_error_curves(errors, times=times)
