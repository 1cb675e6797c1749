r"""Transform once (T1): a neural operator that works on coefficients only (Poli et al. 2022).

A field is encoded once into the coefficients :math:`z` of a few basis functions. The network is a
lift, blocks :math:`z \leftarrow z + B_d \cdots B_1 \sigma(A z)`, and a head
:math:`V_2 \sin(V_1 z)`. Nothing in it knows a grid, so the cost of a training step on encoded data
does not depend on one. What is different from the published code: the coefficients are scaled so
that they do not depend on the grid either; the raw channels are encoded and then lifted, which
commutes and costs less; the head acts on the kept modes only, since it maps zero to zero; the
weights start from the energy that the modes hold.
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import (
    Activation,
    KeyArray,
    check_count,
    check_key,
    check_non_negative,
    check_shape,
    cites,
)
from ..core._bibliography import POLI_2022
from ..nn import apply_stack, make_stack
from ..numerics import AbstractSpectralBasis, matmul_along
from ._frequency_block import TransformOnceBlock
from ._spectral_initialisation import AbstractSpectralInitialisation, KeepEnergy


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
        weight = jax.random.uniform(
            key, (hidden_channels, in_channels + n_fields), jnp.float32, minval=-limit, maxval=limit
        )
        self.weight = weight[:, :in_channels]
        self.bias = weight[:, in_channels:].at[:, 0].set(0.0)

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
        keys = jax.random.split(key)
        shapes = ((hidden_channels, in_channels), (out_channels, hidden_channels))
        first, second = (
            jax.random.normal(k, shape, jnp.float32) / math.sqrt(shape[1])
            for k, shape in zip(keys, shapes, strict=True)
        )
        self.first, self.second = first, self.scale * second

    def __call__(self, z: Float[Array, "in_channels *modes"]) -> Float[Array, "out *modes"]:
        """Return the output coefficients."""
        hidden = jnp.sin(matmul_along(self.first.astype(z.dtype), z, 0))
        return matmul_along(self.second.astype(z.dtype), hidden, 0)


@cites(POLI_2022)
class TransformOnce(eqx.Module):
    r"""Map fields to fields on their coefficients: lift, ``n_layers`` blocks, head.

    Call it on fields, on any grid that holds the modes, or train `spectral` on coefficients that
    were encoded once (`sciml.data.encode_fields`, `sciml.train.spectral_loss`). Its output has no
    energy outside the basis: ``basis.truncation_error`` of the targets is a floor of its error.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    basis
        Which coefficients: a cosine basis for any box, a Fourier basis if all is periodic. Their
        classes choose the modes by ``from_energy``.
    hidden_channels
        Width of the blocks.
    n_layers
        Number of blocks.
    coordinates
        Whether the network sees the coordinates.
    head_channels
        Channels inside the head.
    head_scale
        Size of the output at the start. Small is good: the network then starts from the mean.
    initialisation
        Rule for the first weights; `KeepEnergy` by default.
    activation
        Function of each coefficient in the blocks.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] M. Poli et al., "Transform once: efficient operator learning in frequency domain",
           NeurIPS 2022.

    Examples
    --------
    >>> import jax
    >>> from sciml.numerics import CosineBasis
    >>> model = TransformOnce(1, 1, CosineBasis((6, 6)), hidden_channels=8, key=jax.random.key(7))
    >>> model(jax.numpy.ones((1, 16, 16))).shape
    (1, 16, 16)
    >>> model(jax.numpy.ones((1, 16, 16)), grid=(40, 40)).shape
    (1, 40, 40)
    """

    lift: SpectralLift
    blocks: TransformOnceBlock
    head: SpectralHead
    basis: AbstractSpectralBasis
    initialisation: AbstractSpectralInitialisation
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    coordinates: bool = eqx.field(static=True)
    head_channels: int = eqx.field(static=True)
    head_scale: float = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: AbstractSpectralBasis,
        *,
        hidden_channels: int = 24,
        n_layers: int = 4,
        coordinates: bool = True,
        head_channels: int = 128,
        head_scale: float = 1e-2,
        initialisation: AbstractSpectralInitialisation | None = None,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        check_key(key)
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.n_layers = check_count("n_layers", n_layers)
        self.basis = basis
        self.coordinates = coordinates
        self.head_channels = head_channels
        self.head_scale = head_scale
        self.initialisation = KeepEnergy() if initialisation is None else initialisation
        self.activation = activation
        lift_key, blocks_key, head_key = jax.random.split(key, 3)
        self.lift = SpectralLift(
            in_channels, hidden_channels, basis, coordinates=coordinates, key=lift_key
        )
        blocks = make_stack(
            lambda key: TransformOnceBlock(
                hidden_channels, basis.n_modes, activation=activation, key=key
            ),
            n_layers,
            blocks_key,
        )
        gains = jnp.asarray(self.initialisation.gains(basis.n_modes, n_layers), jnp.float32)
        self.blocks = eqx.tree_at(
            lambda stack: stack.channel_weight,
            blocks,
            blocks.channel_weight * gains[:, None, None, None],
        )
        self.head = SpectralHead(
            hidden_channels, out_channels, head_channels, scale=head_scale, key=head_key
        )

    def spectral(
        self, z: Float[Array, "in_channels *modes"]
    ) -> Float[Array, "out_channels *modes"]:
        """Return the coefficients of the output for those of the input: no transform is taken.

        Raises
        ------
        ValueError
            If ``z`` has other channels or modes.
        """
        check_shape("z", z, (self.in_channels, *self.basis.n_modes))
        return self.head(apply_stack(self.blocks, self.lift(z)))

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


T1 = TransformOnce
