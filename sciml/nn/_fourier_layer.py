"""The layer that Fourier neural operators stack: spectral convolution plus pointwise maps."""

from collections.abc import Sequence

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, cites
from ..core._bibliography import LI_2021
from ._channel_mlp import ChannelLinear, ChannelMLP
from ._spectral_conv import SpectralConv


@cites(LI_2021)
class FourierLayer(eqx.Module):
    r"""Residual Fourier layer, :math:`v + M(\sigma(K v + W v))`.

    :math:`K` is a `SpectralConv`, :math:`W` a pointwise affine map, which carries the scales
    that :math:`K` leaves out, and :math:`M` a `ChannelMLP`. The identity around the layer keeps
    the activation off the main path, so that several layers train at one learning rate.

    Parameters
    ----------
    channels
        Channels of input and output.
    n_modes
        Modes an axis of the spectral convolution.
    mlp_channels
        Channels inside the channel MLP.
    activation
        Pointwise function.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import equinox as eqx, jax
    >>> layer = FourierLayer(2, (3, 3), 4, key=jax.random.key(7))
    >>> eqx.filter_jit(layer)(jax.numpy.ones((2, 8, 8))).shape
    (2, 8, 8)
    """

    spectral: SpectralConv
    pointwise: ChannelLinear
    mlp: ChannelMLP
    channels: int = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)
    mlp_channels: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        n_modes: Sequence[int],
        mlp_channels: int,
        *,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        spectral_key, pointwise_key, mlp_key = jax.random.split(key, 3)
        self.channels = channels
        self.n_modes = tuple(n_modes)
        self.mlp_channels = mlp_channels
        self.activation = activation
        self.spectral = SpectralConv(channels, channels, n_modes, key=spectral_key)
        self.pointwise = ChannelLinear(channels, channels, key=pointwise_key)
        self.mlp = ChannelMLP(channels, channels, mlp_channels, activation=activation, key=mlp_key)

    def __call__(self, v: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        """Return the layer's output on the grid of ``v``."""
        return v + self.mlp(self.activation(self.spectral(v) + self.pointwise(v)))
