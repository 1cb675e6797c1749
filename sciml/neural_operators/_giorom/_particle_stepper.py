r"""What all models of particles share: features in, acceleration out, a step in time.

.. math:: v_{t+1} = v_t + a_t\, dt, \qquad x_{t+1} = x_t + v_{t+1}\, dt
"""

import abc
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ...core import check_count, check_finite, check_floating, check_positive, check_shape
from ...data import ParticleNormaliser
from ...numerics import Neighbours, radius_neighbours
from ._particle_features import ParticleCloud, particle_cloud

Bounds = tuple[tuple[float, float], ...]

# Of the box: so far beyond a wall a particle of the first frames may be, by how it was measured.
_BEYOND_WALLS = 0.01


class AbstractParticleStepper(eqx.Module):
    """From a window of positions to the acceleration that leads to the next ones.

    Attributes
    ----------
    normaliser
        Scales of the training data, and their ``dt``.
    bounds
        Ends of the box along each axis.
    radius
        How far particles see each other, in physical units.
    window
        Velocities that are looked at; a window has ``window + 1`` frames.
    n_types
        Number of particle types.
    walls
        Whether the box has walls, which particles feel and do not leave.
    """

    normaliser: eqx.AbstractVar[ParticleNormaliser]
    bounds: eqx.AbstractVar[Bounds]
    radius: eqx.AbstractVar[float]
    window: eqx.AbstractVar[int]
    n_types: eqx.AbstractVar[int]
    walls: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def scaled_acceleration(
        self, cloud: ParticleCloud, particle_type: Int[Array, " n"], mask: Bool[Array, " n"]
    ) -> Float[Array, "n dim"]:
        """Return the acceleration in units of its deviation, its mean subtracted.

        Parameters
        ----------
        cloud
            Features of the window.
        particle_type
            Type of each particle.
        mask
            Which particles are real.
        """

    @property
    def dim(self) -> int:
        """Dimension of space."""
        return len(self.bounds)

    def neighbours(
        self, position: Float[Array, "n dim"], mask: Bool[Array, " n"], capacity: int
    ) -> Neighbours:
        """Return who is near whom in one frame.

        Parameters
        ----------
        position
            Of the particles.
        mask
            Which are real.
        capacity
            Places of each particle, itself included.
        """
        return radius_neighbours(
            position,
            position,
            self.radius,
            capacity=capacity,
            points_mask=mask,
            queries_mask=mask,
        )

    def __call__(
        self,
        position: Float[Array, "frames n dim"],
        particle_type: Int[Array, " n"],
        mask: Bool[Array, " n"],
        neighbours: Neighbours,
    ) -> Float[Array, "n dim"]:
        """Return the scaled acceleration of the newest frame; 0 for padding.

        It is NaN for a particle of a type that the model does not know: training and rollouts then
        stop and say so, also under `jax.jit`.

        Parameters
        ----------
        position
            A window of ``window + 1`` frames.
        particle_type, mask
            Of the particles.
        neighbours
            In the newest frame.

        Raises
        ------
        ValueError
            If the window has another length or dimension.
        """
        check_window(self, position)
        # Whatever stands in padding must not become NaN times zero.
        position = jnp.where(mask[None, :, None], position, jnp.zeros((), position.dtype))
        cloud = particle_cloud(
            position,
            neighbours,
            normaliser=self.normaliser,
            radius=self.radius,
            walls=self.bounds if self.walls else None,
        )
        is_known = (particle_type >= 0) & (particle_type < self.n_types)
        scaled = self.scaled_acceleration(cloud, jnp.where(is_known, particle_type, 0), mask)
        scaled = jnp.where(is_known[:, None], scaled, jnp.asarray(jnp.nan, scaled.dtype))
        return jnp.where(mask[:, None], scaled, jnp.zeros((), scaled.dtype))

    def advance(
        self, position: Float[Array, "frames n dim"], scaled: Float[Array, "n dim"]
    ) -> Float[Array, "n dim"]:
        """Return the frame after a window, by a semi-implicit step; walls are not passed.

        Parameters
        ----------
        position
            The window.
        scaled
            The scaled acceleration.
        """
        dtype = position.dtype
        mean, std = (
            jnp.asarray(figure, dtype)[None]
            for figure in (self.normaliser.acceleration_mean, self.normaliser.acceleration_std)
        )
        dt = jnp.asarray(self.normaliser.dt, dtype)
        # Differences of positions first: velocities times dt would round once more.
        following = position[-1] + (position[-1] - position[-2]) + (scaled * std + mean) * dt**2
        if not self.walls:
            return following
        low, high = (jnp.asarray(end, dtype)[None] for end in zip(*self.bounds, strict=True))
        return jnp.clip(following, low, high)


def set_stepper_fields(
    stepper: Any,
    normaliser: ParticleNormaliser,
    bounds: Sequence[Sequence[float | int]] | np.ndarray,
    radius: float,
    window: int,
    n_types: int,
    walls: bool,
) -> None:
    """Check and set, in a constructor, what all steppers have."""
    given = np.asarray(bounds, np.float64)
    dim = len(normaliser.velocity_mean)
    if given.shape != (dim, 2) or not (given[:, 0] < given[:, 1]).all():
        raise ValueError(
            f"`bounds` must be {dim} pairs of a lower and an upper end, as many as the normaliser "
            f"has axes; got {given.tolist()}."
        )
    check_finite("bounds", given)
    check_positive("radius", radius)
    stepper.normaliser = normaliser
    stepper.bounds = tuple((float(low), float(high)) for low, high in given)
    stepper.radius = float(radius)
    stepper.window = check_count("window", window, minimum=2)
    stepper.n_types = check_count("n_types", n_types)
    stepper.walls = bool(walls)


def check_window(stepper: AbstractParticleStepper, position: Any) -> None:
    """Raise unless ``position`` is a window of this stepper."""
    check_floating("position", position)
    shape = np.shape(position)
    if len(shape) != 3 or shape[0] != stepper.window + 1 or shape[2] != stepper.dim:
        raise ValueError(
            f"a window must have the shape ({stepper.window + 1}, n_particles, {stepper.dim}): "
            f"window + 1 = {stepper.window + 1} frames; got {shape}."
        )


def check_particles(
    stepper: AbstractParticleStepper, position: Any, particle_type: Any, mask: Any
) -> None:
    """Raise unless window, types and mask fit a stepper; values are looked at where known."""
    check_window(stepper, position)
    n = position.shape[1]
    check_shape("particle_type", particle_type, (n,))
    check_shape("mask", mask, (n,))
    if mask.dtype != bool:
        raise TypeError(f"`mask` must be boolean, got {mask.dtype}.")
    if any(isinstance(array, Tracer) for array in (position, particle_type, mask)):
        return
    real = np.asarray(mask)
    given = np.asarray(position)[:, real]
    check_finite("position", given)
    if stepper.walls:
        low, high = np.transpose(stepper.bounds)
        room = _BEYOND_WALLS * (high - low)
        outside = ((given < low - room) | (given > high + room)).any(axis=(0, 2))
        if outside.any():
            raise ValueError(
                f"{int(outside.sum())} particles are outside the walls of the model, "
                f"{stepper.bounds}: it was trained in another box, or in other units."
            )
    types = np.asarray(particle_type)[real]
    bad = (types < 0) | (types >= stepper.n_types)
    if bad.any():
        raise ValueError(
            f"`particle_type` must be below n_types={stepper.n_types} of the model, got "
            f"{int(types[bad][0])} for {int(bad.sum())} particles: it was not trained on them."
        )
