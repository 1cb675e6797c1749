"""Farthest-point sampling (Eldar et al. 1997): a subset that covers a point cloud evenly."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..core import check_count, check_finite, check_floating, check_shape
from ._power_of_two import power_of_two_below


def farthest_points(
    points: Float[Array | np.ndarray, "n_points dim"],
    n_samples: int,
    *,
    start: int | None = None,
    mask: Bool[Array | np.ndarray, " n_points"] | None = None,
) -> Int[Array, " n_samples"]:
    """Return indices of points, each the farthest from those before it.

    The distance of each sample to the samples before it never grows along the result, so a prefix
    of the samples is a coarser sampling.

    Parameters
    ----------
    points
        Positions, shape ``(n_points, dim)``.
    n_samples
        How many to choose, at most ``n_points``.
    start
        Index of the first sample; by default the first point that may be chosen.
    mask
        Which points may be chosen, shape ``(n_points,)``; ``start`` must be one of them. With
        fewer of them than ``n_samples`` the last ones repeat.

    Raises
    ------
    ValueError
        If there are fewer points than samples, ``start`` is no index of a point that may be chosen,
        there is none, or the position of one is not finite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(farthest_points(jnp.array([[0.0], [0.1], [0.9], [0.5]]), 3))
    [0 2 3]
    """
    n_points = check_shape("points", points, ("n_points", "dim"))["n_points"]
    check_floating("points", points)
    n_samples = check_count("n_samples", n_samples)
    if n_samples > n_points:
        raise ValueError(f"`n_samples` = {n_samples} is more than the {n_points} points there are.")
    if start is not None:
        start = check_count("start", start, minimum=0)
        if start >= n_points:
            raise ValueError(
                f"`start` must be below the number of points, {n_points}; got {start}."
            )
    if mask is not None:
        check_shape("mask", mask, (n_points,))
    allowed = jnp.ones(n_points, bool) if mask is None else jnp.asarray(mask, bool)
    if not isinstance(points, Tracer) and not isinstance(allowed, Tracer):
        # In NumPy: JAX would make float32 of what lies far from the origin.
        kept = np.asarray(allowed)[:, None]
        check_finite("points", np.where(kept, np.asarray(points), 0))
        if not bool(jnp.any(allowed)):
            raise ValueError("`mask` is False everywhere: there is no point to choose.")
        if start is not None and not bool(allowed[start]):
            raise ValueError(f"`start` = {start} is a point that `mask` leaves out.")
    first = jnp.argmax(allowed) if start is None else start
    if isinstance(points, np.ndarray) and not isinstance(first, Tracer):
        # Far from the origin float32 would not tell them apart.
        points = points - points[int(first)]
    return _sample(jnp.asarray(points), allowed, n_samples, first)


def _sample(points: Array, allowed: Array, n_samples: int, start: Array | int) -> Array:
    # In any unit: squares of small distances would vanish.
    points = jnp.where(allowed[:, None], points - points[start][None], 0)
    points = points / power_of_two_below(jnp.max(jnp.abs(points), initial=0.0))

    def choose(k, state):
        chosen, nearest = state
        last = chosen[k - 1]
        from_last = jnp.sum((points - points[last][None]) ** 2, axis=1)
        # Below zero: where all that are left coincide, none is chosen twice.
        nearest = jnp.minimum(nearest, from_last).at[last].set(-0.5)
        farthest = jnp.argmax(jnp.where(allowed, nearest, jnp.asarray(-1, points.dtype)))
        return chosen.at[k].set(farthest.astype(jnp.int32)), nearest

    chosen = jnp.full(n_samples, start, jnp.int32)
    nearest = jnp.full(len(points), jnp.inf, points.dtype)
    return jax.lax.fori_loop(1, n_samples, choose, (chosen, nearest))[0]


_sample = jax.jit(_sample, static_argnums=2)
