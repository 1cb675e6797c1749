"""The compiled iteration: outcomes, scaling, lanes, mixed precision, nullspace, history."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse

from sciml.core import RESULTS
from sciml.linear_solvers._conjugate_directions import conjugate_directions
from sciml.linear_solvers._conjugate_gradient import conjugate_gradient
from sciml.linear_solvers._nullspace import ConstantNullspace, constant_components
from sciml.numerics import StencilOperator
from sciml.numerics._power_of_two import power_of_two_below
from sciml.numerics._sparse_matrix import SparseMatrix

N_POINTS = (7, 9)


def _matrix(dtype=np.float64):
    lines = [
        scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
        for n in reversed(N_POINTS)
    ]
    return scipy.sparse.kronsum(*lines).tocsr().astype(dtype)


class _Jacobi(eqx.Module):
    scale: jax.Array

    def __call__(self, r):
        return r * self.scale


@pytest.fixture
def b():
    return np.random.default_rng(2210).normal(size=63)


def test_solves_and_tells_the_true_residual(b, x64):
    matrix = _matrix()
    solution = conjugate_gradient(SparseMatrix.from_scipy(matrix), jnp.asarray(b), rtol=1e-9)
    assert solution.result == RESULTS.successful
    residual = np.linalg.norm(b - matrix @ np.asarray(solution.value))
    assert residual <= 1e-9 * np.linalg.norm(b)
    np.testing.assert_allclose(solution.stats["residual_norm"], residual, rtol=1e-3)
    steps = int(solution.stats["num_steps"])
    # One product a step, and one for the true residual at the end.
    assert int(solution.stats["matvecs"]) == steps + 1


def test_grid_shaped_operator_equals_the_matrix(b, x64):
    operator = StencilOperator.from_scipy(_matrix(), N_POINTS)
    on_grid = conjugate_gradient(operator, jnp.asarray(b.reshape(N_POINTS)), rtol=1e-9)
    flat = conjugate_gradient(SparseMatrix.from_scipy(_matrix()), jnp.asarray(b), rtol=1e-9)
    np.testing.assert_allclose(on_grid.value.reshape(-1), flat.value, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_of_the_right_hand_side_changes_nothing(b, dtype, x64):
    operator = SparseMatrix.from_scipy(_matrix(dtype))
    b = b.astype(dtype)
    solve = eqx.filter_jit(lambda b: conjugate_gradient(operator, b, rtol=1e-5))
    reference = solve(jnp.asarray(b))
    scales = (1e-30, 1e-25, 1e30) if dtype == np.float64 else (1e-30, 1e-20, 1e15)
    for scale in scales:
        # Powers of two scale without rounding, so that the answers must agree to the bit.
        scale = dtype(2.0 ** round(np.log2(scale)))
        solution = solve(jnp.asarray(b * scale))
        assert solution.result == RESULTS.successful
        assert int(solution.stats["num_steps"]) == int(reference.stats["num_steps"])
        np.testing.assert_array_equal(solution.value / scale, reference.value)


def test_scale_of_the_operator_changes_no_step_count(b, x64):
    operator = SparseMatrix.from_scipy(_matrix())
    counts = {
        int(
            conjugate_gradient(
                operator.with_data(operator.data * factor), jnp.asarray(b), rtol=1e-8
            ).stats["num_steps"]
        )
        for factor in (1.0, 1e-30, 1e25)
    }
    assert len(counts) == 1


def test_lanes_freeze_on_their_own(b, x64):
    operator = SparseMatrix.from_scipy(_matrix())

    def solve(b):
        return conjugate_gradient(operator, b, rtol=1e-8)

    smooth = np.ones(63)
    batch = jnp.asarray(np.stack([b, np.zeros(63), smooth, 1e-20 * b]))
    together = jax.vmap(solve)(batch)
    alone = [solve(lane) for lane in batch]
    counts = [int(s.stats["num_steps"]) for s in alone]
    assert together.stats["num_steps"].tolist() == counts
    assert counts[1] == 0
    assert counts[2] < counts[0]
    assert not np.any(together.value[1])
    assert np.all(np.asarray(together.result == RESULTS.successful))
    for lane, one in zip(together.value, alone, strict=True):
        np.testing.assert_allclose(lane, one.value, rtol=1e-10, atol=1e-30)


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (lambda a, b: (-a, b), RESULTS.breakdown),
        (lambda a, b: (a * np.nan, b), RESULTS.nonfinite_input),
        (lambda a, b: (a, b * np.inf), RESULTS.nonfinite_input),
        (lambda a, b: (a, np.where(b == b[3], np.nan, b)), RESULTS.nonfinite_input),
    ],
    ids=["negative definite", "NaN in A", "infinite b", "NaN in b"],
)
def test_failures_at_once(change, result, b, x64):
    matrix, b = change(_matrix(), b)
    solution = conjugate_gradient(SparseMatrix.from_scipy(matrix), jnp.asarray(b))
    assert solution.result == result
    assert int(solution.stats["num_steps"]) == 0
    assert not np.any(solution.value)


def test_indefinite_operator_keeps_the_last_good_iterate(b, x64):
    matrix = _matrix() - scipy.sparse.diags_array(np.where(np.arange(63) == 30, 9.0, 0))
    solution = conjugate_gradient(SparseMatrix.from_scipy(matrix), jnp.asarray(b), rtol=1e-9)
    assert solution.result == RESULTS.breakdown
    residual = np.linalg.norm(b - matrix @ np.asarray(solution.value))
    np.testing.assert_allclose(solution.stats["residual_norm"], residual, rtol=1e-9)


@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_bad_preconditioner_is_a_breakdown(sign, b, x64):
    solution = conjugate_gradient(
        SparseMatrix.from_scipy(_matrix()),
        jnp.asarray(b),
        preconditioner=_Jacobi(jnp.full(63, sign)),
    )
    assert solution.result == RESULTS.breakdown


def test_no_false_success_in_float32(b):
    matrix = _matrix(np.float32)
    b = b.astype(np.float32)
    solution = conjugate_gradient(SparseMatrix.from_scipy(matrix), jnp.asarray(b), rtol=1e-10)
    assert solution.result == RESULTS.stagnation
    true = np.linalg.norm(b - matrix.astype(float) @ np.asarray(solution.value, float))
    attained = float(solution.stats["residual_norm"])
    assert attained < 1e-5 * np.linalg.norm(b)
    assert 0.2 * true < attained < 5 * true
    # The recursion alone would have claimed success long before the limit.
    assert int(solution.stats["num_steps"]) < 300


def test_a_lie_of_the_recursion_is_found_and_mended(x64):
    # A start far off leaves an error of eps |A| |x0| in the recursive residual.
    matrix = _matrix()
    exact = np.random.default_rng(77).normal(size=63)
    x0 = exact + 1e9 * np.sin(np.arange(63.0))
    b = matrix @ exact
    solution = conjugate_gradient(
        SparseMatrix.from_scipy(matrix), jnp.asarray(b), jnp.asarray(x0), rtol=1e-10
    )
    assert solution.result == RESULTS.successful
    assert np.linalg.norm(b - matrix @ np.asarray(solution.value)) <= 1e-10 * np.linalg.norm(b)
    # More true residuals than the one at the end.
    assert int(solution.stats["matvecs"]) > int(solution.stats["num_steps"]) + 3


def test_float32_preconditioner_costs_no_steps(b, x64):
    matrix = _matrix() + scipy.sparse.diags_array(np.linspace(0, 300, 63))
    operator = SparseMatrix.from_scipy(matrix)
    scale = jnp.asarray(1 / matrix.diagonal())
    double = conjugate_gradient(operator, jnp.asarray(b), preconditioner=_Jacobi(scale), rtol=1e-11)
    mixed = conjugate_gradient(
        operator,
        jnp.asarray(b * 1e-60),
        preconditioner=_Jacobi(scale.astype(jnp.float32)),
        preconditioner_dtype=jnp.float32,
        rtol=1e-11,
    )
    assert mixed.result == RESULTS.successful
    assert mixed.value.dtype == np.float64
    assert int(mixed.stats["num_steps"]) <= int(double.stats["num_steps"]) + 1


def test_history_starts_at_b_and_ends_at_the_last_step(b, x64):
    solution = conjugate_gradient(
        SparseMatrix.from_scipy(_matrix()), jnp.asarray(b), rtol=1e-6, n_history=100
    )
    history = np.asarray(solution.stats["residual_history"])
    steps = int(solution.stats["num_steps"])
    assert history[0] == pytest.approx(np.linalg.norm(b))
    assert np.isfinite(history[: steps + 1]).all()
    assert np.isnan(history[steps + 1 :]).all()
    assert history[steps] <= 1e-6 * history[0] < history[steps - 1]


def test_periodic_true_residuals_change_nothing(b, x64):
    operator = SparseMatrix.from_scipy(_matrix())
    often = conjugate_gradient(operator, jnp.asarray(b), rtol=1e-9, recompute_every=3)
    seldom = conjugate_gradient(operator, jnp.asarray(b), rtol=1e-9)
    assert int(often.stats["num_steps"]) == int(seldom.stats["num_steps"])
    assert int(often.stats["matvecs"]) > int(seldom.stats["matvecs"])
    np.testing.assert_allclose(often.value, seldom.value, rtol=1e-7)


def _neumann(shape):
    lines = []
    for n in reversed(shape):
        line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
        line = line.tolil()
        line[0, 0] = line[-1, -1] = 1.0
        lines.append(line)
    return scipy.sparse.kronsum(*lines).tocsr()


def test_nullspace_of_components_and_solid_cells(x64):
    solid = scipy.sparse.csr_array((2, 2))
    dirichlet = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(5, 5))
    matrix = scipy.sparse.block_diag([_neumann((4, 5)), solid, _neumann((3, 3)), dirichlet])
    matrix = matrix.tocsr()
    labels = constant_components(matrix)
    groups = [set(labels[:20]), set(labels[20:21]), set(labels[21:22]), set(labels[22:31])]
    assert [len(group) for group in groups] == [1, 1, 1, 1]
    assert len(set.union(*groups)) == 4
    assert set(labels[31:]) == {-1}

    nullspace = ConstantNullspace(labels)
    rng = np.random.default_rng(14)
    b = matrix @ rng.normal(size=36)
    solution = conjugate_gradient(
        SparseMatrix.from_scipy(matrix), jnp.asarray(b), rtol=1e-9, nullspace=nullspace
    )
    assert solution.result == RESULTS.successful
    x = np.asarray(solution.value)
    np.testing.assert_allclose(matrix @ x, b, atol=1e-7)
    assert abs(x[:20].mean()) < 1e-14
    assert abs(x[22:31].mean()) < 1e-14
    assert not x[20:22].any()

    u = rng.normal(size=36)
    projected = np.asarray(nullspace.project(jnp.asarray(u)))
    np.testing.assert_allclose(nullspace.project_on_host(u), projected, atol=1e-15)
    np.testing.assert_array_equal(projected[31:], u[31:])
    np.testing.assert_allclose(projected[:20], u[:20] - u[:20].mean(), atol=1e-15)


def test_part_in_the_nullspace_is_no_success(x64):
    matrix = _neumann((4, 5))
    b = np.random.default_rng(15).normal(size=20)
    solution = conjugate_gradient(
        SparseMatrix.from_scipy(matrix),
        jnp.asarray(b),
        nullspace=ConstantNullspace(np.zeros(20, int)),
    )
    assert solution.result == RESULTS.stagnation
    part = abs(b.mean()) * np.sqrt(20)
    np.testing.assert_allclose(solution.stats["incompatible_norm"], part, rtol=1e-9)
    residual = np.linalg.norm(b - matrix @ np.asarray(solution.value))
    np.testing.assert_allclose(solution.stats["residual_norm"], residual, rtol=1e-6)


def test_components_look_through_stored_zeros():
    matrix = scipy.sparse.block_diag([_neumann((2, 2)), scipy.sparse.eye_array(2)]).tocsr()
    matrix = matrix.tolil().tocsr()
    with_zero = scipy.sparse.coo_array(
        (np.append(matrix.data, [0.0, 0.0]), _with_edge(matrix)), shape=(6, 6)
    )
    assert constant_components(with_zero).tolist()[4:] == [-1, -1]
    assert (constant_components(with_zero)[:4] >= 0).all()


def _with_edge(matrix):
    rows, columns = matrix.tocoo().coords
    return np.append(rows, [0, 5]), np.append(columns, [5, 0])


@pytest.mark.parametrize("size", [1.0, 0.7, 3.0, 1e-300, 1e300, 2.0**-1022])
def test_power_of_two(size, x64):
    scale = float(power_of_two_below(jnp.asarray(size)))
    assert np.log2(scale) == round(np.log2(scale))
    assert 1 <= size / scale < 2 or size < 1e-300
    assert np.isfinite(1 / scale)


@pytest.mark.parametrize("size", [0.0, np.inf, np.nan])
def test_power_of_two_of_no_number(size, x64):
    assert float(power_of_two_below(jnp.asarray(size))) == 1


def test_static_misuse():
    operator, b = SparseMatrix.from_scipy(_matrix()), jnp.ones(63)
    with pytest.raises(ValueError, match="rtol"):
        conjugate_gradient(operator, b, rtol=-1.0)
    with pytest.raises(ValueError, match="`x0`"):
        conjugate_gradient(operator, b, jnp.ones(62))
    with pytest.raises(ValueError, match="nullspace"):
        conjugate_gradient(operator, b, nullspace=ConstantNullspace(np.zeros(5, int)))
    with pytest.raises(ValueError, match="max_steps"):
        conjugate_gradient(operator, b, max_steps=-1)


def test_a_limit_beyond_the_range_of_integers():
    b = jnp.ones(4)
    operator = lx.DiagonalLinearOperator(jnp.ones(4))
    for solve in (conjugate_gradient, conjugate_directions):
        assert solve(operator, b, max_steps=3_000_000_000).result == RESULTS.successful
        with pytest.raises(TypeError, match="max_steps"):
            solve(operator, b, max_steps=3e9)


def test_an_operator_without_products_of_the_right_shape_is_named():
    with pytest.raises(TypeError, match=r"`operator` must have `mv\(x\)`.* got ndarray"):
        conjugate_gradient(np.eye(3), jnp.ones(3))

    class Short:
        def mv(self, x):
            return x[:-1]

    with pytest.raises(ValueError, match=r"shape of `b`, \(3,\); got \(2,\)"):
        conjugate_gradient(Short(), jnp.ones(3))
