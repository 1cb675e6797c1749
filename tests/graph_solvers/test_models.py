import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sciml
from sciml.graph_solvers import (
    Aggregation,
    AndersonSolver,
    ConvergentGraphSolver,
    DeepGraphNetwork,
    FactorKind,
    GraphMapOptions,
    ImplicitGraphNetwork,
    KrylovSolver,
    MessageDirection,
    PicardSolver,
    Readout,
    RowNormaliser,
    contraction_rows,
)
from sciml.numerics import Graph, batch_graphs

KEY = jax.random.key(5)
SMALL = {"hidden_channels": 6}
PUBLISHED = GraphMapOptions(
    gamma=0.5, factor=FactorKind.FIXED, rows=RowNormaliser.CLIP_DEGREE,
    direction=MessageDirection.TO_SENDER, solver=PicardSolver(rtol=1e-5),
    adjoint_solver=PicardSolver(rtol=1e-5),
)  # fmt: skip
NONLINEAR = GraphMapOptions(
    activation=jnp.tanh, factor=FactorKind.LEARNED, solver=AndersonSolver(rtol=1e-5),
    adjoint_solver=AndersonSolver(rtol=1e-5),
)  # fmt: skip
OURS = GraphMapOptions(
    gamma=0.9, factor=FactorKind.ABSORBING, solver=AndersonSolver(rtol=1e-5),
    adjoint_solver=AndersonSolver(rtol=1e-5),
)  # fmt: skip
MAXIMUM = GraphMapOptions(
    gamma=0.7, aggregation=Aggregation.MAXIMUM, solver=PicardSolver(rtol=1e-5),
    adjoint_solver=PicardSolver(rtol=1e-5),
)  # fmt: skip
MODELS = {
    "ours, two solves": lambda: ConvergentGraphSolver(
        2, 1, 3, heads=4, n_solves=2, options=OURS, key=KEY, **SMALL
    ),
    "published": lambda: ConvergentGraphSolver(
        2, 1, 3, heads=4, options=PUBLISHED, readout=Readout.SUM, key=KEY, **SMALL
    ),
    "nonlinear": lambda: ConvergentGraphSolver(
        2, 1, 3, heads=4, options=NONLINEAR, readout=Readout.MEAN, key=KEY, **SMALL
    ),
    "maximum": lambda: ConvergentGraphSolver(2, 1, 3, heads=4, options=MAXIMUM, key=KEY, **SMALL),
    "graph network": lambda: DeepGraphNetwork(
        2, 1, 3, n_layers=2, readout=Readout.SUM, key=KEY, **SMALL
    ),
    "IGNN": lambda: ImplicitGraphNetwork(2, 1, 3, kappa=0.8, key=KEY, **SMALL),
}


def random_graph(n, seed):
    rng = np.random.default_rng(seed)
    e = 3 * n
    return Graph.from_arrays(
        rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=(e, 1)).astype(np.float32),
        rng.integers(0, n, e), rng.integers(0, n, e),
    )  # fmt: skip


def permuted(graph, seed):
    """Return the graph with nodes and edges in another order, and the order of the nodes."""
    rng = np.random.default_rng(seed)
    order, edge_order = rng.permutation(len(graph.nodes)), rng.permutation(len(graph.edges))
    new = np.argsort(order)
    return order, Graph.from_arrays(
        np.asarray(graph.nodes)[order], np.asarray(graph.edges)[edge_order],
        new[np.asarray(graph.senders)[edge_order]], new[np.asarray(graph.receivers)[edge_order]],
    )  # fmt: skip


def poisoned(graph):
    nan = jnp.asarray(jnp.nan, graph.nodes.dtype)
    return eqx.tree_at(
        lambda g: (g.nodes, g.edges), graph,
        (jnp.where(graph.node_mask[:, None], graph.nodes, nan),
         jnp.where(graph.edge_mask[:, None], graph.edges, nan)),
    )  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_order_batch_padding_gradient_and_saving(name, tmp_path):
    """One program for all of it: five batches of one shape."""
    model = MODELS[name]()
    graph, other = random_graph(7, 3), random_graph(5, 9)
    sizes = {"pad_nodes": 16, "pad_edges": 48}
    order, shuffled = permuted(graph, 13)
    empty = Graph.from_arrays(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32), [], [])
    batches = [
        batch_graphs([graph, empty, other], **sizes),
        batch_graphs([graph, empty, empty], **sizes),
        batch_graphs([shuffled, other, empty], **sizes),
    ]

    @eqx.filter_jit
    def run(model, graph):
        # The weights of the sum leave the padding out.
        keep = graph.node_mask if model.readout is Readout.NODES else jnp.ones(3, bool)

        def objective(model):
            y = model(graph)
            return jnp.sum(jnp.where(keep[:, None], jnp.sin(y), 0)), y

        (_, y), slope = eqx.filter_value_and_grad(objective, has_aux=True)(model)
        return y, slope

    together, slope = run(model, poisoned(batches[0]))
    alone, _ = run(model, batches[1])
    mixed, _ = run(model, batches[2])
    close = {"rtol": 2e-4, "atol": 2e-4}
    if model.readout is Readout.NODES:
        np.testing.assert_allclose(together[:7], alone[:7], **close)
        np.testing.assert_allclose(mixed[:7], together[:7][order], **close)
    else:
        np.testing.assert_allclose(together[0], alone[0], **close)
        np.testing.assert_allclose(mixed[0], together[0], **close)
        np.testing.assert_allclose(mixed[1], together[2], **close)
        assert np.isfinite(together[1]).all()
    for path, leaf in jax.tree_util.tree_leaves_with_path(slope):
        where = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all(), where
        # A shift of all logits of a softmax changes nothing.
        is_shift = where.endswith(".attention.bias")
        is_shift |= (
            ".logits" in where
            and where.endswith(".bias")
            and not name.startswith(("published", "maximum"))
        )
        if not is_shift:
            assert np.any(np.asarray(leaf) != 0), f"{where} gets no gradient"

    sciml.save(tmp_path / "model", model)
    again = sciml.load(tmp_path / "model")
    assert bool(eqx.tree_equal(again, model))
    # On a GPU the order of sums over edges changes from run to run.
    np.testing.assert_allclose(run(again, batches[0])[0], run(model, batches[0])[0], atol=1e-7)


def test_float64_and_the_certificate(x64):
    graph = random_graph(7, 3)
    graph = eqx.tree_at(
        lambda g: (g.nodes, g.edges), graph,
        (graph.nodes.astype(jnp.float64), graph.edges.astype(jnp.float64)),
    )  # fmt: skip
    solver = KrylovSolver(rtol=1e-12, atol=1e-13)
    options = GraphMapOptions(gamma=0.999, solver=solver, adjoint_solver=solver)
    model = ConvergentGraphSolver(2, 1, 1, heads=3, options=options, key=KEY, **SMALL)
    solve = eqx.filter_jit(lambda graph, y0: model.solve(graph, y0=y0, throw=False))
    solution = solve(graph, jnp.zeros((7, 3), jnp.float64))
    assert solution.value.dtype == jnp.float64
    assert float(solution.stats["error_bound"]) < 1e-9
    assert float(solution.stats["factor"]) < 1
    warm = solve(graph, solution.stats["state"])
    assert int(warm.stats["n_steps"]) <= 1 < int(solution.stats["n_steps"])


@pytest.mark.parametrize("kind", RowNormaliser)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_rows_sum_to_one_at_most_whatever_the_logits(kind, size):
    rng = np.random.default_rng(3)
    logits = jnp.asarray(size * rng.normal(size=(30, 2)), jnp.float32)
    rows, mask = jnp.asarray(rng.integers(0, 9, 30)), jnp.arange(30) < 25
    poison = jnp.where(mask[:, None], logits, jnp.nan)
    entries = np.asarray(contraction_rows(poison, rows, 10, kind=kind, mask=mask))
    sums = np.zeros((10, 2))
    np.add.at(sums, np.asarray(rows), np.abs(entries))
    assert (sums <= 1 + 1e-6).all()
    assert (entries[25:] == 0).all()
    assert np.isfinite(entries).all()


def test_the_direction_of_messages_decides_what_a_node_sees():
    """On a directed chain the first node is seen by the last, or the other way round."""
    n = 8
    nodes = np.zeros((n, 2), np.float32)
    edges = np.ones((n - 1, 1), np.float32)
    graph = Graph.from_arrays(nodes, edges, np.arange(n - 1), np.arange(1, n))

    @eqx.filter_jit
    def run(model, x):
        return model(eqx.tree_at(lambda g: g.nodes, graph, jnp.asarray(x)))[:, 0]

    for direction, first_sees_last in (("TO_RECEIVER", False), ("TO_SENDER", True)):
        options = GraphMapOptions(
            gamma=0.9, factor=FactorKind.FIXED, direction=MessageDirection[direction],
            solver=PicardSolver(rtol=1e-6),
        )  # fmt: skip
        model = ConvergentGraphSolver(2, 1, 1, heads=2, options=options, key=KEY)

        poke = nodes.copy()
        poke[-1 if first_sees_last else 0] = 1.0
        change = np.abs(np.asarray(run(model, poke) - run(model, nodes)))
        seen = change[0] if first_sees_last else change[-1]
        assert seen > 1e-6
        poke = nodes.copy()
        poke[0 if first_sees_last else -1] = 1.0
        change = np.abs(np.asarray(run(model, poke) - run(model, nodes)))
        blind = change[-1] if first_sees_last else change[0]
        assert blind < 1e-6


def test_training_by_the_front_door_lowers_the_loss():
    graph = batch_graphs([random_graph(7, 3), random_graph(5, 9)], pad_nodes=16, pad_edges=48)
    target = jnp.sin(jnp.where(graph.node_mask[:, None], graph.nodes, 0)[:, :1])

    def loss(model, batch, key):
        graph, target = batch
        return jnp.mean(jnp.where(graph.node_mask[:, None], (model(graph) - target) ** 2, 0))

    options = GraphMapOptions(
        gamma=0.9, solver=AndersonSolver(rtol=1e-4), adjoint_solver=AndersonSolver(rtol=1e-4)
    )
    model = ConvergentGraphSolver(2, 1, 1, heads=4, options=options, key=KEY)
    solution = sciml.train.fit(
        model, [(graph, target)], loss=loss, optimizer=optax.adam(1e-2), n_steps=60, key=KEY,
        progress=False, log_every=1,
    )  # fmt: skip
    losses = solution.stats["history"]["loss"][1]
    assert losses[-1] < 0.2 * losses[0]


def test_bad_models_and_graphs_are_named():
    model = MODELS["ours, two solves"]()
    bad = Graph.from_arrays(np.ones((3, 5)), np.ones((2, 1)), [0, 1], [1, 2])
    with pytest.raises(ValueError, match=r"`graph\.nodes` must have 2 channels"):
        model(bad)
    with pytest.raises(ValueError, match=r"gamma` must lie in \[0, 1\)"):
        GraphMapOptions(gamma=1.0)
    with pytest.raises(ValueError, match="solves linear systems"):
        GraphMapOptions(activation=jnp.tanh, solver=KrylovSolver())
    with pytest.raises(ValueError, match="`heads` must be at least 1"):
        ConvergentGraphSolver(2, 1, 1, heads=0, key=KEY)
    graph = random_graph(7, 3)
    broken = eqx.tree_at(lambda g: g.nodes, graph, graph.nodes.at[0, 0].set(jnp.nan))
    with pytest.raises((RuntimeError, ValueError), match=r"non-finite|diverged"):
        model(broken)


def test_absorbing_states_stay_between_the_values_that_nodes_hold():
    options = GraphMapOptions(gamma=0.9999, factor=FactorKind.ABSORBING)
    model = ConvergentGraphSolver(2, 1, 1, heads=3, options=options, key=KEY, **SMALL)
    layer = model.biases[0]
    held = eqx.tree_at(
        lambda m: (m.weight, m.bias), layer, (0 * layer.weight, 0 * layer.bias + 2.0)
    )
    model = eqx.tree_at(lambda m: m.biases[0], model, held)
    state = np.asarray(model.solve(random_graph(60, 3)).stats["state"])
    # All hold 2, so that means of neighbours are 2, but for the bound of the factor.
    assert 1.99 < state.min() <= state.max() <= 2.0 + 1e-5
    others = ConvergentGraphSolver(
        2, 1, 1, heads=3, options=GraphMapOptions(gamma=0.9999), key=KEY, **SMALL
    )
    others = eqx.tree_at(lambda m: m.biases[0], others, held)
    assert np.asarray(others.solve(random_graph(60, 3)).stats["state"]).max() > 4.0


def test_derivatives_of_ignn_are_those_of_finite_differences():
    with jax.enable_x64(True):
        model = ImplicitGraphNetwork(
            2, 1, 1, kappa=0.6, rtol=1e-13, max_steps=400, hidden_channels=4, key=KEY
        )
        model, graph = jax.tree.map(
            lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a,
            (model, jax.tree.map(jnp.asarray, random_graph(8, 3))),
        )
        direction = jnp.sin(jnp.arange(16.0)).reshape(4, 4)

        def scaled(t):
            return eqx.tree_at(lambda m: m.weight, model, 0.2 * model.weight + t * direction)

        def value(t):
            return jnp.sum(scaled(t).solve(graph).value)

        t, step = jnp.asarray(0.01), 1e-4
        first, second = jax.grad(value)(t), jax.grad(jax.grad(value))(t)
        about = [float(value(t + k * step)) for k in (-1, 0, 1)]
        assert float(first) == pytest.approx((about[2] - about[0]) / (2 * step), rel=1e-6)
        expected = (about[2] - 2 * about[1] + about[0]) / step**2
        assert float(second) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert float(jax.jvp(value, (t,), (jnp.ones_like(t),))[1]) == pytest.approx(float(first))


def test_derivatives_of_ignn_on_a_hub_are_finite_in_float32():
    n = 3000
    star = Graph.from_arrays(
        np.ones((n, 2), np.float32), np.ones((2 * n - 2, 1), np.float32),
        np.r_[np.arange(1, n), np.zeros(n - 1, int)], np.r_[np.zeros(n - 1, int), np.arange(1, n)],
    )  # fmt: skip
    model = ImplicitGraphNetwork(2, 1, 1, kappa=0.95, hidden_channels=4, key=KEY)
    gradient = eqx.filter_grad(lambda m: jnp.mean(m(star)))(model)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    assert float(jnp.abs(gradient.weight).max()) > 0
