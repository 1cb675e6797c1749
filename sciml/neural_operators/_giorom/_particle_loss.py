r"""Training on one step: windows with random-walk noise, and targets that take it back.

The noise of the velocities is a random walk over the window, that of the positions its sum. The
next position is shifted as the newest one is, so that

.. math:: \hat a = (v_{t+1} - (v_t + n_t)) / dt

with the noise :math:`n_t` of the newest velocity: a perfect model cancels what the noise did to
the velocity and nothing else.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import KeyArray, check_count, check_non_negative, cites
from ...data import ParticleBatch
from ._bibliography import SANCHEZ_GONZALEZ_2020
from ._particle_stepper import AbstractParticleStepper


def random_walk_noise(
    shape: tuple[int, int, int], velocity_std: Float[Array, " dim"], dt: float, *, key: KeyArray
) -> Float[Array, "frames n dim"]:
    """Return noise of the positions of a window, 0 in the oldest frame.

    Parameters
    ----------
    shape
        ``(frames, n_particles, dim)``.
    velocity_std
        Deviation of the noise of the newest velocity, one number an axis.
    dt
        Time between frames.
    key
        PRNG key.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> random_walk_noise((6, 10, 2), jnp.ones(2), 0.1, key=jax.random.key(7)).shape
    (6, 10, 2)
    """
    frames, n, dim = shape
    steps = frames - 1
    increments = jax.random.normal(key, (steps, n, dim), velocity_std.dtype)
    increments = (
        increments * velocity_std[None, None] / jnp.sqrt(jnp.asarray(steps, velocity_std.dtype))
    )
    velocity = jnp.cumsum(increments, axis=0)
    position = jnp.cumsum(velocity, axis=0) * jnp.asarray(dt, velocity_std.dtype)
    return jnp.concatenate([jnp.zeros((1, n, dim), position.dtype), position])


def target_acceleration(
    stepper: AbstractParticleStepper,
    noisy: Float[Array, "frames n dim"],
    newest: Float[Array, "n dim"],
    following: Float[Array, "n dim"],
) -> Float[Array, "n dim"]:
    """Return the scaled acceleration that leads from a noisy window to the shifted next frame.

    Parameters
    ----------
    stepper
        Whose scales are used.
    noisy
        The window with its noise.
    newest, following
        The newest and the next frame without noise.
    """
    mean, std = (
        jnp.asarray(figure, noisy.dtype)[None]
        for figure in (stepper.normaliser.acceleration_mean, stepper.normaliser.acceleration_std)
    )
    change = (following - newest) - (noisy[-1] - noisy[-2])
    return (change / jnp.asarray(stepper.normaliser.dt, noisy.dtype) ** 2 - mean) / std


@cites(SANCHEZ_GONZALEZ_2020)
class ParticleLoss(eqx.Module):
    """Mean squared error of the scaled acceleration over real particles, for `sciml.train.fit`.

    Beside it ``neighbours`` is logged, the largest number of neighbours; more than ``capacity``
    means that some were left out.

    Parameters
    ----------
    capacity
        Places for the neighbours of each particle, itself included.
    noise
        Deviation of the noise of the newest velocity, in units of what acceleration of one
        deviation does to it in ``dt``. With more noise rollouts are more stable and single steps
        less exact; 0.5 to 4.

    References
    ----------
    .. [1] A. Sanchez-Gonzalez et al., "Learning to Simulate Complex Physics with Graph Networks",
           ICML 2020.

    Examples
    --------
    >>> ParticleLoss(32, noise=2.0).noise
    2.0
    """

    capacity: int = eqx.field(static=True)
    noise: float = eqx.field(static=True)

    def __init__(self, capacity: int, *, noise: float = 1.0):
        self.capacity = check_count("capacity", capacity)
        check_non_negative("noise", noise)
        self.noise = float(noise)

    def __call__(
        self, model: AbstractParticleStepper, batch: ParticleBatch, key: KeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the loss, and the figures to log.

        Parameters
        ----------
        model
            What is trained.
        batch
            Windows with their next frames.
        key
            Of the noise.
        """
        position = jnp.asarray(batch.position)
        types, masks = jnp.asarray(batch.particle_type), jnp.asarray(batch.mask)
        dtype = position.dtype
        change = jnp.asarray(model.normaliser.acceleration_std, dtype) * jnp.asarray(
            self.noise * model.normaliser.dt, dtype
        )

        def one(position, particle_type, mask, key):
            known, following = position[:-1], position[-1]
            noise = random_walk_noise(known.shape, change, model.normaliser.dt, key=key)
            noisy = known + noise
            near = model.neighbours(noisy[-1], mask, self.capacity)
            found = model(noisy, particle_type, mask, near)
            wanted = target_acceleration(model, noisy, known[-1], following)
            errors = jnp.where(mask[:, None], (found - wanted) ** 2, jnp.zeros((), dtype))
            return jnp.sum(errors), jnp.sum(mask), near.needed

        keys = jax.random.split(key, len(position))
        errors, counts, needed = jax.vmap(one)(position, types, masks, keys)
        n = jnp.maximum(jnp.sum(counts), 1).astype(dtype) * position.shape[-1]
        return jnp.sum(errors) / n, {"neighbours": jnp.max(needed).astype(dtype)}
