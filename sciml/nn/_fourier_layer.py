"""The layer that Fourier neural operators stack: spectral convolution plus pointwise maps."""

import enum
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_count, cites, split_keys
from ..core._bibliography import LI_2021
from ..numerics import matmul_along, truncated_irfftn
from ._channel_mlp import ChannelLinear, ChannelMLP
from ._initial_weights import constant_weights
from ._spectral_conv import SpectralConv


class LayerForm(enum.Enum):
    r"""How a `FourierLayer` joins its parts.

    :math:`K` is the spectral convolution, :math:`W` the pointwise affine map, :math:`M` the
    channel MLP, :math:`g` one number a channel and :math:`\sigma` the activation.
    """

    RESIDUAL = "v + M(sigma(K v + W v))"
    """Ours: the activation is off the main path, so that deep stacks train at one rate."""

    PLAIN = "sigma(K v + W v)"
    """Li et al. (2021)."""

    GATED = "sigma(M(sigma(K v + W v)) + g v)"
    """The default of the neuraloperator package, version 2."""


@cites(LI_2021)
class FourierLayer(eqx.Module):
    r"""Fourier layer, by default residual: :math:`v + M(\sigma(K v + W v))`.

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
        Channels inside the channel MLP; None in the plain form, which has none.
    form
        How the parts are joined (`LayerForm`).
    activation
        Pointwise function.
    key
        PRNG key of the initial weights.

    Raises
    ------
    ValueError
        If ``mlp_channels`` is missing, or given to the plain form.

    Examples
    --------
    >>> import equinox as eqx, jax
    >>> layer = FourierLayer(2, (3, 3), 4, key=jax.random.key(7))
    >>> eqx.filter_jit(layer)(jax.numpy.ones((2, 8, 8))).shape
    (2, 8, 8)
    >>> plain = FourierLayer(2, (3, 3), None, form=LayerForm.PLAIN, key=jax.random.key(7))
    >>> eqx.filter_jit(plain)(jax.numpy.ones((2, 8, 8))).shape
    (2, 8, 8)
    """

    spectral: SpectralConv
    pointwise: ChannelLinear
    mlp: ChannelMLP | None
    gate: Float[Array, " channels"] | None
    channels: int = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)
    mlp_channels: int | None = eqx.field(static=True)
    form: LayerForm = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        n_modes: Sequence[int],
        mlp_channels: int | None,
        *,
        form: LayerForm = LayerForm.RESIDUAL,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        spectral_key, pointwise_key, mlp_key = split_keys(key, 3)
        if (mlp_channels is None) != (form is LayerForm.PLAIN):
            raise ValueError(
                f"`mlp_channels` must be a number, and None in the plain form, got {mlp_channels} "
                f"for {form}."
            )
        check_count("channels", channels)
        if mlp_channels is not None:
            check_count("mlp_channels", mlp_channels)
        self.channels = channels
        self.n_modes = tuple(n_modes)
        self.mlp_channels = mlp_channels
        self.form = form
        self.activation = activation
        self.spectral = SpectralConv(channels, channels, n_modes, key=spectral_key)
        self.pointwise = ChannelLinear(channels, channels, key=pointwise_key)
        self.mlp = (
            None
            if mlp_channels is None
            else ChannelMLP(channels, channels, mlp_channels, activation=activation, key=mlp_key)
        )
        self.gate = constant_weights(1.0, channels) if form is LayerForm.GATED else None

    def __call__(
        self, v: Float[Array, "channels *space"], *, is_last: bool = False
    ) -> Float[Array, "channels *space"]:
        """Return the layer's output on the grid of ``v``.

        Parameters
        ----------
        v
            The field.
        is_last
            Whether it is the last layer of its network: the plain and the gated form then leave
            out their own activations, since a projection with one of its own follows.

        Raises
        ------
        ValueError
            If the number of channels or axes differs, or the grid cannot hold the modes.
        """
        identity = is_last and self.form is not LayerForm.RESIDUAL
        activation = _identity if identity else self.activation
        inner = activation(self._linear(v))
        if self.mlp is None:
            return inner
        if self.gate is None:
            return v + self.mlp(inner)
        gate = self.gate.astype(v.dtype).reshape(-1, *(1,) * (v.ndim - 1))
        return activation(self.mlp(inner) + gate * v)

    def _linear(self, v: Array) -> Array:
        """Return ``K v + W v``; the bias of ``W`` joins the mean mode: no pass over points."""
        coefficients = self.spectral.mix(self.spectral.coefficients(v))
        if self.pointwise.bias is not None:
            mean = self.pointwise.bias.astype(coefficients.real.dtype)
            mean = mean.reshape(-1, *(1,) * (v.ndim - 1))
            around = [(m - 1, m - 1) for m in self.n_modes[:-1]] + [(0, self.n_modes[-1] - 1)]
            mean = jnp.pad(mean, [(0, 0), *around])
            coefficients = coefficients + lax.complex(mean, jnp.zeros_like(mean))
        weight = self.pointwise.weight.astype(v.dtype)
        spectral = truncated_irfftn(coefficients, v.shape[1:], dtype=v.dtype)
        return spectral + matmul_along(weight, v, 0)


def _identity(v: Array) -> Array:
    return v
