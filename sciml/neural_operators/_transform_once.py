r"""Transform once (T1): a neural operator that works on coefficients only (Poli et al. 2022).

A field is encoded once into the coefficients :math:`z` of a few basis functions. The network is a
lift, blocks :math:`z \leftarrow z + B_d \cdots B_1 \sigma(A z)`, and a head
:math:`V_2 \sin(V_1 z)`. Nothing in it knows a grid, so the cost of a training step on encoded data
does not depend on one. What is different from the published code: the coefficients are scaled so
that they do not depend on the grid either; the raw channels are encoded and then lifted, which
commutes and costs less; the head acts on the kept modes only, since it maps zero to zero; the
weights start from the energy that the modes hold.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_count, check_key, check_shape, cites, split_keys
from ..core._bibliography import POLI_2022
from ..nn import apply_stack, make_stack
from ..numerics import AbstractSpectralBasis
from ._frequency_block import ModeMixing, TransformOnceBlock
from ._spectral_ends import SpectralHead, SpectralLift
from ._spectral_initialisation import AbstractSpectralInitialisation, KeepEnergy
from ._spectral_operator import AbstractSpectralOperator


@cites(POLI_2022)
class TransformOnce(AbstractSpectralOperator):
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
        Channels inside the head; twice ``hidden_channels`` by default (128 as published).
    head_scale
        Size of the output at the start. Small is good: the network then starts from the mean.
    mixing
        How the modes interact in a block (`ModeMixing`).
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
    blocks: tuple[TransformOnceBlock, ...]
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
    mixing: ModeMixing = eqx.field(static=True)
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
        head_channels: int | None = None,
        head_scale: float = 1e-2,
        mixing: ModeMixing = ModeMixing.DENSE,
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
        self.head_channels = 2 * hidden_channels if head_channels is None else head_channels
        self.head_scale = head_scale
        self.mixing = mixing
        self.initialisation = KeepEnergy() if initialisation is None else initialisation
        self.activation = activation
        lift_key, blocks_key, head_key = split_keys(key, 3)
        self.lift = SpectralLift(
            in_channels, hidden_channels, basis, coordinates=coordinates, key=lift_key
        )
        blocks = make_stack(
            lambda key: TransformOnceBlock(
                hidden_channels, basis, mixing=mixing, activation=activation, key=key
            ),
            n_layers,
            blocks_key,
        )
        gains = jnp.asarray(self.initialisation.gains(basis.n_modes, n_layers), jnp.float32)
        self.blocks = tuple(
            eqx.tree_at(lambda b: b.channel_weight, block, gain * block.channel_weight)
            for block, gain in zip(blocks, gains, strict=True)
        )
        self.head = SpectralHead(
            hidden_channels, out_channels, self.head_channels, scale=head_scale, key=head_key
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


T1 = TransformOnce
