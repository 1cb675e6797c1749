import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sciml
from sciml.core import RESULTS
from sciml.graph_solvers import (
    Aggregation,
    AndersonSolver,
    ConvergentGraphSolver,
    DeepGraphNetwork,
    DenseSolver,
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
    gamma=0.9, factor=FactorKind.ABSORBING, solver=PicardSolver(rtol=1e-5),
    adjoint_solver=PicardSolver(rtol=1e-5),
)  # fmt: skip
MAXIMUM = GraphMapOptions(
    gamma=0.7, aggregation=Aggregation.MAXIMUM, solver=PicardSolver(rtol=1e-5),
    adjoint_solver=PicardSolver(rtol=1e-5),
)  # fmt: skip


def convergent(options, **more):
    """Return a model of few shapes: what draws its weights is compiled once for the file."""
    with jax.enable_x64(False):
        return ConvergentGraphSolver(2, 1, 3, heads=4, options=options, key=KEY, **SMALL, **more)


def implicit(**options):
    with jax.enable_x64(False):
        return ImplicitGraphNetwork(2, 1, 3, key=KEY, **SMALL, **options)


MODELS = {
    "ours, two solves": lambda: convergent(OURS, n_solves=2),
    "published": lambda: convergent(PUBLISHED, readout=Readout.SUM),
    "nonlinear": lambda: convergent(NONLINEAR, readout=Readout.MEAN),
    "maximum": lambda: convergent(MAXIMUM),
    "graph network": lambda: DeepGraphNetwork(
        2, 1, 3, n_layers=2, readout=Readout.SUM, key=KEY, **SMALL
    ),
    "IGNN": lambda: implicit(kappa=0.8),
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


def on_host(tree):
    """Return NumPy's arrays, so that what is done to them is not compiled."""
    return jax.tree.map(np.asarray, tree)


def poisoned(graph):
    """Return the graph with no numbers in its padding."""
    host = on_host(graph)
    return eqx.tree_at(
        lambda g: (g.nodes, g.edges), graph,
        (np.where(host.node_mask[:, None], host.nodes, np.nan),
         np.where(host.edge_mask[:, None], host.edges, np.nan)),
    )  # fmt: skip


def in_float64(tree):
    """Return the tree on the device, its real numbers in double precision."""

    def cast(leaf):
        host = np.asarray(leaf)
        return jax.device_put(host.astype(np.float64) if host.dtype == np.float32 else host)

    return jax.tree.map(cast, tree)


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

    together, slope = on_host(run(model, poisoned(batches[0])))
    alone, _ = on_host(run(model, batches[1]))
    mixed, _ = on_host(run(model, batches[2]))
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
    assert bool(eqx.tree_equal(on_host(again), on_host(model)))
    # On a GPU the order of sums over edges changes from run to run.
    np.testing.assert_allclose(run(again, batches[0])[0], run(model, batches[0])[0], atol=1e-7)


def test_float64_and_the_certificate(x64):
    graph = in_float64(random_graph(7, 3))
    solver = KrylovSolver(rtol=1e-12, atol=1e-13)
    model = convergent(GraphMapOptions(gamma=0.999, solver=solver, adjoint_solver=solver))
    solve = eqx.filter_jit(lambda graph, y0: model.solve(graph, y0=y0, throw=False))
    solution = solve(graph, jnp.zeros((7, 4), jnp.float64))
    assert solution.value.dtype == jnp.float64
    assert float(solution.stats["error_bound"]) < 1e-9
    assert float(solution.stats["factor"]) < 1
    warm = solve(graph, solution.stats["state"])
    assert int(warm.stats["n_steps"]) <= 1 < int(solution.stats["n_steps"])


rows_of = eqx.filter_jit(contraction_rows)


@pytest.mark.parametrize("kind", RowNormaliser)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_rows_sum_to_one_at_most_whatever_the_logits(kind, size):
    rng = np.random.default_rng(3)
    logits = (size * rng.normal(size=(30, 2))).astype(np.float32)
    rows, mask = rng.integers(0, 9, 30), np.arange(30) < 25
    poison = np.where(mask[:, None], logits, np.nan)
    entries = np.asarray(
        rows_of(*map(jnp.asarray, (poison, rows)), 10, kind=kind, mask=jnp.asarray(mask))
    )
    sums = np.zeros((10, 2))
    np.add.at(sums, rows, np.abs(entries))
    assert (sums <= 1 + 1e-6).all()
    assert (entries[25:] == 0).all()
    assert np.isfinite(entries).all()


CHAIN = Graph.from_arrays(
    np.zeros((8, 2), np.float32), np.ones((7, 1), np.float32), np.arange(7), np.arange(1, 8)
)


@eqx.filter_jit
def on_chain(model, nodes):
    """Return the first channel of the prediction on a directed chain with these nodes."""
    return model(eqx.tree_at(lambda g: g.nodes, CHAIN, nodes))[:, 0]


def directed(direction):
    return convergent(
        GraphMapOptions(
            gamma=0.9, factor=FactorKind.FIXED, direction=direction, solver=PicardSolver(rtol=1e-6)
        )
    )


@pytest.mark.parametrize("direction", MessageDirection)
def test_the_direction_of_messages_decides_what_a_node_sees(direction):
    """On a directed chain the first node is seen by the last, or the other way round."""
    model, nodes = directed(direction), np.zeros((8, 2), np.float32)
    straight = np.asarray(on_chain(model, nodes))
    sources = (-1, 0) if direction is MessageDirection.TO_SENDER else (0, -1)
    changes = []
    for source in sources:
        poke = nodes.copy()
        poke[source] = 1.0
        changes.append(np.abs(np.asarray(on_chain(model, poke)) - straight))
    assert changes[0][sources[1]] > 1e-6
    assert changes[1][sources[0]] < 1e-6


def test_training_by_the_front_door_lowers_the_loss():
    graph = batch_graphs([random_graph(7, 3), random_graph(5, 9)], pad_nodes=16, pad_edges=48)
    target = jnp.sin(jnp.where(graph.node_mask[:, None], graph.nodes, 0)[:, :1])

    def loss(model, batch, key):
        graph, target = batch
        return jnp.mean(jnp.where(graph.node_mask[:, None], (model(graph) - target) ** 2, 0))

    options = GraphMapOptions(
        gamma=0.9, solver=PicardSolver(rtol=1e-4), adjoint_solver=PicardSolver(rtol=1e-4)
    )
    solution = sciml.train.fit(
        convergent(options), [(graph, target)], loss=loss, optimizer=optax.adam(1e-2), n_steps=60,
        key=KEY, progress=False, log_every=1,
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
    for setting in ({"rtol": 0.0}, {"rtol": -1.0}, {"kappa": 0.0}):
        with pytest.raises(ValueError, match=f"`{next(iter(setting))}` must"):
            implicit(**setting)
    broken = np.zeros((8, 2), np.float32)
    broken[0, 0] = np.nan
    with pytest.raises(RuntimeError, match="diverged"):
        on_chain(directed(MessageDirection.TO_RECEIVER), broken)


def test_absorbing_states_stay_between_the_values_that_nodes_hold():
    graph = random_graph(60, 3)

    @eqx.filter_jit
    def state_of(model):
        return model.solve(graph).stats["state"]

    def where_all_hold_two(kind):
        model = convergent(GraphMapOptions(gamma=0.9999, factor=kind, solver=DenseSolver(1e-5)))
        layer = model.biases[0]
        held = (0 * np.asarray(layer.weight), 0 * np.asarray(layer.bias) + np.float32(2))
        where = lambda m: (m.biases[0].weight, m.biases[0].bias)  # noqa: E731
        return np.asarray(state_of(eqx.tree_at(where, model, tuple(map(jnp.asarray, held)))))

    state = where_all_hold_two(FactorKind.ABSORBING)
    # All hold 2, so that means of neighbours are 2, but for the bound of the factor.
    assert 1.99 < state.min() <= state.max() <= 2.0 + 1e-5
    assert where_all_hold_two(FactorKind.NODEWISE).max() > 4.0


def test_ignn_takes_as_many_steps_in_any_unit_and_infinities_are_no_solution():
    graph = random_graph(8, 3)

    @eqx.filter_jit
    def solve(weight, bias):
        where = lambda m: (m.bias.weight, m.bias.bias)  # noqa: E731
        return eqx.tree_at(where, model, (weight, bias)).solve(graph, throw=False)

    model = implicit(kappa=0.8)
    weight, bias = model.bias.weight, model.bias.bias
    found, small = (solve(weight * size, bias * size) for size in map(np.float32, (1, 2.0**-20)))
    assert found.result == small.result == RESULTS.successful
    # ReLU lets a power of two through, without rounding.
    assert int(found.stats["n_steps"]) == int(small.stats["n_steps"])
    assert solve(0 * weight, bias + jnp.inf).result == RESULTS.nonlinear_divergence


def test_derivatives_of_ignn_are_those_of_finite_differences(x64):
    model, graph = in_float64((implicit(kappa=0.6, rtol=1e-13, max_steps=400), random_graph(8, 3)))
    direction = jnp.sin(jnp.arange(36.0)).reshape(6, 6)

    def value(t):
        moved = eqx.tree_at(lambda m: m.weight, model, 0.2 * model.weight + t * direction)
        return jnp.sum(moved.solve(graph, throw=False).value)

    @jax.jit
    def everything(t):
        """One program: the value, its slope forwards, and backwards with the second derivative."""
        reverse, second = jax.value_and_grad(jax.grad(value))(t)
        return *jax.jvp(value, (t,), (jnp.ones_like(t),)), reverse, second

    t, step = 0.01, 1e-4
    about = [float(everything(t + k * step)[0]) for k in (-1, 0, 1)]
    _, forward, first, second = map(float, everything(t))
    assert first == pytest.approx((about[2] - about[0]) / (2 * step), rel=1e-6)
    expected = (about[2] - 2 * about[1] + about[0]) / step**2
    assert second == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert forward == pytest.approx(first)


def test_derivatives_of_ignn_on_a_hub_are_finite_in_float32():
    n = 3000
    star = Graph.from_arrays(
        np.ones((n, 2), np.float32), np.ones((2 * n - 2, 1), np.float32),
        np.r_[np.arange(1, n), np.zeros(n - 1, int)], np.r_[np.zeros(n - 1, int), np.arange(1, n)],
    )  # fmt: skip
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.mean(m(star))))(implicit(kappa=0.95))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert np.abs(gradient.weight).max() > 0
