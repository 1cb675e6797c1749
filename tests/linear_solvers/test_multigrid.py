"""The multigrid cycle: linear, symmetric and definite for all weights, and few iterations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml
from sciml.core import RESULTS
from sciml.linear_solvers._conjugate_gradient import conjugate_gradient
from sciml.linear_solvers._multigrid import MultigridPreconditioner, v_cycle
from sciml.linear_solvers._multigrid_weights import MultigridWeights
from sciml.linear_solvers._nullspace import ConstantNullspace, constant_components
from sciml.numerics import StencilOperator
from sciml.problems import (
    Dirichlet,
    Neumann,
    Periodic,
    anisotropic_problem,
    baffle_problem,
    checkerboard_problem,
    diffusion_operator,
    inclusion_problem,
    obstacle_problem,
)

BOTH = (True, True)
HELD, WALL, WRAP = Dirichlet(), Neumann(), Periodic()
# Sizes are small and the plans explicit, so that there are several levels all the same.
CASES = {
    "line": ((9,), [HELD], ((True,), (True,))),
    "solids": ((11, 10), [HELD, WALL], (BOTH, BOTH)),
    "periodic, odd": ((7, 9), [WRAP, (HELD, WALL)], (BOTH,)),
    "semicoarsened": ((6, 9), [HELD, WALL], ((False, True), BOTH)),
    "box": ((4, 3, 5), [HELD, WALL, WALL], ((True, True, True),)),
}


def _operator(n_points, boundary, seed=71):
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=n_points) > 0.15
    mask.flat[0] = True
    k = jnp.asarray(10.0 ** rng.uniform(-1, 1, n_points))
    return diffusion_operator(n_points, coefficient=k, mask=mask, boundary=boundary)


def _cycle(operator, plan, dtype=jnp.float64):
    return MultigridPreconditioner(operator, MultigridWeights(), plan=plan, dtype=dtype)


@eqx.filter_jit
def _columns(cycle):
    n_points = cycle.operator.n_points
    units = jnp.eye(cycle.operator.diagonal.size, dtype=cycle.dtype).reshape(-1, *n_points)
    return jax.vmap(lambda u: cycle(u).reshape(-1))(units).T


apply = eqx.filter_jit(MultigridPreconditioner.__call__)


@pytest.fixture(scope="module")
def solids():
    """Return the cycle of the second case, in float64."""
    n_points, boundary, plan = CASES["solids"]
    with jax.enable_x64(True):
        return _cycle(_operator(n_points, boundary), plan)


@pytest.mark.parametrize("case", CASES)
def test_symmetric_positive_definite_and_zero_on_solids(case, x64):
    n_points, boundary, plan = CASES[case]
    cycle = _cycle(_operator(n_points, boundary), plan)
    assert len(cycle.hierarchy.levels) == len(plan)
    dense = np.asarray(_columns(cycle))
    active = np.asarray(cycle.operator.active).ravel()
    if len(n_points) > 1:
        assert not active.all()
    assert np.abs(dense - dense.T).max() <= 1e-12 * np.abs(dense).max()
    assert not np.any(dense[~active])
    assert not np.any(dense[:, ~active])
    inner = dense[np.ix_(active, active)]
    assert np.linalg.eigvalsh(inner).min() > 0
    # An approximate inverse: the spectrum of M A lies in (0, 1] but for what `scale` adds.
    matrix = cycle.operator.to_scipy(active_only=True).toarray()
    factor = np.linalg.cholesky(matrix)
    spectrum = np.linalg.eigvalsh(factor.T @ inner @ factor)
    assert spectrum.min() > 0.2
    assert spectrum.max() < 1 + 1e-10


def test_linear(solids, x64):
    rng = np.random.default_rng(5)
    x, y = (jnp.asarray(rng.normal(size=(11, 10))) for _ in range(2))
    together = apply(solids, 2.5 * x - 1e3 * y)
    apart = 2.5 * apply(solids, x) - 1e3 * apply(solids, y)
    assert np.abs(together - apart).max() <= 1e-12 * np.abs(apart).max()
    dense = np.asarray(_columns(solids))
    np.testing.assert_allclose(
        apply(solids, x).reshape(-1), dense @ np.asarray(x).ravel(), atol=1e-12 * dense.max()
    )
    # One operation after another, on a line: there the fewest are compiled.
    n_points, boundary, plan = CASES["line"]
    line, x = _cycle(_operator(n_points, boundary), plan), jnp.asarray(rng.normal(size=n_points))
    eager = np.asarray(line(x))
    np.testing.assert_allclose(apply(line, x), eager, atol=1e-12 * np.abs(eager).max())
    _, derivative = jax.jvp(line, (3 - x**2,), (x,))
    np.testing.assert_allclose(derivative, eager, atol=1e-12 * np.abs(eager).max())


def test_positive_definite_for_all_weights(solids, x64):
    raw = jnp.asarray(np.random.default_rng(6).normal(0, 3, (3, 50, 3)))
    active = np.asarray(solids.operator.active).ravel()

    @jax.jit
    def dense(lower, upper, scale):
        where = lambda w: (w.raw_lower, w.raw_upper, w.raw_scale)  # noqa: E731
        weights = eqx.tree_at(where, solids.weights, (lower, upper, scale))
        units = jnp.eye(110).reshape(-1, 11, 10)
        return jax.vmap(lambda u: v_cycle(solids.hierarchy, weights, u).reshape(-1))(units)

    for lower, upper, scale in zip(*raw, strict=True):
        matrix = np.asarray(dense(lower, upper, scale))
        assert np.abs(matrix - matrix.T).max() <= 1e-12 * np.abs(matrix).max()
        assert np.linalg.eigvalsh(matrix[np.ix_(active, active)]).min() > 0


def test_symmetric_in_float32(solids, x64):
    """Symmetric to rounding of float32, and close to the cycle in float64."""
    single = _cycle(solids.operator, solids.plan, jnp.float32)
    rng = np.random.default_rng(7)
    x, y = (jnp.asarray(rng.normal(size=(11, 10)), jnp.float32) for _ in range(2))
    mx, my = apply(single, x), apply(single, y)
    assert mx.dtype == my.dtype == jnp.float32
    defect = abs(float(jnp.vdot(y, mx) - jnp.vdot(x, my)))
    assert defect <= 1e-5 * float(jnp.linalg.norm(y) * jnp.linalg.norm(mx))
    exact = np.asarray(apply(solids, x.astype(jnp.float64)))
    assert np.abs(np.asarray(mx) - exact).max() <= 1e-4 * np.abs(exact).max()
    # The answer has the dtype of the question.
    assert apply(single, x.astype(jnp.float64)).dtype == jnp.float64


@pytest.mark.parametrize("n_points", [(1,), (3,), (2, 3), (1, 7), (3, 2, 2), (20, 21)])
def test_small_grids_are_solved_directly(n_points, x64):
    operator = diffusion_operator(n_points)
    cycle = MultigridPreconditioner(operator, MultigridWeights(), dtype=jnp.float64)
    assert cycle.plan == ()
    b = np.random.default_rng(8).normal(size=n_points)
    z = np.asarray(apply(cycle, jnp.asarray(b)))
    expected = np.linalg.solve(operator.to_scipy().toarray(), b.ravel())
    np.testing.assert_allclose(z.ravel(), expected, rtol=1e-9)


def test_closed_regions_with_projection(solids, x64):
    """All walls closed: constants of each part are projected out by the solver."""
    rng = np.random.default_rng(9)
    mask = np.ones((11, 10), bool)
    mask[:, 4] = False
    mask[5, 7] = False
    k = jnp.asarray(10.0 ** rng.uniform(-1, 1, (11, 10)))
    operator = diffusion_operator((11, 10), coefficient=k, mask=mask, boundary=WALL)
    labels = constant_components(operator.to_scipy()).reshape(11, 10)
    nullspace = ConstantNullspace(labels)
    assert nullspace.sizes.size == 2
    b = nullspace.project(jnp.asarray(np.where(mask, rng.normal(size=(11, 10)), 0.0)))
    solution = conjugate_gradient(
        operator,
        b,
        preconditioner=_cycle(operator, solids.plan),
        nullspace=nullspace,
        rtol=1e-8,
    )
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_steps"]) <= 15
    for part in (0, 1):
        inside = np.asarray(nullspace.segments) == part
        assert abs(np.asarray(solution.value)[inside].mean()) < 1e-12
    residual = np.linalg.norm(operator.mv(solution.value) - b)
    assert residual <= 1.1e-8 * np.linalg.norm(b)


def _rough_rectangle():
    # Not rougher: a point that is coupled to lumped neighbours alone goes with its own coarse cell,
    # which is another one in the reflected grid.
    k = 10.0 ** np.random.default_rng(10).uniform(-0.3, 0.3, (9, 17))
    return k, np.random.default_rng(11).normal(size=(9, 17))


@pytest.mark.parametrize("axis", [0, 1])
def test_commutes_with_reflections_where_all_sizes_are_odd(axis, x64):
    """There coarse points are mapped to coarse points: 9 x 17, 5 x 9, 3 x 5, without solids."""
    k, r = _rough_rectangle()

    def cycle(k, r):
        operator = diffusion_operator(k.shape, coefficient=jnp.asarray(k), boundary=HELD)
        return np.asarray(apply(_cycle(operator, (BOTH, BOTH)), jnp.asarray(r)))

    reflected = np.flip(cycle(np.flip(k, axis), np.flip(r, axis)), axis)
    straight = cycle(k, r)
    np.testing.assert_allclose(reflected, straight, atol=1e-12 * np.abs(straight).max())


def test_scales_with_the_operator_and_ignores_its_units(solids, x64):
    r = jnp.asarray(np.random.default_rng(12).normal(size=(11, 10)))
    for factor in (2.0**-40, 2.0**40):
        operator = solids.operator
        scaled = StencilOperator(
            operator.diagonal * factor,
            operator.couplings * factor,
            operator.offsets,
            operator.periodic,
        )
        result = apply(_cycle(scaled, solids.plan), r) * factor
        np.testing.assert_allclose(result, apply(solids, r), rtol=1e-12)


def test_the_narrower_range_of_the_cycle_does_not_show(solids, x64):
    operator, plan = solids.operator, solids.plan
    r = jnp.asarray(np.random.default_rng(14).normal(size=(11, 10)))
    expected = apply(_cycle(operator, plan, jnp.float32), r)
    assert np.any(expected)
    for factor in (2.0**-170, 2.0**170):
        scaled = jax.tree.map(lambda entries, factor=factor: factor * entries, operator)
        cycle = _cycle(scaled, plan, jnp.float32)
        np.testing.assert_array_equal(apply(cycle, r) * factor, expected)
        np.testing.assert_array_equal(apply(cycle, r * factor), expected)


def test_under_jit_and_vmap_with_a_plan(solids, x64):
    operator = solids.operator
    r = jnp.asarray(np.random.default_rng(13).normal(size=(11, 10)))

    def cycle(diagonal, couplings, r):
        traced = StencilOperator(diagonal, couplings, operator.offsets, operator.periodic)
        return _cycle(traced, solids.plan)(r)

    factors = jnp.asarray([1.0, 3.0])
    results = jax.jit(jax.vmap(lambda c: cycle(c * operator.diagonal, c * operator.couplings, r)))(
        factors
    )
    expected = apply(solids, r)
    for factor, result in zip(factors, results, strict=True):
        np.testing.assert_allclose(factor * result, expected, atol=1e-12 * np.abs(expected).max())


def test_under_jit_without_a_plan_says_what_to_do(solids):
    @eqx.filter_jit
    def cycle(operator):
        return MultigridPreconditioner(operator, MultigridWeights())

    with pytest.raises(ValueError, match="pass `plan`"):
        cycle(solids.operator)


def test_saved_and_loaded(solids, tmp_path, x64):
    sciml.save(tmp_path / "cycle", solids)
    loaded = sciml.load(tmp_path / "cycle")
    assert eqx.tree_equal(*(jax.tree.map(np.asarray, tree) for tree in (solids, loaded)))
    r = jnp.ones((11, 10))
    np.testing.assert_array_equal(apply(loaded, r), apply(solids, r))


@pytest.mark.parametrize("space", [(10, 11), (110,), (11, 10, 1)])
def test_wrong_shapes_are_refused(solids, space):
    with pytest.raises(ValueError, match=r"\(11, 10\)"):
        solids(jnp.ones(space))


def test_grids_without_fluid_and_bad_arguments_are_refused():
    solid = StencilOperator(jnp.zeros((4, 5)), jnp.zeros((1, 4, 5)), ((1, 0),))
    with pytest.raises(ValueError, match="no cell takes part"):
        MultigridPreconditioner(solid, MultigridWeights())
    operator = diffusion_operator((4, 5))
    for plan in (((True,),), ((False, False),), (BOTH, (True, True, True))):
        with pytest.raises(ValueError, match="each level of `plan`"):
            MultigridPreconditioner(operator, MultigridWeights(), plan=plan)
    with pytest.raises((TypeError, ValueError), match="dtype"):
        MultigridPreconditioner(operator, MultigridWeights(), dtype=jnp.int32)


def test_nan_in_the_operator_is_reported_by_the_solver(solids, x64):
    operator = solids.operator
    broken = StencilOperator(
        operator.diagonal,
        operator.couplings.at[0, 3, 3].set(jnp.nan),
        operator.offsets,
        operator.periodic,
    )
    solution = conjugate_gradient(
        broken, jnp.ones((11, 10)), preconditioner=_cycle(broken, solids.plan)
    )
    assert solution.result == RESULTS.nonfinite_input


KEY = jax.random.key(2024)
PROBLEMS = {
    "obstacles": (lambda n: obstacle_problem(n, key=KEY), 12),
    "baffles": (lambda n: baffle_problem(n, key=KEY), 10),
    "checkerboard, 1:1e4": (lambda n: checkerboard_problem(n, key=KEY), 12),
    "inclusions, 1:1e4": (lambda n: inclusion_problem(n, key=KEY), 12),
    "inclusions, 1:1e-4": (lambda n: inclusion_problem(n, contrast=1e-4, key=KEY), 12),
    "anisotropy 1:100": (lambda n: anisotropic_problem(n, key=KEY), 12),
}


def _iterations(problem):
    """Iterations to 1e-6 of the classical cycle in float32, inside a solve in float64."""
    solution = conjugate_gradient(
        problem.operator,
        problem.right_hand_side,
        preconditioner=MultigridPreconditioner(problem.operator, MultigridWeights()),
        preconditioner_dtype=jnp.float32,
        rtol=1e-6,
        max_steps=100,
    )
    assert solution.result == RESULTS.successful
    return int(solution.stats["num_steps"])


@pytest.mark.parametrize("case", PROBLEMS)
def test_few_iterations_untrained(case, x64):
    make, most = PROBLEMS[case]
    assert _iterations(make((64, 64))) <= most


def test_iterations_hardly_depend_on_the_size(x64):
    make, _ = PROBLEMS["obstacles"]
    assert _iterations(make((160, 128))) <= _iterations(make((64, 64))) + 2
