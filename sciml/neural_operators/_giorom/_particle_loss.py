r"""Training on one step or a few: windows with random-walk noise, targets that take it back.

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


@cites(SANCHEZ_GONZALEZ_2020)
class ParticleLoss(eqx.Module):
    r"""Mean squared error of velocities over real particles, for `sciml.train.fit`.

    The model is run through the frames that a batch has after its window, and in frame :math:`j`

    .. math:: \frac{1}{j} \left( \frac{\tilde v_j - v_j}{\sigma_a\, dt} \right)^2

    counts: for a single frame that is the squared error of the scaled acceleration. Several frames
    make the model feel what its own errors lead to. It must then bring about an impact by itself,
    where a single step sees in the window that one is under way.

    Beside it ``neighbours`` is logged, the largest number of neighbours; more than ``capacity``
    means that some were left out; and ``acceleration``, the error of the first frame.

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

    def __init__(self, capacity: int, *, noise: float = 0.5):
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
            Windows with the frames after them.
        key
            Of the noise.

        Raises
        ------
        ValueError
            If the batch has no frame after the window of the model.
        """
        position = jnp.asarray(batch.position)
        types, masks = jnp.asarray(batch.particle_type), jnp.asarray(batch.mask, bool)
        frames = model.window + 1
        n_steps = position.shape[1] - frames
        if n_steps < 1:
            raise ValueError(
                f"windows of a batch must have more than the {frames} frames that the model is "
                f"given, got {position.shape[1]}."
            )
        dtype, dt = position.dtype, model.normaliser.dt
        change = jnp.asarray(
            [self.noise * a * dt for a in model.normaliser.acceleration_std], dtype
        )

        def one(position, particle_type, mask, key):
            # What padding holds must not reach the sums, nor their derivatives.
            position = jnp.where(mask[None, :, None], position, jnp.zeros((), dtype))
            known = position[:frames]
            steps = jnp.diff(position[frames - 1 :], axis=0)
            shape = (frames, known.shape[1], known.shape[2])
            noisy = known + random_walk_noise(shape, change, dt, key=key)

            def step(window, wanted):
                near = model.neighbours(window[-1], mask, self.capacity)
                scaled = model(window, particle_type, mask, near)
                error = scaled - scaled_acceleration_of(model, window, wanted)
                squares = jnp.sum(jnp.where(mask[:, None], error**2, jnp.zeros((), dtype)))
                following = model.advance(window, scaled)
                return jnp.concatenate([window[1:], following[None]]), (squares, near.needed)

            _, (squares, needed) = jax.lax.scan(step, noisy, steps)
            return squares, jnp.sum(mask), jnp.max(needed)

        keys = jax.random.split(key, len(position))
        squares, counts, needed = jax.vmap(one)(position, types, masks, keys)
        n = jnp.maximum(jnp.sum(counts), 1).astype(dtype) * position.shape[-1]
        by_step = jnp.sum(squares, axis=0) / n
        loss = jnp.mean(by_step / jnp.arange(1, n_steps + 1, dtype=dtype))
        return loss, {"neighbours": jnp.max(needed).astype(dtype), "acceleration": by_step[0]}


def scaled_acceleration_of(
    stepper: AbstractParticleStepper,
    window: Float[Array, "frames n dim"],
    step: Float[Array, "n dim"],
) -> Float[Array, "n dim"]:
    """Return the scaled acceleration after which the newest velocity is ``step / dt``.

    Parameters
    ----------
    stepper
        Whose scales are used.
    window
        The window, noise included.
    step
        How far the particles truly go to the next frame.
    """
    mean, std = (
        jnp.asarray(figure, window.dtype)[None]
        for figure in (stepper.normaliser.acceleration_mean, stepper.normaliser.acceleration_std)
    )
    change = step - (window[-1] - window[-2])
    return (change / jnp.asarray(stepper.normaliser.dt, window.dtype) ** 2 - mean) / std
