"""T1U: one block on the coefficients, then a U-Net over their array (Poli et al. 2022)."""

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_count, check_key, check_shape, cites, split_keys
from ..core._bibliography import POLI_2022
from ..nn import UNet
from ..numerics import AbstractSpectralBasis
from ._frequency_block import TransformOnceBlock
from ._spectral_ends import SpectralLift
from ._spectral_operator import AbstractSpectralOperator


@cites(POLI_2022)
class TransformOnceUNet(AbstractSpectralOperator):
    """Map fields to fields by a U-Net over their coefficients.

    Neighbours in frequency are neighbours of the convolutions, which have far fewer weights than
    the dense matrices of `TransformOnce`: for many modes, or few data.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    basis
        Which coefficients.
    hidden_channels
        Channels of the finest level of the U-Net.
    n_levels
        Coarser levels of the U-Net.
    coordinates
        Whether the network sees the coordinates.
    activation
        Function of each coefficient.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] M. Poli et al., "Transform once: efficient operator learning in frequency domain",
           NeurIPS 2022.

    Examples
    --------
    >>> import equinox as eqx, jax
    >>> from sciml.numerics import CosineBasis
    >>> key = jax.random.key(7)
    >>> model = TransformOnceUNet(1, 1, CosineBasis((6, 6)), hidden_channels=4, n_levels=1, key=key)
    >>> eqx.filter_jit(model)(jax.numpy.ones((1, 16, 16))).shape
    (1, 16, 16)
    """

    lift: SpectralLift
    block: TransformOnceBlock
    network: UNet
    basis: AbstractSpectralBasis
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_levels: int = eqx.field(static=True)
    coordinates: bool = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: AbstractSpectralBasis,
        *,
        hidden_channels: int = 16,
        n_levels: int = 2,
        coordinates: bool = True,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        check_key(key)
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.basis = basis
        self.hidden_channels = hidden_channels
        self.n_levels = n_levels
        self.coordinates = coordinates
        self.activation = activation
        lift_key, block_key, network_key = split_keys(key, 3)
        width = in_channels + len(basis.position_fields()) - 1
        self.lift = SpectralLift(in_channels, width, basis, coordinates=coordinates, key=lift_key)
        self.block = TransformOnceBlock(width, basis, activation=activation, key=block_key)
        self.network = UNet(
            width,
            out_channels,
            (False,) * len(basis.n_modes),
            hidden_channels=hidden_channels,
            n_levels=n_levels,
            activation=activation,
            key=network_key,
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
        return self.network(self.block(self.lift(z)))


T1U = TransformOnceUNet
