"""One picture of a comparison: what it looks like, how the error grows, what each method costs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from ._errors import check_curves, draw_error_curves
from ._fields import draw_fields, select_panels
from ._style import (
    FONT_SIZE,
    GREY,
    INK,
    in_figures,
    method_colours,
    new_figure,
    set_title,
    tidy,
    write_beside,
)

if TYPE_CHECKING:
    import matplotlib.figure


def plot_summary(
    truth: ArrayLike,
    prediction: ArrayLike,
    *,
    errors: Mapping[str, ArrayLike],
    rows: Sequence[Mapping[str, object]],
    times: ArrayLike,
    domain_extent: float | int | Sequence[float | int],
    method: str,
    title: str,
    channel: int = 0,
    quantity: str = "vorticity",
    unit: str = "",
    time_unit: str = "",
    baselines: Sequence[str] = ("persistence",),
) -> "matplotlib.figure.Figure":
    """Draw fields and errors of one method beside the error and the cost of all.

    Parameters
    ----------
    truth, prediction
        One trajectory that the method did not see in training, shape ``(time, channels, x, y)``.
    errors
        For each method its relative L2 error at each time, ``(time,)`` or ``(sample, time)``.
    rows
        One record a method, as in ``results.json``: ``"method"``, ``"relative_l2"`` and
        ``"seconds"`` (wall time to predict one trajectory). They are drawn in this order.
    times
        Lead time of each snapshot, shape ``(time,)``.
    domain_extent
        Length of the domain along x and along y, or one number for both.
    method
        Whose prediction it is: one of the methods of ``rows``.
    title
        The finding, in words.
    channel, quantity, unit, time_unit, baselines
        As in `plot_fields` and `plot_error_curves`.

    Returns
    -------
    matplotlib.figure.Figure
        Fields on the left; error against lead time, and error and seconds by method, on the right.

    Raises
    ------
    ValueError
        If shapes do not match, an entry of the fields is not finite, a row lacks an entry, or
        ``method`` is not among the rows.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(16) / 16
    >>> times = 0.5 * np.arange(1, 5)
    >>> truth = np.sin(2 * np.pi * (x[:, None] + x + times[:, None, None]))[:, None]
    >>> figure = plot_summary(
    ...     truth,
    ...     1.01 * truth,
    ...     errors={"persistence": times, "model": 0.01 * times},
    ...     rows=[
    ...         {"method": "persistence", "relative_l2": 1.0, "seconds": 0.0},
    ...         {"method": "model", "relative_l2": 0.01, "seconds": 0.002},
    ...     ],
    ...     times=times,
    ...     domain_extent=1.0,
    ...     method="model",
    ...     title="The model is 100 times better than persistence",
    ... )
    >>> figure.get_suptitle()
    'The model is 100 times better than persistence'
    """
    panels = select_panels(
        truth,
        prediction,
        times=times,
        domain_extent=domain_extent,
        channel=channel,
        n_columns=3,
    )
    curves, times = check_curves(errors, times)
    names = [_entry(row, "method", str) for row in rows]
    if method not in names:
        raise ValueError(f"`method` is {method!r}, but `rows` has the methods {names}.")
    colours = method_colours([*names, *(name for name in curves if name not in names)], baselines)

    figure = new_figure(12.0, 1.1 + 5.0 * min(panels.aspect, 1.5))
    figure.suptitle(title, fontsize=FONT_SIZE + 4, color=INK, fontweight="bold", x=0.01, ha="left")
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1], squeeze=False)[0]
    draw_fields(
        left,
        panels,
        quantity=quantity,
        unit=unit,
        time_unit=time_unit,
        prediction_name=method,
        signed=True,
    )
    top, bottom = right.subplots(2, 1, height_ratios=[1.35, 1])
    draw_error_curves(
        top,
        curves,
        times,
        time_unit=time_unit,
        norm="relative L2 error",
        colours=colours,
        baselines=baselines,
        emphasis=method,
    )
    has_bands = any(len(curve) > 1 for curve in curves.values())
    set_title(top, "How the error grows" + (" (median and range)" if has_bands else ""))
    _draw_methods(bottom, rows, names, colours, emphasis=method)
    set_title(bottom, "All times together")
    return figure


def _draw_methods(
    axes: Any,
    rows: Sequence[Mapping[str, object]],
    names: list[str],
    colours: dict[str, str],
    *,
    emphasis: str,
) -> None:
    """Draw the error of each method as a dot on a log axis, with its numbers in two columns.

    Dots, because the length of a bar means nothing on an axis without a zero.
    """
    values = np.array([_entry(row, "relative_l2", float) for row in rows])
    seconds = [_entry(row, "seconds", float) for row in rows]
    drawable = np.isfinite(values) & (values > 0)
    least, most = (values[drawable].min(), values[drawable].max()) if drawable.any() else (0.1, 1.0)
    axes.set_xscale("log")
    axes.set_xlim(least / 3, most * 3)
    axes.set_ylim(len(names) - 0.5, -0.5)
    columns = (
        (52.0, "relative L2", [_error_in_words(value) for value in values]),
        (100.0, "seconds", [f"{cost:.2g}" for cost in seconds]),
    )
    for offset, heading, entries in columns:
        write_beside(
            axes, 1.06, heading, GREY, transform=axes.transAxes, offset=offset, align="right"
        )
        for place, (name, words) in enumerate(zip(names, entries, strict=True)):
            write_beside(
                axes,
                float(place),
                words,
                colours[name],
                transform=axes.get_yaxis_transform(),
                offset=offset,
                align="right",
            )
    for place, name in enumerate(names):
        axes.axhline(place, color="#E2E2E2", linewidth=0.8, zorder=0)
        if drawable[place]:
            size = 10 if name == emphasis else 7
            axes.plot(values[place], place, "o", color=colours[name], markersize=size)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("relative L2 error", fontsize=FONT_SIZE, color=INK)
    axes.minorticks_off()
    tidy(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(colours[name])
        label.set_fontweight("bold" if name == emphasis else "normal")


def _error_in_words(value: float) -> str:
    return in_figures(value) if np.isfinite(value) else "blew up"


def _entry(row: Mapping[str, object], name: str, kind: type) -> Any:
    try:
        return kind(row[name])  # type: ignore[call-arg]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"each of `rows` needs a {kind.__name__} under '{name}', got {dict(row)}."
        ) from None
