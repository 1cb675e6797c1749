"""The direct solve on the last grid: the inverse, symmetric, and a sign where there is none."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.linear_solvers._coarse_solve import CoarseSolve
from sciml.numerics import StencilOperator
from sciml.problems import Neumann, Periodic, diffusion_operator

_make = eqx.filter_jit(CoarseSolve)
_columns = eqx.filter_jit(lambda solve, units: jax.vmap(solve)(units))


def _dense(solve):
    shape = solve.scale.shape
    units = jnp.eye(solve.scale.size, dtype=solve.scale.dtype).reshape(-1, *shape)
    return np.asarray(_columns(solve, units)).reshape(len(units), -1)


def _with_solid_cells(operator):
    mask = np.ones(operator.n_points)
    mask.ravel()[[3, 4, 20]] = 0
    matrix = operator.to_scipy()
    matrix = matrix.multiply(mask.ravel()[:, None] * mask.ravel()[None, :]).tocsr()
    matrix.eliminate_zeros()
    return StencilOperator.from_scipy(matrix, operator.n_points, operator.periodic)


# One slab, slabs of several planes and a part, slabs of one plane each, one axis.
@pytest.mark.parametrize("shape", [(7, 5), (13, 11), (5, 8, 9), (90,)])
@pytest.mark.parametrize("solid", [False, True])
def test_it_is_the_inverse(x64, shape, solid):
    operator = diffusion_operator(shape)
    if solid:
        operator = _with_solid_cells(operator)
    inverse = _dense(_make(operator))
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-13 * np.abs(inverse).max())
    expected = np.linalg.pinv(operator.to_scipy().toarray(), rcond=1e-12)
    np.testing.assert_allclose(inverse, expected, rtol=1e-10, atol=1e-10 * expected.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("periodic", [False, True])
def test_constants_in_the_nullspace_do_no_harm(x64, dtype, periodic):
    shape = (12, 16)
    operator = diffusion_operator(shape, boundary=[Periodic() if periodic else Neumann()] * 2)
    operator = operator.astype(dtype)
    solve = _make(operator)
    assert bool(solve.is_definite)
    r = np.random.default_rng(5).normal(size=shape).astype(dtype)
    r -= r.mean()
    z = np.asarray(solve(jnp.asarray(r)))
    left = np.asarray(operator.mv(jnp.asarray(z - z.mean()))) - r
    # The large constant part, which is thrown away, leaves two digits in either precision:
    # plenty for one grid of a preconditioner.
    assert np.linalg.norm(left) <= 2e-2 * np.linalg.norm(r)


@pytest.mark.parametrize("shape", [(6, 6), (12, 16)])
def test_an_indefinite_operator_is_told(x64, shape):
    operator = diffusion_operator(shape)
    lowest = np.linalg.eigvalsh(operator.to_scipy().toarray()).min()
    for shift, definite in ((0.99 * lowest, True), (1.01 * lowest, False)):
        shifted = eqx.tree_at(lambda o: o.diagonal, operator, operator.diagonal - shift)
        assert bool(_make(shifted).is_definite) == definite
