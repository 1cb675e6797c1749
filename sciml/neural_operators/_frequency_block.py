"""The layer that `TransformOnce` stacks: channels are mixed mode by mode, then modes."""

import enum
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_count, check_shape, cites, split_keys
from ..core._bibliography import POLI_2022
from ..nn import ChannelLinear
from ..nn._initial_weights import normal_weights
from ..numerics import AbstractSpectralBasis, full_precision


class ModeMixing(enum.Enum):
    r"""How the modes of a field interact in a `TransformOnceBlock`.

    :math:`A` mixes the channels of each mode; :math:`\sigma` is the activation.
    """

    DENSE = "z + B_d ... B_1 sigma(A z)"
    """As published: a dense matrix ``B_i`` for each axis and channel, learned."""

    GRID = "z + M E sigma(sum_s D_s A_s z)"
    """The basis decodes onto 3/2 as many points as there are modes, the activation acts in space,
    and is encoded (``E``) and mixed by channels (``M``): all as small dense products. The modes
    then interact as in a product of fields, and need not learn to. ``A`` mixes into the functions
    of the basis and into their conjugates (``D_s``), so that a layer can take derivatives."""


@cites(POLI_2022)
class TransformOnceBlock(eqx.Module):
    """One residual block on the coefficients of a field.

    Parameters
    ----------
    channels
        Channels of input and output.
    basis
        The basis of the coefficients.
    mixing
        How the modes interact.
    activation
        Function of each coefficient, or of each value on the grid.
    key
        PRNG key of the initial weights, centred normal: those of a mode have the variance
        ``1 / channels`` (with conjugates, all its parts together), those of an axis
        ``1 / n_modes``.

    References
    ----------
    .. [1] M. Poli et al., "Transform once: efficient operator learning in frequency domain",
           NeurIPS 2022.

    Examples
    --------
    >>> import jax
    >>> from sciml.numerics import CosineBasis
    >>> block = TransformOnceBlock(3, CosineBasis((4, 5)), key=jax.random.key(7))
    >>> block(jax.numpy.ones((3, 4, 5))).shape
    (3, 4, 5)
    """

    # Modes first: each product then reads its weights as they lie.
    channel_weight: Float[Array, "modes parts out_channels in_channels"]
    mode_weights: tuple[Float[Array, "channels m m"], ...]
    channel_mixing: ChannelLinear | None
    basis: AbstractSpectralBasis
    channels: int = eqx.field(static=True)
    mixing: ModeMixing = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        basis: AbstractSpectralBasis,
        *,
        mixing: ModeMixing = ModeMixing.DENSE,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        self.channels = check_count("channels", channels)
        self.basis = basis
        self.mixing = mixing
        self.activation = activation
        first, *rest = split_keys(key, 1 + len(basis.n_modes))
        on_grid = mixing is ModeMixing.GRID
        n_positions, n_parts = basis.mixing_shape if on_grid else (math.prod(basis.n_modes), 1)
        shape = (n_positions, n_parts, channels, channels)
        scale = 1 / math.sqrt(n_parts * channels)
        self.channel_weight = normal_weights(first, shape, scale)
        self.mode_weights, self.channel_mixing = (), None
        if on_grid:
            self.channel_mixing = ChannelLinear(channels, channels, use_bias=False, key=rest[0])
        else:
            self.mode_weights = tuple(
                normal_weights(k, (channels, m, m), 1 / math.sqrt(m))
                for k, m in zip(rest, basis.n_modes, strict=True)
            )

    @full_precision
    def __call__(self, z: Float[Array, "channels *modes"]) -> Float[Array, "channels *modes"]:
        """Return the block's output.

        Raises
        ------
        ValueError
            If ``z`` has other channels or modes.
        """
        check_shape("z", z, (self.channels, *self.basis.n_modes))
        weight = self.channel_weight.astype(z.dtype)
        if self.channel_mixing is not None:
            h = self.activation(self.basis.decode_mixed(weight, z, self.basis.product_grid))
            return z + self.channel_mixing(self.basis.encode(h))
        flat = z.reshape(self.channels, -1)
        h = lax.dot_general(flat, weight[:, 0], (((0,), (2,)), ((1,), (0,))))
        h = self.activation(h.T.reshape(z.shape))
        for axis, matrices in enumerate(self.mode_weights):
            h = _mix_modes(matrices.astype(z.dtype), h, axis + 1)
        return z + h


def _mix_modes(matrices: Array, h: Array, axis: int) -> Array:
    shape = (len(h), math.prod(h.shape[1:axis]), h.shape[axis], math.prod(h.shape[axis + 1 :]))
    return jnp.einsum("cpx,cbxy->cbpy", matrices, h.reshape(shape)).reshape(h.shape)
