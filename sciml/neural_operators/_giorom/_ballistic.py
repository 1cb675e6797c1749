"""Constant acceleration, or none and no motion: what a model of particles must beat."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

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
        One number an axis: that of gravity, or zeros for constant velocity. None lets every
        particle stop at once.
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
    acceleration: tuple[float, ...] | None = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    window: int = eqx.field(static=True)
    n_types: int = eqx.field(static=True)
    walls: bool = eqx.field(static=True)

    def __init__(
        self,
        normaliser: ParticleNormaliser,
        bounds: Sequence[Sequence[float | int]] | np.ndarray,
        acceleration: Sequence[float | int] | None,
        *,
        window: int = 5,
        n_types: int = 1,
        walls: bool = True,
    ):
        # Nobody is looked for: the radius is as good as none.
        set_stepper_fields(self, normaliser, bounds, 1e-6, window, n_types, walls)
        self.acceleration = None if acceleration is None else tuple(float(a) for a in acceleration)
        if self.acceleration is not None and len(self.acceleration) != self.dim:
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
        scales, dtype = self.normaliser, cloud.position.dtype
        if self.acceleration is not None:
            a = jnp.broadcast_to(_row(self.acceleration, dtype), cloud.position.shape)
        else:
            newest = cloud.nodes[:, : self.dim]
            velocity = newest * _row(scales.velocity_std, dtype) + _row(scales.velocity_mean, dtype)
            a = -velocity / jnp.asarray(scales.dt, dtype)
        return (a - _row(scales.acceleration_mean, dtype)) / _row(scales.acceleration_std, dtype)


def _row(figures: tuple[float, ...], dtype: Any) -> Array:
    return jnp.asarray(figures, dtype)[None]
