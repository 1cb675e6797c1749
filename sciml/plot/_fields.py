"""Truth, prediction and error of a trajectory, side by side on one colour range."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike

from ..core import check_count, check_finite, check_positive, check_shape
from ._style import ERROR_COLOURS, FIELD_COLOURS, FONT_SIZE, GREY, INK, in_figures, new_figure

if TYPE_CHECKING:
    import matplotlib.figure


def plot_fields(
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    times: ArrayLike,
    domain_extent: float | int | Sequence[float | int],
    channel: int = 0,
    n_columns: int = 4,
    quantity: str = "vorticity",
    unit: str = "",
    time_unit: str = "",
    prediction_name: str = "prediction",
    signed: bool = True,
) -> "matplotlib.figure.Figure":
    """Draw truth, prediction and error (prediction minus truth) at a few times.

    Truth and prediction share one colour range, taken from the truth at the times shown; where
    the prediction leaves it, the colour bar gets pointed ends. The error has a range and a bar
    of its own, and below each error stands its relative L2 norm at that time.

    Parameters
    ----------
    truth
        Trajectory of shape ``(time, channels, x, y)``. The first space axis is x, drawn to the
        right, the second is y, drawn upwards (NumPy's ``indexing="ij"``). Each grid point is the
        centre of its pixel.
    prediction
        Trajectory of the same shape.
    times
        Physical time of each snapshot, shape ``(time,)``, increasing.
    domain_extent
        Length of the domain along x and along y, or one number for both.
    channel
        Which channel to draw.
    n_columns
        How many times to show, spread evenly and ending with the last one.
    quantity, unit, time_unit
        Words for the labels; an empty unit is left out.
    prediction_name
        What the rows call the prediction.
    signed
        True gives a diverging map that is symmetric about zero (vorticity, velocity); False a
        sequential map from the least to the largest value (density, concentration).

    Returns
    -------
    matplotlib.figure.Figure
        Three rows of panels and two colour bars.

    Raises
    ------
    ValueError
        If shapes differ, an entry is NaN or infinite, or the channel does not exist.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(16) / 16
    >>> truth = np.sin(2 * np.pi * (x[:, None] + x + np.arange(5.0)[:, None, None] / 8))[:, None]
    >>> figure = plot_fields(truth, 0.9 * truth, times=0.2 * np.arange(5), domain_extent=1.0)
    >>> len(figure.axes)  # 3 rows of 4 panels and 2 colour bars
    14
    """
    panels = select_panels(
        truth,
        prediction,
        times=times,
        domain_extent=domain_extent,
        channel=channel,
        n_columns=n_columns,
    )
    figure = new_figure(1.75 * len(panels.times) + 1.6, 5.1 * panels.aspect + 0.8)
    draw_fields(
        figure,
        panels,
        quantity=quantity,
        unit=unit,
        time_unit=time_unit,
        prediction_name=prediction_name,
        signed=signed,
    )
    return figure


class Panels(NamedTuple):
    """The snapshots that a figure shows, checked: each field is ``(column, x, y)``."""

    truth: np.ndarray
    prediction: np.ndarray
    times: np.ndarray
    extent: tuple[float, float]

    @property
    def aspect(self) -> float:
        """Height over width of one panel, held to what a page can show."""
        return float(np.clip(self.extent[1] / self.extent[0], 0.25, 3.0))


def select_panels(
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    times: ArrayLike,
    domain_extent: float | int | Sequence[float | int],
    channel: int,
    n_columns: int,
) -> Panels:
    """Check what the user passed and pick the snapshots to show."""
    truth, prediction, times = np.asarray(truth), np.asarray(prediction), np.asarray(times)
    sizes = check_shape("truth", truth, ("time", "channels", "x", "y"))
    check_shape("prediction", prediction, truth.shape)
    check_shape("times", times, (sizes["time"],))
    check_finite("times", times)
    n_columns = min(check_count("n_columns", n_columns), sizes["time"])
    if not -sizes["channels"] <= channel < sizes["channels"]:
        raise ValueError(f"`channel` is {channel}, but `truth` has {sizes['channels']} channels.")
    extent = tuple(float(length) for length in np.atleast_1d(np.asarray(domain_extent)))
    extent = extent * 2 if len(extent) == 1 else extent
    if len(extent) != 2:
        raise ValueError(
            f"`domain_extent` must be one length or two (x, y), got {len(extent)}: {domain_extent}."
        )
    for length in extent:
        check_positive("domain_extent", length)
    # The last snapshot is the hardest to predict, so it is always there; the first when there is
    # room for it.
    first = 0 if n_columns > 1 else sizes["time"] - 1
    shown = np.round(np.linspace(first, sizes["time"] - 1, n_columns)).astype(int)
    panels = Panels(
        truth[shown, channel].astype(float),
        prediction[shown, channel].astype(float),
        times[shown].astype(float),
        extent,
    )
    check_finite("truth", panels.truth)
    check_finite("prediction", panels.prediction)
    return panels


def draw_fields(
    figure: Any,
    panels: Panels,
    *,
    quantity: str,
    unit: str,
    time_unit: str,
    prediction_name: str,
    signed: bool,
) -> None:
    """Fill a figure or subfigure with the three rows and the two colour bars."""
    error = panels.prediction - panels.truth
    low, high = colour_range(panels.truth, signed)
    error_limit = colour_range(error, signed=True)[1]
    field_colours = FIELD_COLOURS if signed else "viridis"
    rows = (
        ("truth", panels.truth, field_colours, low, high),
        (prediction_name, panels.prediction, field_colours, low, high),
        ("error", error, ERROR_COLOURS, -error_limit, error_limit),
    )
    grid = figure.subplots(3, len(panels.times), squeeze=False)
    images = []
    for (name, fields, colours, least, most), row in zip(rows, grid, strict=True):
        for field, axes in zip(fields, row, strict=True):
            image = draw_panel(axes, field, panels.extent, colours, least, most)
        images.append(image)
        row[0].set_ylabel(name, fontsize=FONT_SIZE + 1, color=INK, fontweight="bold")
    for axes, time in zip(grid[0], in_words(panels.times), strict=True):
        axes.set_title(f"t = {time} {time_unit}".rstrip(), fontsize=FONT_SIZE, color=INK)
    for axes, wrong, right in zip(grid[2], error, panels.truth, strict=True):
        size = np.linalg.norm(right)
        share = (
            in_figures(float(np.linalg.norm(wrong) / size))
            if size > 0
            else "undefined (truth is 0)"
        )
        axes.set_xlabel(f"relative L2 {share}", fontsize=FONT_SIZE, color=INK)
    figure.supxlabel(
        "each panel is the whole domain, {:.4g} by {:.4g}: x to the right, y up".format(
            *panels.extent
        ),
        fontsize=FONT_SIZE,
        color=GREY,
    )
    beyond = panels.prediction.max() > high, panels.prediction.min() < low
    ends = {(True, True): "both", (True, False): "max", (False, True): "min"}
    _draw_bar(figure, images[0], grid[:2], with_unit(quantity, unit), ends.get(beyond, "neither"))
    _draw_bar(figure, images[2], grid[2:], with_unit("error", unit), "neither")


def with_unit(quantity: str, unit: str) -> str:
    """Return ``"quantity (unit)"``, or the quantity alone."""
    return f"{quantity} ({unit})" if unit else quantity


def in_words(times: np.ndarray) -> list[str]:
    """Return the times with equally many decimals, at most three.

    Examples
    --------
    >>> in_words(np.array([0.25, 4.0]))
    ['0.25', '4.00']
    """
    decimals = next((d for d in range(3) if np.allclose(times, np.round(times, d))), 3)
    return [f"{time:.{decimals}f}" for time in times]


def draw_panel(
    axes: Any, field: np.ndarray, extent: tuple[float, float], colours: str, low: float, high: float
) -> Any:
    # Grid points i L / n are the centres of the pixels, hence the shift by half a cell.
    half = [length / (2 * n) for length, n in zip(extent, field.shape, strict=True)]
    edges = (-half[0], extent[0] - half[0], -half[1], extent[1] - half[1])
    # imshow draws rows downwards along its first axis: transpose, and put the origin below.
    image = axes.imshow(
        field.T, origin="lower", extent=edges, cmap=colours, vmin=low, vmax=high, aspect="equal"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
        spine.set_color(INK)
    return image


def _draw_bar(figure: Any, image: Any, rows: np.ndarray, label: str, extend: str) -> None:
    bar = figure.colorbar(image, ax=rows.ravel().tolist(), extend=extend, aspect=12 * len(rows))
    bar.set_label(label, fontsize=FONT_SIZE, color=INK)
    bar.ax.tick_params(labelsize=FONT_SIZE, colors=INK)
    bar.outline.set_linewidth(0.6)


def colour_range(field: np.ndarray, signed: bool) -> tuple[float, float]:
    if signed:
        limit = float(np.abs(field).max())
        low, high = -limit, limit
    else:
        low, high = float(field.min()), float(field.max())
    # A constant field has no range; any will do, and matplotlib needs one.
    return (low, high) if high > low else (low - 1.0, high + 1.0)
