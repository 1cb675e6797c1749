"""Constants in the nullspace: which matrices have them, and derivatives of solves that do."""

import warnings

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse

from sciml.linear_solvers import (
    ConstantNullspace,
    DeepConjugateDirection,
    FlexibleCG,
    cg,
)
from sciml.linear_solvers._nullspace import (
    constant_components,
    constant_components_on_grid,
    constants_vanish,
)
from sciml.numerics import StencilOperator

N = 6


def neumann(n, dtype=float):
    main = np.full(n, 2.0)
    main[[0, -1]] = 1
    diagonals = [main, -np.ones(n - 1), -np.ones(n - 1)]
    return scipy.sparse.diags_array(diagonals, offsets=[0, 1, -1], dtype=dtype).tocsr()


@pytest.mark.parametrize("labels", [[3, -1, 3, 0, 0, 7], [10**9, -1, 5, 5, 10**9, 0], [-1] * 6])
def test_any_labels_will_do(x64, labels):
    labels = np.array(labels)
    nullspace = ConstantNullspace(labels)
    u = np.arange(6.0) ** 2
    expected = u.copy()
    for label in set(labels.tolist()) - {-1}:
        expected[labels == label] -= u[labels == label].mean()
    np.testing.assert_allclose(nullspace.project(jnp.asarray(u)), expected, atol=1e-14)


def test_a_small_shift_in_single_precision_is_no_rounding():
    singular = (1e6 * neumann(20)).astype(np.float32)
    assert np.all(constant_components(singular) == 0)
    # An implicit step with a large coefficient is definite.
    shifted = (1e6 * neumann(20) + scipy.sparse.eye_array(20)).astype(np.float32).tocsr()
    assert constant_components(shifted) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, info = cg(shifted, np.ones(20, np.float32), rtol=1e-4)
    assert info == 0
    np.testing.assert_allclose(x, 1, rtol=1e-3)


@pytest.mark.parametrize("kind", [FlexibleCG, DeepConjugateDirection])
def test_derivatives_of_a_singular_solve_are_those_of_the_pseudo_inverse(x64, kind):
    L = neumann(N).toarray()
    weights = jnp.asarray(np.random.default_rng(8).normal(size=N))
    solver = kind(jnp.tanh, 1e-11, 0.0, nullspace=ConstantNullspace(np.zeros(N, int)))

    @jax.jit
    def loss(coefficient, b):
        matrix = coefficient * jnp.asarray(L)
        operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
        solution = lx.linear_solve(operator, b, solver)
        return weights @ solution.value, solution.stats["incompatible_norm"]

    inverse = np.linalg.pinv(L)
    b = jnp.asarray(np.linspace(-1, 2, N))
    for rhs, removed in ((b, 0.5 * N**0.5), (b - b.mean(), 0.0)):
        (value, norm), gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)(2.0, rhs)
        np.testing.assert_allclose(value, weights @ inverse @ rhs / 2, rtol=1e-9)
        np.testing.assert_allclose(norm, removed, atol=1e-12)
        np.testing.assert_allclose(gradient[0], -weights @ inverse @ rhs / 4, rtol=1e-9)
        np.testing.assert_allclose(gradient[1], inverse @ weights / 2, rtol=1e-9, atol=1e-12)
    # The tangent, and all of it for several right-hand sides at once.
    many = jnp.stack([b, -b, b**2])
    slope = lambda rhs: jax.jvp(lambda v: loss(2.0, v)[0], (rhs,), (jnp.ones(N) + rhs,))[1]  # noqa: E731
    np.testing.assert_allclose(jax.vmap(slope)(many), many @ inverse @ weights / 2, rtol=1e-8)


def _random_walls(shape, seed, *, held=False, wall=0.3):
    """Return a five-point operator among solid cells, and the same as a matrix."""
    rng = np.random.default_rng(seed)
    active = rng.random(shape) > wall
    diagonal = np.zeros(shape)
    couplings = np.zeros((len(shape), *shape))
    for axis in range(len(shape)):
        entries = np.moveaxis(couplings[axis], axis, 0)
        inside, total = (np.moveaxis(part, axis, 0) for part in (active, diagonal))
        entries[:-1] = (inside[:-1] & inside[1:]) * rng.uniform(-2, -0.5, entries[1:].shape)
        total[:-1] -= entries[:-1]
        total[1:] -= entries[:-1]
    if held:
        diagonal[np.unravel_index(np.argmax(active), shape)] += 1
    with jax.enable_x64(True):
        operator = StencilOperator(
            jnp.asarray(diagonal), jnp.asarray(couplings), np.eye(len(shape), dtype=int).tolist()
        )
    return operator, operator.to_scipy()


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("shape", [(9, 11), (4, 5, 6), (30,)])
def test_components_of_a_grid_are_those_of_its_matrix(shape, held):
    for seed in range(8):
        operator, matrix = _random_walls(shape, seed, held=held)
        found = constant_components_on_grid(operator)
        expected = constant_components(matrix)
        assert found is not None
        assert expected is not None
        assert found.shape == shape
        found = found.ravel()
        np.testing.assert_array_equal(found < 0, expected < 0)
        assert held == bool((found < 0).any())
        # The same partition, whatever the numbers.
        pairs = set(zip(found.tolist(), expected.tolist(), strict=True))
        assert len(pairs) == len(set(found)) == len(set(expected))


def test_components_that_a_picture_would_join():
    operator, _ = _random_walls((6, 8), 0, wall=0.0)
    couplings = np.array(operator.couplings)
    diagonal = np.array(operator.diagonal)
    cut = couplings[0, 2].copy()
    couplings[0, 2] = 0
    diagonal[2] += cut
    diagonal[3] += cut
    diagonal[0, 0] += 1
    with jax.enable_x64(True):
        operator = StencilOperator(jnp.asarray(diagonal), jnp.asarray(couplings), operator.offsets)
    labels = constant_components_on_grid(operator)
    assert labels is not None
    assert (labels[:3] == -1).all()
    assert (labels[3:] >= 0).all()
    matrix = operator.to_scipy()
    np.testing.assert_array_equal(constant_components_on_grid(operator, matrix), labels)


def test_an_implicit_step_in_single_precision_is_not_singular():
    """Rows of ``I - Laplacian`` sum to one, which is a rounding of their largest entry."""
    n = 512
    size = 4.0 * n**2
    assert not constants_vanish(np.ones(n, np.float32), size)
    rounding = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    assert constants_vanish(rounding * size * np.finfo(np.float32).eps, size)
