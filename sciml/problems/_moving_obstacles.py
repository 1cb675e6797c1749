"""Sequences of masks in which obstacles move: a matrix of its own for every step of time."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ..core import KeyArray, check_count, check_key, check_positive, check_real
from ..numerics._fourier import check_n_points
from ._obstacles import ball, cell_centres


def rotating_bar(
    n_points: Sequence[int],
    *,
    n_steps: int,
    turns: float = 0.5,
    length: float = 0.6,
    thickness: float = 0.08,
) -> Bool[Array, "time *space"]:
    """Return the masks of a bar that turns about the middle of the unit box.

    It turns in the plane of the first two axes; in three dimensions it spans the middle 60 % of the
    third.

    Parameters
    ----------
    n_points
        Cells along each axis, two or three of them.
    n_steps
        Number of masks.
    turns
        Rotation over the whole sequence.
    length, thickness
        Size of the bar over that of the box. Keep the thickness above one cell.

    Returns
    -------
    Array
        True in fluid cells.

    Examples
    --------
    >>> masks = rotating_bar((32, 32), n_steps=4)
    >>> masks.shape, bool((masks[0] != masks[1]).any())
    ((4, 32, 32), True)
    """
    n_points = _check_grid(n_points)
    check_count("n_steps", n_steps)
    check_positive("length", length)
    check_positive("thickness", thickness)
    check_real("turns", turns)
    angles = jnp.asarray(2 * np.pi * turns * np.arange(n_steps) / n_steps, jnp.float32)

    def at_angle(angle):
        x, y, *rest = cell_centres(n_points)
        along = jnp.cos(angle) * (x - 0.5) + jnp.sin(angle) * (y - 0.5)
        across = jnp.cos(angle) * (y - 0.5) - jnp.sin(angle) * (x - 0.5)
        inside = (jnp.abs(along) < length / 2) & (jnp.abs(across) < thickness / 2)
        for z in rest:
            inside = inside & (jnp.abs(z - 0.5) < 0.3)
        return jnp.broadcast_to(~inside, n_points)

    return jax.vmap(at_angle)(angles)


def moving_balls(
    n_points: Sequence[int],
    *,
    n_steps: int,
    n_balls: int = 4,
    radius: float = 0.08,
    step_length: float = 0.01,
    key: KeyArray,
) -> Bool[Array, "time *space"]:
    """Return the masks of balls that drift in straight lines and bounce off the walls.

    They pass through each other. The paths depend on ``key`` and the number of axes, not on
    ``n_points``.

    Parameters
    ----------
    n_points
        Cells along each axis, two or three of them.
    n_steps
        Number of masks.
    n_balls
        Number of balls.
    radius
        Radius over the size of the box, below one half.
    step_length
        How far a ball moves from one mask to the next.
    key
        Typed PRNG key.

    Returns
    -------
    Array
        True in fluid cells.

    Raises
    ------
    ValueError
        If ``radius`` is half of the box or more, or a count is below one.

    Examples
    --------
    >>> import jax
    >>> moving_balls((16, 16, 16), n_steps=3, key=jax.random.key(31)).shape
    (3, 16, 16, 16)
    """
    n_points = _check_grid(n_points)
    check_count("n_steps", n_steps)
    check_count("n_balls", n_balls)
    check_positive("radius", radius)
    check_key(key)
    if radius >= 0.5:
        raise ValueError(f"`radius` must be below 0.5, half of the box; got {radius!r}.")
    start_key, direction_key = jax.random.split(key)
    size = (n_balls, len(n_points))
    start = jax.random.uniform(start_key, size, jnp.float32)
    direction = jax.random.normal(direction_key, size, jnp.float32)
    direction = direction / jnp.linalg.norm(direction, axis=1, keepdims=True)
    room = 1 - 2 * radius

    def at_step(step):
        # Unfolded paths: a mirror at each wall is a triangle wave.
        phase = (start + step * step_length / room * direction) % 2
        centres = radius + room * (1 - jnp.abs(1 - phase))
        return ~jax.vmap(lambda centre: ball(n_points, centre, radius))(centres).any(axis=0)

    return jax.vmap(at_step)(jnp.arange(n_steps, dtype=jnp.float32))


def _check_grid(n_points: Sequence[int]) -> tuple[int, ...]:
    n_points = check_n_points(n_points)
    if len(n_points) not in (2, 3):
        raise ValueError(f"`n_points` must have two or three axes, got {n_points}.")
    return n_points
