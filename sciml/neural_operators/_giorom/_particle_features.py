"""What a model of particles sees: numbers of order one at each particle and for each pair."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...data import ParticleNormaliser
from ...numerics import Neighbours
from ._smooth_window import particle_volumes, safe_length, smooth_window, window_volume


class ParticleCloud(eqx.Module):
    """A window of particles prepared for a network.

    Attributes
    ----------
    nodes
        At each particle, shape ``(n, channels)``: the newest velocity, the increments of velocity
        over the window, how full the ball around it is, and the distances to the walls.
    pairs
        For each place of the neighbours, ``(n, capacity, 2 dim + 1)``: offset over the radius,
        its length, and relative velocity.
    position
        ``(n, dim)``, the newest frame.
    volume
        What each particle stands for, ``(n,)``.
    window
        The window of each pair, 0 in empty places, ``(n, capacity)``.
    neighbours
        Who is near whom, itself included.
    ball
        Integral of the window over the ball: what the weights ``window * volume`` of a particle
        with neighbours all around sum to.
    """

    nodes: Float[Array, "n channels"]
    pairs: Float[Array, "n k pair_channels"]
    position: Float[Array, "n dim"]
    volume: Float[Array, " n"]
    window: Float[Array, "n k"]
    neighbours: Neighbours
    ball: float = eqx.field(static=True)


def n_node_channels(dim: int, window: int, walls: bool) -> int:
    """Return how many channels `ParticleCloud.nodes` has."""
    return window * dim + 1 + (2 * dim if walls else 0)


def particle_cloud(
    position: Float[Array, "frames n dim"],
    neighbours: Neighbours,
    *,
    normaliser: ParticleNormaliser,
    radius: float,
    walls: tuple[tuple[float, float], ...] | None,
) -> ParticleCloud:
    """Return the features of a window; they do not change when all is shifted, walls included.

    Velocities are in units of their deviation and their increments in those of acceleration times
    ``dt``, which are far smaller: both are of order one.
    """
    frames, _, dim = position.shape
    dtype = position.dtype
    velocity = jnp.diff(position, axis=0) / jnp.asarray(normaliser.dt, dtype)
    mean, std, change, change_std = (
        jnp.asarray(figure, dtype)[None]
        for figure in (
            normaliser.velocity_mean,
            normaliser.velocity_std,
            tuple(a * normaliser.dt for a in normaliser.acceleration_mean),
            tuple(a * normaliser.dt for a in normaliser.acceleration_std),
        )
    )
    newest = (velocity[-1] - mean) / std
    increments = (jnp.diff(velocity, axis=0) - change[None]) / change_std[None]
    x = position[-1]
    offset = (neighbours.gather(x) - x[:, None]) / jnp.asarray(radius, dtype)
    distance = safe_length(offset, neighbours.mask)
    window = jnp.where(neighbours.mask, smooth_window(distance, 1.0), jnp.zeros((), dtype))
    volume = particle_volumes(distance, neighbours, 1.0, dim)
    ball = window_volume(1.0, dim)
    filled = jnp.sum(window * neighbours.gather(volume), axis=1) / jnp.asarray(ball, dtype)
    nodes = [newest, jnp.moveaxis(increments, 0, 1).reshape(len(x), (frames - 2) * dim)]
    nodes.append(filled[:, None])
    if walls is not None:
        nodes.append(wall_distances(x, walls, radius))
    relative = neighbours.gather(newest) - newest[:, None]
    pairs = jnp.concatenate([offset, distance[..., None], relative], axis=-1)
    pairs = jnp.where(neighbours.mask[..., None], pairs, jnp.zeros((), dtype))
    unit = radius**dim
    return ParticleCloud(
        jnp.concatenate(nodes, axis=1),
        pairs,
        x,
        volume * jnp.asarray(unit, dtype),
        window,
        neighbours,
        ball * unit,
    )


def wall_distances(
    x: Float[Array, "n dim"], walls: tuple[tuple[float, float], ...], radius: float
) -> Float[Array, "n 2*dim"]:
    """Return the distances to the lower and the upper walls over the radius, held to [-1, 1]."""
    low, high = (jnp.asarray(end, x.dtype)[None] for end in zip(*walls, strict=True))
    distances = jnp.concatenate([x - low, high - x], axis=1) / jnp.asarray(radius, x.dtype)
    return jnp.clip(distances, -1, 1)
