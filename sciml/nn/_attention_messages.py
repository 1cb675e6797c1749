r"""Message passing on graphs with attention: each node weighs what its edges bring.

.. math::

    u_e = f([e_e, x_{s(e)}, x_{r(e)}]), \qquad
    \alpha_e = \operatorname{softmax}_{e \to r}\, g([e_e, x_{s(e)}, x_{r(e)}]), \qquad
    x'_r = w\Bigl(\Bigl[\sum_{e \to r} \alpha_e u_e,\ x_r\Bigr]\Bigr)
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_count, split_keys
from ..numerics import Graph, segment_softmax, segment_sum
from ._channel_mlp import ChannelLinear, ChannelMLP


class AttentionMessages(eqx.Module):
    """One layer of message passing along the edges, from sender to receiver.

    Parameters
    ----------
    node_channels, edge_channels
        Channels that come in.
    out_node_channels, out_edge_channels
        Channels that go out.
    hidden_channels
        Width of the two perceptrons.
    activation
        Pointwise function within them.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from sciml.numerics import Graph
    >>> graph = Graph.from_arrays(np.ones((3, 2)), np.ones((2, 1)), [0, 1], [1, 2])
    >>> layer = AttentionMessages(2, 1, 5, 4, hidden_channels=8, key=jax.random.key(7))
    >>> nodes, edges = layer(graph, graph.nodes, graph.edges)
    >>> nodes.shape, edges.shape
    ((3, 5), (2, 4))
    """

    message: ChannelMLP
    attention: ChannelLinear
    update: ChannelMLP
    node_channels: int = eqx.field(static=True)
    edge_channels: int = eqx.field(static=True)
    out_node_channels: int = eqx.field(static=True)
    out_edge_channels: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        node_channels: int,
        edge_channels: int,
        out_node_channels: int,
        out_edge_channels: int,
        *,
        hidden_channels: int = 64,
        activation: Activation = jax.nn.silu,
        key: KeyArray,
    ):
        keys = split_keys(key, 3)
        self.node_channels = check_count("node_channels", node_channels)
        self.edge_channels = check_count("edge_channels", edge_channels)
        self.out_node_channels = check_count("out_node_channels", out_node_channels)
        self.out_edge_channels = check_count("out_edge_channels", out_edge_channels)
        self.hidden_channels = hidden_channels
        self.activation = activation
        n_in = edge_channels + 2 * node_channels
        self.message = ChannelMLP(
            n_in, out_edge_channels, hidden_channels, activation=activation, key=keys[0]
        )
        self.attention = ChannelLinear(n_in, 1, key=keys[1])
        self.update = ChannelMLP(
            node_channels + out_edge_channels,
            out_node_channels,
            hidden_channels,
            activation=activation,
            key=keys[2],
        )

    def __call__(
        self,
        graph: Graph,
        nodes: Float[Array, "n_nodes node_channels"],
        edges: Float[Array, "n_edges edge_channels"],
    ) -> tuple[Float[Array, "n_nodes out_nodes"], Float[Array, "n_edges out_edges"]]:
        """Return the new channels of nodes and edges.

        Parameters
        ----------
        graph
            Whose edges carry the messages; its own features are not looked at.
        nodes, edges
            Channels that come in; those of padding must be finite.

        Raises
        ------
        ValueError
            If the channels are not those of the constructor.
        """
        for name, got, want in (
            ("nodes", nodes.shape, (len(graph.nodes), self.node_channels)),
            ("edges", edges.shape, (len(graph.edges), self.edge_channels)),
        ):
            if got != want:
                raise ValueError(f"`{name}` must have shape {want}, got {got}.")
        ends = (nodes[graph.senders].T, nodes[graph.receivers].T)
        z = jnp.concatenate([edges.T, *ends])
        messages, logits = self.message(z).T, self.attention(z)[0]
        n = len(nodes)
        alpha = segment_softmax(logits, graph.receivers, n, mask=graph.edge_mask)
        brought = segment_sum(alpha[:, None] * messages, graph.receivers, n, mask=graph.edge_mask)
        return self.update(jnp.concatenate([brought.T, nodes.T])).T, messages
