"""What operators on coefficients share: they encode a field, map its coefficients and decode."""

import abc
from collections.abc import Sequence

import equinox as eqx
from jaxtyping import Array, Float

from ..numerics import AbstractSpectralBasis


class AbstractSpectralOperator(eqx.Module):
    """A map of fields that works on their coefficients in one basis.

    `spectral` takes no transform: train it on coefficients that were encoded once
    (`sciml.data.encode_fields`, `sciml.train.spectral_loss`).
    """

    basis: eqx.AbstractVar[AbstractSpectralBasis]
    in_channels: eqx.AbstractVar[int]

    @abc.abstractmethod
    def spectral(
        self, z: Float[Array, "in_channels *modes"]
    ) -> Float[Array, "out_channels *modes"]:
        """Return the coefficients of the output for those of the input."""

    def __call__(
        self, u: Float[Array, "in_channels *space"], *, grid: Sequence[int] | None = None
    ) -> Float[Array, "out_channels *space_out"]:
        """Return the output on the grid of ``u``, or on another one.

        Parameters
        ----------
        u
            The field, on any grid that holds the modes of the basis.
        grid
            Points of each axis of the output.

        Raises
        ------
        ValueError
            If ``u`` has other channels or axes, or a grid cannot hold the modes.
        """
        z = self.basis.encode(u)
        return self.basis.decode(self.spectral(z), u.shape[1:] if grid is None else tuple(grid))
