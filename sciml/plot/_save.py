"""Writing a figure: the whole file or none."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..core import PathLike, atomic_path, check_positive

if TYPE_CHECKING:
    import matplotlib.figure

_SUFFIXES = (".png", ".pdf", ".svg")


def save_figure(
    figure: "matplotlib.figure.Figure", path: PathLike, *, dots_per_inch: float = 150.0
) -> Path:
    """Write a figure to ``path``; missing folders are made, an older file is replaced whole.

    The file is written aside and renamed, so that a full disk or Ctrl-C leaves no half picture.

    Parameters
    ----------
    figure
        What the functions of `sciml.plot` return, or any other matplotlib figure.
    path
        Where to. The suffix chooses the format: ``.png``, ``.pdf`` or ``.svg``.
    dots_per_inch
        Resolution of pixel images.

    Returns
    -------
    pathlib.Path
        The path that was written.

    Raises
    ------
    ValueError
        If the suffix is none of the three.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from sciml.plot import plot_error_curves
    >>> figure = plot_error_curves({"model": np.array([0.01, 0.02])}, times=np.array([0.5, 1.0]))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "figures" / "error.png"
    >>> save_figure(figure, path).stat().st_size > 0
    True
    """
    check_positive("dots_per_inch", dots_per_inch)
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            f"`path` must end in one of {', '.join(_SUFFIXES)} to say the format, got '{path}'."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dots_per_inch, format=path.suffix[1:].lower())
    return path
