import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from sciml.linear_solvers._direction_network import DirectionNetwork
from sciml.linear_solvers._lineax import DeepConjugateDirection, FlexibleCG

RNG = np.random.default_rng(6151)
N = 9
ROOT = RNG.standard_normal((N, N))
MATRIX = ROOT @ ROOT.T + N * np.eye(N)
B = RNG.standard_normal(N)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def curved(r):
    return jnp.tanh(3 * r) + r**2


def solver(kind=DeepConjugateDirection, function=curved, **settings):
    return kind(function, rtol=1e-12, atol=0.0, **settings)


def solve(matrix, b, kind=DeepConjugateDirection, **settings):
    # Symmetrised, so that each entry of the matrix may be varied by itself.
    operator = lx.MatrixLinearOperator((matrix + matrix.T) / 2, lx.positive_semidefinite_tag)
    return lx.linear_solve(operator, b, solver(kind, **settings)).value


@pytest.mark.parametrize("kind", [DeepConjugateDirection, FlexibleCG])
def test_gradient_against_finite_differences_under_jit(kind):
    matrix, b = jnp.asarray(MATRIX), jnp.asarray(B)
    weights = jnp.asarray(RNG.standard_normal(N))
    loss = lambda m, v: jnp.sum(weights * jnp.sin(solve(m, v, kind)))  # noqa: E731
    by_matrix, by_b = jax.jit(jax.grad(loss, (0, 1)))(matrix, b)
    d_matrix, d_b = RNG.standard_normal((N, N)), RNG.standard_normal(N)
    exact = lambda m, v: np.asarray(weights) @ np.sin(np.linalg.solve((m + m.T) / 2, v))  # noqa: E731
    h = 1e-5
    for gradient, slope in (
        ((by_matrix * d_matrix).sum(), [exact(MATRIX + s * h * d_matrix, B) for s in (1, -1)]),
        ((by_b * d_b).sum(), [exact(MATRIX, B + s * h * d_b) for s in (1, -1)]),
    ):
        np.testing.assert_allclose(gradient, (slope[0] - slope[1]) / (2 * h), rtol=1e-6)


def test_jvp_and_vmap():
    matrix, b = jnp.asarray(MATRIX), jnp.asarray(B)
    d_b = jnp.asarray(RNG.standard_normal(N))
    value, tangent = jax.jvp(lambda v: solve(matrix, v), (b,), (d_b,))
    np.testing.assert_allclose(value, np.linalg.solve(MATRIX, B), rtol=1e-9)
    np.testing.assert_allclose(tangent, np.linalg.solve(MATRIX, d_b), rtol=1e-9)
    many = jnp.stack([b, 0 * b, d_b])
    grads = jax.vmap(jax.grad(lambda v: jnp.sum(solve(matrix, v) ** 2)))(many)
    inverse = np.linalg.inv(MATRIX)
    np.testing.assert_allclose(grads, 2 * many @ inverse @ inverse, rtol=1e-8, atol=1e-14)
    assert (grads[1] == 0).all()


def test_vmap_over_operators_with_zero_right_hand_sides_and_cotangents():
    """One batch: an ordinary lane, one with b = 0, one whose cotangent is zero."""
    matrices = np.stack([MATRIX, 2 * MATRIX, MATRIX + np.eye(N)])
    many = np.stack([B, 0 * B, B[::-1]])
    cotangents = np.stack([np.cos(B), np.sin(B), 0 * B])

    @jax.jit
    @jax.vmap
    def pulled(matrix, b, cotangent):
        value, pull = jax.vjp(lambda m, v: solve(m, v, FlexibleCG), matrix, b)
        return value, *pull(cotangent)

    values, by_matrix, by_b = pulled(*map(jnp.asarray, (matrices, many, cotangents)))
    x = np.linalg.solve(matrices, many[..., None])[..., 0]
    z = np.linalg.solve(matrices, cotangents[..., None])[..., 0]
    outer = -(z[:, :, None] * x[:, None, :])
    np.testing.assert_allclose(values, x, rtol=1e-8)
    np.testing.assert_allclose(by_b, z, rtol=1e-8)
    np.testing.assert_allclose(
        by_matrix, (outer + outer.transpose(0, 2, 1)) / 2, rtol=1e-7, atol=1e-12
    )
    assert not np.asarray(values[1]).any()
    assert not np.asarray(by_matrix[1:]).any()
    assert not np.asarray(by_b[2]).any()


def test_complex_hermitian_solve_and_gradients():
    rng = np.random.default_rng(733)
    twist = rng.standard_normal((N, N))
    matrix = MATRIX + 1j * (twist - twist.T)
    matrix = matrix @ matrix.conj().T / N  # definite
    b = B + 1j * rng.standard_normal(N)
    weights = rng.standard_normal(N) + 1j * rng.standard_normal(N)
    method = FlexibleCG(
        lambda r: r / jnp.linspace(1.0, 2.0, N).astype(r.dtype), rtol=1e-12, atol=0.0
    )

    def loss(m, v):
        operator = lx.MatrixLinearOperator((m + m.conj().T) / 2, lx.positive_semidefinite_tag)
        x = lx.linear_solve(operator, v, method).value
        return jnp.sum(jnp.asarray(weights) * x).real, x

    (_, x), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
        jnp.asarray(matrix), jnp.asarray(b)
    )
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=1e-8)
    exact = lambda m, v: (weights @ np.linalg.solve((m + m.conj().T) / 2, v)).real  # noqa: E731
    d_matrix = rng.standard_normal((N, N)) + 1j * rng.standard_normal((N, N))
    d_b, h = rng.standard_normal(N) + 1j * rng.standard_normal(N), 1e-5
    for gradient, d, ends in (
        (gradients[0], d_matrix, [exact(matrix + s * h * d_matrix, b) for s in (1, -1)]),
        (gradients[1], d_b, [exact(matrix, b + s * h * d_b) for s in (1, -1)]),
    ):
        slope = np.sum(np.asarray(gradient) * d).real
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * h), rtol=1e-6)


def test_the_network_gets_no_gradient():
    network = DirectionNetwork(1, n_fine_layers=2, n_coarse_layers=0, key=jax.random.key(3))
    matrix, b = jnp.asarray(MATRIX), jnp.asarray(B)

    def loss(network, b):
        net = eqx.combine(network, static)
        return jnp.sum(solve(matrix, b, function=net) ** 2)

    arrays, static = eqx.partition(network, eqx.is_inexact_array)
    by_network, by_b = jax.grad(loss, (0, 1))(arrays, b)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(by_network))
    inverse = np.linalg.inv(MATRIX)
    np.testing.assert_allclose(by_b, 2 * inverse @ inverse @ B, rtol=1e-8)


@pytest.mark.parametrize("kind", [DeepConjugateDirection, FlexibleCG])
def test_tiny_cotangents_in_float32(kind):
    matrix = jnp.asarray(MATRIX, jnp.float32)
    operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
    method = kind(curved, rtol=1e-5, atol=0.0)
    pull = jax.vjp(
        lambda v: lx.linear_solve(operator, v, method).value, jnp.asarray(B, jnp.float32)
    )[1]
    cotangent = np.asarray(RNG.standard_normal(N), np.float32)
    (tiny,) = pull(jnp.asarray(cotangent * np.float32(1e-25)))
    (plain,) = pull(jnp.asarray(cotangent))
    np.testing.assert_allclose(tiny * np.float32(1e25), plain, rtol=2e-4, atol=1e-6)


def test_a_negative_definite_operator_is_negated():
    operator = lx.MatrixLinearOperator(jnp.asarray(-MATRIX), lx.negative_semidefinite_tag)
    exact = jnp.asarray(np.linalg.solve(-MATRIX, B))
    method = DeepConjugateDirection(curved, rtol=1e-8, atol=0.0)
    steps = []
    for options in ({}, {"y0": exact}):
        solution = lx.linear_solve(operator, jnp.asarray(B), method, options=options)
        np.testing.assert_allclose(solution.value, exact, rtol=1e-7)
        steps.append(int(solution.stats["num_steps"]))
    # The start was the solution, with its right sign.
    assert steps[0] > 0
    assert steps[1] == 0


def test_options_preconditioner():
    operator = lx.MatrixLinearOperator(jnp.asarray(MATRIX), lx.positive_semidefinite_tag)
    inverse = lx.MatrixLinearOperator(jnp.linalg.inv(jnp.asarray(MATRIX)))
    method = FlexibleCG(None, rtol=1e-10, atol=0.0)
    options = {"preconditioner": inverse}
    solution = lx.linear_solve(operator, jnp.asarray(B), method, options=options)
    assert int(solution.stats["num_steps"]) == 1
    gradient = jax.grad(
        lambda v: lx.linear_solve(operator, v, method, options=options).value.sum()
    )(jnp.asarray(B))
    np.testing.assert_allclose(gradient, np.linalg.solve(MATRIX, np.ones(N)), rtol=1e-9)
    with pytest.raises(ValueError, match="acts on"):
        wrong = {"preconditioner": lx.MatrixLinearOperator(jnp.eye(3))}
        lx.linear_solve(operator, jnp.asarray(B), method, options=wrong)


def test_trees_of_arrays():
    diagonal = {"a": jnp.arange(1.0, 4.0), "b": jnp.full((2, 2), 7.0)}
    operator = lx.FunctionLinearOperator(
        lambda x: jax.tree.map(lambda d, v: d * v, diagonal, x),
        jax.eval_shape(lambda: diagonal),
        lx.positive_semidefinite_tag,
    )
    method = DeepConjugateDirection(lambda r: jax.tree.map(jnp.tanh, r), rtol=1e-10, atol=0.0)
    right = jax.tree.map(jnp.ones_like, diagonal)
    value = lx.linear_solve(operator, right, method).value
    for name, entries in diagonal.items():
        np.testing.assert_allclose(value[name], 1 / entries, rtol=1e-8)


def test_failures_have_their_results():
    def result(matrix, b, **settings):
        operator = lx.MatrixLinearOperator(jnp.asarray(matrix), lx.positive_semidefinite_tag)
        method = solver(**settings)
        return lx.linear_solve(operator, jnp.asarray(b), method, throw=False).result

    assert result(MATRIX, B, max_steps=2) == lx.RESULTS.max_steps_reached
    assert result(np.diag([1.0, -9.0, 1.0]), np.ones(3)) == lx.RESULTS.breakdown
    assert result(MATRIX, B * np.nan) == lx.RESULTS.nonfinite_input
    broken = np.where(np.arange(N * N).reshape(N, N) == 12, np.nan, MATRIX)
    assert result(broken, B) == lx.RESULTS.nonfinite_input


def test_static_misuse():
    with pytest.raises(ValueError, match="positive_semidefinite_tag"):
        lx.linear_solve(lx.MatrixLinearOperator(jnp.eye(3)), jnp.ones(3), solver())
    with pytest.raises(ValueError, match="square"):
        solver().init(lx.MatrixLinearOperator(jnp.ones((2, 3))), {})
    with pytest.raises(ValueError, match="rtol"):
        DeepConjugateDirection(curved, rtol=-1.0, atol=0.0)
