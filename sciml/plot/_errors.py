"""Relative error against lead time, for several methods on one log axis."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from ..core import check_finite, check_shape
from ._fields import with_unit
from ._style import (
    FONT_SIZE,
    INK,
    label_line_ends,
    method_colours,
    new_figure,
    set_title,
    tidy,
)

if TYPE_CHECKING:
    import matplotlib.figure


def plot_error_curves(
    errors: Mapping[str, ArrayLike],
    *,
    times: ArrayLike,
    time_unit: str = "",
    norm: str = "relative L2 error",
    baselines: Sequence[str] = ("persistence",),
    title: str = "",
) -> "matplotlib.figure.Figure":
    """Draw the error of several methods against lead time, on a log axis.

    Parameters
    ----------
    errors
        For each method its error at each time, shape ``(time,)`` or ``(sample, time)``; with
        samples the line is their median and the band reaches from the lowest to the highest.
        `sciml.numerics.relative_error_curve` computes them. Where a method has blown up (NaN or
        infinity) its line ends with a cross.
    times
        Lead time of each entry, shape ``(time,)``, increasing.
    time_unit, norm
        Words for the labels.
    baselines
        Methods to draw in grey, dashed: what a user gets without any model.
    title
        What the figure shows, in words.

    Returns
    -------
    matplotlib.figure.Figure
        One panel; each line is named at its right end.

    Raises
    ------
    ValueError
        If there is no method, a shape does not match ``times``, an error is negative, or a
        method has no finite positive error at all.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> times = np.arange(1, 6) * 0.2
    >>> figure = plot_error_curves({"persistence": times, "model": 0.01 * times}, times=times)
    >>> figure.axes[0].get_yscale()
    'log'
    """
    curves, times = check_curves(errors, times)
    figure = new_figure(5.6, 3.4)
    axes = figure.subplots()
    draw_error_curves(
        axes, curves, times, time_unit=time_unit, norm=norm, colours=None, baselines=baselines
    )
    if title:
        set_title(axes, title)
    return figure


def check_curves(
    errors: Mapping[str, ArrayLike], times: ArrayLike
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each curve as ``(sample, time)`` floats, with the times."""
    times = np.asarray(times, dtype=float)
    n_times = check_shape("times", times, ("time",))["time"]
    check_finite("times", times)
    if np.any(np.diff(times) <= 0):
        raise ValueError(f"`times` must increase, got {times}.")
    if not errors:
        raise ValueError("`errors` must name at least one method, got none.")
    curves = {}
    for name, values in errors.items():
        curve = np.asarray(values, dtype=float)
        if curve.ndim == 1:
            curve = curve[None]
        check_shape(f"errors[{name!r}]", curve, ("sample", n_times))
        if np.any(curve < 0):
            raise ValueError(f"errors[{name!r}] must not be negative, got {curve.min()}.")
        if not np.any(np.isfinite(curve) & (curve > 0)):
            raise ValueError(f"errors[{name!r}] has no finite positive entry: nothing to draw.")
        curves[name] = curve
    return curves, times


def draw_error_curves(
    axes: Any,
    curves: Mapping[str, np.ndarray],
    times: np.ndarray,
    *,
    time_unit: str,
    norm: str,
    colours: Mapping[str, str] | None,
    baselines: Sequence[str],
    emphasis: str = "",
) -> None:
    """Draw checked curves into ``axes``; ``colours`` as given, or from the palette in order.

    ``emphasis`` names a method whose line is drawn thicker.
    """
    colours = method_colours(curves, baselines) if colours is None else colours
    ends = {}
    for name, curve in curves.items():
        # A log axis has no place for zero (an exact method, or the step that is given).
        drawable = np.where(np.isfinite(curve) & (curve > 0), curve, np.nan)
        # One sample that blows up ends the line: a median over the survivors would flatter.
        alive = np.isfinite(curve).all(axis=0)
        seen = alive & np.isfinite(drawable).all(axis=0)
        if not seen.any():
            continue
        middle = np.median(drawable[:, seen], axis=0)
        dashes = "--" if name in baselines else "-"
        width = 2.6 if name == emphasis else 1.5
        axes.plot(times[seen], middle, dashes, color=colours[name], linewidth=width)
        if len(curve) > 1:
            low, high = drawable[:, seen].min(axis=0), drawable[:, seen].max(axis=0)
            axes.fill_between(times[seen], low, high, color=colours[name], alpha=0.15, linewidth=0)
        ends[name] = (float(times[seen][-1]), float(middle[-1]))
        if not alive.all():
            axes.plot(*ends[name], "x", color=colours[name], markersize=7, markeredgewidth=2)
    axes.set_yscale("log")
    axes.set_xlim(min(0.0, times[0]), times[-1])
    axes.set_xlabel(with_unit("lead time", time_unit), fontsize=FONT_SIZE, color=INK)
    axes.set_ylabel(norm, fontsize=FONT_SIZE, color=INK)
    axes.grid(axis="y", color="#E2E2E2", linewidth=0.6)
    axes.minorticks_off()
    tidy(axes)
    label_line_ends(axes, ends, dict(colours))
