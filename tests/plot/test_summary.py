import numpy as np
import pytest

from sciml.plot import plot_summary

TIMES = 0.2 * np.arange(1, 6)
ROWS = [
    {"method": "persistence", "relative_l2": 0.3, "relative_h1": 0.5, "seconds": 0.0},
    {"method": "SFNO", "relative_l2": 0.012, "relative_h1": 0.03, "seconds": 0.0123},
    {"method": "IMEX-CN", "relative_l2": float("nan"), "relative_h1": 0.1, "seconds": 2.0},
]


def _draw(**changes):
    truth = np.random.default_rng(731).normal(size=(5, 1, 8, 8))
    settings = {
        "errors": {"persistence": TIMES, "SFNO": np.outer([0.01, 0.02], TIMES)},
        "rows": ROWS,
        "times": TIMES,
        "domain_extent": 1.0,
        "method": "SFNO",
        "title": "A finding",
    } | changes
    return plot_summary(truth, 1.01 * truth, **settings)


def test_it_shows_fields_curves_and_methods():
    figure = _draw()
    assert figure.get_suptitle() == "A finding"
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert {"truth", "SFNO", "error", "relative L2 error"} <= set(labels)
    methods = figure.axes[-1]
    assert [tick.get_text() for tick in methods.get_yticklabels()] == [r["method"] for r in ROWS]
    words = [text.get_text() for text in methods.texts]
    assert {"relative L2", "0.30", "0.012", "blew up", "seconds", "0", "2"} <= set(words)


def test_the_first_method_is_above_the_last():
    methods = _draw().axes[-1]
    bottom, top = methods.get_ylim()
    assert bottom > top
    assert methods.get_xscale() == "log"


def test_a_method_has_one_colour_everywhere():
    figure = _draw()
    curves = next(axes for axes in figure.axes if axes.get_ylabel() == "relative L2 error")
    in_curves = {text.get_text(): text.get_color() for text in curves.texts}
    in_table = {label.get_text(): label.get_color() for label in figure.axes[-1].get_yticklabels()}
    assert in_curves["SFNO"] == in_table["SFNO"]
    assert in_curves["persistence"] == in_table["persistence"]


def test_nothing_is_cut_off():
    figure = _draw()
    figure.draw_without_rendering()
    page = figure.bbox
    for axes in figure.axes:
        for text in [*axes.texts, axes.title, *axes.get_yticklabels()]:
            box = text.get_window_extent()
            assert page.x0 <= box.x0
            assert box.x1 <= page.x1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "FNO"}, "`method` is 'FNO', but `rows` has the methods"),
        ({"rows": [{"method": "SFNO", "seconds": 1.0}]}, "needs a float under 'relative_l2'"),
        ({"rows": [{"relative_l2": 1.0}]}, "needs a str under 'method'"),
        ({"errors": {"SFNO": TIMES[1:]}}, "must have size 5"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        _draw(**changes)
