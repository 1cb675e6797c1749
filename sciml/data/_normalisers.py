r"""Normalisers: modules that a model keeps inside, so that a saved model needs no data set.

The mean and the deviation of a channel are computed in float64 and in two passes. The one-pass
rule :math:`\sigma^2 = E[u^2] - E[u]^2` cancels when the mean is large beside the deviation, and
can give the root of a negative number.
"""

import abc
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from ..core import check_array
from ._dataset import FieldDataset
from ._stored_dataset import StoredDataset


class AbstractNormaliser(eqx.Module):
    """An invertible map of trajectories to a scale that suits a network.

    Both methods take ``(time, channels, *space)`` with any number of space axes: the channel
    axis is axis 1, always. Use `jax.vmap` for a batch, and ``u[None]`` for one snapshot.
    """

    @abc.abstractmethod
    def encode(self, u: Float[Array, "time channels *space"]) -> Float[Array, "..."]:
        """Map physical values to the network's scale; shape and dtype stay."""

    @abc.abstractmethod
    def decode(self, u: Float[Array, "time channels *space"]) -> Float[Array, "..."]:
        """Invert `encode`; shape and dtype stay."""


class IdentityNormaliser(AbstractNormaliser):
    """The normaliser that changes nothing, for data that are of order one already."""

    def encode(self, u: Float[Array, "time channels *space"]) -> Float[Array, "..."]:
        """Return ``u``."""
        return u

    def decode(self, u: Float[Array, "time channels *space"]) -> Float[Array, "..."]:
        """Return ``u``."""
        return u


class GaussianNormaliser(AbstractNormaliser):
    r"""Mean zero and variance one for each channel: :math:`(u - \mu_c) / \sigma_c`.

    The figures are Python floats and static: no optimiser changes them, no weight decay shrinks
    them, and they are saved without loss whatever the precision of the network. They are
    converted to the dtype of the input. A program that is compiled with a normaliser inside has
    them as constants; forecasters called outside `jax.jit` scale outside of theirs, so that
    models of one structure share it.

    Parameters
    ----------
    mean
        One number for each channel.
    std
        One positive number for each channel.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> normaliser = GaussianNormaliser(mean=(10.0, 0.0), std=(2.0, 5.0))
    >>> u = jnp.full((3, 2, 4, 4), 14.0)
    >>> encoded = normaliser.encode(u)
    >>> float(encoded[0, 0, 0, 0]), float(encoded[0, 1, 0, 0])
    (2.0, 2.799999952316284)
    >>> bool(jnp.allclose(normaliser.decode(encoded), u))
    True
    """

    mean: tuple[float, ...] = eqx.field(static=True)
    std: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean = tuple(float(m) for m in mean)
        self.std = tuple(float(s) for s in std)
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                "`mean` and `std` must have one number for each channel, got "
                f"{len(self.mean)} and {len(self.std)} numbers."
            )
        for channel, (m, s) in enumerate(zip(self.mean, self.std, strict=True)):
            if not math.isfinite(m):
                raise ValueError(f"`mean` of channel {channel} must be finite, got {m}.")
            if not (math.isfinite(s) and s > 0):
                raise ValueError(
                    f"`std` of channel {channel} must be positive and finite, got {s}."
                )

    @classmethod
    def fit(
        cls, dataset: FieldDataset | StoredDataset, *, minimum_std: float = 0.0
    ) -> "GaussianNormaliser":
        """Compute the figures of each channel over samples, times and space.

        Parameters
        ----------
        dataset
            The training set (the validation and test sets must not take part). One that is stored
            is read twice, sample by sample; the figures are those of the same data in memory.
        minimum_std
            Smallest deviation to divide by. With the default a constant channel is an error.

        Raises
        ------
        ValueError
            If the deviation of a channel is zero (to rounding) and ``minimum_std`` is zero.
        """
        if not (math.isfinite(minimum_std) and minimum_std >= 0):
            raise ValueError(f"`minimum_std` must be zero or positive, got {minimum_std!r}.")
        values = dataset.values
        axes = (0, *range(2, values.ndim - 1))  # all but the channel, within one sample
        count = values.size // values.shape[2]
        # Sample by sample, so that the float64 copy stays small beside the data set.
        total = sum(np.sum(v, axis=axes, dtype=np.float64) for v in values)
        mean = np.asarray(total) / count
        shaped = mean.reshape(-1, *(1,) * (values.ndim - 3))
        squares = sum(np.sum((v - shaped) ** 2, axis=axes, dtype=np.float64) for v in values)
        std = np.sqrt(np.asarray(squares) / count)
        for name, m, s in zip(dataset.channels, mean, std, strict=True):
            # Rounding of a constant leaves a deviation of a few units in the last place.
            if s <= 8 * np.finfo(values.dtype).eps * abs(m) and minimum_std == 0:
                raise ValueError(
                    f"channel {name!r} is constant ({m:g}) in the data, so it cannot be scaled to "
                    "variance one. Leave the channel out, or pass `minimum_std`."
                )
        return cls(mean.tolist(), np.maximum(std, minimum_std).tolist())

    def encode(self, u: Float[Array, "time channels *space"]) -> Float[Array, "..."]:
        """Return ``(u - mean) / std``; shape and dtype stay."""
        return _encode(u, *self._constants(u))

    def decode(self, u: Float[Array, "time channels *space"]) -> Float[Array, "..."]:
        """Return ``u * std + mean``; shape and dtype stay."""
        return _decode(u, *self._constants(u))

    def _constants(self, u: Array) -> tuple[np.ndarray, np.ndarray]:
        check_array("u", u)
        if u.ndim < 2 or u.shape[1] != len(self.mean):
            raise ValueError(
                f"`u` must have the axes (time, channels, *space) with {len(self.mean)} channels "
                f"on axis 1, got shape {u.shape}."
            )
        shape = (1, -1) + (1,) * (u.ndim - 2)
        dtype = jax.dtypes.canonicalize_dtype(u.dtype)
        mean, std = (np.asarray(figures, dtype).reshape(shape) for figures in (self.mean, self.std))
        return mean, std


# One program for all normalisers of as many channels, with their figures as arguments.
@jax.jit
def _encode(u: Array, mean: Array, std: Array) -> Array:
    return (u - mean) / std


@jax.jit
def _decode(u: Array, mean: Array, std: Array) -> Array:
    return u * std + mean
