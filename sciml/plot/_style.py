"""What all figures share: colours, a figure without pyplot, tidy axes, labels beside the lines.

The colours are those of Okabe and Ito [1]_, which people with the common colour-vision
deficiencies tell apart; baselines are grey. Settings go to the artists, not to ``rcParams``:
figures look the same whatever else the program draws, and nothing global changes.

References
----------
.. [1] M. Okabe, K. Ito, "Color Universal Design: how to make figures and presentations that are
   friendly to colorblind people", 2008.
"""

import functools
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..core import import_optional

if TYPE_CHECKING:
    import matplotlib.figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#7A7A7A"
INK = "#262626"
FONT_SIZE = 9.0
FIELD_COLOURS = "RdBu_r"
ERROR_COLOURS = "PuOr_r"


def new_figure(width: float, height: float) -> "matplotlib.figure.Figure":
    """Return an empty figure of that size in inches, laid out so that no text overlaps."""
    figure = _figure_class()(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05)
    return figure


@functools.cache
def _figure_class() -> type:
    """Return a figure class that notebooks show; matplotlib's own asks for pyplot to do so."""
    figure_module = import_optional("matplotlib.figure", "Drawing figures")

    class NotebookFigure(figure_module.Figure):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=110)
            return buffer.getvalue()

    return NotebookFigure


def tidy(axes: Any) -> None:
    """Leave the two axis lines that carry ticks, with thin ink and small print."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
        axes.spines[side].set_linewidth(0.8)
    axes.tick_params(labelsize=FONT_SIZE, colors=INK, width=0.8)
    axes.set_axisbelow(True)


def set_title(axes: Any, text: str) -> None:
    """Write a title in words above the left end of the axes."""
    axes.set_title(text, loc="left", fontsize=FONT_SIZE + 1, color=INK, fontweight="bold")


def method_colours(names: Iterable[str], baselines: Sequence[str] = ()) -> dict[str, str]:
    """Return a colour for each name: grey for the baselines, the palette in order for the rest."""
    colours: dict[str, str] = {}
    rank = 0
    for name in names:
        if name in baselines:
            colours[name] = GREY
        else:
            colours[name] = PALETTE[rank % len(PALETTE)]
            rank += 1
    return colours


def label_line_ends(
    axes: Any, ends: dict[str, tuple[float, float]], colours: dict[str, str]
) -> None:
    """Write each name beside the right end of its line, moved apart where labels would collide.

    Call it when the limits of the axes are final. ``ends`` holds the data coordinates of the ends.
    """
    to_axes = axes.transData.transform
    from_pixels = axes.transAxes.inverted().transform
    placed = {name: from_pixels(to_axes(end)) for name, end in ends.items()}
    # One line of text, in parts of the height of the axes: points to inches to axes.
    height_in_inches = axes.get_window_extent().height / axes.figure.dpi
    gap = 1.25 * FONT_SIZE / 72 / height_in_inches
    heights = spread(sorted(float(xy[1]) for xy in placed.values()), gap)
    order = sorted(placed, key=lambda name: placed[name][1])
    for name, height in zip(order, heights, strict=True):
        write_beside(axes, height, name, colours[name], transform=axes.transAxes)


def write_beside(
    axes: Any,
    height: float,
    words: str,
    colour: str,
    *,
    transform: Any,
    offset: float = 6.0,
    align: str = "left",
) -> None:
    """Write to the right of the axes, ``offset`` points from its edge.

    An offset in points, because the layout cannot solve for text that moves with the width.
    """
    axes.annotate(
        words,
        xy=(1.0, height),
        xycoords=transform,
        xytext=(offset, 0),
        textcoords="offset points",
        va="center",
        ha=align,
        fontsize=FONT_SIZE,
        color=colour,
        annotation_clip=False,
    )


def in_figures(value: float) -> str:
    """Return a number with two significant figures.

    Examples
    --------
    >>> [in_figures(v) for v in (0.02, 13.4, 2.4e-6)]
    ['0.020', '13', '2.4e-06']
    """
    return f"{value:#.2g}".rstrip(".")


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Return the sorted positions moved apart to at least ``gap``, as little as that needs.

    Runs of crowded positions are replaced by evenly spaced ones around their mean (the
    pool-adjacent-violators rule of isotonic regression, which is the least-squares answer).

    Examples
    --------
    >>> spread([0.0, 1.0, 1.0], 0.5)
    [0.0, 0.75, 1.25]
    """
    blocks: list[tuple[float, int]] = []
    for index, position in enumerate(positions):
        mean, count = position - index * gap, 1
        while blocks and blocks[-1][0] > mean:
            earlier_mean, earlier_count = blocks.pop()
            mean = (mean * count + earlier_mean * earlier_count) / (count + earlier_count)
            count += earlier_count
        blocks.append((mean, count))
    shifted = [mean for mean, count in blocks for _ in range(count)]
    return [value + index * gap for index, value in enumerate(shifted)]
