import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl

from sciml.core import RESULTS
from sciml.linear_solvers._conjugate_directions import conjugate_directions
from sciml.linear_solvers._nullspace import ConstantNullspace
from sciml.numerics import StencilOperator

N = 24
RNG = np.random.default_rng(7129)
ROOT = RNG.standard_normal((N, N))
MATRIX = ROOT @ ROOT.T + 0.5 * np.eye(N)
B = RNG.standard_normal(N)
WEIGHTS = RNG.standard_normal((2, N, N)) / np.sqrt(N)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


class Dense(eqx.Module):
    matrix: jax.Array

    def mv(self, x):
        return jnp.sum(self.matrix * x[None], axis=1)


class Perceptron(eqx.Module):
    """A direction that is far from linear, and changes enough with ``r`` to make progress."""

    weights: jax.Array

    def __call__(self, r):
        hidden = jnp.tanh(3 * jnp.sum(self.weights[0] * r[None], axis=1))
        return jnp.sum(self.weights[1] * hidden[None], axis=1) + 2 * r


class RoughInverse(eqx.Module):
    """A useful direction: nearly the solution, with a nonlinear error."""

    matrix: jax.Array

    def __call__(self, r):
        return jnp.sum(self.matrix * r[None], axis=1) + 0.01 * jnp.abs(r)


class Affine(eqx.Module):
    """``slope r + constant``: one program for many useless directions."""

    slope: jax.Array
    constant: jax.Array

    def __call__(self, r):
        return self.slope * r + self.constant


def rough_inverse():
    return RoughInverse(jnp.asarray(np.linalg.inv(MATRIX + 0.05 * np.diag(np.diag(MATRIX)))))


def dense(matrix=MATRIX):
    return Dense(jnp.asarray(matrix))


def perceptron():
    return Perceptron(jnp.asarray(WEIGHTS))


def steps_taken(matrix, b, n_steps, **settings):
    """Return the iterates 0, 1, ..., n_steps."""
    limit = {"rtol": 0.0, "atol": 0.0, "recompute_every": n_steps + 1}
    iterates = [
        conjugate_directions(
            dense(matrix), jnp.asarray(b), max_steps=jnp.int32(k), **limit, **settings
        ).value
        for k in range(n_steps + 1)
    ]
    return np.array(iterates)


@pytest.mark.parametrize(("memory", "safeguard"), [(2, False), (3, True), (N, False)])
def test_directions_are_conjugate_to_those_in_memory(memory, safeguard):
    # One that the safeguard keeps: when it drops a direction, the memory is cleared.
    direction = rough_inverse() if safeguard else perceptron()
    iterates = steps_taken(MATRIX, B, 10, direction=direction, memory=memory, safeguard=safeguard)
    p = np.diff(iterates, axis=0)
    gram = p @ MATRIX @ p.T
    gram /= np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    distance = np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
    close = (distance > 0) & (distance <= memory)
    assert np.abs(gram[close]).max() < 1e-10
    if memory < 9 and not safeguard:
        assert np.abs(gram[distance > memory]).max() > 1e-3


def test_full_memory_ends_after_as_many_steps_as_unknowns():
    solution = conjugate_directions(
        dense(),
        jnp.asarray(B),
        direction=perceptron(),
        memory=N,
        safeguard=False,
        rtol=1e-10,
    )
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_steps"]) <= N
    np.testing.assert_allclose(solution.value, np.linalg.solve(MATRIX, B), rtol=1e-8)


@pytest.mark.parametrize("safeguard", [False, True])
def test_the_energy_norm_of_the_error_never_grows(safeguard):
    error = steps_taken(MATRIX, B, 20, direction=perceptron(), safeguard=safeguard)
    error = error - np.linalg.solve(MATRIX, B)
    energy = np.einsum("ki,ij,kj->k", error, MATRIX, error)
    assert (np.diff(energy) <= 1e-12 * energy[0]).all()
    assert energy[-1] < 0.99 * energy[0]


def test_a_safeguarded_step_gains_at_least_what_the_preconditioner_gains():
    exact = np.linalg.solve(MATRIX, B)
    start = exact + RNG.standard_normal(N)
    jacobi = jnp.asarray(1 / np.diag(MATRIX))

    def energy(**settings):
        x = conjugate_directions(
            dense(), jnp.asarray(B), jnp.asarray(start), rtol=0.0, max_steps=1, **settings
        ).value
        return (x - exact) @ MATRIX @ (x - exact)

    plain = energy(preconditioner=lambda r: jacobi * r)
    both = energy(preconditioner=lambda r: jacobi * r, direction=perceptron())
    network = energy(direction=perceptron(), safeguard=False)
    assert both < min(plain, network)


def test_two_candidates_are_combined_at_the_minimum_over_their_span():
    q, z = RNG.standard_normal((2, N))
    x = conjugate_directions(
        dense(),
        jnp.asarray(B),
        direction=lambda r: jnp.asarray(q),
        preconditioner=lambda r: jnp.asarray(z),
        rtol=0.0,
        max_steps=1,
    ).value
    basis = np.stack([q, z], axis=1)
    best = basis @ np.linalg.solve(basis.T @ MATRIX @ basis, basis.T @ B)
    np.testing.assert_allclose(x, best, rtol=1e-10)


@pytest.mark.parametrize("memory", [1, 2])
@pytest.mark.parametrize("with_jacobi", [False, True])
def test_a_linear_preconditioner_gives_the_iterates_of_scipy(memory, with_jacobi):
    inverse = 1 / np.diag(MATRIX) if with_jacobi else np.ones(N)
    for steps in (1, 7, 14):
        theirs, _ = spl.cg(MATRIX, B, rtol=0, maxiter=steps, M=sp.diags_array(inverse))
        settings = {"direction": lambda r: jnp.asarray(inverse) * r, "safeguard": False}
        if memory == 1:
            settings = {"preconditioner": lambda r: jnp.asarray(inverse) * r}
        ours = conjugate_directions(
            dense(), jnp.asarray(B), rtol=0.0, max_steps=steps, memory=memory, **settings
        )
        np.testing.assert_allclose(ours.value, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_scaling_the_right_hand_side_scales_the_solution(scale):
    one, other = (
        conjugate_directions(dense(), jnp.asarray(s * B), direction=perceptron(), rtol=1e-8)
        for s in (1.0, scale)
    )
    assert one.stats["num_steps"] == other.stats["num_steps"]
    np.testing.assert_allclose(other.value / scale, one.value, rtol=1e-9)


@pytest.mark.parametrize("scale", [2.0**-66, 2.0**50])
def test_scaling_in_float32(scale):
    operator = Dense(jnp.asarray(MATRIX, jnp.float32))
    one, other = (
        conjugate_directions(operator, jnp.asarray(s * B, jnp.float32), rtol=1e-3)
        for s in (1.0, scale)
    )
    assert other.value.dtype == jnp.float32
    assert one.stats["num_steps"] == other.stats["num_steps"]
    np.testing.assert_allclose(other.value / np.float32(scale), one.value, rtol=1e-6)


def test_scaling_the_matrix_keeps_the_steps():
    one, other = (
        conjugate_directions(dense(c * MATRIX), jnp.asarray(B), direction=perceptron(), rtol=1e-8)
        for c in (1.0, 2.0**-35)
    )
    assert one.stats["num_steps"] == other.stats["num_steps"]
    # Of the whole vector, for that is what the solve was asked for.
    difference = np.linalg.norm(2.0**-35 * other.value - one.value)
    assert difference <= 1e-8 * np.linalg.norm(one.value)


def test_a_start_beside_which_the_right_hand_side_vanishes_is_left_out():
    operator = Dense(jnp.asarray(MATRIX))
    near = conjugate_directions(operator, jnp.asarray(B), rtol=1e-8)
    b, x0 = jnp.asarray(2.0**-900 * B), jnp.full(B.shape, 1e10)
    far = conjugate_directions(operator, b, x0, rtol=1e-8)
    assert far.result == RESULTS.successful
    np.testing.assert_allclose(far.value / 2.0**-900, near.value, rtol=1e-12)


def test_permuting_unknowns_permutes_the_solution():
    order = RNG.permutation(N)

    def cubic(r):
        return r + r**3

    one = conjugate_directions(dense(), jnp.asarray(B), direction=cubic, rtol=1e-10)
    permuted = dense(MATRIX[np.ix_(order, order)])
    other = conjugate_directions(permuted, jnp.asarray(B[order]), direction=cubic, rtol=1e-10)
    np.testing.assert_allclose(other.value, one.value[order], rtol=1e-8)


def test_a_zero_right_hand_side_takes_no_step():
    x0 = jnp.ones(N)
    solution = conjugate_directions(dense(), jnp.zeros(N), x0, direction=perceptron())
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_steps"]) == 0
    assert (solution.value == 0).all()


def test_an_exact_start_is_returned():
    x0 = jnp.asarray(RNG.standard_normal(N))
    solution = conjugate_directions(dense(), dense().mv(x0), x0, direction=perceptron())
    assert solution.result == RESULTS.successful
    assert int(solution.stats["num_steps"]) == 0
    assert (solution.value == x0).all()


def test_the_identity_takes_one_step():
    for n in (1, 5):
        solution = conjugate_directions(dense(np.eye(n)), jnp.arange(1.0, n + 1), rtol=1e-14)
        assert int(solution.stats["num_steps"]) == 1
        assert solution.result == RESULTS.successful


def test_without_a_tolerance_it_runs_to_round_off():
    solution = conjugate_directions(dense(), jnp.asarray(B), rtol=0.0, direction=perceptron())
    assert solution.result in (RESULTS.stagnation, RESULTS.successful, RESULTS.max_steps_reached)
    assert np.isfinite(solution.value).all()
    np.testing.assert_allclose(solution.value, np.linalg.solve(MATRIX, B), rtol=1e-8)


def test_no_steps_allowed():
    solution = conjugate_directions(dense(), jnp.asarray(B), max_steps=0)
    assert solution.result == RESULTS.max_steps_reached
    assert (solution.value == 0).all()


@pytest.mark.parametrize("safeguard", [True, False])
def test_an_indefinite_operator_is_found_out(safeguard):
    matrix = np.diag(np.where(np.arange(N) == 3, -100.0, 1.0))
    solution = conjugate_directions(
        dense(matrix), jnp.ones(N), direction=lambda r: r + 0.1 * r**2, safeguard=safeguard
    )
    assert solution.result == RESULTS.breakdown
    assert np.isfinite(solution.value).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_input_ends_at_once(bad):
    b = B.copy()
    b[2] = bad
    solution = conjugate_directions(dense(), jnp.asarray(b), direction=perceptron())
    assert solution.result == RESULTS.nonfinite_input
    assert int(solution.stats["num_steps"]) == 0
    matrix = MATRIX.copy()
    matrix[3, 3] = bad
    solution = conjugate_directions(dense(matrix), jnp.asarray(B), direction=perceptron())
    assert solution.result == RESULTS.nonfinite_input
    assert np.isfinite(solution.value).all()


@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_a_preconditioner_of_the_wrong_sign_or_zero_does_no_harm(sign):
    solution = conjugate_directions(
        dense(), jnp.asarray(B), preconditioner=lambda r: sign * r, rtol=1e-8
    )
    plain = conjugate_directions(dense(), jnp.asarray(B), rtol=1e-8)
    assert solution.result == RESULTS.successful
    assert solution.stats["num_steps"] == plain.stats["num_steps"]
    replaced = int(solution.stats["n_replaced"])
    assert replaced == (0 if sign else int(plain.stats["num_steps"]))


@pytest.mark.parametrize(
    ("slope", "constant", "outcome"),
    [
        (0.0, 0.0, RESULTS.stagnation),
        (np.nan, 0.0, RESULTS.nonfinite_input),
        (np.inf, 0.0, RESULTS.nonfinite_input),
        (0.0, 1.0, RESULTS.stagnation),  # equals the last one from the second step on
    ],
)
def test_a_direction_that_is_none(slope, constant, outcome):
    direction = Affine(jnp.asarray(slope), jnp.asarray(constant))
    solve = lambda safeguard: conjugate_directions(  # noqa: E731
        dense(), jnp.asarray(B), direction=direction, safeguard=safeguard, rtol=1e-8
    )
    alone = solve(False)
    assert alone.result == outcome
    assert np.isfinite(alone.value).all()
    safe = solve(True)
    assert safe.result == RESULTS.successful
    assert int(safe.stats["dropped_at"]) > 0
    assert int(safe.stats["direction_calls"]) == int(safe.stats["dropped_at"])
    if not constant:
        assert safe.stats["n_rejected"] == safe.stats["direction_calls"]


def test_a_useful_direction_is_kept_and_saves_steps():
    good = conjugate_directions(dense(), jnp.asarray(B), direction=rough_inverse(), rtol=1e-8)
    plain = conjugate_directions(dense(), jnp.asarray(B), rtol=1e-8)
    assert int(good.stats["dropped_at"]) == -1
    assert int(good.stats["num_steps"]) < 0.7 * int(plain.stats["num_steps"])


def test_float32_does_not_report_more_than_it_can_reach():
    operator = Dense(jnp.asarray(MATRIX, jnp.float32))
    b = jnp.asarray(B, jnp.float32)
    solution = conjugate_directions(operator, b, rtol=1e-12, direction=lambda r: r + r**3)
    assert solution.result == RESULTS.stagnation
    true = np.linalg.norm(B - MATRIX @ np.asarray(solution.value, np.float64))
    assert true < 1e-3 * np.linalg.norm(B)


def test_lanes_of_vmap_do_not_disturb_each_other():
    right = jnp.asarray(np.stack([B, 0 * B, B**2]))
    easy = dense(MATRIX + 20 * np.eye(N))  # steps are counted, so rounding must not decide
    solve = lambda b: conjugate_directions(easy, b, direction=perceptron(), rtol=1e-6)  # noqa: E731
    together = jax.vmap(solve)(right)
    for k, b in enumerate(right):
        alone = solve(b)
        assert together.stats["num_steps"][k] == alone.stats["num_steps"]
        np.testing.assert_allclose(together.value[k], alone.value, rtol=1e-9)
    assert (together.value[1] == 0).all()
    assert int(together.stats["num_steps"][1]) == 0


def test_a_neumann_problem_is_projected():
    n = 8
    along = -np.ones((n, n))
    along[-1] = 0
    diagonal = -(along + along.T + np.roll(along, 1, 0) + np.roll(along, 1, 0).T)
    operator = StencilOperator(
        jnp.asarray(diagonal), jnp.asarray(np.stack([along, along.T])), ((1, 0), (0, 1))
    )
    nullspace = ConstantNullspace(np.zeros((n, n), int))
    b = RNG.standard_normal((n, n))
    settings = {"nullspace": nullspace, "direction": lambda r: jnp.tanh(r) + 1, "rtol": 1e-9}
    good = conjugate_directions(operator, jnp.asarray(b - b.mean()), **settings)
    assert good.result == RESULTS.successful
    assert abs(float(good.value.mean())) < 1e-12
    residual = operator.mv(good.value) - (b - b.mean())
    assert np.linalg.norm(residual) < 2e-9 * np.linalg.norm(b)
    incompatible = conjugate_directions(operator, jnp.asarray(b), **settings)
    assert incompatible.result == RESULTS.stagnation
    np.testing.assert_allclose(
        incompatible.stats["incompatible_norm"], abs(b.mean()) * n, rtol=1e-9
    )
    np.testing.assert_allclose(incompatible.value, good.value, atol=1e-7)


def test_complex_hermitian_with_a_linear_preconditioner():
    root = RNG.standard_normal((N, N)) + 1j * RNG.standard_normal((N, N))
    matrix = root @ root.conj().T + np.eye(N)
    b = B + 1j * B[::-1]
    solution = conjugate_directions(
        dense(matrix), jnp.asarray(b), preconditioner=lambda r: 2 * r, rtol=1e-10, max_steps=500
    )
    assert solution.result == RESULTS.successful
    np.testing.assert_allclose(solution.value, np.linalg.solve(matrix, b), rtol=1e-6)
    with pytest.raises(TypeError, match="real systems"):
        conjugate_directions(dense(matrix), jnp.asarray(b), direction=lambda r: r)


def test_history_and_residuals_on_request():
    solution = conjugate_directions(
        dense(), jnp.asarray(B), rtol=1e-3, n_history=40, n_residuals=40, direction=perceptron()
    )
    steps = int(solution.stats["num_steps"])
    history = np.asarray(solution.stats["residual_history"])
    np.testing.assert_allclose(history[0], np.linalg.norm(B))
    assert np.isfinite(history[: steps + 1]).all()
    assert np.isnan(history[steps + 1 :]).all()
    np.testing.assert_allclose(history[steps], solution.stats["residual_norm"], rtol=1e-6)
    residuals = np.asarray(solution.stats["residuals"])
    np.testing.assert_allclose(np.linalg.norm(residuals[:steps], axis=1), 1.0)
    assert (residuals[steps:] == 0).all()


def test_static_misuse():
    with pytest.raises(ValueError, match="x0"):
        conjugate_directions(dense(), jnp.asarray(B), jnp.ones(3))
    with pytest.raises(ValueError, match="rtol"):
        conjugate_directions(dense(), jnp.asarray(B), rtol=-1.0)
    with pytest.raises(ValueError, match="memory"):
        conjugate_directions(dense(), jnp.asarray(B), memory=-1)
    with pytest.raises(TypeError):
        conjugate_directions(dense(), jnp.arange(N))
