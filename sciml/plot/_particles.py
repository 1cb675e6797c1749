"""Particles in a box: stills beside the truth, and animations."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from ..core import (
    PathLike,
    atomic_path,
    check_count,
    check_finite,
    check_positive,
    check_shape,
    import_optional,
)
from ._fields import in_words
from ._style import FONT_SIZE, GREY, INK, new_figure

if TYPE_CHECKING:
    import matplotlib.figure

_COLOURS = "viridis"


def plot_particles(
    clouds: Mapping[str, ArrayLike],
    *,
    times: ArrayLike,
    bounds: Any,
    colour_by: Mapping[str, ArrayLike] | None = None,
    n_columns: int = 4,
    time_unit: str = "",
) -> "matplotlib.figure.Figure":
    """Draw clouds of particles at a few times, one row for each cloud.

    Particles keep the colour of their place in the first frame (from left to right by default),
    so that one sees where the material went.

    Parameters
    ----------
    clouds
        By name, ``(time, particle, dim)`` with ``dim`` 2 or 3; of three axes the first and the
        last are drawn. Their numbers of particles may differ, their times not.
    times
        Time of each frame, ``(time,)``.
    bounds
        Lower and upper end of the box along each axis, ``(dim, 2)``.
    colour_by
        A number for each particle of each cloud, instead of the first coordinate.
    n_columns
        How many times to show, spread evenly from the first to the last.
    time_unit
        Word behind the times.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each cloud and time.

    Raises
    ------
    ValueError
        If shapes do not fit, or a position is not finite.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> fall = 1 - 0.1 * np.arange(4.0)[:, None, None] * np.ones((4, 9, 2))
    >>> figure = plot_particles({"fall": fall}, times=np.arange(4), bounds=[[0, 1], [0, 1]])
    >>> len(figure.axes)
    4
    """
    paths, times, box = _checked(clouds, times, bounds)
    colours = _colours(paths, box, colour_by)
    n_columns = min(check_count("n_columns", n_columns), len(times))
    shown = np.round(np.linspace(0, len(times) - 1, n_columns)).astype(int)
    aspect = float(np.clip(np.diff(box[1])[0] / np.diff(box[0])[0], 0.3, 3))
    figure = new_figure(1.9 * n_columns + 0.4, 1.9 * aspect * len(paths) + 0.4)
    grid = figure.subplots(len(paths), n_columns, squeeze=False)
    labels = in_words(times[shown])
    for (name, path), row in zip(paths.items(), grid, strict=True):
        for frame, axes in zip(shown, row, strict=True):
            _dots(axes, path[frame], colours[name], box, 140.0)
        row[0].set_ylabel(name, fontsize=FONT_SIZE + 1, color=INK, fontweight="bold")
    for label, axes in zip(labels, grid[0], strict=True):
        axes.set_title(f"t = {label} {time_unit}".rstrip(), fontsize=FONT_SIZE, color=INK)
    return figure


def animate_particles(
    path: PathLike,
    clouds: Mapping[str, ArrayLike],
    *,
    times: ArrayLike,
    bounds: Any,
    colour_by: Mapping[str, ArrayLike] | None = None,
    frames_per_second: float = 20.0,
    dots_per_inch: float = 80.0,
) -> Path:
    """Write a film of clouds of particles, side by side.

    Parameters
    ----------
    path
        Ends in ``.gif``, or in ``.mp4``, for which the program ffmpeg must be installed.
    clouds, times, bounds, colour_by
        As in `plot_particles`; every frame is shown.
    frames_per_second
        Speed.
    dots_per_inch
        Resolution.

    Returns
    -------
    pathlib.Path
        The file; it is written aside and renamed when it is complete.

    Raises
    ------
    ValueError
        If the suffix is another, shapes do not fit, or a position is not finite.
    RuntimeError
        If ffmpeg is needed and not there.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> fall = 1 - 0.1 * np.arange(3.0)[:, None, None] * np.ones((3, 9, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = animate_particles(
    ...         f"{folder}/fall.gif", {"fall": fall}, times=np.arange(3), bounds=[[0, 1], [0, 1]]
    ...     )
    ...     file.stat().st_size > 0
    True
    """
    path = Path(path)
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"`path` must end in .gif or .mp4 to say the format, got '{path}'.")
    check_positive("frames_per_second", frames_per_second)
    check_positive("dots_per_inch", dots_per_inch)
    animation = import_optional("matplotlib.animation", "Drawing a film")
    if path.suffix.lower() == ".gif":
        writer = animation.PillowWriter(fps=frames_per_second)
    elif animation.FFMpegWriter.isAvailable():
        writer = animation.FFMpegWriter(fps=frames_per_second)
    else:
        raise RuntimeError(
            f"{path.name} needs the program ffmpeg, which is not installed. Install it, or write a "
            ".gif instead."
        )
    paths, times, box = _checked(clouds, times, bounds)
    colours = _colours(paths, box, colour_by)
    aspect = float(np.clip(np.diff(box[1])[0] / np.diff(box[0])[0], 0.3, 3))
    figure = new_figure(3.0 * len(paths), 3.0 * aspect + 0.5)
    agg = import_optional("matplotlib.backends.backend_agg", "Drawing a film")
    agg.FigureCanvasAgg(figure)
    grid = figure.subplots(1, len(paths), squeeze=False)[0]
    dots = []
    for (name, cloud), axes in zip(paths.items(), grid, strict=True):
        dots.append(_dots(axes, cloud[0], colours[name], box, 220.0))
        axes.set_title(name, fontsize=FONT_SIZE + 1, color=INK)
    labels = in_words(times)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(path) as temporary,
        writer.saving(figure, str(temporary), dpi=dots_per_inch),
    ):
        for frame, label in enumerate(labels):
            for cloud, drawn in zip(paths.values(), dots, strict=True):
                drawn.set_offsets(cloud[frame])
            grid[0].set_xlabel(f"t = {label}", fontsize=FONT_SIZE, color=GREY)
            writer.grab_frame()
    return path


def _checked(
    clouds: Mapping[str, ArrayLike], times: ArrayLike, bounds: Any
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return the two coordinates that are drawn of each cloud, the times, and the box of them."""
    if not clouds:
        raise ValueError("`clouds` is empty.")
    times = np.asarray(times, float)
    n_times = check_shape("times", times, ("time",))["time"]
    box = np.asarray(bounds, float)
    dim = check_shape("bounds", box, ("dim", 2))["dim"]
    if dim not in (2, 3):
        raise ValueError(f"`bounds` must have 2 or 3 axes, got {dim}.")
    paths = {}
    for name, cloud in clouds.items():
        array = np.asarray(cloud, float)
        check_shape(f"clouds[{name!r}]", array, (n_times, "particle", dim))
        check_finite(f"clouds[{name!r}]", array)
        paths[name] = array[:, :, [0, dim - 1]]
    return paths, times, box[[0, dim - 1]]


def _colours(
    paths: Mapping[str, np.ndarray], box: np.ndarray, colour_by: Mapping[str, ArrayLike] | None
) -> dict[str, np.ndarray]:
    found = {}
    for name, path in paths.items():
        if colour_by is None:
            # Over the extent of all clouds together, so that one place has one colour.
            first = np.concatenate([p[0, :, 0] for p in paths.values()])
            low, high = first.min(), first.max()
            found[name] = (path[0, :, 0] - low) / max(high - low, 1e-12 * np.diff(box[0])[0])
        else:
            found[name] = np.asarray(colour_by[name], float)
            check_shape(f"colour_by[{name!r}]", found[name], (path.shape[1],))
    return found


def _dots(axes: Any, x: np.ndarray, colours: np.ndarray, box: np.ndarray, ink: float) -> Any:
    # Few particles get large dots, many get small ones: about the same ink.
    size = float(np.clip(ink * 12 / max(len(x), 1), 0.4, 24))
    drawn = axes.scatter(x[:, 0], x[:, 1], s=size, c=colours, cmap=_COLOURS, linewidths=0)
    axes.set_xlim(*box[0])
    axes.set_ylim(*box[1])
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
        spine.set_color(INK)
    return drawn
