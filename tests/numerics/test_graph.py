import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from sciml.numerics import (
    Graph,
    batch_graphs,
    bucket_size,
    segment_mean,
    segment_softmax,
    segment_sum,
    unbatch_graphs,
)


def _graph(n=4, seed=3, **padding):
    rng = np.random.default_rng(seed)
    e = 2 * n
    ends = rng.integers(0, max(n, 1), (2, e)) if n else np.zeros((2, 0), int)
    nodes, edges = rng.normal(size=(n, 2)), rng.normal(size=(ends.shape[1], 1))
    nodes, edges = nodes.astype(np.float32), edges.astype(np.float32)
    return Graph.from_arrays(nodes, edges, ends[0], ends[1], **padding)


def _poisoned(graph):
    """Return the graph with NaN in all padding."""
    return Graph(
        jnp.where(graph.node_mask[:, None], graph.nodes, jnp.nan),
        jnp.where(graph.edge_mask[:, None], graph.edges, jnp.nan),
        graph.senders,
        graph.receivers,
        graph.node_mask,
        graph.edge_mask,
        graph.graph_id,
        graph.n_graphs,
    )


def test_a_batch_comes_apart_again_with_empty_graphs_in_it():
    graphs = [_graph(4), _graph(0), _graph(1, seed=5), _graph(3, seed=7)]
    whole = batch_graphs(graphs)
    assert whole.n_graphs == 4
    assert len(whole.nodes) == bucket_size(9)
    back = unbatch_graphs(_poisoned(whole))
    for before, after in zip(graphs, back, strict=True):
        np.testing.assert_array_equal(before.nodes, after.nodes)
        np.testing.assert_array_equal(before.edges, after.edges)
        np.testing.assert_array_equal(before.senders, after.senders)
        np.testing.assert_array_equal(before.receivers, after.receivers)
    again = batch_graphs([whole, graphs[0]])
    assert again.n_graphs == 5
    assert len(unbatch_graphs(again)) == 5


def test_graphs_of_one_bucket_have_one_program():
    count = 0

    @jax.jit
    def degree(graph):
        nonlocal count
        count += 1
        return graph.in_degree()

    for graph in (_graph(4), _graph(5, seed=9)):
        padded = batch_graphs([graph], pad_nodes=8, pad_edges=16)
        got = np.asarray(degree(padded))
        want = np.bincount(np.asarray(graph.receivers), minlength=8)
        np.testing.assert_array_equal(got, want)
    assert count == 1


def test_bucket_sizes_are_few_and_never_too_small():
    sizes = [bucket_size(n) for n in range(200)]
    assert all(size >= n for n, size in enumerate(sizes))
    assert len(set(sizes)) == 16
    assert all(bucket_size(size) == size for size in sizes)


def test_a_sparse_matrix_acts_as_its_graph():
    a = scipy.sparse.random_array((6, 6), density=0.4, rng=np.random.default_rng(3))
    graph = Graph.from_scipy(a, np.ones((6, 1)))
    x = np.random.default_rng(5).normal(size=6).astype(np.float32)
    got = segment_sum(graph.edges[:, 0] * x[graph.senders], graph.receivers, 6)
    np.testing.assert_allclose(got, a @ x, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="6 x 6 for 6 nodes"):
        Graph.from_scipy(a.tocsr()[:5], np.ones((6, 1)))


class _Networkx(types.SimpleNamespace):
    """What `from_networkx` uses of a networkx graph, which is no dependency."""

    def is_directed(self):
        return self.directed


class _Nodes(dict):
    def __call__(self, data):
        return self.items()


@pytest.mark.parametrize("directed", [False, True])
def test_networkx_objects_are_taken_as_they_are(directed):
    links = [("a", "b", {"w": 2.0}), ("b", "b", {"w": 3.0})]
    given = _Networkx(
        nodes=_Nodes(a={"x": 1.0}, b={"x": 5.0}), edges=lambda data: links, directed=directed
    )
    graph = Graph.from_networkx(given, node_keys=["x"], edge_keys=["w"])
    np.testing.assert_array_equal(graph.nodes[:, 0], [1.0, 5.0])
    assert len(graph.edges) == (2 if directed else 3)
    with pytest.raises(KeyError):
        Graph.from_networkx(given, node_keys=["y"], edge_keys=["w"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"senders": [0, 4]}, ValueError, "between 0 and 2; entry 1 is 4"),
        ({"receivers": [-1, 0]}, ValueError, "entry 0 is -1"),
        ({"senders": [0.0, 1.0]}, TypeError, "integers, got dtype float64"),
        ({"senders": [0]}, ValueError, "each of the 2 edges"),
        ({"nodes": np.ones((3, 2), int)}, TypeError, "astype"),
        ({"nodes": np.full((3, 2), np.nan)}, ValueError, "6 non-finite"),
        ({"edges": np.full((2, 1), np.inf)}, ValueError, "2 non-finite"),
        ({"nodes": np.ones(3)}, ValueError, "2 axes"),
        ({"pad_nodes": 2}, ValueError, "`pad_nodes` = 2 is too small: there are 3"),
        ({"pad_edges": 1}, ValueError, "`pad_edges` = 1 is too small: there are 2"),
    ],
)
def test_bad_input_is_named(change, error, message):
    given = {"nodes": np.ones((3, 2)), "edges": np.ones((2, 1)), "senders": [0, 1],
             "receivers": [1, 2]} | change  # fmt: skip
    with pytest.raises(error, match=message):
        Graph.from_arrays(**given)


def test_batches_that_overflow_or_hold_nothing_are_refused():
    with pytest.raises(ValueError, match="at least one graph"):
        batch_graphs([])
    with pytest.raises(ValueError, match="too small: there are 8"):
        batch_graphs([_graph(4), _graph(4)], pad_nodes=7)
    with pytest.raises(ValueError, match="need a node"):
        batch_graphs([_graph(0)], pad_nodes=0, pad_edges=2)


def test_segments_agree_with_loops_and_ignore_the_masked():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(9, 2)).astype(np.float32) * 1e4
    segments, mask = np.array([0, 0, 2, 2, 2, 4, 4, 1, 1]), np.arange(9) < 7
    on_device = jnp.asarray(segments), jnp.asarray(mask)
    poisoned = np.where(mask[:, None], values, np.nan)

    def all_three(v):
        where, kept = on_device
        return [f(v, where, 5, mask=kept) for f in (segment_sum, segment_mean, segment_softmax)]

    total, mean, soft = jax.jit(all_three)(jnp.asarray(poisoned))
    gradient = jax.grad(lambda v: sum(jnp.sum(jnp.sin(x)) for x in all_three(v)))
    slope = jax.jit(gradient)(jnp.asarray(poisoned))
    for k in range(5):
        mine = mask & (segments == k)
        part = values[mine].astype(np.float64)
        want = part.sum(axis=0)
        np.testing.assert_allclose(total[k], want, rtol=1e-5, atol=1e-2)
        np.testing.assert_allclose(mean[k], want / max(len(part), 1), rtol=1e-5, atol=1e-2)
        if len(part):
            weights = np.exp(part - part.max(axis=0))
            np.testing.assert_allclose(soft[mine], weights / weights.sum(axis=0), atol=1e-6)
    assert np.isfinite(total).all()
    assert (np.asarray(soft)[~mask] == 0).all()
    assert np.isfinite(slope).all()
    assert (np.asarray(slope)[~mask] == 0).all()
