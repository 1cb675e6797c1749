import jax
import numpy as np
import pytest
import scipy.linalg

from sciml.problems import chain, graph_heat, pore_network, random_mdp


@pytest.mark.parametrize("dim", [2, 3])
def test_pressure_balances_and_keeps_the_maximum_principle(dim):
    network = pore_network(80, key=jax.random.key(3), dim=dim)
    p = network.pressure
    assert network.imbalance(p) < 1e-12
    assert p.min() == 0
    assert p.max() == 1
    assert network.graph.nodes.shape == (80, 2)
    assert len(network.graph.edges) == 2 * len(network.ends)
    line = network.straight_line()
    assert np.array_equal(line[network.is_boundary], p[network.is_boundary])
    assert network.imbalance(line) > 0.01
    # Equal conductances along a fine network: the straight line is close, and closer than 1/2.
    smooth = pore_network(300, key=jax.random.key(3), dim=dim, log_conductance_std=0.0)
    error = np.mean((smooth.straight_line() - smooth.pressure) ** 2)
    assert error < 0.2 * np.mean((0.5 - smooth.pressure) ** 2)


def test_problems_are_functions_of_their_key():
    for make in (
        lambda key: pore_network(30, key=key).pressure,
        lambda key: random_mdp(12, 3, key=key).values,
        lambda key: graph_heat(20, key=key).implicit,
        lambda key: np.asarray(chain(10, 2, 1, key=key).graph.nodes),
    ):
        a, b, c = (make(jax.random.key(seed)) for seed in (3, 3, 5))
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)


def test_values_solve_the_equation_of_dynamic_programming():
    mdp = random_mdp(35, 7, key=jax.random.key(5))
    q = mdp.action_values(mdp.values)
    assert np.abs(q.max(axis=1) - mdp.values).max() < 1e-9
    # Policy iteration finds the same values.
    policy, states = np.zeros(35, int), np.arange(35)
    for _ in range(50):
        matrix = np.eye(35)
        np.add.at(matrix, (states, mdp.successors[states, policy]), -mdp.discount)
        values = np.linalg.solve(matrix, mdp.rewards[states, policy])
        policy = mdp.action_values(values).argmax(axis=1)
    assert np.abs(values - mdp.values).max() < 1e-9
    assert mdp.policy_accuracy(mdp.values) == 1
    assert mdp.immediate_accuracy() < 1
    assert (mdp.successors != states[:, None]).all()
    receivers, senders = np.asarray(mdp.graph.receivers), np.asarray(mdp.graph.senders)
    assert np.array_equal(senders.reshape(35, 7), mdp.successors)
    assert np.array_equal(receivers.reshape(35, 7)[:, 0], states)


def test_heat_agrees_with_the_matrix_exponential():
    heat = graph_heat(25, key=jax.random.key(7), time=0.01)
    g = heat.graph
    w = np.zeros((25, 25))
    np.add.at(w, (np.asarray(g.receivers), np.asarray(g.senders)), np.asarray(g.edges[:, 0]))
    laplacian = np.diag(w.sum(axis=1)) - w
    u0 = np.asarray(g.nodes[:, 0], np.float64)
    exact = scipy.linalg.expm(-0.01 * laplacian) @ u0
    np.testing.assert_allclose(heat.exact, exact, atol=1e-10)
    np.testing.assert_allclose(u0, heat.implicit + 0.01 * laplacian @ heat.implicit, atol=1e-12)
    assert np.abs(heat.implicit - heat.exact).max() < 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda key: pore_network(5, key=key), "`n_nodes` must be at least 16, got 5"),
        (lambda key: pore_network(50, key=key, dim=4), "must be 2 or 3, got 4"),
        (lambda key: random_mdp(1, 3, key=key), "`n_states` must be at least 2"),
        (lambda key: random_mdp(9, 3, key=key, discount=1.0), "between 0 and 1, got 1.0"),
        (lambda key: chain(9, 2, 2, key=key), "0 to 1, got 2"),
        (lambda key: graph_heat(4, key=key), "`n_nodes` must be at least 6"),
        (lambda key: graph_heat(9, key=key, time=0.0), "`time` must be positive"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(jax.random.key(3))
