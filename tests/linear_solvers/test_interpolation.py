"""Operator-dependent interpolation: constants, jumps, walls, solid cells, and its transpose."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from sciml.linear_solvers._interpolation import (
    Interpolation,
    coarse_points,
    operator_dependent_interpolation,
)
from sciml.numerics import StencilOperator
from sciml.problems import Dirichlet, Neumann, Periodic, diffusion_operator

build = eqx.filter_jit(operator_dependent_interpolation)
prolong = eqx.filter_jit(Interpolation.prolong)
restrict = eqx.filter_jit(Interpolation.restrict)


@eqx.filter_jit
def _columns(apply, interpolation, n_points):
    size = int(np.prod(n_points))
    units = jnp.eye(size).reshape(size, *n_points)
    return jax.vmap(lambda u: apply(interpolation, u).reshape(-1))(units).T


def _dense(interpolation):
    """Return prolongation and restriction as matrices."""
    fine = interpolation.n_points
    coarse = coarse_points(fine, interpolation.coarsened)
    up = np.asarray(_columns(Interpolation.prolong, interpolation, coarse))
    down = np.asarray(_columns(Interpolation.restrict, interpolation, fine))
    return up, down


def _rough(n_points, seed=21):
    """A coefficient with jumps over several orders of magnitude."""
    return jnp.asarray(10.0 ** np.random.default_rng(seed).uniform(-2, 2, n_points))


GRIDS = [
    ((8,), (True,)),
    ((9,), (True,)),
    ((2,), (True,)),
    ((8, 8), (True, True)),
    ((7, 6), (True, True)),
    ((6, 9), (False, True)),
    ((1, 7), (False, True)),
    ((3, 4, 5), (True, True, True)),
]


@pytest.mark.parametrize(("n_points", "coarsened"), GRIDS)
def test_constants_of_a_neumann_region_and_the_transpose(n_points, coarsened, x64):
    operator = diffusion_operator(n_points, coefficient=_rough(n_points), boundary=Neumann())
    interpolation = build(operator, coarsened)
    coarse = coarse_points(n_points, coarsened)
    np.testing.assert_allclose(prolong(interpolation, jnp.ones(coarse)), 1.0, rtol=1e-12)
    up, down = _dense(interpolation)
    assert up.shape == (np.prod(n_points), np.prod(coarse))
    np.testing.assert_allclose(down, up.T, rtol=1e-12, atol=0)
    # Coarse points keep their own value; weights are averages.
    even = np.zeros(n_points, bool)
    even[tuple(slice(None, None, 2) if c else slice(None) for c in coarsened)] = True
    np.testing.assert_array_equal(up[even.ravel()], np.eye(up.shape[1]))
    assert up.min() >= 0


@pytest.mark.parametrize(
    ("n_points", "periodic"), [((6, 9), (True, False)), ((7, 6), (True, True))]
)
def test_periodic_axes_of_any_parity(n_points, periodic, x64):
    boundary = [Periodic() if wraps else Neumann() for wraps in periodic]
    operator = diffusion_operator(n_points, coefficient=_rough(n_points), boundary=boundary)
    interpolation = build(operator, (True, True))
    coarse = coarse_points(n_points, (True, True))
    np.testing.assert_allclose(prolong(interpolation, jnp.ones(coarse)), 1.0, rtol=1e-12)
    up, down = _dense(interpolation)
    np.testing.assert_allclose(down, up.T, rtol=1e-12, atol=0)
    if n_points[0] % 2 == 0:
        # The last row lies between the last coarse row and the first.
        by_row = up.reshape(*n_points, *coarse).sum(axis=(1, 3))
        assert np.flatnonzero(by_row[-1]).tolist() == [0, coarse[0] - 1]


@pytest.mark.parametrize("n", [8, 9])
@pytest.mark.parametrize("boundary", [Dirichlet(), Neumann(), Periodic()], ids=repr)
def test_exact_in_one_dimension(n, boundary, x64):
    """Between two coarse points it solves the two-point problem, whatever the coefficient does."""
    operator = diffusion_operator((n,), coefficient=_rough((n,)), boundary=boundary)
    up, _ = _dense(build(operator, (True,)))
    matrix = operator.to_scipy().toarray()
    product = matrix @ up
    scale = np.abs(matrix).max(axis=1)
    assert np.abs(product[1::2] / scale[1::2, None]).max() < 1e-13
    # So the coarse matrix is the Schur complement, and the coarse problem is solved exactly.
    odd = matrix[1::2, 1::2]
    schur = matrix[::2, ::2] - matrix[::2, 1::2] @ np.linalg.solve(odd, matrix[1::2, ::2])
    np.testing.assert_allclose(up.T @ product, schur, atol=1e-11 * np.abs(schur).max())


def test_follows_a_jump(x64):
    """The flux is continuous: nearly the whole drop happens in the insulating half."""
    k = jnp.asarray([1e4, 1e4, 1.0, 1.0])
    operator = diffusion_operator((4,), coefficient=k, boundary=Neumann())
    between = np.asarray(prolong(build(operator, (True,)), jnp.asarray([1.0, 0.0])))[1]
    assert between == pytest.approx(1.0, abs=3e-4)


def test_averages_over_lines_in_two_dimensions(x64):
    """With couplings across lumped, the uniform stencil gives the bilinear weights."""
    operator = diffusion_operator((7, 7), boundary=Neumann())
    u = np.zeros((4, 4))
    u[1, 1] = 1.0
    fine = np.asarray(prolong(build(operator, (True, True)), jnp.asarray(u)))
    expected = np.zeros((7, 7))
    expected[1:4, 1:4] = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
    np.testing.assert_allclose(fine, expected, atol=1e-14)


def _labels(operator):
    matrix = operator.to_scipy()
    _, labels = connected_components(matrix, directed=False)
    return labels


@pytest.mark.parametrize(
    ("column", "coarsened"), [(3, (True, True)), (4, (True, True)), (3, (False, True))]
)
def test_never_reaches_through_a_wall_without_thickness(column, coarsened, x64):
    operator = diffusion_operator((6, 10), boundary=Neumann())
    couplings = np.array(operator.couplings)
    side = operator.offsets.index((0, 1))
    lost = couplings[side, :, column].copy()
    couplings[side, :, column] = 0
    diagonal = np.array(operator.diagonal)
    diagonal[:, column] += lost
    diagonal[:, column + 1] += lost
    cut = StencilOperator(
        jnp.asarray(diagonal), jnp.asarray(couplings), operator.offsets, operator.periodic
    )
    interpolation = build(cut, coarsened)
    up, _ = _dense(interpolation)
    labels = _labels(cut)
    assert len(set(labels)) == 2
    for column_of_up in up.T:
        assert len(set(labels[column_of_up != 0])) == 1
    coarse = coarse_points((6, 10), coarsened)
    np.testing.assert_allclose(prolong(interpolation, jnp.ones(coarse)), 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("n_points", "seed"), [((9, 12), 0), ((9, 12), 1), ((9, 12), 2), ((3, 4, 5), 3)]
)
def test_solid_cells_take_no_part(n_points, seed, x64):
    mask = np.random.default_rng(seed).uniform(size=n_points) > 0.3
    operator = diffusion_operator(n_points, mask=mask, boundary=Neumann(), dtype=jnp.float64)
    interpolation = build(operator, (True,) * len(n_points))
    up, down = _dense(interpolation)
    np.testing.assert_allclose(down, up.T, rtol=1e-12, atol=0)
    solid = ~np.asarray(operator.active).ravel()
    assert solid.any()
    assert not np.any(up[solid])
    # Fluid cells that hang on the coarse grid at all keep constants; none takes from another part.
    sums = up.sum(axis=1)[~solid]
    assert np.all((np.abs(sums - 1) < 1e-12) | (sums < 1 + 1e-12))
    assert np.mean(np.abs(sums - 1) < 1e-12) > 0.5
    labels = _labels(operator)
    for column in up.T:
        assert len(set(labels[column != 0])) <= 1


def _channel(row, *, along_first):
    mask = np.zeros((9, 8), bool)
    mask[row, :] = True
    return mask if along_first else mask.T


@pytest.mark.parametrize(("row", "along_first"), [(2, True), (3, True), (3, False)])
def test_a_channel_between_two_even_rows_keeps_coarse_points(row, along_first, x64):
    mask = _channel(row, along_first=along_first)
    boundary = [(Dirichlet(), Neumann()), Neumann()]
    boundary = boundary[::-1] if along_first else boundary
    operator = diffusion_operator(mask.shape, mask=mask, boundary=boundary, dtype=jnp.float64)
    interpolation = build(operator, (True, True))
    up, _ = _dense(interpolation)
    # One coarse point for every second cell, and linear interpolation along the channel.
    assert np.linalg.matrix_rank(up) == 4
    line = up.reshape(*mask.shape, -1)[mask]
    line = line[:, np.abs(line).sum(axis=0) > 0]
    np.testing.assert_allclose(line.sum(axis=1), 1.0, rtol=1e-12)
    expected = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]])
    np.testing.assert_allclose(line[:5, :3], expected, atol=1e-12)


def test_a_cell_that_hangs_on_nothing_coarse_gets_no_value(x64):
    """With strong Dirichlet sides only, lumping leaves a centre near 0: no weight, no NaN."""
    operator = StencilOperator(jnp.asarray([1.0, 1.0, 1.0]), jnp.zeros((1, 3)), ((1,),))
    up, _ = _dense(build(operator, (True,)))
    np.testing.assert_array_equal(up, [[1, 0], [0, 0], [0, 1]])


def test_dtype_and_gradient(x64):
    operator = diffusion_operator((5, 6), coefficient=_rough((5, 6)))
    single = build(operator.astype(np.dtype("float32")), (True, True))
    double = build(operator, (True, True))
    u = jnp.asarray(np.random.default_rng(4).normal(size=(3, 3)))
    result = prolong(single, u.astype(jnp.float32))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, prolong(double, u), atol=1e-5)

    v = jnp.asarray(np.random.default_rng(5).normal(size=(5, 6)))
    gradient = jax.grad(lambda u: jnp.sum(v * double.prolong(u)))(u)
    np.testing.assert_allclose(gradient, double.restrict(v), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("axis", [0, 1])
def test_commutes_with_reflections(axis, x64):
    """Of odd sizes; Dirichlet faces included, where rows do not add up to zero."""
    k = np.asarray(_rough((7, 9)))
    u = np.random.default_rng(6).normal(size=(4, 5))

    def fine(k, u):
        operator = diffusion_operator((7, 9), coefficient=jnp.asarray(k), boundary=Dirichlet())
        return np.asarray(prolong(build(operator, (True, True)), jnp.asarray(u)))

    reflected = np.flip(fine(np.flip(k, axis), np.flip(u, axis)), axis)
    np.testing.assert_allclose(reflected, fine(k, u), atol=1e-13)
