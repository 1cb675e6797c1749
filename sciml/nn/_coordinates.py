"""Coordinates as channels, so that a translation-equivariant network can see where it is."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import check_count, check_flags


def coordinate_channels(
    n_points: Sequence[int], periodic: Sequence[bool], dtype: DTypeLike
) -> Float[Array, "coordinates *space"]:
    """Return coordinate fields in units of the domain.

    A periodic axis gives two channels, the sine and cosine of ``2 pi i / n``, which are continuous
    across the boundary and agree on every grid; an axis that is not periodic gives one,
    ``i / n``.

    Parameters
    ----------
    n_points
        Points of each axis.
    periodic
        Whether each axis is periodic.
    dtype
        Dtype of the result.

    Raises
    ------
    ValueError
        If ``periodic`` does not have one entry an axis, or a number of points is below one.
    """
    n_points = tuple(check_count("n_points", n) for n in n_points)
    periodic = check_flags("periodic", periodic, len(n_points))
    channels = []
    for axis, (n, is_periodic) in enumerate(zip(n_points, periodic, strict=True)):
        shape = tuple(n if other == axis else 1 for other in range(len(n_points)))
        position = jnp.arange(n, dtype=dtype) / n
        angle = 2 * math.pi * position
        lines = (jnp.sin(angle), jnp.cos(angle)) if is_periodic else (position,)
        channels += [jnp.broadcast_to(line.reshape(shape), tuple(n_points)) for line in lines]
    return jnp.stack(channels)


def n_coordinate_channels(periodic: Sequence[bool]) -> int:
    """Return the number of channels that `coordinate_channels` makes.

    Parameters
    ----------
    periodic
        Whether each axis is periodic.

    Returns
    -------
    int
        Two for a periodic axis (sine and cosine), one for another.
    """
    return sum(2 if is_periodic else 1 for is_periodic in periodic)
