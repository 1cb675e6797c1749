"""Both ends of a network on coefficients: the lift of the raw channels, and the head."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, check_non_negative, split_keys
from ..nn._initial_weights import normal_weights, uniform_weights
from ..numerics import AbstractSpectralBasis, full_precision, matmul_along, sine


class SpectralLift(eqx.Module):
    """Channels of each mode to ``hidden_channels``, with the coordinates and a bias.

    A lift is linear, so it may act behind the encoding: coordinates and bias become constants.

    Parameters
    ----------
    in_channels, hidden_channels
        Channels of input and output.
    basis
        The basis of the coefficients.
    coordinates
        Whether the coordinates are lifted, too.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import jax
    >>> from sciml.numerics import CosineBasis
    >>> lift = SpectralLift(2, 6, CosineBasis((4, 4)), key=jax.random.key(7))
    >>> lift(jax.numpy.ones((2, 4, 4))).shape
    (6, 4, 4)
    """

    weight: Float[Array, "hidden_channels in_channels"]
    bias: Float[Array, "hidden_channels fields"]
    in_channels: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    basis: AbstractSpectralBasis
    coordinates: bool = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        basis: AbstractSpectralBasis,
        *,
        coordinates: bool = True,
        key: KeyArray,
    ):
        self.in_channels = check_count("in_channels", in_channels)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.basis = basis
        self.coordinates = coordinates
        n_fields = len(basis.position_fields()) if coordinates else 1
        limit = 1 / math.sqrt(in_channels + n_fields - 1)
        weight = uniform_weights(key, (hidden_channels, in_channels + n_fields), limit)
        self.weight = weight[:, :in_channels]
        self.bias = weight[:, in_channels:].at[:, 0].set(0.0)

    @full_precision
    def __call__(self, z: Float[Array, "in_channels *modes"]) -> Float[Array, "hidden *modes"]:
        """Return the lifted coefficients."""
        fields = jnp.asarray(self.basis.position_fields()[: self.bias.shape[1]], z.dtype)
        constant = jnp.tensordot(self.bias.astype(z.dtype), fields, 1)
        return matmul_along(self.weight.astype(z.dtype), z, 0) + constant


class SpectralHead(eqx.Module):
    r"""The head :math:`V_2 \sin(V_1 z)`, without bias: it maps zero to zero.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    hidden_channels
        Channels in between.
    scale
        Size of the outputs at the start, in units of the inputs.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import jax
    >>> head = SpectralHead(6, 1, 16, key=jax.random.key(7))
    >>> head(jax.numpy.ones((6, 4, 4))).shape
    (1, 4, 4)
    """

    first: Float[Array, "hidden_channels in_channels"]
    second: Float[Array, "out_channels hidden_channels"]
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        *,
        scale: float = 1e-2,
        key: KeyArray,
    ):
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        check_non_negative("scale", scale)
        self.scale = float(scale)
        keys = split_keys(key)
        shapes = ((hidden_channels, in_channels), (out_channels, hidden_channels))
        first, second = (
            normal_weights(k, shape, 1 / math.sqrt(shape[1]))
            for k, shape in zip(keys, shapes, strict=True)
        )
        self.first, self.second = first, self.scale * second

    def __call__(self, z: Float[Array, "in_channels *modes"]) -> Float[Array, "out *modes"]:
        """Return the output coefficients."""
        hidden = sine(matmul_along(self.first.astype(z.dtype), z, 0))
        return matmul_along(self.second.astype(z.dtype), hidden, 0)
