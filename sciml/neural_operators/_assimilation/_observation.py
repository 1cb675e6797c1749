"""What is measured of a field: linear maps to a vector, with their adjoints."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from ...core import Field, check_shape


class AbstractObservation(eqx.Module):
    r"""A linear map ``C`` of fields to measurements, and its adjoint.

    .. math:: \langle C z, e \rangle = \langle z, C^* e \rangle

    in the Euclidean products of fields and measurement vectors.

    Attributes
    ----------
    n_channels
        Channels of the field.
    n_points
        Points of each space axis.
    """

    n_channels: eqx.AbstractVar[int]
    n_points: eqx.AbstractVar[tuple[int, ...]]

    @property
    @abc.abstractmethod
    def n_measurements(self) -> int:
        """The length of the measurement vector."""

    @abc.abstractmethod
    def __call__(self, z: Field) -> Float[Array, " measurements"]:
        """Return ``C z``."""

    @abc.abstractmethod
    def adjoint(self, e: Float[Array, " measurements"]) -> Field:
        """Return ``C* e``, a field."""


def check_observed(observe: AbstractObservation, z: Array) -> None:
    """Raise ``ValueError`` unless ``z`` is a field of the observed grid."""
    check_shape("z", z, (observe.n_channels, *observe.n_points))


def check_measured(observe: AbstractObservation, e: Array) -> None:
    """Raise ``ValueError`` unless ``e`` is a vector of measurements."""
    check_shape("e", e, (observe.n_measurements,))
