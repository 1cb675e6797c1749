"""Checks that the dataset's constructor and the readers share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core import check_floating, check_not_traced


def check_values(name: str, array: Any, axes: Sequence[str]) -> np.ndarray:
    """Return ``array`` as a read-only view; raise unless it is finite, real and has these axes.

    Parameters
    ----------
    name
        How the message calls the array.
    array
        A NumPy array (or what `numpy.asarray` takes).
    axes
        A name for each axis that the array must have.

    Raises
    ------
    TypeError
        If the entries are not float32 or float64.
    ValueError
        If the number of axes differs, an axis is empty, or an entry is NaN or infinite.
    """
    array = as_plain_array(name, array)
    # Files may be big-endian; JAX takes only the machine's own byte order.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    check_floating(name, array)
    if array.dtype.itemsize not in (4, 8):
        raise TypeError(
            f"`{name}` must be float32 or float64, got {array.dtype}; convert it first with "
            f"`{name}.astype('float32')`."
        )
    wanted = "(" + ", ".join(axes) + ")"
    if array.ndim != len(axes):
        raise ValueError(
            f"`{name}` must have {len(axes)} axes {wanted}, got shape {array.shape} with "
            f"{array.ndim}. `FieldDataset.from_array(..., axis_order=...)` reorders axes and "
            "adds missing ones."
        )
    for axis, (label, size) in enumerate(zip(axes, array.shape, strict=True)):
        if size == 0:
            raise ValueError(f"axis {axis} ({label}) of `{name}` is empty: shape {array.shape}.")
    require_finite(name, array, axes)
    view = array.view()
    view.flags.writeable = False
    return view


def as_plain_array(name: str, array: Any) -> np.ndarray:
    """Return ``array`` as a NumPy array; raise ``TypeError`` if that would drop its mask."""
    check_not_traced(name, array, "data sets and trajectories are made")
    if np.ma.is_masked(array):
        raise TypeError(
            f"`{name}` is a masked array with {np.ma.count_masked(array)} masked entries, which "
            "have no value: fill them first, or leave those samples or times out."
        )
    try:
        return np.asarray(array)
    except ValueError:  # lists of different lengths
        raise TypeError(f"`{name}` must be an array, got lists of different lengths.") from None


def require_finite(name: str, array: np.ndarray, axes: Sequence[str]) -> None:
    """Raise ``ValueError`` that names the first NaN or infinity by its axes.

    Works slab by slab along the first axis, so that the mask stays small beside a large array.
    """
    for i, slab in enumerate(array):
        finite = np.isfinite(slab)
        if not finite.all():
            rest = tuple(int(j) for j in np.argwhere(~finite)[0])
            where = ", ".join(f"{a} {j}" for a, j in zip(axes, (i, *rest), strict=True))
            raise ValueError(
                f"`{name}` must be finite, got {slab[rest]} at {where} "
                f"({int((~finite).sum())} non-finite entries with this {axes[0]})."
            )


def as_names(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names as a tuple; raise unless they are different, non-empty strings."""
    if isinstance(names, str):
        raise TypeError(
            f"`{name}` must be a sequence of names, got the string {names!r}; "
            f"write ({names!r},) for one name."
        )
    result = tuple(names)
    for entry in result:
        if not isinstance(entry, str) or not entry:
            raise TypeError(f"`{name}` must hold non-empty strings, got {entry!r}.")
    if len(set(result)) != len(result):
        raise ValueError(f"`{name}` must hold different names, got {result}.")
    return result


def check_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes as a plain dict of what JSON can hold without loss."""
    result: dict[str, Any] = {}
    for key, value in attributes.items():
        if isinstance(value, np.generic):
            value = value.item()
        if not isinstance(key, str) or not isinstance(value, str | float | int | bool):
            raise TypeError(
                "`attributes` must map strings to strings, numbers or booleans, got "
                f"{key!r}: {value!r} of type {type(value).__name__}."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"attribute {key!r} must be finite, got {value!r}.")
        result[key] = value
    return result


def check_context(
    context: np.ndarray,
    names: tuple[str, ...],
    n_samples: int,
    axes: tuple[str, ...],
    space: tuple[int, ...],
) -> np.ndarray:
    """Return the static fields as a read-only view; raise unless they fit the dataset."""
    context = check_values("context", context, ("sample", "context_channel", *axes))
    if context.shape[0] not in (1, n_samples):
        raise ValueError(
            f"axis 0 (sample) of `context` must have size 1 or {n_samples} (the number of "
            f"samples), got shape {context.shape}."
        )
    if context.shape[2:] != space:
        raise ValueError(
            f"`context` has the grid {context.shape[2:]}, but `values` has {space} for the axes "
            f"{axes}."
        )
    if len(names) != context.shape[1]:
        raise ValueError(
            f"`context_names` has {len(names)} names {names}, but axis 1 (context_channel) of "
            f"`context` has size {context.shape[1]}."
        )
    return context
