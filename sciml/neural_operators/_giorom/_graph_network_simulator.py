r"""Graph network simulator (GNS): the message passing that GIOROM is compared with.

Encoder, ``n_layers`` rounds of messages with channels at the edges, decoder:

.. math::

    e_{ij} \leftarrow e_{ij} + M([e_{ij}, h_i, h_j]), \qquad
    h_i \leftarrow h_i + U\Bigl(\Bigl[h_i, \sum_j e_{ij}\Bigr]\Bigr)
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...core import KeyArray, check_count, check_key, cites, split_keys
from ...data import ParticleNormaliser
from ...nn import PointMLP
from ...nn._initial_weights import normal_weights
from ._bibliography import SANCHEZ_GONZALEZ_2020
from ._particle_features import ParticleCloud, n_node_channels
from ._particle_stepper import AbstractParticleStepper, Bounds, set_stepper_fields

_TYPE_CHANNELS = 4


@cites(SANCHEZ_GONZALEZ_2020)
class GraphNetworkSimulator(AbstractParticleStepper):
    """GNS: message passing with sums over neighbours and channels at each edge.

    It sees the same features as `GraphInteractionStepper` (the published one has no increments of
    velocity, relative velocities or filling).

    Parameters
    ----------
    normaliser, bounds, radius, window, n_types, walls
        As in `GraphInteractionStepper`.
    hidden_channels
        Channels at particles and edges.
    n_layers
        Rounds of messages, 10 in the paper.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] A. Sanchez-Gonzalez et al., "Learning to Simulate Complex Physics with Graph Networks",
           ICML 2020.

    Examples
    --------
    >>> import jax
    >>> from sciml.data import ParticleNormaliser
    >>> normaliser = ParticleNormaliser((0, 0), (1, 1), (0, -9.8), (3, 3), dt=0.01)
    >>> model = GraphNetworkSimulator(
    ...     normaliser, ((0, 1), (0, 1)), radius=0.2, hidden_channels=8, n_layers=2,
    ...     key=jax.random.key(7),
    ... )
    >>> len(model.edge_updates)
    2
    """

    types: Float[Array, "n_types type_channels"]
    encode: PointMLP
    encode_edges: PointMLP
    edge_updates: tuple[PointMLP, ...]
    node_updates: tuple[PointMLP, ...]
    decode: PointMLP
    normaliser: ParticleNormaliser
    bounds: Bounds = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    window: int = eqx.field(static=True)
    n_types: int = eqx.field(static=True)
    walls: bool = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)

    def __init__(
        self,
        normaliser: ParticleNormaliser,
        bounds: Sequence[Sequence[float | int]] | np.ndarray,
        *,
        radius: float,
        window: int = 5,
        n_types: int = 1,
        walls: bool = True,
        hidden_channels: int = 64,
        n_layers: int = 4,
        key: KeyArray,
    ):
        check_key(key)
        set_stepper_fields(self, normaliser, bounds, radius, window, n_types, walls)
        self.hidden_channels = width = check_count("hidden_channels", hidden_channels)
        self.n_layers = check_count("n_layers", n_layers)
        keys = iter(split_keys(key, 4 + 2 * n_layers))
        n_features = n_node_channels(self.dim, self.window, self.walls) + _TYPE_CHANNELS
        self.types = normal_weights(next(keys), (self.n_types, _TYPE_CHANNELS), 1.0)

        def perceptron(n_in: int) -> PointMLP:
            return PointMLP((n_in, width, width), normalise=True, key=next(keys))

        self.encode, self.encode_edges = perceptron(n_features), perceptron(2 * self.dim + 1)
        self.edge_updates = tuple(perceptron(3 * width) for _ in range(n_layers))
        self.node_updates = tuple(perceptron(2 * width) for _ in range(n_layers))
        self.decode = PointMLP((width, width, self.dim), key=next(keys))

    def scaled_acceleration(
        self, cloud: ParticleCloud, particle_type: Int[Array, " n"], mask: Bool[Array, " n"]
    ) -> Float[Array, "n dim"]:
        """Return the acceleration in units of its deviation, its mean subtracted.

        Parameters
        ----------
        cloud, particle_type, mask
            As in `AbstractParticleStepper.scaled_acceleration`.
        """
        del mask
        kinds = self.types.astype(cloud.nodes.dtype)[particle_type]
        h = self.encode(jnp.concatenate([cloud.nodes, kinds], axis=1))
        e = self.encode_edges(cloud.pairs)
        near = cloud.neighbours
        for edge_update, node_update in zip(self.edge_updates, self.node_updates, strict=True):
            ends = (near.gather(h), jnp.broadcast_to(h[:, None], e.shape))
            e = e + edge_update(jnp.concatenate([e, *ends], axis=-1))
            h = h + node_update(jnp.concatenate([h, near.sum_over_points(e)], axis=1))
        return self.decode(h)


GNS = GraphNetworkSimulator
"""The paper's abbreviation."""
