"""Padded flat graphs: any number of graphs in one set of arrays, with validation at the door."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int

from ..core import (
    check_array,
    check_count,
    check_finite,
    check_floating,
    check_not_traced,
    check_shape,
)
from ._segments import segment_sum


class Graph(eqx.Module):
    """One or more graphs, laid end to end; made by `from_arrays`, `from_scipy`, `batch_graphs`.

    Edge ``e`` carries a message from ``senders[e]`` to ``receivers[e]``. Several edges between
    two nodes are several terms: they add up. Padded nodes and edges are masked, and whatever they
    hold has no effect.

    Parameters
    ----------
    nodes
        Features, shape ``(n_nodes, node_channels)``.
    edges
        Features, shape ``(n_edges, edge_channels)``.
    senders, receivers
        Indices of nodes, shape ``(n_edges,)``.
    node_mask, edge_mask
        Which nodes and edges are no padding.
    graph_id
        The graph of each node, shape ``(n_nodes,)``.
    n_graphs
        How many graphs there are, empty ones included.

    Examples
    --------
    >>> import numpy as np
    >>> graph = Graph.from_arrays(np.ones((3, 2)), np.ones((2, 1)), [0, 1], [1, 2], pad_nodes=8)
    >>> graph.nodes.shape, int(graph.node_mask.sum())
    ((8, 2), 3)
    """

    nodes: Float[Array, "n_nodes node_channels"]
    edges: Float[Array, "n_edges edge_channels"]
    senders: Int[Array, " n_edges"]
    receivers: Int[Array, " n_edges"]
    node_mask: Bool[Array, " n_nodes"]
    edge_mask: Bool[Array, " n_edges"]
    graph_id: Int[Array, " n_nodes"]
    n_graphs: int = eqx.field(static=True, default=1)

    @classmethod
    def from_arrays(
        cls,
        nodes: Any,
        edges: Any,
        senders: Any,
        receivers: Any,
        *,
        pad_nodes: int | None = None,
        pad_edges: int | None = None,
    ) -> "Graph":
        """Return a checked graph.

        Parameters
        ----------
        nodes, edges
            Real features, shapes ``(n_nodes, node_channels)`` and ``(n_edges, edge_channels)``.
        senders, receivers
            Integers from 0 to ``n_nodes - 1``, shape ``(n_edges,)``.
        pad_nodes, pad_edges
            Sizes after padding (see `bucket_size`); by default there is none.

        Raises
        ------
        TypeError
            If features are not real floating-point numbers, or indices no integers.
        ValueError
            If shapes do not fit, features are not finite, an index is out of range, or the
            padding is too small.
        """
        for name, array in (("nodes", nodes), ("edges", edges)):
            check_floating(name, array)
            check_not_traced(name, array, "a graph is made and checked")
        nodes, edges = np.asarray(nodes), np.asarray(edges)
        for name, array in (("nodes", nodes), ("edges", edges)):
            if array.ndim != 2:
                raise ValueError(f"`{name}` must have 2 axes, got shape {array.shape}.")
            check_finite(name, array)
        ends = []
        for name, given in (("senders", senders), ("receivers", receivers)):
            if not hasattr(given, "shape"):
                check_shape(name, given, ("n_edges",))  # a ragged list, for instance
            index = np.asarray(given)
            index = index.astype(np.int32) if index.size == 0 else index
            check_array(name, index)
            if not np.issubdtype(index.dtype, np.integer):
                raise TypeError(f"`{name}` must hold integers, got dtype {index.dtype}.")
            if index.shape != (len(edges),):
                raise ValueError(
                    f"`{name}` must have one entry for each of the {len(edges)} edges, got shape "
                    f"{index.shape}."
                )
            bad = (index < 0) | (index >= len(nodes))
            if bad.any():
                where = int(np.argmax(bad))
                raise ValueError(
                    f"`{name}` must lie between 0 and {len(nodes) - 1}; entry {where} is "
                    f"{int(index[where])}."
                )
            ends.append(index)
        zeros = np.zeros(len(nodes), np.int32)
        return _assemble(nodes, edges, ends[0], ends[1], zeros, 1, pad_nodes, pad_edges)

    @classmethod
    def from_scipy(cls, matrix: Any, nodes: Any) -> "Graph":
        """Return the graph of a sparse matrix: entry ``A[i, j]`` is an edge from ``j`` to ``i``.

        Parameters
        ----------
        matrix
            A square SciPy sparse matrix; its values become the edges' single feature.
        nodes
            Features, shape ``(n_nodes, node_channels)``.

        Raises
        ------
        ValueError
            If the matrix does not have one row and column for each node.
        """
        coo = scipy.sparse.coo_array(matrix)
        n = len(np.asarray(nodes))
        if coo.shape != (n, n):
            raise ValueError(f"`matrix` must be {n} x {n} for {n} nodes, got shape {coo.shape}.")
        return cls.from_arrays(nodes, coo.data[:, None], coo.col, coo.row)

    @classmethod
    def from_networkx(cls, graph: Any, *, node_keys: Sequence[str], edge_keys: Sequence[str]):
        """Return the graph of a networkx object; undirected edges go both ways.

        Parameters
        ----------
        graph
            A networkx graph, directed or not, with or without parallel edges.
        node_keys, edge_keys
            The names of the numbers that become features.

        Raises
        ------
        KeyError
            If a node or an edge lacks one of them.
        """
        index = {node: i for i, node in enumerate(graph.nodes)}
        nodes = [[float(data[k]) for k in node_keys] for _, data in graph.nodes(data=True)]
        edges, senders, receivers = [], [], []
        for s, r, data in graph.edges(data=True):
            pairs = [(s, r)] if graph.is_directed() or s == r else [(s, r), (r, s)]
            for a, b in pairs:
                edges.append([float(data[k]) for k in edge_keys])
                senders.append(index[a])
                receivers.append(index[b])
        return cls.from_arrays(
            np.asarray(nodes, np.float32).reshape(len(index), len(node_keys)),
            np.asarray(edges, np.float32).reshape(len(senders), len(edge_keys)),
            np.asarray(senders, np.int32),
            np.asarray(receivers, np.int32),
        )

    def in_degree(self) -> Float[Array, " n_nodes"]:
        """Return how many edges end at each node, parallel ones counted."""
        ones = jnp.ones(self.receivers.shape, self.nodes.dtype)
        return segment_sum(ones, self.receivers, len(self.nodes), mask=self.edge_mask)


def bucket_size(n: int) -> int:
    """Return the next size of the sequence 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: few compilations.

    Parameters
    ----------
    n
        The least size.

    Examples
    --------
    >>> [bucket_size(n) for n in (0, 5, 13, 100)]
    [1, 6, 16, 128]
    """
    check_count("n", n, minimum=0)
    power = 1
    while power < n:
        power *= 2
    return 3 * power // 4 if power >= 4 and 3 * power // 4 >= n else power


def batch_graphs(
    graphs: Sequence[Graph], *, pad_nodes: int | None = None, pad_edges: int | None = None
) -> Graph:
    """Return the graphs side by side in one; padding in between is dropped.

    Parameters
    ----------
    graphs
        Graphs with equal channels. Empty ones are fine.
    pad_nodes, pad_edges
        Sizes after padding; by default `bucket_size` of what is needed.

    Raises
    ------
    ValueError
        If there are no graphs, or they overflow the padding.
    """
    if not graphs:
        raise ValueError("`graphs` must hold at least one graph, got none.")
    parts, start, count = [], 0, 0
    for graph in graphs:
        node_mask, edge_mask = np.asarray(graph.node_mask), np.asarray(graph.edge_mask)
        new = np.cumsum(node_mask) - 1 + start
        parts.append(
            (
                np.asarray(graph.nodes)[node_mask],
                np.asarray(graph.edges)[edge_mask],
                new[np.asarray(graph.senders)[edge_mask]],
                new[np.asarray(graph.receivers)[edge_mask]],
                np.asarray(graph.graph_id)[node_mask] + count,
            )
        )
        start, count = start + int(node_mask.sum()), count + graph.n_graphs
    nodes, edges, senders, receivers, ids = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    pad_nodes = bucket_size(len(nodes) + 1) if pad_nodes is None else pad_nodes
    pad_edges = bucket_size(len(edges)) if pad_edges is None else pad_edges
    return _assemble(nodes, edges, senders, receivers, ids, count, pad_nodes, pad_edges)


def unbatch_graphs(graph: Graph) -> list[Graph]:
    """Return the graphs of a batch, without padding.

    Parameters
    ----------
    graph
        What `batch_graphs` made.
    """
    ids, found = np.asarray(graph.graph_id), []
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    for k in range(graph.n_graphs):
        mine = np.asarray(graph.node_mask) & (ids == k)
        kept = np.asarray(graph.edge_mask).copy()
        kept[kept] = mine[receivers[kept]]
        new = np.cumsum(mine) - 1
        nodes, edges = np.asarray(graph.nodes)[mine], np.asarray(graph.edges)[kept]
        zeros = np.zeros(len(nodes), np.int32)
        found.append(
            _assemble(nodes, edges, new[senders[kept]], new[receivers[kept]], zeros, 1, None, None)
        )
    return found


def _assemble(nodes, edges, senders, receivers, ids, n_graphs, pad_nodes, pad_edges):
    n, e = len(nodes), len(edges)
    n_all = n if pad_nodes is None else check_count("pad_nodes", pad_nodes, minimum=0)
    e_all = e if pad_edges is None else check_count("pad_edges", pad_edges, minimum=0)
    for name, need, have in (("pad_nodes", n, n_all), ("pad_edges", e, e_all)):
        if need > have:
            raise ValueError(f"`{name}` = {have} is too small: there are {need}.")
    if e_all > 0 and n_all == 0:
        raise ValueError("padded edges need a node to point at: set `pad_nodes` to at least 1.")
    last = max(n_all - 1, 0)

    def ends(index):
        return np.pad(index, (0, e_all - e), constant_values=last).astype(np.int32)

    arrays = {
        "nodes": np.pad(nodes, ((0, n_all - n), (0, 0))),
        "edges": np.pad(edges, ((0, e_all - e), (0, 0))),
        "senders": ends(senders),
        "receivers": ends(receivers),
        "node_mask": np.arange(n_all) < n,
        "edge_mask": np.arange(e_all) < e,
        "graph_id": np.pad(ids, (0, n_all - n), constant_values=max(n_graphs - 1, 0)).astype(
            np.int32
        ),
    }
    # Not `jnp.asarray`, which compiles a program for each new shape.
    return Graph(**jax.device_put(arrays), n_graphs=n_graphs)
