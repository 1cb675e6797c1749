import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from sciml.core import RESULTS
from sciml.linear_solvers._flexible_cg import flexible_conjugate_gradient

RNG = np.random.default_rng(911)
ROOT = RNG.standard_normal((15, 15))
MATRIX = ROOT @ ROOT.T + np.eye(15)
B = RNG.standard_normal(15)


def curved(r):
    """A preconditioner that depends on the direction of ``r``, not on its size."""
    unit = r / np.linalg.norm(r)
    return unit * (1 + np.abs(unit)) / np.diag(MATRIX)


def polak_ribiere(n_steps):
    """Notay's FCG(1) in its textbook form."""
    x, r = np.zeros_like(B), B.copy()
    z = curved(r)
    p = z
    for _ in range(n_steps):
        image = MATRIX @ p
        alpha = (z @ r) / (p @ image)
        x, r_new = x + alpha * p, r - alpha * image
        z_new = curved(r_new)
        p = z_new + (z_new @ (r_new - r)) / (z @ r) * p
        r, z = r_new, z_new
    return x


def test_memory_one_is_the_polak_ribiere_formula():
    with jax.enable_x64(True):
        operator = lx.MatrixLinearOperator(jnp.asarray(MATRIX))
        diagonal = jnp.asarray(np.diag(MATRIX))
        for n_steps in (1, 4, 9):
            ours = flexible_conjugate_gradient(
                operator,
                jnp.asarray(B),
                preconditioner=lambda r: r * (1 + jnp.abs(r)) / diagonal,
                rtol=0.0,
                max_steps=n_steps,
            )
            np.testing.assert_allclose(ours.value, polak_ribiere(n_steps), rtol=1e-9)


def test_full_memory_with_a_nonlinear_preconditioner_ends_in_n_steps():
    with jax.enable_x64(True):
        solution = flexible_conjugate_gradient(
            lx.MatrixLinearOperator(jnp.asarray(MATRIX)),
            jnp.asarray(B),
            preconditioner=lambda r: jnp.tanh(9 * r) + r**2,
            memory=15,
            rtol=1e-9,
        )
        assert solution.result == RESULTS.successful
        assert int(solution.stats["num_steps"]) <= 15
        np.testing.assert_allclose(solution.value, np.linalg.solve(MATRIX, B), rtol=1e-7)


def test_the_preconditioner_must_be_callable():
    with pytest.raises(TypeError):
        flexible_conjugate_gradient(
            lx.MatrixLinearOperator(jnp.eye(2)),
            jnp.ones(2),
            preconditioner=jnp.eye(2),  # pyright: ignore[reportArgumentType]
        )
