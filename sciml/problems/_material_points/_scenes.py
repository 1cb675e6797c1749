"""Random scenes: blocks of particles, low in the box and side by side."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float, Int

from ...core import KeyArray, check_count, check_key, check_non_negative, check_positive

# Between blocks, in distances of neighbours: no node of the grid may see two of them at the start.
_LEAST_GAP = 8


@dataclasses.dataclass(frozen=True, eq=False)
class ParticleBlock:
    """The start of a scene.

    Attributes
    ----------
    position, velocity
        ``(particle, dim)``, float64.
    block
        The block of each particle, from 0.
    """

    position: Float[np.ndarray, "p d"]
    velocity: Float[np.ndarray, "p d"]
    block: Int[np.ndarray, " p"]


def random_blocks(
    n_particles: int,
    *,
    spacing: float,
    bounds: tuple[tuple[float, float], ...] = ((0.0, 1.0), (0.0, 1.0)),
    n_blocks: int = 1,
    speed: float | int = 1.0,
    largest_height: float | int = 0.15,
    key: KeyArray,
) -> ParticleBlock:
    """Return blocks of particles on a jittered lattice, at random places near the floor.

    Blocks differ in shape (widths of 0.6 to 1.7 heights), place, height above the floor, velocity
    and spin. They start low, because a long free fall is a motion that nothing is learned from.

    Parameters
    ----------
    n_particles
        Exactly as many are made.
    spacing
        Distance of neighbours.
    bounds
        The box; its last axis points upwards.
    n_blocks
        Side by side along the first axis.
    speed
        Standard deviation of a block's velocity along each axis; a corner spins about as fast.
    largest_height
        Most that a block's lower face is above the floor, as a part of the box's height.
    key
        PRNG key: equal keys give equal scenes.

    Raises
    ------
    ValueError
        If the blocks do not fit into the box.

    Examples
    --------
    >>> import jax
    >>> scene = random_blocks(529, spacing=1 / 64, n_blocks=2, key=jax.random.key(3))
    >>> scene.position.shape, int(scene.block.max())
    ((529, 2), 1)
    """
    n_particles = check_count("n_particles", n_particles)
    n_blocks = check_count("n_blocks", n_blocks)
    check_positive("spacing", spacing)
    check_non_negative("speed", speed)
    check_non_negative("largest_height", largest_height)
    check_key(key)
    low, high = np.array(bounds, float).T
    if n_particles < n_blocks:
        raise ValueError(f"{n_particles} particles cannot make {n_blocks} blocks.")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    for _ in range(100):
        cuts = rng.uniform(0.6, 1.4, n_blocks)
        counts = np.floor(n_particles * cuts / cuts.sum()).astype(int)
        counts[0] += n_particles - counts.sum()
        lattices = [_lattice(count, len(low), rng) * spacing for count in counts.tolist()]
        sizes = np.array([x.max(0) + spacing for x in lattices])
        room = (high - low) - sizes
        free = room[0, 0] - sizes[1:, 0].sum() - (n_blocks - 1) * _LEAST_GAP * spacing
        if free > 0 and room.min() > 0:
            break
    else:
        raise ValueError(
            f"{n_blocks} blocks of {n_particles} particles, {spacing:g} apart, do not fit into the "
            f"box {bounds}. Take a smaller `spacing` or fewer particles."
        )
    # Gaps between the blocks: a random share of what is free, the rest before and behind.
    shares = rng.dirichlet(np.ones(n_blocks + 1))[:n_blocks] * free
    widths = sizes[:-1, 0] + _LEAST_GAP * spacing
    left = np.cumsum(shares) + np.concatenate([[0], np.cumsum(widths)])
    position, velocity = [], []
    for k, lattice in enumerate(lattices):
        corner = low + rng.uniform(size=len(low)) * room[k]
        corner[0] = low[0] + left[k]
        highest = min(largest_height * (high - low)[-1], room[k, -1])
        corner[-1] = low[-1] + rng.uniform() * highest
        jitter = 0.1 * spacing * rng.uniform(-1, 1, lattice.shape)
        x = corner + spacing / 2 + lattice + jitter
        centre = x.mean(0)
        radius = np.linalg.norm(x - centre, axis=1).max()
        spin = rng.normal() * speed / max(radius, spacing)
        v = rng.normal(size=len(low)) * speed + np.zeros_like(x)
        v[:, 0] -= spin * (x - centre)[:, -1]
        v[:, -1] += spin * (x - centre)[:, 0]
        position.append(x)
        velocity.append(v)
    block = np.repeat(np.arange(n_blocks), counts)
    return ParticleBlock(np.concatenate(position), np.concatenate(velocity), block)


def _lattice(count: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` integer points that fill a box from below, its shape at random."""
    aspect = rng.uniform(0.6, 1.7)
    width = max(1, round((count * aspect ** (1 if dim == 2 else 0)) ** (1 / dim)))
    base = [width] if dim == 2 else [max(1, round(width * aspect)), width]
    height = -(-count // int(np.prod(base)))
    axes = np.meshgrid(np.arange(height), *[np.arange(n) for n in base], indexing="ij")
    points = np.stack([a.ravel() for a in axes], 1)[:count]
    return np.concatenate([points[:, 1:], points[:, :1]], axis=1).astype(float)
