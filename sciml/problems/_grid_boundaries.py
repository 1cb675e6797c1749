"""What holds on the faces of a box: a given value, a given flux, or the opposite face."""

from collections.abc import Sequence
from typing import TypeAlias

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ..core import RealScalar

FaceValues: TypeAlias = Float[Array | np.ndarray, "..."] | RealScalar
"""One number for a whole face, or an array of the face's shape (`n_points` without its axis)."""


class AbstractBoundary(eqx.Module):
    """The condition on one face of a box."""


class Dirichlet(AbstractBoundary):
    """A given value ``u = value`` on the face (not in the centres of the cells beside it).

    Parameters
    ----------
    value
        A number, or an array of the face's shape: ``n_points`` without the face's axis.

    Examples
    --------
    >>> Dirichlet().value
    0.0
    """

    value: FaceValues = 0.0


class Neumann(AbstractBoundary):
    """A given flux ``k du/dn = flux`` into the box, ``n`` being the outward normal.

    Parameters
    ----------
    flux
        A number, or an array of the face's shape: ``n_points`` without the face's axis. The
        default is an insulated wall.

    Examples
    --------
    >>> Neumann().flux
    0.0
    """

    flux: FaceValues = 0.0


class Periodic(AbstractBoundary):
    """The face is glued to the one opposite, which must be `Periodic` too.

    Examples
    --------
    >>> isinstance(Periodic(), AbstractBoundary)
    True
    """


Boundary: TypeAlias = (
    AbstractBoundary | Sequence[AbstractBoundary | tuple[AbstractBoundary, AbstractBoundary]]
)
"""One condition for all faces, or one entry an axis: a condition or a pair ``(low, high)``."""

FacePairs: TypeAlias = tuple[tuple[AbstractBoundary, AbstractBoundary], ...]


def face_pairs(boundary: Boundary, n_points: Sequence[int]) -> FacePairs:
    """Return the conditions ``(low, high)`` of each axis, checked.

    Parameters
    ----------
    boundary
        One condition for all faces, or one entry an axis: a condition or a pair.
    n_points
        Points along each axis.

    Raises
    ------
    TypeError
        If an entry is no condition, such as a class instead of an object.
    ValueError
        If the number of entries is wrong, one face of an axis is periodic and the other is not,
        or a periodic axis has fewer than three points.
    """
    n_axes = len(n_points)
    entries = [boundary] * n_axes if isinstance(boundary, AbstractBoundary) else list(boundary)
    if len(entries) != n_axes:
        raise ValueError(
            f"`boundary` must be one condition or {n_axes} entries, one an axis; got "
            f"{len(entries)}."
        )
    pairs = []
    for axis, entry in enumerate(entries):
        pair = (entry, entry) if isinstance(entry, AbstractBoundary) else tuple(entry)
        if len(pair) != 2 or not all(isinstance(face, AbstractBoundary) for face in pair):
            raise TypeError(
                f"axis {axis} of `boundary` must be a condition such as Dirichlet() or a pair of "
                f"them (low, high), got {entry!r}."
            )
        wraps = [isinstance(face, Periodic) for face in pair]
        if any(wraps) and not all(wraps):
            raise ValueError(f"axis {axis} of `boundary` is periodic on one face only: {pair}.")
        if all(wraps) and n_points[axis] < 3:
            raise ValueError(
                f"axis {axis} is periodic and needs 3 points or more, got {n_points[axis]}."
            )
        pairs.append(pair)
    return tuple(pairs)


def face_kinds(pairs: FacePairs) -> tuple[tuple[type, type], ...]:
    """Return the classes of the conditions: what the matrix depends on."""
    return tuple((type(low), type(high)) for low, high in pairs)
