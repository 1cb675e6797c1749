"""A correction of the scales that an operator on coefficients leaves out."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_count, check_flags, split_keys
from ..nn import Convolution
from ._spectral_operator import AbstractSpectralOperator


class HighBandCorrection(eqx.Module):
    r"""Add to an operator what its basis cannot hold: :math:`w + (I - P)\, c(u, u - P u, w)`.

    :math:`w` is the output of the operator, :math:`P` the projection onto its basis and :math:`c` a
    small convolutional network on the grid. The kept modes stay those of the operator. The network
    starts at zero. It sees neighbouring points, so it belongs to the grid on which it is trained,
    and its training costs as much as the grid has points; train the operator first.

    Parameters
    ----------
    operator
        A `TransformOnce`, for instance.
    out_channels
        Its output channels.
    periodic
        Whether each axis is periodic.
    hidden_channels
        Channels of the network.
    n_layers
        Hidden layers, each with kernels of three points an axis.
    activation
        Pointwise function.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import equinox as eqx, jax
    >>> from sciml.neural_operators import TransformOnce
    >>> from sciml.numerics import CosineBasis
    >>> model = TransformOnce(1, 1, CosineBasis((6, 6)), hidden_channels=8, key=jax.random.key(7))
    >>> corrected = HighBandCorrection(model, 1, (False, False), key=jax.random.key(8))
    >>> eqx.filter_jit(corrected)(jax.numpy.ones((1, 16, 16))).shape
    (1, 16, 16)
    """

    operator: AbstractSpectralOperator
    layers: list[Convolution]
    out_channels: int = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        operator: AbstractSpectralOperator,
        out_channels: int,
        periodic: Sequence[bool],
        *,
        hidden_channels: int = 16,
        n_layers: int = 2,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        self.operator = operator
        self.out_channels = check_count("out_channels", out_channels)
        self.periodic = check_flags("periodic", periodic)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.n_layers = check_count("n_layers", n_layers)
        self.activation = activation
        widths = [2 * operator.in_channels + out_channels, *(hidden_channels,) * n_layers]
        *keys, last_key = split_keys(key, n_layers + 1)
        self.layers = [
            Convolution(inner, outer, 3, self.periodic, key=k)
            for inner, outer, k in zip(widths[:-1], widths[1:], keys, strict=True)
        ]
        last = Convolution(hidden_channels, out_channels, 1, self.periodic, key=last_key)
        self.layers.append(
            eqx.tree_at(lambda layer: layer.weight, last, jnp.zeros_like(last.weight))
        )

    def __call__(self, u: Float[Array, "in_channels *space"]) -> Float[Array, "out *space"]:
        """Return the corrected output on the grid of ``u``.

        Raises
        ------
        ValueError
            If ``u`` does not fit the operator.
        """
        low = self.operator(u)
        v = jnp.concatenate([u, self._high(u), low])
        for layer in self.layers[:-1]:
            v = self.activation(layer(v))
        return low + self._high(self.layers[-1](v))

    def _high(self, u: Array) -> Array:
        basis = self.operator.basis
        return u - basis.decode(basis.encode(u), u.shape[1:])
