"""Energy against wavenumber: which scales a prediction gets right."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from ..core import check_finite, check_shape
from ..numerics import energy_spectrum
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


def plot_spectrum(
    trajectories: Mapping[str, ArrayLike],
    *,
    domain_extent: float | int | Sequence[float | int],
    time_index: int = -1,
    quantity: str = "enstrophy",
    baselines: Sequence[str] = ("truth",),
    title: str = "",
) -> "matplotlib.figure.Figure":
    """Draw the energy spectra of several trajectories at one time.

    Parameters
    ----------
    trajectories
        For each name an array ``(time, channels, x, y)``. They may live on different grids of
        the same domain: each line ends at the wavenumber that its grid still resolves in every
        direction.
    domain_extent
        Length of the domain along x and along y, or one number for both.
    time_index
        Which snapshot; the last by default, where errors are largest.
    quantity
        What half the square of the field is: enstrophy for a vorticity. For kinetic energy pass
        velocities (`sciml.numerics.velocity_from_vorticity`) and ``"energy"``.
    baselines
        Names to draw in grey, dashed.
    title
        What the figure shows, in words.

    Returns
    -------
    matplotlib.figure.Figure
        One panel with two log axes; each line is named at its right end.

    Raises
    ------
    ValueError
        If there is nothing to draw, a shape is wrong, or a field is not finite.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(11).normal(size=(3, 1, 16, 16))
    >>> figure = plot_spectrum({"truth": noise, "model": 0.9 * noise}, domain_extent=1.0)
    >>> figure.axes[0].get_ylabel()
    'enstrophy'
    """
    if not trajectories:
        raise ValueError("`trajectories` must name at least one trajectory, got none.")
    extent = (
        (domain_extent,) * 2 if isinstance(domain_extent, int | float) else tuple(domain_extent)
    )
    figure = new_figure(5.6, 3.8)
    axes = figure.subplots()
    colours = method_colours(trajectories, baselines)
    ends = {}
    for name, trajectory in trajectories.items():
        values = np.asarray(trajectory)
        sizes = check_shape(f"trajectories[{name!r}]", values, ("time", "channels", "x", "y"))
        if not -sizes["time"] <= time_index < sizes["time"]:
            raise ValueError(
                f"`time_index` is {time_index}, but trajectories[{name!r}] has {sizes['time']} "
                "snapshots."
            )
        check_finite(f"trajectories[{name!r}]", values[time_index])
        wavenumber, energy = map(np.asarray, energy_spectrum(values[time_index], extent))
        resolved = min(
            np.pi * n / length for n, length in zip(values.shape[2:], extent, strict=True)
        )
        # Shell 0 has no place on a log axis, and neither has a shell without energy.
        shown = (wavenumber > 0) & (wavenumber <= resolved) & (energy > 0)
        if not shown.any():
            raise ValueError(f"trajectories[{name!r}] is constant in space: no spectrum to draw.")
        dashes = "--" if name in baselines else "-"
        axes.plot(wavenumber[shown], energy[shown], dashes, color=colours[name], linewidth=1.8)
        ends[name] = (float(wavenumber[shown][-1]), float(energy[shown][-1]))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(right=max(end[0] for end in ends.values()))
    axes.set_xlabel("wavenumber", fontsize=FONT_SIZE, color=INK)
    axes.set_ylabel(quantity, fontsize=FONT_SIZE, color=INK)
    axes.grid(axis="y", color="#E2E2E2", linewidth=0.6)
    if title:
        set_title(axes, title)
    tidy(axes)
    label_line_ends(axes, ends, colours)
    return figure
