"""The layer that `TransformOnce` stacks: channels are mixed mode by mode, then modes."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_count, check_shape, cites
from ..core._bibliography import POLI_2022


@cites(POLI_2022)
class TransformOnceBlock(eqx.Module):
    r"""One block on coefficients: :math:`z + B_d \cdots B_1 \sigma(A z)`.

    :math:`A` mixes the channels of each mode and :math:`B_i` the modes along axis ``i`` of each
    channel. Products with fields are convolutions of coefficients, so modes must interact.

    Parameters
    ----------
    channels
        Channels of input and output.
    n_modes
        Modes an axis.
    activation
        Function of each coefficient.
    key
        PRNG key of the initial weights, centred normal: :math:`A` of variance ``1 / channels``,
        :math:`B_i` of variance ``1 / n_modes[i]``.

    References
    ----------
    .. [1] M. Poli et al., "Transform once: efficient operator learning in frequency domain",
           NeurIPS 2022.

    Examples
    --------
    >>> import jax
    >>> block = TransformOnceBlock(3, (4, 5), key=jax.random.key(7))
    >>> block(jax.numpy.ones((3, 4, 5))).shape
    (3, 4, 5)
    """

    # Modes first: each product then reads its weights as they lie.
    channel_weight: Float[Array, "modes out_channels in_channels"]
    mode_weights: tuple[Float[Array, "channels m m"], ...]
    channels: int = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        n_modes: Sequence[int],
        *,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        self.channels = check_count("channels", channels)
        self.n_modes = tuple(check_count(f"n_modes[{i}]", m) for i, m in enumerate(n_modes))
        self.activation = activation
        first, *rest = jax.random.split(key, 1 + len(self.n_modes))
        shape = (math.prod(self.n_modes), channels, channels)
        self.channel_weight = jax.random.normal(first, shape, jnp.float32) / math.sqrt(channels)
        self.mode_weights = tuple(
            jax.random.normal(k, (channels, m, m), jnp.float32) / math.sqrt(m)
            for k, m in zip(rest, self.n_modes, strict=True)
        )

    def __call__(self, z: Float[Array, "channels *modes"]) -> Float[Array, "channels *modes"]:
        """Return the block's output.

        Raises
        ------
        ValueError
            If ``z`` has other channels or modes.
        """
        check_shape("z", z, (self.channels, *self.n_modes))
        weight = self.channel_weight.astype(z.dtype)
        h = lax.dot_general(z.reshape(self.channels, -1), weight, (((0,), (2,)), ((1,), (0,))))
        h = self.activation(h.T.reshape(z.shape))
        for axis, matrices in enumerate(self.mode_weights):
            h = _mix_modes(matrices.astype(z.dtype), h, axis + 1)
        return z + h


def _mix_modes(matrices: Array, h: Array, axis: int) -> Array:
    shape = (len(h), math.prod(h.shape[1:axis]), h.shape[axis], math.prod(h.shape[axis + 1 :]))
    return jnp.einsum("cpx,cbxy->cbpy", matrices, h.reshape(shape)).reshape(h.shape)
