import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.core import RESULTS
from sciml.graph_solvers import (
    DenseSolver,
    KrylovSolver,
    diffusion_solve,
    solve_contraction,
    solve_max_contraction,
)
from sciml.problems import graph_heat, pore_network, random_mdp

pytestmark = pytest.mark.usefixtures("x64_module")


@pytest.fixture(scope="module")
def network(x64_module):
    return pore_network(60, key=jax.random.key(7))


def _arguments(network):
    return (jnp.asarray(network.ends), jnp.asarray(network.is_boundary),
            jnp.asarray(network.pressure))  # fmt: skip


def test_pressure_is_exact_and_flow_is_conserved(network):
    ends, held, boundary = _arguments(network)
    solve = jax.jit(lambda k: diffusion_solve(k, ends, held, boundary))
    found = solve(jnp.asarray(network.conductance))
    assert np.abs(found.value - network.pressure).max() < 1e-10
    assert float(found.stats["imbalance"]) < 1e-11
    assert abs(float(found.stats["outflow"].sum())) < 1e-9
    assert float(found.stats["outflow"].max()) > 1e-3
    assert float(found.value.min()) >= 0
    assert float(found.value.max()) <= 1


def test_derivatives_in_all_inputs(network):
    ends, held, boundary = _arguments(network)
    rng = np.random.default_rng(3)
    target = jnp.asarray(rng.normal(size=len(boundary)))
    inputs = (jnp.asarray(network.conductance), boundary, jnp.zeros_like(boundary))
    direction = [
        jnp.asarray(x * rng.normal(size=x.shape))
        for x in (network.conductance, np.ones(len(boundary)), np.ones(len(boundary)))
    ]

    def objective(inputs):
        k, g, s = inputs
        found = diffusion_solve(k, ends, held, g, source=s, rtol=1e-14)
        return jnp.sum(target * jnp.sin(found.value)) + jnp.sum(found.stats["outflow"] ** 2)

    along = lambda t: [x + t * d for x, d in zip(inputs, direction, strict=True)]  # noqa: E731

    @jax.jit
    def everything(t):
        """One program: the value and its gradient, and the second derivative."""
        _, second = jax.jvp(jax.grad(lambda t: objective(along(t))), (t,), (1.0,))
        return *jax.value_and_grad(objective)(along(t)), second

    at_rest, gradient, second = everything(0.0)
    value = lambda t: float(everything(t)[0])  # noqa: E731
    slope = sum(np.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
    step = 1e-5
    difference = (value(step) - value(-step)) / (2 * step)
    assert abs(difference - slope) <= 1e-6 * abs(slope)
    step = 1e-3
    bend = (value(step) - 2 * float(at_rest) + value(-step)) / step**2
    assert abs(bend - float(second)) <= 1e-4 * abs(bend)


def test_parallel_links_add_up_and_failures_are_told():
    ends = jnp.array([[0, 1], [1, 0], [1, 2]])
    held, boundary = jnp.array([True, False, True]), jnp.array([1.0, 9.0, 0.0])
    k = jnp.array([1.0, 2.0, 1.0])
    assert float(diffusion_solve(k, ends, held, boundary).value[1]) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="must not be negative, got -2"):
        diffusion_solve(-k, ends, held, boundary)
    with pytest.raises(ValueError, match="but holds 7"):
        diffusion_solve(k, ends.at[0, 0].set(7), held, boundary)
    with pytest.raises(ValueError, match="non-finite"):
        diffusion_solve(k * jnp.nan, ends, held, boundary)
    with pytest.raises(ValueError, match="1 nodes, the first of them 1, are not connected"):
        diffusion_solve(0 * k, ends, held, boundary)


def test_a_maximum_over_edges_gives_optimal_values_and_their_derivatives(x64_module):
    mdp = random_mdp(20, 5, key=jax.random.key(11))
    graph = mdp.graph
    rewards = jnp.asarray(mdp.rewards.reshape(-1, 1))
    rows, columns, none = graph.receivers, graph.senders, jnp.zeros((20, 1))
    direction = jnp.asarray(np.random.default_rng(3).normal(size=rewards.shape))

    @jax.jit
    def run(t, rewards, gamma, columns):
        """Return the value, its slope and the solution: one program for all that follows."""

        def value(t):
            found = solve_max_contraction(
                rewards + t * direction, none, rows, columns, gamma=gamma - t, rtol=1e-13,
                throw=False, adjoint_solver=KrylovSolver(rtol=1e-12),
            )  # fmt: skip
            return jnp.sum(jnp.sin(found.value)), found

        return jax.jvp(value, (t,), (jnp.ones_like(t),), has_aux=True)

    _, slope, found = run(0.0, rewards, 0.9, columns)
    assert np.abs(found.value[:, 0] - mdp.values).max() < 1e-9
    assert float(found.stats["error_bound"]) < 1e-8
    assert found.result == RESULTS.successful
    step = 1e-6
    ahead, behind = (float(run(t, rewards, 0.9, columns)[0]) for t in (step, -step))
    difference = (ahead - behind) / (2 * step)
    assert abs(difference - float(slope)) < 1e-6 * abs(difference)
    with pytest.raises(RuntimeError, match="maximum number of steps"):
        # A start of another dtype is taken in that of the solution.
        eqx.filter_jit(solve_max_contraction)(
            rewards, none, rows, columns, gamma=0.9, max_steps=3, y0=none.astype("float16")
        )
    # Without the annotations, which only the tests check.
    unchecked = inspect.unwrap(solve_max_contraction)
    for name, bad in (("mask", jnp.ones(1, bool)), ("y0", jnp.zeros((3, 1)))):
        with pytest.raises(ValueError, match=f"`{name}`"):
            unchecked(rewards, none, rows, columns, gamma=0.9, **{name: bad})
    # Values that only the running program knows.
    for changed, result in (
        ((rewards.at[3].set(jnp.nan), 0.9, columns), RESULTS.nonlinear_divergence),
        ((rewards, 0.9, columns.at[0].set(99)), RESULTS.index_out_of_range),
        ((rewards, 1.5, columns), RESULTS.not_a_contraction),
    ):
        assert run(0.0, *changed)[2].result == result


def test_single_precision_by_default():
    """On a grid of 30 x 30 no residual of 1e-6 of the right-hand side can be computed."""
    n = 30
    node = np.arange(n * n).reshape(n, n)
    pairs = [(node[:, :-1], node[:, 1:]), (node[:-1], node[1:])]
    ends = jnp.asarray(np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in pairs]))
    held = jnp.asarray((node < n) | (node >= n * n - n)).ravel()
    top = jnp.asarray(node < n, jnp.float32).ravel()
    k = jnp.ones(len(ends), jnp.float32)
    solve = jax.jit(lambda s: diffusion_solve(k, ends, held, s * top))
    exact = np.repeat(np.linspace(1, 0, n), n)
    # Squares of the small one are zero.
    for size in (1.0, 1e-25):
        found = solve(jnp.asarray(size, jnp.float32))
        assert int(found.stats["n_steps"]) < 300
        np.testing.assert_allclose(found.value / np.float32(size), exact, atol=1e-4)
    strict = eqx.filter_jit(diffusion_solve)(k, ends, held, top, rtol=1e-9, throw=False)
    assert strict.result == RESULTS.residual_at_rounding
    assert int(strict.stats["n_steps"]) < 1000
    np.testing.assert_allclose(strict.value, exact, atol=1e-4)


def test_a_source_without_a_link_is_told_at_run_time():
    """Links that only the running program knows cannot be checked before."""
    ends = jnp.array([[0, 1], [1, 2]])
    held, boundary = jnp.array([True, False, False]), jnp.zeros(3)

    def solve(k, source):
        return diffusion_solve(k, ends, held, boundary, source=source, throw=False)

    solve = eqx.filter_jit(solve)
    source = jnp.array([0.0, 0.0, 1.0])
    assert solve(jnp.array([1.0, 0.0]), source).result == RESULTS.isolated_source
    assert solve(jnp.array([1.0, 0.0]), 0 * source).result == RESULTS.successful
    assert solve(jnp.array([1.0, 2.0]), source).result == RESULTS.successful


def test_too_few_steps_are_told(network):
    ends, held, boundary = _arguments(network)
    k = jnp.asarray(network.conductance)
    with pytest.raises(RuntimeError, match="maximum number of steps"):
        eqx.filter_jit(diffusion_solve)(k, ends, held, boundary, max_steps=3)

    def total(k):
        found = diffusion_solve(k, ends, held, boundary, max_steps=3, throw=False)
        return jnp.sum(found.value), found.result

    gradient, result = jax.jit(jax.grad(total, has_aux=True))(k)
    assert result == RESULTS.nonlinear_max_steps_reached
    # A link between two boundary nodes changes nothing.
    inside = ~np.asarray(network.is_boundary)[np.asarray(network.ends)].all(axis=1)
    assert np.isnan(np.asarray(gradient)[inside]).all()


def test_the_contraction_with_true_coefficients_is_the_exact_answer(network):
    """Oracle: pressure, values of a decision process, and an implicit step of heat."""
    tight = {"rtol": 1e-13, "atol": 1e-14}
    solver = KrylovSolver(**tight, max_steps=5_000)
    solve = eqx.filter_jit(solve_contraction)
    i, j = np.asarray(network.ends).T
    rows, columns, k = np.r_[i, j], np.r_[j, i], np.tile(network.conductance, 2)
    total = np.bincount(rows, k, len(network.pressure))
    gamma = np.where(network.is_boundary, 0.0, 1.0)
    found = solve(
        jnp.asarray((k / total[rows])[:, None]),
        jnp.asarray(np.where(network.is_boundary, network.pressure, 0.0)[:, None]),
        jnp.asarray(rows), jnp.asarray(columns), gamma=jnp.asarray(gamma), absorbing=True,
        solver=solver,
    )  # fmt: skip
    assert np.abs(found.value[:, 0] - network.pressure).max() < 1e-10
    assert np.isinf(found.stats["error_bound"])

    solver = DenseSolver(**tight)
    mdp = random_mdp(35, 7, key=jax.random.key(11))
    best = mdp.action_values(mdp.values).argmax(axis=1)
    states = np.arange(35)
    found = solve(
        jnp.ones((35, 1)), jnp.asarray(mdp.rewards[states, best][:, None]), jnp.asarray(states),
        jnp.asarray(mdp.successors[states, best]), gamma=0.9, solver=solver,
    )  # fmt: skip
    assert np.abs(found.value[:, 0] - mdp.values).max() < 1e-8

    heat = graph_heat(40, key=jax.random.key(13), time=2.0)
    graph = heat.graph
    w = np.asarray(graph.edges[:, 0], np.float64)
    total = np.bincount(np.asarray(graph.receivers), w, 40)
    factor = jnp.asarray(2.0 * total / (1 + 2.0 * total))
    found = solve(
        jnp.asarray((w / total[np.asarray(graph.receivers)])[:, None]),
        jnp.asarray(np.asarray(graph.nodes, np.float64) / (1 + 2.0 * total)[:, None]),
        graph.receivers, graph.senders, gamma=factor, solver=solver,
    )  # fmt: skip
    assert np.abs(found.value[:, 0] - heat.implicit).max() < 1e-10
    assert float(found.stats["error_bound"]) < 1e-10
