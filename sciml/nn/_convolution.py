"""Convolution over grid points, with padding that fits the boundary of each axis."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, check_flags, check_shape
from ..numerics import full_precision
from ._initial_weights import constant_weights, normal_weights


class Convolution(eqx.Module):
    """Affine convolution with a small odd kernel, in any number of dimensions.

    The grid stays: periodic axes are continued periodically, others by their edge values.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size
        Points of the kernel along each axis, odd.
    periodic
        Whether each axis is periodic; its length is the number of axes.
    key
        PRNG key of the initial weights: centred normal of variance ``2 / fan_in``.

    Examples
    --------
    >>> import jax
    >>> layer = Convolution(2, 5, 3, (False, True), key=jax.random.key(7))
    >>> layer(jax.numpy.ones((2, 8, 9))).shape
    (5, 8, 9)
    """

    weight: Float[Array, "out_channels in_channels *kernel"]
    bias: Float[Array, " out_channels"]
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        periodic: Sequence[bool],
        *,
        key: KeyArray,
    ):
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.kernel_size = check_count("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd, got {kernel_size}.")
        self.periodic = check_flags("periodic", periodic)
        kernel = (kernel_size,) * len(self.periodic)
        scale = math.sqrt(2 / (in_channels * math.prod(kernel)))
        shape = (out_channels, in_channels, *kernel)
        self.weight = normal_weights(key, shape, scale)
        self.bias = constant_weights(0.0, out_channels)

    @full_precision
    def __call__(self, v: Float[Array, "in_channels *space"]) -> Float[Array, "out *space"]:
        """Return the convolution on the grid of ``v``.

        Raises
        ------
        ValueError
            If ``v`` has other channels or axes.
        """
        axes = tuple(f"space_{axis}" for axis in range(len(self.periodic)))
        check_shape("v", v, (self.in_channels, *axes))
        half = self.kernel_size // 2
        for axis, periodic in enumerate(self.periodic):
            width = [(0, 0)] * v.ndim
            width[axis + 1] = (half, half)
            v = jnp.pad(v, width, mode="wrap" if periodic else "edge")
        out = lax.conv_general_dilated(
            v[None], self.weight.astype(v.dtype), (1,) * len(self.periodic), "VALID"
        )[0]
        return out + self.bias.astype(v.dtype).reshape(-1, *(1,) * len(self.periodic))
