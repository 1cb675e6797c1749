import numpy as np
import pytest

from sciml.plot import plot_training

STEPS = np.arange(1, 51)
LOSSES = np.exp(-STEPS / 10)


def test_losses_and_learning_rate_get_their_axes():
    history = {
        "loss": (STEPS, LOSSES),
        "validation_loss": ([20, 40], [0.5, 0.25]),
        "seconds": (STEPS, np.ones(50)),
    }
    figure = plot_training(history, learning_rate=lambda step: 1e-3 * (step + 1), title="A run")
    top, bottom = figure.axes
    assert (top.get_yscale(), bottom.get_yscale()) == ("log", "linear")
    assert (top.get_ylabel(), bottom.get_ylabel()) == ("loss", "learning rate")
    assert bottom.get_xlabel() == "step"
    assert top.get_title(loc="left") == "A run"
    assert [text.get_text() for text in top.texts] == ["training", "validation"]
    np.testing.assert_array_equal(top.lines[-1].get_xydata(), [[20, 0.5], [40, 0.25]])
    np.testing.assert_allclose(bottom.lines[0].get_xydata(), np.stack([STEPS, 1e-3 * STEPS], 1))


def test_recorded_learning_rates_come_first():
    history = {"loss": (STEPS, LOSSES), "learning_rate": (STEPS, np.full(50, 0.3))}
    bottom = plot_training(history, learning_rate=lambda step: 1.0).axes[1]
    assert set(bottom.lines[0].get_ydata()) == {0.3}


def test_a_validation_figure_of_ones_own():
    figure = plot_training({"relative_l2": (STEPS, LOSSES)}, validation="relative_l2")
    assert [text.get_text() for text in figure.axes[0].texts] == ["validation"]


def test_without_learning_rates_there_is_one_panel():
    (axes,) = plot_training({"loss": (STEPS, LOSSES)}).axes
    assert axes.get_xlabel() == "step"


def test_non_finite_values_are_left_out():
    losses = np.where(STEPS > 40, np.nan, LOSSES)
    (axes,) = plot_training({"loss": (STEPS, losses)}).axes
    assert len(axes.lines[0].get_xdata()) == 40


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({}, "it has nothing"),
        ({"seconds": (STEPS, LOSSES)}, r"no finite positive 'loss'.*\['seconds'\]"),
        ({"loss": (STEPS, np.full(50, np.nan))}, "no finite positive 'loss'"),
        ({"loss": (STEPS, LOSSES[1:])}, r"the values of history\['loss'\]"),
    ],
)
def test_nothing_to_draw_is_an_error(history, message):
    with pytest.raises(ValueError, match=message):
        plot_training(history)
