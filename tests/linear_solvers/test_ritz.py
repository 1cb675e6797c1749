import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse

from sciml.linear_solvers._ritz import ritz_pairs, ritz_rhs
from sciml.numerics import SparseMatrix

KEY = jax.random.key(2027)
RNG = np.random.default_rng(877)
N = 30
ROOT = RNG.standard_normal((N, N - 4))
SINGULAR = ROOT @ ROOT.T  # four zero eigenvalues


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def operator(matrix=SINGULAR):
    return lx.MatrixLinearOperator(jnp.asarray(matrix))


def test_all_pairs_of_a_singular_matrix_without_its_nullspace():
    values, vectors = ritz_pairs(operator(), N, key=KEY)
    assert values.shape == (N - 4,)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(SINGULAR)[4:], rtol=1e-9)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(N - 4), atol=1e-10)
    np.testing.assert_allclose(vectors @ SINGULAR, values[:, None] * vectors, atol=1e-8)


def test_fewer_steps_are_a_projection():
    values, vectors = ritz_pairs(operator(), 12, key=KEY)
    projected = np.asarray(vectors) @ SINGULAR @ np.asarray(vectors).T
    np.testing.assert_allclose(projected, np.diag(values), atol=1e-9)
    np.testing.assert_allclose(values[-1], np.linalg.eigvalsh(SINGULAR)[-1], rtol=1e-2)


def test_repeated_eigenvalues_need_restarts():
    values, vectors = ritz_pairs(operator(np.diag([2.0] * 5 + [7.0] * 3 + [0.0])), 9, key=KEY)
    np.testing.assert_allclose(values, [2.0] * 5 + [7.0] * 3, rtol=1e-12)
    assert np.abs(vectors[:, -1]).max() < 1e-12


def test_right_hand_sides_weigh_low_modes():
    spectrum = np.arange(1.0, 41.0)
    rhs = ritz_rhs(operator(np.diag(spectrum)), 40, 4000, key=KEY)
    np.testing.assert_allclose(np.linalg.norm(rhs, axis=1), 1.0)
    energy = np.mean(np.asarray(rhs) ** 2, axis=0)
    low, high = energy[:22], energy[22:]  # 55 % of 40
    np.testing.assert_allclose(low.mean() / high.mean(), 81.0, rtol=0.1)
    flat = ritz_rhs(operator(np.diag(spectrum)), 40, 4000, low_weight=1.0, key=KEY)
    energy = np.mean(np.asarray(flat) ** 2, axis=0)
    np.testing.assert_allclose(energy[:22].mean() / energy[22:].mean(), 1.0, rtol=0.1)


def test_a_sparse_matrix_and_float32():
    import scipy.sparse

    matrix = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(20, 20))
    rhs = ritz_rhs(SparseMatrix.from_scipy(matrix), 10, 3, key=KEY, dtype=jnp.float32)
    assert rhs.shape == (3, 20)
    assert rhs.dtype == jnp.float32


def test_the_unit_of_the_operator_does_not_matter_in_float32():
    matrix = np.diag([0.0, 1.0, 2.0, 5.0, 5.0])
    for unit in (1e-30, 1e-20, 1e20):
        scaled = operator((unit * matrix).astype(np.float32))
        values, vectors = ritz_pairs(scaled, 5, key=KEY)
        np.testing.assert_allclose(values / unit, [1.0, 2.0, 5.0, 5.0], rtol=1e-5)
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(4), atol=1e-5)


def test_an_operator_of_zeros_has_no_pairs():
    with pytest.raises(ValueError, match="not zero"):
        ritz_rhs(operator(np.zeros((3, 3))), 2, 1, key=KEY)


def test_static_misuse():
    with pytest.raises(ValueError, match="n_vectors"):
        ritz_pairs(operator(), N + 1, key=KEY)
    with pytest.raises(ValueError, match="low_fraction"):
        ritz_rhs(operator(), 5, 2, low_fraction=1.5, key=KEY)
    with pytest.raises(TypeError, match="must have `mv"):
        ritz_pairs(jnp.eye(3), 2, key=KEY)
    hermitian = SparseMatrix.from_scipy(scipy.sparse.csr_array([[2, 1j], [-1j, 3]]))
    with pytest.raises(TypeError, match="`operator` must be real"):
        ritz_pairs(hermitian, 2, key=KEY)
    with pytest.raises(TypeError, match="`dtype` must be real and floating-point, got int"):
        ritz_pairs(operator(), 2, key=KEY, dtype=int)
