"""Long motions of particles: one compiled scan, with more places if neighbours need them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ...core import (
    RESULTS,
    Solution,
    check_count,
    results_where,
    throw_if_failed,
)
from ...numerics import bucket_size
from ._latent_grid import LatentGrid
from ._particle_stepper import AbstractParticleStepper, check_particles, check_window

_START_CAPACITY = 32


def rollout_particles(
    stepper: AbstractParticleStepper,
    position: Float[Array, "frames n dim"],
    n_steps: int,
    *,
    particle_type: Int[Array, " n"] | None = None,
    mask: Bool[Array, " n"] | None = None,
    capacity: int | None = None,
    throw: bool = True,
) -> Solution:
    """Move particles on, frame by frame, each from the ones before it.

    Parameters
    ----------
    stepper
        The model.
    position
        The newest ``window + 1`` frames, ``(window + 1, n, dim)``.
    n_steps
        Frames to predict.
    particle_type
        Type of each particle; 0 by default.
    mask
        Which particles are real; all by default.
    capacity
        Places for the neighbours of each particle, itself included. None starts with 32 and
        repeats with more until they are enough, which cannot be done inside `jax.jit`.
    throw
        Raise where the motion failed, instead of returning the failed result.

    Returns
    -------
    Solution
        ``value`` is ``(n_steps, n, dim)``. ``stats`` has ``neighbours`` (the places that the
        neighbours took at most, `Neighbours.needed`), ``capacity``, and ``n_good``: frames up to
        the first that is not finite, has particles off the latent grid, or was computed with
        neighbours missing.

    Raises
    ------
    RuntimeError
        If a position is not finite, a neighbour was left out for want of places, or, without
        walls, a particle left the latent grid.
    ValueError
        If window, types or mask do not fit the model, or particles are outside its walls.
    TypeError
        If ``mask`` is not boolean.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.data import ParticleNormaliser
    >>> from sciml.neural_operators import BallisticStepper
    >>> normaliser = ParticleNormaliser((0, 0), (1, 1), (0, -1), (1, 1), dt=0.1)
    >>> stepper = BallisticStepper(normaliser, ((0, 1), (0, 1)), (0, 0), window=2)
    >>> x = jnp.array([[[0.0, 0.5]], [[0.25, 0.5]], [[0.5, 0.5]]])
    >>> print(rollout_particles(stepper, x, 3).value[:, 0, 0])
    [0.75 1.   1.  ]
    """
    n_steps = check_count("n_steps", n_steps)
    check_window(stepper, position)
    n = position.shape[1]
    types = jnp.zeros(n, jnp.int32) if particle_type is None else jnp.asarray(particle_type)
    real = jnp.ones(n, bool) if mask is None else jnp.asarray(mask)
    check_particles(stepper, position, types, real)
    position = jnp.asarray(position)
    if capacity is None:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((stepper, position, real))):
            raise ValueError("under `jax.jit` a rollout needs a fixed `capacity`.")
        capacity = min(_START_CAPACITY, n)
        while True:
            solution = _roll(stepper, position, types, real, n_steps, capacity)
            needed = int(solution.stats["neighbours"])
            if needed <= capacity:
                break
            capacity = min(bucket_size(needed), n)
    else:
        capacity = check_count("capacity", capacity)
        solution = _roll(stepper, position, types, real, n_steps, capacity)
    return throw_if_failed(solution) if throw else solution


@eqx.filter_jit
def _roll(
    stepper: AbstractParticleStepper,
    position: Array,
    types: Array,
    mask: Array,
    n_steps: int,
    capacity: int,
) -> Solution:
    latent: Any = getattr(stepper, "latent", None)

    def advance(window, _):
        near = stepper.neighbours(window[-1], mask, capacity)
        following = stepper.advance(window, stepper(window, types, mask, near))
        following = jnp.where(mask[:, None], following, window[-1])
        inside = jnp.ones((), bool)
        if isinstance(latent, LatentGrid) and not stepper.walls:
            low, high = (
                jnp.asarray(end, window.dtype)[None] for end in zip(*stepper.bounds, strict=True)
            )
            held = jnp.all((following >= low) & (following <= high), axis=1)
            inside = jnp.all(held | ~mask)
        is_finite = jnp.all(jnp.isfinite(following) | ~mask[:, None])
        window = jnp.concatenate([window[1:], following[None]])
        return window, (following, near.needed, is_finite, inside | ~is_finite)

    _, (frames, needed, finite, inside) = jax.lax.scan(advance, position, None, length=n_steps)
    most = jnp.max(needed)
    good_so_far: Any = RESULTS.successful
    result = results_where(jnp.all(inside), good_so_far, RESULTS.particles_left_grid)
    result = results_where(jnp.all(finite), result, RESULTS.particles_not_finite)
    result = results_where(most <= capacity, result, RESULTS.neighbour_overflow)
    good = finite & inside & (needed <= capacity)
    n_good = jnp.sum(jnp.cumprod(good.astype(jnp.int32)))
    stats = {"neighbours": most, "capacity": jnp.asarray(capacity), "n_good": n_good}
    return Solution(frames, result, stats)
