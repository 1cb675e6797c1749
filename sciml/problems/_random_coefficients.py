"""Coefficients that jump: piecewise constant, reproducible by key, the same at every resolution."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, check_key, check_non_negative, check_positive, real_dtype
from ..numerics._fourier import check_n_points
from ._obstacles import cell_centres, random_obstacles


def random_checkerboard(
    n_points: Sequence[int],
    *,
    n_tiles: int = 8,
    contrast: float | int = 1e4,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> Float[Array, "*space"]:
    """Draw a board of square tiles, each 1 or ``contrast`` with probability one half.

    Parameters
    ----------
    n_points
        Cells along each axis.
    n_tiles
        Tiles along each axis.
    contrast
        The other value.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key.

    Returns
    -------
    Array
        Shape ``(*n_points)``.

    Examples
    --------
    >>> import jax
    >>> k = random_checkerboard((16, 16), contrast=100.0, key=jax.random.key(31))
    >>> sorted(set(k.ravel().tolist()))
    [1.0, 100.0]
    """
    n_points = check_n_points(n_points)
    check_count("n_tiles", n_tiles)
    check_positive("contrast", contrast)
    check_key(key)
    dtype = real_dtype() if dtype is None else dtype
    high = jax.random.bernoulli(key, 0.5, (n_tiles,) * len(n_points))
    tiles = [jnp.arange(n) * n_tiles // n for n in n_points]
    high = high[jnp.ix_(*tiles)]
    return jnp.where(high, jnp.asarray(contrast, dtype), jnp.asarray(1, dtype))


def random_inclusions(
    n_points: Sequence[int],
    *,
    n_inclusions: int = 12,
    contrast: float | int = 1e4,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> Float[Array, "*space"]:
    """Draw balls and boxes of coefficient ``contrast`` in a background of 1.

    Parameters
    ----------
    n_points
        Cells along each axis.
    n_inclusions
        How many, half of them balls; they may overlap.
    contrast
        Their coefficient; below 1 they insulate.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key.

    Returns
    -------
    Array
        Shape ``(*n_points)``.

    Examples
    --------
    >>> import jax
    >>> k = random_inclusions((16, 16), contrast=0.001, key=jax.random.key(31))
    >>> float(k.max())
    1.0
    """
    check_count("n_inclusions", n_inclusions)
    check_positive("contrast", contrast)
    dtype = real_dtype() if dtype is None else dtype
    n_balls = n_inclusions // 2
    background = random_obstacles(
        n_points, n_balls=n_balls, n_boxes=n_inclusions - n_balls, key=key
    )
    return jnp.where(background, jnp.asarray(1, dtype), jnp.asarray(contrast, dtype))


def gaussian_sources(
    n_points: Sequence[int],
    *,
    noise: float | int = 0.1,
    width: float | int = 0.1,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> Float[Array, "*space"]:
    """Draw a right-hand side: a Gaussian source and a sink of half its strength, plus white noise.

    The smooth part asks a solver for the long waves, the noise for all others.

    Parameters
    ----------
    n_points
        Cells along each axis of the unit box.
    noise
        Standard deviation of the noise; the source's peak is 1.
    width
        Standard deviation of the Gaussians.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key.

    Returns
    -------
    Array
        Shape ``(*n_points)``.

    Examples
    --------
    >>> import jax
    >>> gaussian_sources((16, 16), key=jax.random.key(31)).shape
    (16, 16)
    """
    n_points = check_n_points(n_points)
    check_non_negative("noise", noise)
    check_positive("width", width)
    check_key(key)
    dtype = real_dtype() if dtype is None else dtype
    sizes = jnp.asarray([noise, width], dtype)
    return _draw_sources(key, sizes, n_points, np.dtype(dtype).name)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _draw_sources(key, sizes, n_points, dtype):
    noise, width = sizes
    centre_key, noise_key = jax.random.split(key)
    centres = jax.random.uniform(centre_key, (2, len(n_points)), jnp.float32, 0.15, 0.85)
    source = noise * jax.random.normal(noise_key, n_points, dtype)
    for centre, strength in zip(centres, (1.0, -0.5), strict=True):
        squared = jnp.zeros((1,) * len(n_points), jnp.float32)
        for axis, x in enumerate(cell_centres(n_points)):
            squared = squared + (x - centre[axis]) ** 2
        source = source + strength * jnp.exp(-squared.astype(dtype) / (2 * width**2))
    return source
