import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml
from sciml.core import RESULTS
from sciml.graph_solvers import (
    AndersonSolver,
    AutoSolver,
    DenseSolver,
    KrylovSolver,
    PicardSolver,
    solve_contraction,
    solve_max_contraction,
)

from .conftest import HEADS, N_NODES, dense, random_system

pytestmark = pytest.mark.usefixtures("x64_module")
TIGHT = {"rtol": 1e-12, "atol": 1e-13}
SOLVERS = [
    PicardSolver(**TIGHT), AndersonSolver(**TIGHT), KrylovSolver(**TIGHT), DenseSolver(**TIGHT),
]  # fmt: skip
name_of = lambda s: type(s).__name__  # noqa: E731
# One program instead of many small ones; solvers, factors and flags are part of it.
solve_as_one = eqx.filter_jit(solve_contraction)


def exact_solution(system, gamma):
    """Return the fixed points, found densely by NumPy."""
    matrix, b = dense(system, gamma), np.asarray(system.b)
    return np.stack(
        [np.linalg.solve(np.eye(N_NODES) - matrix[m], b[:, m]) for m in range(HEADS)], axis=1
    )


@pytest.fixture(scope="module")
def system(x64_module):
    return random_system()


@pytest.mark.parametrize("solver", SOLVERS, ids=name_of)
def test_every_solver_finds_the_fixed_point_from_any_start(system, solver):
    exact, b = exact_solution(system, system.gamma), np.asarray(system.b)

    @jax.jit
    @jax.vmap
    def solve(start):
        return solve_contraction(
            system.a, system.b, system.rows, system.columns, gamma=system.gamma, solver=solver,
            y0=start, throw=False,
        )  # fmt: skip

    starts = 100 * jax.random.normal(jax.random.key(17), (5, N_NODES, HEADS), jnp.float64)
    found = solve(starts)
    errors = np.abs(np.asarray(found.value) - exact).max(axis=(1, 2))
    assert (errors < 1e-10).all()
    assert bool(jnp.all(found.result == RESULTS.successful))
    assert (errors <= np.asarray(found.stats["error_bound"]) + 1e-14).all()
    assert (np.asarray(found.value)[:, -1] == b[-1]).all(), "a row without edges is its bias"


def test_picard_converges_at_the_rate_that_is_promised(system):
    exact = exact_solution(system, 0.9)
    for steps in (1, 5, 20):
        found = solve_as_one(
            system.a, system.b, system.rows, system.columns, gamma=0.9,
            solver=PicardSolver(max_steps=steps), throw=False,
        )  # fmt: skip
        error = np.abs(np.asarray(found.value) - exact).max()
        assert error <= 0.9**steps * np.abs(exact).max() * (1 + 1e-12)
        assert found.result == RESULTS.nonlinear_max_steps_reached


def test_a_warm_start_saves_steps(system):
    arguments = (system.a, system.b, system.rows, system.columns)
    settings = {"gamma": 0.9, "solver": SOLVERS[0]}
    cold = solve_as_one(*arguments, **settings, y0=jnp.zeros_like(system.b))
    warm = solve_as_one(*arguments, **settings, y0=cold.value)
    assert int(warm.stats["n_steps"]) <= 2 < int(cold.stats["n_steps"])


@pytest.mark.parametrize("activation", [None, jnp.tanh], ids=["linear", "tanh"])
def test_derivatives_equal_unrolling_and_differences(system, activation):
    rng = np.random.default_rng(23)
    direction = [jnp.asarray(rng.normal(size=x.shape)) for x in (system.a, system.b, system.gamma)]
    target = jnp.asarray(rng.normal(size=system.b.shape))
    # Smaller rows, so that the sum with the direction stays below 1.
    inputs = (0.9 * system.a, system.b, system.gamma)

    def of_solution(inputs):
        a, b, gamma = inputs
        h = solve_contraction(
            a, b, system.rows, system.columns, gamma=gamma, activation=activation,
            solver=SOLVERS[1], adjoint_solver=SOLVERS[0],
        ).value  # fmt: skip
        return jnp.sum(target * jnp.sin(h))

    def unrolled(inputs):
        a, b, gamma = inputs
        phi = (lambda z: z) if activation is None else activation

        def step(h, _):
            wh = jax.ops.segment_sum(
                a * gamma[system.rows] * h[system.columns], system.rows, N_NODES
            )
            return phi(wh + b), None

        h, _ = jax.lax.scan(step, jnp.zeros_like(b), None, 250)
        return jnp.sum(target * jnp.sin(h))

    along = lambda t: [x + t * d for x, d in zip(inputs, direction, strict=True)]  # noqa: E731

    @jax.jit
    def everything(t):
        """One program: value, slopes forwards, backwards and by unrolling, second derivative."""
        value, forward = jax.jvp(lambda t: of_solution(along(t)), (t,), (1.0,))
        _, second = jax.jvp(jax.grad(lambda t: of_solution(along(t))), (t,), (1.0,))
        there = along(t)
        return value, jax.grad(of_solution)(there), jax.grad(unrolled)(there), forward, second

    at_rest, reverse, by_unrolling, forward, second = everything(0.0)
    for ours, theirs in zip(reverse, by_unrolling, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)
    slope = sum(np.vdot(g, d) for g, d in zip(reverse, direction, strict=True))
    value = lambda t: float(everything(t)[0])  # noqa: E731
    step = 1e-5
    difference = (value(step) - value(-step)) / (2 * step)
    assert abs(difference - slope) <= 1e-6 * abs(slope)
    assert abs(float(forward) - slope) <= 1e-9 * abs(slope)
    step = 1e-3
    bend = (value(step) - 2 * float(at_rest) + value(-step)) / step**2
    assert abs(bend - float(second)) <= 1e-4 * abs(bend)


def test_a_batch_under_vmap_has_the_values_and_slopes_of_its_members(system):
    """One member is easy, so that the solver stops at different steps; each is as if alone."""

    def solve(factor, b):
        found = solve_contraction(
            system.a, b, system.rows, system.columns, gamma=factor * system.gamma, throw=False,
            solver=AutoSolver(**TIGHT), adjoint_solver=SOLVERS[0],
        )  # fmt: skip
        return jnp.sum(found.value**2), found

    factors = jnp.asarray([0.2, 1.1])
    bs = jnp.stack([system.b, 3 * system.b[::-1]])
    run = jax.jit(jax.vmap(jax.value_and_grad(solve, argnums=1, has_aux=True)))
    (_, found), slopes = run(factors, bs)
    assert bool(jnp.all(found.result == RESULTS.successful))
    for i, right in enumerate(np.asarray(bs)):
        matrix = np.eye(N_NODES) - dense(system, float(factors[i]) * np.asarray(system.gamma))
        for m in range(HEADS):
            h = np.linalg.solve(matrix[m], right[:, m])
            np.testing.assert_allclose(found.value[i, :, m], h, rtol=1e-9, atol=1e-9)
            slope = np.linalg.solve(matrix[m].T, 2 * h)
            np.testing.assert_allclose(slopes[i, :, m], slope, rtol=1e-9, atol=1e-9)


def test_failures_are_told(system):
    arguments = (system.a, system.b, system.rows, system.columns)
    few = PicardSolver(max_steps=3)
    with pytest.raises(RuntimeError, match="maximum number of steps"):
        solve_as_one(*arguments, gamma=0.9, solver=few)

    @eqx.filter_jit
    @jax.grad
    def slope(b, throw):
        settings = {"gamma": 0.9, "solver": SOLVERS[0], "adjoint_solver": few, "throw": throw}
        return jnp.sum(solve_contraction(system.a, b, *arguments[2:], **settings).value)

    with pytest.raises(RuntimeError, match="did not reach its tolerance"):
        jax.block_until_ready(slope(system.b, True))
    assert np.all(np.isnan(slope(system.b, False)))

    # Values that only the running program knows.
    @jax.jit
    def run(a, gamma, rows):
        return solve_contraction(
            a, system.b, rows, system.columns, gamma=gamma, solver=PicardSolver(), throw=False
        ).result

    assert run(system.a, 0.5, system.rows) == RESULTS.successful
    assert run(system.a, 1.5, system.rows) == RESULTS.not_a_contraction
    assert run(system.a, -0.5, system.rows) == RESULTS.not_a_contraction
    assert run(system.a * jnp.nan, 0.5, system.rows) == RESULTS.nonlinear_divergence
    assert run(system.a, 0.5, system.rows.at[0].set(99)) == RESULTS.index_out_of_range


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"gamma": 1.0}, ValueError, r"lie in \[0, 1\), got 1"),
        ({"gamma": -0.25}, ValueError, "got -0.25"),
        ({"gamma": jnp.ones(5)}, ValueError, r"got \(5, 1\)"),
        ({"a": 3.0}, ValueError, "largest row sum of .* is 2.7"),
        ({"a": jnp.nan}, ValueError, "non-finite"),
        ({"rows": 99}, ValueError, "between 0 and 11, but holds 1"),
        ({"columns": -20}, ValueError, "but holds -20"),
        ({"activation": jnp.tanh, "solver": DenseSolver()}, ValueError, "solves linear systems"),
        ({"solver": DenseSolver(max_nodes=5)}, ValueError, "up to max_nodes = 5 nodes, got 12"),
    ],
)
def test_bad_input_is_named(system, change, error, message):
    given = {"gamma": 0.9} | change
    a = system.a * given.pop("a", 1.0)
    rows = system.rows + given.pop("rows", 0)
    columns = system.columns.at[0].set(given.pop("columns", 0))
    with pytest.raises(error, match=message):
        solve_contraction(a, system.b, rows, columns, **given)


def test_nothing_to_solve_is_fine(system):
    none = jnp.zeros(0, int)
    no_edges = jnp.zeros((0, 2))
    for n, solver in ((0, SOLVERS[3]), (1, SOLVERS[2])):
        b = jnp.arange(2.0 * n).reshape(n, 2)
        found = solve_as_one(no_edges, b, none, none, gamma=0.5, solver=solver)
        np.testing.assert_array_equal(found.value, b)


def test_indices_of_a_byte_and_a_start_of_half_precision():
    """In a byte 300 is 44."""
    rows, columns = jnp.array([100], "int8"), jnp.array([120], "int8")
    b, start = jnp.ones((300, 1)), jnp.zeros((300, 1), "float16")
    found = solve_as_one(jnp.ones((1, 1)), b, rows, columns, gamma=0.5, y0=start)
    assert found.result == RESULTS.successful
    np.testing.assert_allclose(found.value[99:102, 0], [1.0, 1.5, 1.0])


def test_a_directed_cycle_that_defeats_short_krylov_spaces():
    n = 60
    rows = jnp.arange(n)
    b = jnp.zeros((n, 1)).at[0].set(1.0)
    found = solve_as_one(
        jnp.ones((n, 1)), b, rows, (rows - 1) % n, gamma=0.99, solver=KrylovSolver(restart=5)
    )
    exact = 0.99 ** np.arange(n) / (1 - 0.99**n)
    np.testing.assert_allclose(found.value[:, 0], exact, rtol=1e-5)


@pytest.mark.parametrize("solve", [solve_contraction, solve_max_contraction])
def test_slopes_of_a_small_loss(solve):
    """The absolute tolerance is that of the solution, which has another unit."""
    b, ends = jnp.array([[1.0], [0.0]]), (jnp.array([0, 1]), jnp.array([1, 0]))

    def slope(size):
        return jax.grad(lambda a: size * jnp.sum(solve(a, b, *ends, gamma=0.9).value))

    a = jnp.full((2, 1), 0.9)
    np.testing.assert_allclose(slope(1e-14)(a) / 1e-14, slope(1.0)(a), rtol=1e-6)


def test_float32_meets_its_floor_and_says_so():
    system = random_system(dtype=np.float32)
    found = solve_as_one(
        system.a, system.b, system.rows, system.columns, gamma=0.99,
        solver=AutoSolver(rtol=1e-12),
    )  # fmt: skip
    assert found.value.dtype == jnp.float32
    error = np.abs(np.asarray(found.value) - exact_solution(system, 0.99)).max()
    assert error <= float(found.stats["error_bound"]) + 1e-6


@pytest.mark.parametrize("solver", [AndersonSolver(atol=0.0), KrylovSolver(atol=0.0)], ids=name_of)
def test_steps_do_not_depend_on_units(solver):
    """In float32 the squares of 1e-25 and 1e25 are no numbers."""
    system = random_system(dtype=np.float32)

    @jax.jit
    @jax.vmap
    def solve(unit):
        return solve_contraction(
            system.a, unit * system.b, system.rows, system.columns, gamma=0.99, solver=solver
        )

    found = solve(jnp.asarray([1.0, 2.0**-83, 2.0**83], jnp.float32))
    steps = found.stats["n_steps"]
    np.testing.assert_array_equal(steps, steps[0])
    np.testing.assert_allclose(found.value[1] * 2.0**83, found.value[0], rtol=1e-6)
    np.testing.assert_allclose(found.value[2] * 2.0**-83, found.value[0], rtol=1e-6)


def test_citations():
    assert "park2022convergent" in sciml.citation(solve_contraction)
