r"""Message passing whose sums are integrals: they do not depend on how densely a body is sampled.

.. math::

    g_i = \frac{\sum_j V_j\, \omega_{ij}\, \sigma(A h_i + B h_j + D e_{ij})}
               {\sum_j V_j\, \omega_{ij} + \varepsilon \int \omega}, \qquad
    h_i \leftarrow h_i + M([h_i, g_i])

The reference averages with weights :math:`1 / (1 + |d|)`, which jump at the radius.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import Activation, KeyArray, check_count, check_key, cites, split_keys
from ...nn import PointMLP, standardise
from ...nn._initial_weights import normal_weights
from ...numerics import full_precision
from ._bibliography import VISWANATH_2024
from ._particle_features import ParticleCloud

# Of a full ball: where less is filled, the average fades to zero, so that it has no jump when the
# last neighbour leaves.
_FLOOR = 0.1


@cites(VISWANATH_2024)
class InteractionOperator(eqx.Module):
    """One round of messages between neighbours, averaged with smooth weights.

    Parameters
    ----------
    channels
        Channels at each particle.
    pair_channels
        Channels of each pair.
    activation
        Pointwise function.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] H. Viswanath et al., "Reduced-Order Neural Operators: Learning Lagrangian Dynamics on
           Highly Sparse Graphs", 2024.

    Examples
    --------
    >>> import jax
    >>> InteractionOperator(8, 5, key=jax.random.key(7)).channels
    8
    """

    receive: Float[Array, "channels channels"]
    send: Float[Array, "channels channels"]
    pair: PointMLP
    update: PointMLP
    channels: int = eqx.field(static=True)
    pair_channels: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        pair_channels: int,
        *,
        activation: Activation = jax.nn.silu,
        key: KeyArray,
    ):
        check_key(key)
        self.channels = check_count("channels", channels)
        self.pair_channels = check_count("pair_channels", pair_channels)
        self.activation = activation
        keys = split_keys(key, 4)
        self.receive, self.send = (
            normal_weights(k, (channels, channels), 1 / math.sqrt(channels)) for k in keys[:2]
        )
        self.pair = PointMLP((pair_channels, channels), key=keys[2])
        self.update = PointMLP(
            (2 * channels, channels, channels), activation=activation, key=keys[3]
        )

    @full_precision
    def __call__(self, h: Float[Array, "n channels"], cloud: ParticleCloud) -> Float[Array, "..."]:
        """Return the new channels of the particles.

        Parameters
        ----------
        h
            Channels at each particle.
        cloud
            Neighbours, their pairs, weights and volumes.

        Raises
        ------
        ValueError
            If the channels are not those of the constructor.
        """
        if h.shape != (len(cloud.position), self.channels):
            raise ValueError(
                f"`h` must have shape {(len(cloud.position), self.channels)}, got {h.shape}."
            )
        inner = standardise(h)
        near = cloud.neighbours
        message = near.gather(inner @ self.send.astype(h.dtype)) + self.pair(cloud.pairs)
        message = message + (inner @ self.receive.astype(h.dtype))[:, None]
        weight = cloud.window * near.gather(cloud.volume)
        return h + self.update(
            jnp.concatenate([inner, average(self.activation(message), weight, cloud)], axis=1)
        )


def average(
    values: Float[Array, "n k channels"], weight: Float[Array, "n k"], cloud: ParticleCloud
) -> Float[Array, "n channels"]:
    """Return the mean over the neighbours with the weights, which fades where few are there."""
    total = jnp.einsum("nk,nkc->nc", weight, values)
    floor = jnp.asarray(_FLOOR * cloud.ball, values.dtype)
    return total / (jnp.sum(weight, axis=1) + floor)[:, None]
