"""The observation that sees every value."""

import math
from collections.abc import Sequence

import equinox as eqx
from jaxtyping import Array, Float

from ...core import Field, check_count
from ._observation import AbstractObservation, check_measured, check_observed


class FullField(AbstractObservation):
    """Measure all channels at all points, in the order of ``z.reshape(-1)``.

    Parameters
    ----------
    n_points
        Points of each space axis.
    n_channels
        Channels of the field.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> observe = FullField((8, 6), n_channels=2)
    >>> observe(jnp.ones((2, 8, 6))).shape, observe.adjoint(jnp.ones(96)).shape
    ((96,), (2, 8, 6))
    """

    n_points: tuple[int, ...] = eqx.field(static=True)
    n_channels: int = eqx.field(static=True)

    def __init__(self, n_points: Sequence[int], *, n_channels: int = 1):
        self.n_points = tuple(check_count("n_points", n) for n in n_points)
        self.n_channels = check_count("n_channels", n_channels)

    @property
    def n_measurements(self) -> int:
        """The number of values of the field."""
        return self.n_channels * math.prod(self.n_points)

    def __call__(self, z: Field) -> Float[Array, " measurements"]:
        """Return all values of ``z``."""
        check_observed(self, z)
        return z.reshape(-1)

    def adjoint(self, e: Float[Array, " measurements"]) -> Field:
        """Return the field with the values ``e``."""
        check_measured(self, e)
        return e.reshape(self.n_channels, *self.n_points)
