"""The coarse operator equals the triple product of dense matrices, for every parity of sizes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.linear_solvers._galerkin import galerkin_operator, half_offsets
from sciml.linear_solvers._interpolation import coarse_points, operator_dependent_interpolation
from sciml.numerics import StencilOperator
from sciml.problems import Dirichlet, Neumann, Periodic, diffusion_operator


@eqx.filter_jit
def _galerkin(operator, coarsened):
    interpolation = operator_dependent_interpolation(operator, coarsened)
    coarse = coarse_points(operator.n_points, coarsened)
    size = int(np.prod(coarse))
    units = jnp.eye(size).reshape(size, *coarse)
    up = jax.vmap(lambda u: interpolation.prolong(u).reshape(-1))(units).T
    return galerkin_operator(operator, interpolation), up


def _boundary(kinds):
    return [{"w": Neumann(), "d": Dirichlet(), "p": Periodic()}[kind] for kind in kinds]


@pytest.mark.parametrize(
    ("n_points", "kinds", "coarsened"),
    [
        ((8,), "p", (True,)),
        ((9,), "p", (True,)),
        ((7, 10), "wd", (True, True)),
        ((7, 10), "wd", (False, True)),
        # Coarse periodic axes of 3, 4 and 5 points: three colours, and one and two more.
        ((6, 7), "pd", (True, True)),
        ((8, 9), "pp", (True, True)),
        ((1, 6), "dd", (False, True)),
        ((6, 3, 4), "pdw", (True, True, True)),
    ],
)
def test_equals_the_dense_product(n_points, kinds, coarsened, x64):
    rng = np.random.default_rng(33)
    k = jnp.asarray(10.0 ** rng.uniform(-1, 1, n_points))
    mask = None if len(n_points) == 1 else rng.uniform(size=n_points) > 0.15
    operator = diffusion_operator(n_points, coefficient=k, mask=mask, boundary=_boundary(kinds))
    coarse, up = _galerkin(operator, coarsened)
    product = np.asarray(up).T @ (operator.to_scipy() @ np.asarray(up))
    ours = coarse.to_scipy().toarray()
    np.testing.assert_allclose(ours, product, atol=1e-12 * np.abs(product).max())
    assert coarse.n_points == coarse_points(n_points, coarsened)
    assert coarse.offsets == half_offsets(len(n_points))
    # The next level is like this one: its matrix is its own products.
    u = rng.normal(size=coarse.n_points)
    np.testing.assert_allclose(
        coarse.mv(jnp.asarray(u)).reshape(-1),
        product @ u.ravel(),
        atol=1e-11 * np.abs(product).max(),
    )


@pytest.mark.parametrize(
    ("n_points", "coarsened"),
    [
        ((4, 6), (True, True)),
        ((2, 6), (False, True)),
        ((2, 2), (True, True)),
    ],
)
def test_short_periodic_axes_are_not_counted_twice(n_points, coarsened, x64):
    """Of two points (or one) around a circle each neighbour is met twice."""
    rng = np.random.default_rng(34)
    couplings = jnp.asarray(-rng.uniform(0.5, 1, (2, *n_points)))
    total = -sum(coupling + jnp.roll(coupling, 1, axis) for axis, coupling in enumerate(couplings))
    operator = StencilOperator(total + 0.1, couplings, ((1, 0), (0, 1)), (True, True))
    coarse, up = _galerkin(operator, coarsened)
    product = np.asarray(up).T @ (operator.to_scipy() @ np.asarray(up))
    np.testing.assert_allclose(coarse.to_scipy().toarray(), product, atol=1e-13)


def test_nine_point_operators_stay_nine_point(x64):
    """A second level: couplings to diagonal neighbours are interpolated along, too."""
    operator = diffusion_operator((16, 12), boundary=Neumann(), dtype=jnp.float64)
    once, _ = _galerkin(operator, (True, True))
    twice, up = _galerkin(once, (True, True))
    assert np.abs(np.asarray(once.couplings)).max(axis=(1, 2)).min() > 0
    product = np.asarray(up).T @ (once.to_scipy() @ np.asarray(up))
    np.testing.assert_allclose(
        twice.to_scipy().toarray(), product, atol=1e-12 * np.abs(product).max()
    )
    # Constants are in the nullspace on every level.
    assert np.abs(twice.mv(jnp.ones((4, 3)))).max() < 1e-12 * float(twice.diagonal.max())


def test_one_of_each_pair_of_offsets():
    assert half_offsets(1) == ((1,),)
    assert set(half_offsets(2)) == {(0, 1), (1, -1), (1, 0), (1, 1)}
    assert len(half_offsets(3)) == 13
