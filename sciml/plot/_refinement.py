"""How a forecast is refined: where it is wrong, what its residual sees, and what is left."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike

from ..core import check_finite
from ._fields import colour_range, draw_panel, in_words, select_panels, with_unit
from ._style import (
    ERROR_COLOURS,
    FIELD_COLOURS,
    FONT_SIZE,
    GREY,
    INK,
    in_figures,
    label_line_ends,
    method_colours,
    new_figure,
    set_title,
    tidy,
)

if TYPE_CHECKING:
    import matplotlib.figure


Curve = ArrayLike | Sequence[float | int]


def plot_refinement(
    prediction: ArrayLike,
    residual: ArrayLike,
    refined: ArrayLike,
    *,
    runs: Mapping[str, Mapping[str, Curve]],
    times: ArrayLike,
    domain_extent: float | int | Sequence[float | int],
    truth: ArrayLike | None = None,
    levels: Mapping[str, float] | None = None,
    channel: int = 0,
    quantity: str = "vorticity",
    unit: str = "",
    time_unit: str = "",
    prediction_name: str = "prediction",
    work: str = "matrix-vector products or gradients",
    baselines: Sequence[str] = ("persistence",),
    title: str = "",
) -> "matplotlib.figure.Figure":
    """Draw a forecast, its error, its residual and the refined error over the way there.

    Parameters
    ----------
    prediction, residual, refined
        Trajectories of shape ``(time, channels, x, y)``; their last snapshot is drawn. Without
        ``truth`` the change that the refinement made stands in for the errors.
    runs
        One record a way of refining, drawn in this order: ``"work"``, ``"residual"`` and, if it is
        known, ``"error"``, each of shape ``(step,)``: the work done up to each step, the relative
        residual and the relative error then.
    times
        Lead time of each snapshot, shape ``(time,)``, increasing.
    domain_extent
        Length of the domain along x and along y, or one number for both.
    truth
        The true trajectory.
    levels
        Errors of methods that take no such steps, drawn as grey lines.
    channel, quantity, unit, time_unit, prediction_name, baselines
        As in `plot_fields` and `plot_error_curves`; ``baselines`` are names among ``runs``.
    work
        What ``"work"`` counts.
    title
        The finding, in words.

    Returns
    -------
    matplotlib.figure.Figure
        Four panels, each with its own colour range, and the curves below.

    Raises
    ------
    ValueError
        If shapes differ, an entry of a field is not finite, or a run has nothing to draw.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(16) / 16
    >>> truth = np.sin(2 * np.pi * (x[:, None] + x + np.arange(4.0)[:, None, None] / 8))[:, None]
    >>> newton = {"work": [0, 6, 15], "residual": [0.1, 1e-3, 1e-9], "error": [0.1, 1e-3, 1e-7]}
    >>> figure = plot_refinement(
    ...     0.9 * truth, truth, truth * (1 - 1e-7), truth=truth, runs={"Newton": newton},
    ...     times=0.2 * np.arange(1, 5), domain_extent=1.0)
    >>> len(figure.axes)  # 4 panels with a bar each, and 2 sets of curves
    10
    """
    layout = {
        "times": times,
        "domain_extent": domain_extent,
        "channel": channel,
        "n_columns": 1,
    }
    reference = prediction if truth is None else truth
    panels = select_panels(reference, prediction, **layout)
    others = [select_panels(reference, field, **layout) for field in (residual, refined)]
    if not runs:
        raise ValueError("`runs` must name at least one way of refining, got none.")
    curves = {name: _check_run(name, run) for name, run in runs.items()}
    levels = {name: float(value) for name, value in (levels or {}).items()}
    for name, value in levels.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"levels[{name!r}] must be positive and finite, got {value}.")
    first, wrong, left = (p.prediction[0] for p in (panels, *others))
    fields = _panels(first, wrong, left, None if truth is None else panels.truth[0], quantity)

    # The title has a strip of its own: the layout would draw it over the titles of the panels.
    heights = np.array([0.35 if title else 0.02, 2.7 * min(panels.aspect, 1.5) + 0.8, 3.0])
    figure = new_figure(12.0, float(heights.sum()))
    strips = figure.subfigures(3, 1, height_ratios=heights.tolist(), squeeze=False)
    top, bottom = strips[1:, 0]
    if title:
        style: dict[str, Any] = {"fontsize": FONT_SIZE + 4, "color": INK, "fontweight": "bold"}
        figure.suptitle(title, x=0.01, y=1 - 0.08 / heights.sum(), ha="left", va="top", **style)
    time = f"t = {in_words(panels.times)[0]} {time_unit}".rstrip()
    for axes, panel in zip(top.subplots(1, 4), fields, strict=True):
        _draw_field(top, axes, panel, panels.extent, unit)
    name = f"{prediction_name}, {time}"
    top.axes[0].set_ylabel(name, fontsize=FONT_SIZE + 1, color=INK, fontweight="bold")
    colours = method_colours(curves, baselines)
    kinds = [("residual", "Residual, relative to the time derivative")]
    if levels or any("error" in run for run in curves.values()):
        kinds.append(("error", "True error, relative L2"))
    for axes, (kind, words) in zip(
        bottom.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True
    ):
        marks = levels if kind == "error" else {}
        _draw_curves(axes, curves, kind, marks, colours, baselines)
        axes.set_xlabel(work, fontsize=FONT_SIZE, color=INK)
        set_title(axes, words)
    for axes in bottom.axes:
        _label(axes, curves, colours)
    return figure


class _Field(NamedTuple):
    """What one of the four panels shows."""

    title: str
    values: np.ndarray
    colours: str
    note: str
    label: str


def _panels(
    prediction: np.ndarray,
    residual: np.ndarray,
    refined: np.ndarray,
    truth: np.ndarray | None,
    quantity: str,
) -> list[_Field]:
    forecast = _Field("Forecast", prediction, FIELD_COLOURS, "", quantity)
    seen = _Field("Residual of the forecast", residual, ERROR_COLOURS, "", "residual")
    if truth is None:
        change = refined - prediction
        share = _share(change, prediction)
        return [
            forecast,
            seen,
            _Field("What refinement changed", change, ERROR_COLOURS, share, "change"),
            _Field("Refined forecast", refined, FIELD_COLOURS, "", quantity),
        ]
    before, after = prediction - truth, refined - truth
    return [
        forecast,
        _Field("Error of the forecast", before, ERROR_COLOURS, _share(before, truth), "error"),
        seen,
        _Field("Error after refinement", after, ERROR_COLOURS, _share(after, truth), "error"),
    ]


def _share(part: np.ndarray, whole: np.ndarray) -> str:
    size = np.linalg.norm(whole)
    return f"relative L2 {in_figures(float(np.linalg.norm(part) / size))}" if size > 0 else ""


def _draw_field(
    figure: Any, axes: Any, panel: _Field, extent: tuple[float, float], unit: str
) -> None:
    low, high = colour_range(panel.values, signed=True)
    image = draw_panel(axes, panel.values, extent, panel.colours, low, high)
    set_title(axes, panel.title)
    bar = figure.colorbar(image, ax=axes, location="bottom", fraction=0.06, pad=0.03, aspect=28)
    label = with_unit(panel.label, unit if panel.label != "residual" else "")
    bar.set_label(f"{label}: {panel.note}" if panel.note else label, fontsize=FONT_SIZE, color=INK)
    bar.formatter.set_powerlimits((-2, 2))
    bar.ax.xaxis.get_offset_text().set(fontsize=FONT_SIZE, color=INK)
    bar.ax.tick_params(labelsize=FONT_SIZE, colors=INK)
    bar.outline.set_linewidth(0.6)


def _check_run(name: str, run: Mapping[str, Curve]) -> dict[str, np.ndarray]:
    """Return the curves of a run as floats of one length."""
    missing = {"work", "residual"} - set(run)
    if missing:
        raise ValueError(f"runs[{name!r}] needs {sorted(missing)}, it has {sorted(run)}.")
    curves = {}
    for key in ("work", "residual", "error"):
        if key not in run:
            continue
        curve = np.asarray(run[key], dtype=float)
        if curve.ndim != 1 or not len(curve) or len(curve) != np.size(run["work"]):
            raise ValueError(
                f"runs[{name!r}][{key!r}] must have the shape of its 'work', (step,); got "
                f"{curve.shape}, and 'work' has {np.shape(run['work'])}."
            )
        check_finite(f"runs[{name!r}][{key!r}]", curve)
        if curve.min() < 0:
            raise ValueError(f"runs[{name!r}][{key!r}] must not be negative, got {curve.min()}.")
        curves[key] = curve
    if np.any(np.diff(curves["work"]) < 0):
        raise ValueError(f"runs[{name!r}]['work'] must not fall, got {curves['work']}.")
    return curves


def _draw_curves(
    axes: Any,
    curves: Mapping[str, dict[str, np.ndarray]],
    kind: str,
    levels: Mapping[str, float],
    colours: Mapping[str, str],
    baselines: Sequence[str],
) -> None:
    for name, level in levels.items():
        axes.axhline(level, color=GREY, linewidth=1.2, linestyle=":", label=name)
    for name, run in curves.items():
        if kind not in run:
            continue
        # A log axis has no place for zero.
        values = np.where(run[kind] > 0, run[kind], np.nan)
        style = "--" if name in baselines else "-"
        axes.plot(
            run["work"], values, style, color=colours[name], linewidth=1.6, marker="o",
            markersize=3.5, label=name,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="#E2E2E2", linewidth=0.6)
    axes.minorticks_off()
    tidy(axes)


def _label(
    axes: Any, curves: Mapping[str, dict[str, np.ndarray]], colours: Mapping[str, str]
) -> None:
    """Name the lines at the right edge, at the height of their ends."""
    ends = {}
    for line in axes.get_lines():
        heights = np.asarray(line.get_ydata(), dtype=float)
        heights = heights[np.isfinite(heights)]
        if len(heights):
            ends[str(line.get_label())] = (float(axes.get_xlim()[1]), float(heights[-1]))
    label_line_ends(axes, ends, {name: colours.get(name, GREY) for name in ends})
