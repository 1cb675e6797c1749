import numpy as np
import pytest

from sciml.plot import plot_spectrum


def _noise(n, seed=311):
    return np.random.default_rng(seed).normal(size=(3, 1, n, n))


def _line(axes, index):
    return axes.lines[index].get_xydata()


def test_a_single_wave_stands_at_its_wavenumber():
    x = 2.0 * np.arange(16) / 16
    wave = np.cos(2 * np.pi * 3 * x / 2.0)[:, None] * np.ones(16)
    (axes,) = plot_spectrum({"wave": wave[None, None]}, domain_extent=2.0).axes
    wavenumber, energy = _line(axes, 0)[np.argmax(_line(axes, 0)[:, 1])]
    assert wavenumber == pytest.approx(2 * np.pi * 3 / 2.0)
    assert energy == pytest.approx(0.25)  # half the mean square


def test_lines_end_where_their_grid_does():
    (axes,) = plot_spectrum({"coarse": _noise(8), "fine": _noise(16)}, domain_extent=1.0).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert _line(axes, 0)[-1, 0] == pytest.approx(2 * np.pi * 4)
    assert _line(axes, 1)[-1, 0] == pytest.approx(2 * np.pi * 8)
    assert {text.get_text() for text in axes.texts} == {"coarse", "fine"}


def test_the_time_is_chosen():
    noise = _noise(8)
    noise[0] *= 2
    (axes,) = plot_spectrum(
        {"first": noise[:1], "same": noise}, domain_extent=1.0, time_index=0
    ).axes
    np.testing.assert_allclose(_line(axes, 0), _line(axes, 1))


@pytest.mark.parametrize(
    ("trajectories", "settings", "message"),
    [
        ({}, {}, "at least one trajectory"),
        ({"m": np.zeros((3, 8, 8))}, {}, r"trajectories\['m'\]` must have 4 axes"),
        ({"m": _noise(8)}, {"time_index": 3}, "`time_index` is 3.*3 snapshots"),
        ({"m": np.full((1, 1, 8, 8), np.nan)}, {}, "has 64 non-finite"),
        ({"m": np.ones((1, 1, 8, 8))}, {}, "constant in space"),
    ],
)
def test_wrong_arguments_are_named(trajectories, settings, message):
    with pytest.raises(ValueError, match=message):
        plot_spectrum(trajectories, domain_extent=1.0, **settings)
