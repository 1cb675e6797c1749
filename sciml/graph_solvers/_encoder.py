"""What the graph networks of this package share: clean inputs, encoder, readout."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import KeyArray, split_keys
from ..nn import AttentionMessages
from ..numerics import Graph, segment_mean, segment_sum
from ._rows import Readout

Nodes = Float[Array, "n_nodes channels"]
Edges = Float[Array, "n_edges edge_channels"]


def make_encoder(
    node_channels: int, edge_channels: int, hidden_channels: int, n_layers: int, *, key: KeyArray
) -> list[AttentionMessages]:
    """Return layers of message passing of one width."""
    layers, n, e, width = [], node_channels, edge_channels, hidden_channels
    for layer_key in split_keys(key, n_layers):
        layers.append(AttentionMessages(n, e, width, width, hidden_channels=width, key=layer_key))
        n = e = width
    return layers


def encode(
    layers: list[AttentionMessages], graph: Graph, nodes: Nodes, edges: Edges
) -> tuple[Array, Array]:
    """Return the channels after the last layer; from the second on they add to what came in."""
    nodes, edges = layers[0](graph, nodes, edges)
    for layer in layers[1:]:
        d_nodes, d_edges = layer(graph, jax.nn.silu(nodes), jax.nn.silu(edges))
        nodes, edges = nodes + d_nodes, edges + d_edges
    return nodes, edges


def clean_features(graph: Graph, node_channels: int, edge_channels: int) -> tuple[Nodes, Edges]:
    """Return the graph's features with zeros in the padding; raise if the channels do not fit."""
    for name, array, want in (
        ("nodes", graph.nodes, node_channels),
        ("edges", graph.edges, edge_channels),
    ):
        if array.ndim != 2 or array.shape[1] != want:
            raise ValueError(
                f"`graph.{name}` must have {want} channels, as the model, got shape {array.shape}. "
                "Several graphs go into one by `batch_graphs`."
            )
    zero = jnp.zeros((), graph.nodes.dtype)
    return (
        jnp.where(graph.node_mask[:, None], graph.nodes, zero),
        jnp.where(graph.edge_mask[:, None], graph.edges, jnp.zeros((), graph.edges.dtype)),
    )


def read_out(kind: Readout, graph: Graph, values: Nodes) -> Array:
    """Return the values of the nodes, or their sums or means over each graph."""
    if kind is Readout.NODES:
        return values
    reduce = segment_sum if kind is Readout.SUM else segment_mean
    return reduce(values, graph.graph_id, graph.n_graphs, mask=graph.node_mask)
