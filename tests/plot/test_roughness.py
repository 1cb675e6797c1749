from types import SimpleNamespace

import numpy as np
import pytest

from sciml.plot import plot_roughness

S = np.linspace(-1, 1, 21)


def _record(n=4, **changes):
    losses = np.outer(np.arange(1.0, n + 1), S**2)
    return SimpleNamespace(
        **({"s": S, "losses": losses, "total_variations": np.full(n, 2.0), "index": 0.25} | changes)
    )


def test_it_draws_each_landscape_and_their_variations():
    figure = plot_roughness({"Ritz": _record(), "Galerkin": _record(9)}, n_shown=5, title="Found")
    first, second, right = figure.axes
    assert [len(axes.get_lines()) for axes in (first, second)] == [4, 5]
    curve = first.get_lines()[3].get_ydata()
    assert (curve.min(), curve.max()) == (0.0, 1.0)
    assert first.get_title(loc="left") == "Ritz: index 0.25"
    assert [text.get_text() for text in right.get_xticklabels()] == ["Ritz", "Galerkin"]
    np.testing.assert_array_equal(right.get_lines()[1].get_ydata(), [2.0, 2.0])
    assert figure.get_suptitle() == "Found"


def test_a_flat_direction_is_drawn_at_zero():
    figure = plot_roughness({"flat": _record(losses=np.ones((4, 21)))})
    np.testing.assert_array_equal(figure.axes[0].get_lines()[0].get_ydata(), np.zeros(21))


def test_bad_records():
    with pytest.raises(ValueError, match="at least one"):
        plot_roughness({})
    with pytest.raises(ValueError, match="of shape"):
        plot_roughness({"a": _record(total_variations=np.ones(3))})
    with pytest.raises(ValueError, match="non-finite"):
        plot_roughness({"a": _record(s=S * np.nan)})
    with pytest.raises(ValueError, match="n_shown"):
        plot_roughness({"a": _record()}, n_shown=0)
