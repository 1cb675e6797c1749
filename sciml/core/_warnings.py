"""Warnings that point at the line of whoever called sciml."""

import sys
import warnings

# Frames of these lie between the caller and the function that warns: decorators and type checks.
_INNER = ("sciml", "equinox", "jax", "jaxtyping", "beartype", "functools", "contextlib")


def warn_caller(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Issue a warning at the innermost line of code that does not belong to sciml.

    Parameters
    ----------
    message
        What is wrong, what happens now, and what to do.
    category
        The class of the warning.
    """
    frame, level = sys._getframe(1), 2
    while frame is not None and _is_inner(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    # Where every frame is an inner one, the warning points at the function that gave it.
    warnings.warn(message, category, stacklevel=level if frame is not None else 2)


def _is_inner(module: str) -> bool:
    return module.partition(".")[0] in _INNER
