"""Loss landscapes: the loss along random directions, and how rough each landscape is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import check_finite
from ._style import (
    FONT_SIZE,
    GREY,
    INK,
    in_figures,
    method_colours,
    new_figure,
    set_title,
    tidy,
)

if TYPE_CHECKING:
    import matplotlib.figure


def plot_roughness(
    landscapes: Mapping[str, Any],
    *,
    n_shown: int = 12,
    baselines: Sequence[str] = (),
    title: str = "",
) -> "matplotlib.figure.Figure":
    """Draw losses along random directions, and the total variations that make the index.

    Parameters
    ----------
    landscapes
        By name, records with ``s`` of shape ``(points,)``, ``losses`` of shape ``(directions,
        points)``, ``total_variations`` of shape ``(directions,)`` and ``index``, as
        `sciml.natural_gradient.roughness_index` returns them.
    n_shown
        The most directions drawn of each landscape.
    baselines
        Names among ``landscapes`` that are drawn in grey.
    title
        The finding, in words.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a landscape, each curve from 0 to 1 of its own range, and the total variations of
        all of them on the right.

    Raises
    ------
    ValueError
        If there is nothing to draw, shapes differ, or an entry is not finite.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> s = np.linspace(-1, 1, 51)
    >>> well = SimpleNamespace(s=s, losses=np.outer([1.0, 2.0], s**2),
    ...                        total_variations=np.array([2.0, 2.0]), index=0.0)
    >>> len(plot_roughness({"a well": well}).axes)
    2
    """
    if not landscapes:
        raise ValueError("`landscapes` must hold at least one record, got none.")
    if n_shown < 1:
        raise ValueError(f"`n_shown` must be at least 1, got {n_shown}.")
    checked = {name: _check(name, record) for name, record in landscapes.items()}
    colours = method_colours(checked, baselines)
    figure = new_figure(3.1 * len(checked) + 3.4, 3.3 + (0.4 if title else 0.0))
    panels = figure.subplots(1, len(checked) + 1, squeeze=False)[0]
    if title:
        figure.suptitle(
            title, x=0.01, ha="left", fontsize=FONT_SIZE + 4, color=INK, fontweight="bold"
        )
    for axes, (name, (s, losses, _, index)) in zip(panels[:-1], checked.items(), strict=True):
        low, high = losses.min(axis=1, keepdims=True), losses.max(axis=1, keepdims=True)
        scaled = (losses - low) / np.where(high > low, high - low, 1.0)
        axes.plot(s, scaled[:n_shown].T, color=colours[name], linewidth=1.0, alpha=0.6)
        axes.set_xlabel("distance along the direction", fontsize=FONT_SIZE, color=INK)
        set_title(axes, f"{name}: index {in_figures(index)}")
        tidy(axes)
    panels[0].set_ylabel("loss, from its least to its greatest", fontsize=FONT_SIZE, color=INK)
    _draw_variations(panels[-1], {name: c[2] for name, c in checked.items()}, colours)
    return figure


def _check(name: str, record: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    s, losses, totals = (
        np.asarray(getattr(record, key), dtype=float) for key in ("s", "losses", "total_variations")
    )
    if s.ndim != 1 or losses.ndim != 2 or losses.shape != (len(totals), len(s)):
        raise ValueError(
            f"landscapes[{name!r}] needs `losses` of shape (directions, points) beside `s` and "
            f"`total_variations`; got {losses.shape}, {s.shape} and {totals.shape}."
        )
    for key, array in (("s", s), ("losses", losses), ("total_variations", totals)):
        check_finite(f"landscapes[{name!r}].{key}", array)
    return s, losses, totals, float(record.index)


def _draw_variations(
    axes: Any, variations: Mapping[str, np.ndarray], colours: Mapping[str, str]
) -> None:
    """Draw one dot a direction, and a bar at the mean."""
    for place, (name, totals) in enumerate(variations.items()):
        beside = place + np.linspace(-0.28, 0.28, len(totals)) if len(totals) > 1 else [place]
        axes.plot(beside, totals, ".", color=colours[name], markersize=5, alpha=0.7)
        axes.plot([place - 0.35, place + 0.35], [totals.mean()] * 2, color=INK, linewidth=1.6)
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(variations)), list(variations), fontsize=FONT_SIZE, color=INK)
    axes.set_xlim(-0.6, len(variations) - 0.4)
    axes.set_ylabel("total variation over range", fontsize=FONT_SIZE, color=INK)
    set_title(axes, "Each direction, and the mean")
    tidy(axes)
