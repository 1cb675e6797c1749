r"""A smooth window on a ball, and the volume that each particle of a cloud stands for.

.. math:: \omega(s) = (1 - s^2)^2 \text{ for } s < 1,\ 0 \text{ beyond}

It falls to zero with its slope, so that nothing jumps, and no force has a kink, when a neighbour
crosses the radius.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...core import RealScalar
from ...numerics import Neighbours


def smooth_window(distance: Float[Array, "*shape"], radius: RealScalar) -> Float[Array, "*shape"]:
    """Return the window at a distance: 1 at the centre, 0 from ``radius`` on.

    Parameters
    ----------
    distance
        Zero or positive.
    radius
        Where the window ends.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(smooth_window(jnp.array([0.0, 0.1, 0.2, 0.3]), 0.2))
    [1.     0.5625 0.     0.    ]
    """
    inside = jnp.maximum(1 - (distance / radius) ** 2, jnp.zeros((), distance.dtype))
    return inside**2


def window_volume(radius: float, dim: int) -> float:
    """Return the integral of the window over a ball of 1, 2 or 3 dimensions.

    Parameters
    ----------
    radius
        That of the ball.
    dim
        Dimension of space.

    Examples
    --------
    >>> import math
    >>> window_volume(1.0, 2) == math.pi / 3
    True
    """
    return {1: 16 / 15, 2: math.pi / 3, 3: 32 * math.pi / 105}[dim] * radius**dim


def particle_volumes(
    distance: Float[Array, "n k"], neighbours: Neighbours, radius: float, dim: int
) -> Float[Array, " n"]:
    r"""Return the volume that each particle stands for: quadrature weights of a cloud.

    .. math:: V_i = \frac{\int \omega}{\sum_j \omega(|x_j - x_i| / r)}

    Twice as many particles at the same places get half the weight each, so that sums with these
    weights do not depend on how densely a body was sampled. A particle alone stands for the whole
    window.

    Parameters
    ----------
    distance
        From each particle to its neighbours, itself included.
    neighbours
        Who they are.
    radius
        Of the window.
    dim
        Dimension of space.
    """
    density = neighbours.sum_over_points(smooth_window(distance, radius))
    volume = jnp.asarray(window_volume(radius, dim), distance.dtype)
    return volume / jnp.maximum(density, jnp.ones((), distance.dtype))


def squared_length(vectors: Float[Array, "*shape dim"]) -> Float[Array, "*shape"]:
    """Return the squared length of vectors along the last axis."""
    return jnp.sum(vectors**2, axis=-1)


def safe_length(
    vectors: Float[Array, "*shape dim"], mask: Bool[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Return lengths whose gradient is finite where the length is 0 or ``mask`` is False."""
    squares = squared_length(vectors)
    usable = mask & (squares > 0)
    return jnp.where(usable, jnp.sqrt(jnp.where(usable, squares, 1)), jnp.zeros((), squares.dtype))
