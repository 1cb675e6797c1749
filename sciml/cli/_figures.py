"""Figures that crown a command: without matplotlib the command still gives its results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core import import_optional
from ..plot import save_figure


def draw_if_possible(draw: Callable[[], Any], path: Path) -> str:
    """Save the figure that ``draw`` returns to ``path``.

    Returns
    -------
    str
        The path, or, without the extra ``plot``, the sentence that says how to get it.
    """
    try:
        import_optional("matplotlib", "Drawing it")
    except ModuleNotFoundError:
        raise  # matplotlib is there and broken
    except ImportError as error:
        return str(error)
    return str(save_figure(draw(), path))
