"""Constant acceleration: what a model of particles must beat."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...core import check_count
from ...data import ParticleNormaliser
from ._particle_features import ParticleCloud
from ._particle_stepper import AbstractParticleStepper, Bounds, set_stepper_fields


class BallisticStepper(AbstractParticleStepper):
    """Every particle flies on with one constant acceleration until it meets a wall.

    Parameters
    ----------
    normaliser, bounds, walls
        As in `GraphInteractionStepper`.
    acceleration
        One number an axis: that of gravity, or zeros for constant velocity.
    window
        As in the models it is compared with.
    n_types
        Types that may occur; they do not matter.

    Examples
    --------
    >>> from sciml.data import ParticleNormaliser
    >>> normaliser = ParticleNormaliser((0, 0), (1, 1), (0, -9.8), (3, 3), dt=0.01)
    >>> BallisticStepper(normaliser, ((0, 1), (0, 1)), (0, -9.8)).radius > 0
    True
    """

    normaliser: ParticleNormaliser
    bounds: Bounds = eqx.field(static=True)
    acceleration: tuple[float, ...] = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    window: int = eqx.field(static=True)
    n_types: int = eqx.field(static=True)
    walls: bool = eqx.field(static=True)

    def __init__(
        self,
        normaliser: ParticleNormaliser,
        bounds: Sequence[Sequence[float | int]],
        acceleration: Sequence[float | int],
        *,
        window: int = 5,
        n_types: int = 1,
        walls: bool = True,
    ):
        # Nobody is looked for: the radius is as good as none.
        set_stepper_fields(self, normaliser, bounds, 1e-6, window, n_types, walls)
        self.acceleration = tuple(float(a) for a in acceleration)
        if len(self.acceleration) != check_count("dim", self.dim):
            raise ValueError(
                f"`acceleration` must have {self.dim} numbers, got {self.acceleration}."
            )

    def scaled_acceleration(
        self, cloud: ParticleCloud, particle_type: Int[Array, " n"], mask: Bool[Array, " n"]
    ) -> Float[Array, "n dim"]:
        """Return the constant, scaled.

        Parameters
        ----------
        cloud, particle_type, mask
            As in `AbstractParticleStepper.scaled_acceleration`; they do not matter.
        """
        del particle_type, mask
        figures = zip(
            self.acceleration,
            self.normaliser.acceleration_mean,
            self.normaliser.acceleration_std,
            strict=True,
        )
        scaled = jnp.asarray([(a - m) / s for a, m, s in figures], cloud.position.dtype)
        return jnp.broadcast_to(scaled[None], cloud.position.shape)
