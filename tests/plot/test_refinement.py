import numpy as np
import pytest

from sciml.plot import plot_refinement

TIMES = 0.2 * np.arange(1, 6)
NEWTON = {"work": [0, 7, 20], "residual": [0.1, 1e-4, 1e-9], "error": [0.1, 1e-3, 1e-7]}
LAYER = {"work": [0, 30], "residual": [0.1, 0.05]}


def _draw(**changes):
    draw = np.random.default_rng(731).normal
    truth = draw(size=(5, 1, 8, 8))
    fields = {
        "prediction": truth + 0.01 * draw(size=truth.shape),
        "residual": draw(size=truth.shape),
        "refined": truth + 1e-7 * draw(size=truth.shape),
    }
    settings = {
        "truth": truth,
        "runs": {"Newton": NEWTON, "output layer": LAYER},
        "times": TIMES,
        "domain_extent": 1.0,
    }
    return plot_refinement(**(fields | settings | changes))


def _titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_it_shows_the_errors_before_and_after_and_both_curves():
    figure = _draw(title="A finding", prediction_name="SFNO", levels={"ETDRK4": 2e-7})
    assert figure.get_suptitle() == "A finding"
    titles = _titles(figure)
    assert titles[:4] == [
        *("Forecast", "Error of the forecast", "Residual of the forecast"),
        "Error after refinement",
    ]
    assert figure.axes[0].get_ylabel() == "SFNO, t = 1"
    residual, error = figure.axes[-2:]
    assert {text.get_text() for text in residual.texts} == {"Newton", "output layer"}
    assert {text.get_text() for text in error.texts} == {"Newton", "ETDRK4"}
    assert residual.get_yscale() == error.get_yscale() == "log"
    notes = " ".join(axes.get_xlabel() for axes in figure.axes)
    assert "error: relative L2 0.0" in notes
    assert "e-07" in notes


def test_the_last_snapshot_is_drawn():
    residual = np.zeros((5, 1, 8, 8))
    residual[-1] = 3.0
    image = _draw(residual=residual).axes[2].images[0]
    np.testing.assert_array_equal(image.get_array(), np.full((8, 8), 3.0))


def test_without_truth_it_shows_the_change():
    figure = _draw(truth=None, runs={"Newton": {k: NEWTON[k] for k in ("work", "residual")}})
    titles = _titles(figure)
    assert titles[1:4] == [
        *("Residual of the forecast", "What refinement changed", "Refined forecast")
    ]
    assert len(figure.axes) == 4 * 2 + 1


def test_a_run_has_one_colour_in_both_curves():
    residual, error = _draw().axes[-2:]
    colours = {text.get_text(): text.get_color() for text in residual.texts}
    assert error.texts[0].get_text() == "Newton"
    assert error.texts[0].get_color() == colours["Newton"]


def test_nothing_is_cut_off():
    figure = _draw(title="A finding", levels={"ETDRK4, 2 steps a snapshot": 2e-7})
    figure.draw_without_rendering()
    page = figure.bbox
    for axes in figure.axes:
        for text in [*axes.texts, axes.title, axes.xaxis.label]:
            box = text.get_window_extent()
            assert page.x0 <= box.x0
            assert box.x1 <= page.x1
            assert page.y0 <= box.y0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": {}}, "at least one way"),
        ({"runs": {"Newton": {"work": [0, 1]}}}, r"needs \['residual'\]"),
        ({"runs": {"N": {"work": [0, 1], "residual": [0.1]}}}, "shape of its 'work'"),
        ({"runs": {"N": {"work": [0], "residual": [np.nan]}}}, "finite"),
        ({"runs": {"N": {"work": [0], "residual": [-1.0]}}}, "not be negative"),
        ({"runs": {"N": {"work": [2, 1], "residual": [1.0, 0.1]}}}, "must not fall"),
        ({"levels": {"ETDRK4": 0.0}}, "must be positive"),
        ({"times": TIMES[1:]}, "size 5"),
        ({"residual": np.zeros((5, 1, 8, 9))}, "must have size 8"),
        ({"refined": np.full((5, 1, 8, 8), np.nan)}, "finite"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        _draw(**changes)
