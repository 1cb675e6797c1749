"""Training curves from the history of a run."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from ..core import check_shape
from ._style import FONT_SIZE, GREY, INK, PALETTE, new_figure, set_title, tidy

if TYPE_CHECKING:
    import matplotlib.figure


def plot_training(
    history: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    validation: str = "validation_loss",
    learning_rate: Callable[[Any], Any] | None = None,
    title: str = "",
) -> "matplotlib.figure.Figure":
    """Draw loss and validation error against the step, and the learning rate below.

    Parameters
    ----------
    history
        For each figure of the run its steps and its values, as ``solution.stats["history"]`` of
        `sciml.train.fit` or ``sciml.train.read_metrics("runs/x")`` give them. ``"loss"`` and the
        figure named by ``validation`` are drawn, ``"learning_rate"`` too if it is there.
    validation
        The figure of the validation: its own name if it was computed by a function of yours.
    learning_rate
        The schedule that the optimiser follows, a function of the step (as of optax); it is
        drawn where the history has no learning rate.
    title
        What the figure shows, in words.

    Returns
    -------
    matplotlib.figure.Figure
        One panel with a log axis for the losses; below it one for the learning rate, if known.

    Raises
    ------
    ValueError
        If the history has neither a loss nor a validation value that can be drawn (finite and
        positive), or steps and values differ in length.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> steps = np.arange(1, 21)
    >>> figure = plot_training({"loss": (steps, 1 / steps)}, learning_rate=lambda step: 1e-3)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'learning rate']
    """
    losses = _series(history, "loss")
    validations = _series(history, validation)
    if not (len(losses) or len(validations)):
        raise ValueError(
            f"`history` has no finite positive 'loss' or {validation!r} to draw; "
            f"it has {sorted(history) or 'nothing'}."
        )
    rates = _series(history, "learning_rate")
    if learning_rate is not None and not len(rates):
        steps = np.unique(np.concatenate([losses[:, 0], validations[:, 0]]))
        # Steps count from 1, and the update of step k used the rate of k - 1.
        rates = np.array([(step, float(learning_rate(int(step) - 1))) for step in steps])
    has_rates = len(rates) > 0

    figure = new_figure(5.6, 4.2 if has_rates else 3.2)
    panels = figure.subplots(
        1 + has_rates,
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[3, 1][: 1 + has_rates],
    )[:, 0]
    top = panels[0]
    if len(losses):
        # Single batches scatter: they are drawn pale, and their running median on top.
        top.plot(*losses.T, color=PALETTE[0], alpha=0.25, linewidth=0.8)
        median = _running_median(losses)
        top.plot(*median.T, color=PALETTE[0], linewidth=1.8)
        _name_line(top, "training", median, PALETTE[0], above=False)
    if len(validations):
        top.plot(*validations.T, "o-", color=PALETTE[1], linewidth=1.8, markersize=4)
        _name_line(top, "validation", validations, PALETTE[1], above=True)
    top.set_yscale("log")
    top.set_ylabel("loss", fontsize=FONT_SIZE, color=INK)
    top.grid(axis="y", color="#E2E2E2", linewidth=0.6)
    if title:
        set_title(top, title)
    if has_rates:
        panels[1].plot(*rates.T, color=GREY, linewidth=1.4)
        panels[1].set_ylim(bottom=0)
        panels[1].set_ylabel("learning rate", fontsize=FONT_SIZE, color=INK)
    panels[-1].set_xlabel("step", fontsize=FONT_SIZE, color=INK)
    for axes in panels:
        tidy(axes)
    return figure


def _series(history: Mapping[str, tuple[ArrayLike, ArrayLike]], name: str) -> np.ndarray:
    """Return ``(n, 2)`` steps and values of one figure, those that a log axis can show."""
    if name not in history:
        return np.empty((0, 2))
    steps, values = (np.asarray(part, dtype=float) for part in history[name])
    check_shape(
        f"the values of history[{name!r}]", values, (check_shape("steps", steps, ("n",))["n"],)
    )
    seen = np.isfinite(values) & (values > 0)
    return np.stack([steps[seen], values[seen]], axis=1)


def _running_median(series: np.ndarray) -> np.ndarray:
    half = max(1, len(series) // 40)
    values = series[:, 1]
    medians = [np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    return np.stack([series[:, 0], medians], axis=1)


def _name_line(axes: Any, name: str, series: np.ndarray, colour: str, *, above: bool) -> None:
    axes.annotate(
        name,
        xy=series[-1],
        xytext=(4, 6 if above else -6),
        textcoords="offset points",
        va="bottom" if above else "top",
        ha="left",
        fontsize=FONT_SIZE,
        color=colour,
        annotation_clip=False,
    )
