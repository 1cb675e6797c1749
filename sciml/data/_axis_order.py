"""Bring a user's array into the order ``(sample, time, channel, *space)``."""

import numpy as np

_KNOWN = ("sample", "time", "channel")
_SPACE = ("x", "y", "z")


def reorder_axes(array: np.ndarray, axis_order: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the array as ``(sample, time, channel, *space)`` and the names of its space axes.

    Parameters
    ----------
    array
        Any array.
    axis_order
        One name for each axis, separated by spaces, for instance ``"sample x y time"``; None
        means ``"sample time channel x [y [z]]"``.

    Raises
    ------
    ValueError
        If the names do not fit the array; the message says how to write them.
    """
    if axis_order is None:
        n_space = array.ndim - len(_KNOWN)
        if not 1 <= n_space <= len(_SPACE):
            raise ValueError(
                "`values` must have the axes (sample, time, channel, x[, y[, z]]), got shape "
                f"{array.shape} with {array.ndim} axes. Say what the axes are, for instance "
                'axis_order="sample x y time": a missing sample, time or channel axis is added.'
            )
        return array, _SPACE[:n_space]
    if not isinstance(axis_order, str):
        raise TypeError(
            "`axis_order` must be one name for each axis in a string, such as 'sample x y time', "
            f"got {axis_order!r}."
        )
    names = tuple(axis_order.replace(",", " ").split())
    if len(names) != array.ndim:
        raise ValueError(
            f"`axis_order` {axis_order!r} names {len(names)} axes, but `values` has "
            f"{array.ndim} (shape {array.shape})."
        )
    if len(set(names)) != len(names):
        raise ValueError(f"`axis_order` {axis_order!r} names an axis twice.")
    space = tuple(name for name in names if name not in _KNOWN)
    for name in space:
        # A plural or a capital is a slip, not the name of a space axis.
        guess = name.lower().rstrip("s")
        if guess in _KNOWN:
            raise ValueError(f"`axis_order` has the axis {name!r}: write {guess!r}.")
    if not space:
        raise ValueError(f"`axis_order` {axis_order!r} has no space axis, such as 'x'.")
    if "time" not in names:
        raise ValueError(
            f"`axis_order` {axis_order!r} has no 'time': a dataset holds trajectories. For "
            "single snapshots add an axis of size 1 and name it 'time'."
        )
    present = [name for name in _KNOWN if name in names]
    array = array.transpose([names.index(name) for name in (*present, *space)])
    for position, name in enumerate(_KNOWN):
        if name not in names:
            array = np.expand_dims(array, position)
    return np.ascontiguousarray(array), space
