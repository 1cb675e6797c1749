"""Maps that act on the channels of each grid point alone (1x1 convolutions)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_array, check_count, check_shape, split_keys
from ..numerics import matmul_along
from ._initial_weights import constant_weights, uniform_weights

# An affine map to so many times its channels takes the bias as one more column.
_MANY_MORE = 8


class ChannelLinear(eqx.Module):
    """Affine map of the channels at each point, in any number of dimensions.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    use_bias
        Whether a bias per output channel is added.
    key
        PRNG key of the initial weights (uniform, variance ``1 / (3 in_channels)``).

    Examples
    --------
    >>> import jax
    >>> ChannelLinear(2, 5, key=jax.random.key(7))(jax.numpy.ones((2, 8, 8))).shape
    (5, 8, 8)
    """

    weight: Float[Array, "out_channels in_channels"]
    bias: Float[Array, " out_channels"] | None
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    use_bias: bool = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        use_bias: bool = True,
        key: KeyArray,
    ):
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.use_bias = use_bias
        limit = 1 / math.sqrt(in_channels)
        self.weight = uniform_weights(key, (out_channels, in_channels), limit)
        self.bias = constant_weights(0.0, out_channels) if use_bias else None

    def __call__(
        self, v: Float[Array, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """Return the mapped field.

        Raises
        ------
        ValueError
            If ``v`` has another number of channels.
        """
        check_array("v", v)
        check_shape("v", v, (self.in_channels, *(f"space_{i}" for i in range(v.ndim - 1))))
        weight = self.weight.astype(v.dtype)
        if self.bias is None:
            return matmul_along(weight, v, 0)
        bias = self.bias.astype(v.dtype)
        if self.out_channels >= _MANY_MORE * self.in_channels:
            # One more channel, of ones, is less than a pass over the output, forward and backward.
            ones = jnp.ones_like(v[:1])
            weight = jnp.concatenate([weight, bias[:, None]], axis=1)
            return matmul_along(weight, jnp.concatenate([v, ones]), 0)
        return matmul_along(weight, v, 0) + bias.reshape(-1, *(1,) * (v.ndim - 1))


class ChannelMLP(eqx.Module):
    """Two affine maps of the channels at each point with an activation between.

    Parameters
    ----------
    in_channels, out_channels, hidden_channels
        Channels of input, output and in between.
    activation
        Pointwise function.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import jax
    >>> ChannelMLP(2, 3, 16, key=jax.random.key(7))(jax.numpy.ones((2, 8, 8))).shape
    (3, 8, 8)
    """

    first: ChannelLinear
    second: ChannelLinear
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        *,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        first_key, second_key = split_keys(key)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.activation = activation
        self.first = ChannelLinear(in_channels, hidden_channels, key=first_key)
        self.second = ChannelLinear(hidden_channels, out_channels, key=second_key)

    def __call__(
        self, v: Float[Array, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """Return the mapped field."""
        return self.second(self.activation(self.first(v)))
