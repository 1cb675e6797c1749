"""Stencil operators against the matrices they stand for: products, walls, seams, refusals."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse

from sciml.numerics import StencilOperator
from sciml.numerics._stencil import full_row, shifted

product = eqx.filter_jit(StencilOperator.mv)

SHAPES = [(5,), (4, 5), (3, 4, 5)]
CASES = [
    (shape, periodic)
    for shape in SHAPES
    for periodic in itertools.product((False, True), repeat=len(shape))
]


def _half_offsets(n_axes):
    every = itertools.product((-1, 0, 1), repeat=n_axes)
    return tuple(o for o in every if o > tuple(-k for k in o))


def _random_operator(n_points, periodic, *, seed=511, solid=0.15):
    """Couplings to all neighbours, diagonal ones included; some cells solid; definite."""
    rng = np.random.default_rng(seed)
    active = rng.uniform(size=n_points) >= solid
    active.flat[-2] = solid == 0
    offsets = _half_offsets(len(n_points))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in n_points), indexing="ij"))
    couplings = np.zeros((len(offsets), *n_points))
    for coupling, offset in zip(couplings, offsets, strict=True):
        there = active.copy()
        ahead = index + np.reshape(offset, (-1, *(1,) * len(n_points)))
        for axis, n in enumerate(n_points):
            if periodic[axis]:
                ahead[axis] %= n
            there &= (ahead[axis] >= 0) & (ahead[axis] < n)
        there &= active[tuple(np.clip(a, 0, n - 1) for a, n in zip(ahead, n_points, strict=True))]
        coupling[there] = -rng.uniform(0.1, 1, there.sum())
    diagonal = np.where(active, 3.0 ** len(n_points) + rng.uniform(size=n_points), 0.0)
    return StencilOperator(jnp.asarray(diagonal), jnp.asarray(couplings), offsets, periodic)


def _five_point(n_points, dtype=np.float64):
    lines = [
        scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
        for n in reversed(n_points)
    ]
    return scipy.sparse.csr_array(scipy.sparse.kronsum(*lines)).astype(dtype)


@pytest.mark.parametrize(("n_points", "periodic"), CASES)
def test_products_equal_the_matrix_and_it_comes_back(n_points, periodic, x64):
    operator = _random_operator(n_points, periodic)
    assert 0 < int(operator.active.sum()) < operator.diagonal.size
    matrix = operator.to_scipy()
    u = np.random.default_rng(77).normal(size=n_points)
    np.testing.assert_allclose(
        product(operator, jnp.asarray(u)).reshape(-1), matrix @ u.ravel(), rtol=1e-13, atol=1e-13
    )
    dense = matrix.toarray()
    np.testing.assert_array_equal(dense, dense.T)
    assert np.linalg.eigvalsh(operator.to_scipy(active_only=True).toarray()).min() > 0

    back = StencilOperator.from_scipy(matrix, n_points, periodic)
    assert set(back.offsets) == set(operator.offsets)
    assert back.periodic == periodic
    np.testing.assert_array_equal(back.diagonal, operator.diagonal)
    np.testing.assert_array_equal(back.active, operator.active)
    for offset, coupling in zip(operator.offsets, operator.couplings, strict=True):
        np.testing.assert_array_equal(back.couplings[back.offsets.index(offset)], coupling)


@pytest.mark.parametrize("n", [1, 2])
def test_short_periodic_axes_add_both_ways_up(n, x64):
    """Both neighbours are one cell (two points) or the cell itself (one): entries add up."""
    rng = np.random.default_rng(3)
    couplings = jnp.asarray(-rng.uniform(0.1, 1, (1, n, 4)))
    operator = StencilOperator(jnp.full((n, 4), 5.0), couplings, ((1, 0),), (True, False))
    u = rng.normal(size=(n, 4))
    np.testing.assert_allclose(
        operator.mv(jnp.asarray(u)).reshape(-1), operator.to_scipy() @ u.ravel(), rtol=1e-14
    )
    both_ways = np.broadcast_to(-couplings[0].sum(axis=0) * 2 / n, (n, 4))
    row = full_row(operator)
    np.testing.assert_allclose(-row[1, 0] - row[-1, 0], both_ways, rtol=1e-14)


def test_active_only_leaves_solid_cells_out(x64):
    operator = _random_operator((4, 5), (False, True))
    keep = np.flatnonzero(np.asarray(operator.active))
    whole, part = operator.to_scipy(), operator.to_scipy(active_only=True)
    np.testing.assert_array_equal(part.toarray(), whole.toarray()[np.ix_(keep, keep)])
    # Solid rows are empty, not rows of stored zeros.
    assert np.diff(whole.indptr)[~np.asarray(operator.active).ravel()].sum() == 0


def test_one_offset_of_a_pair_may_point_backward(x64):
    forward = StencilOperator(jnp.full(4, 2.0), jnp.array([[-1.0, -2.0, -3.0, 0.0]]), ((1,),))
    backward = StencilOperator(jnp.full(4, 2.0), jnp.array([[0.0, -1.0, -2.0, -3.0]]), ((-1,),))
    np.testing.assert_array_equal(forward.to_scipy().toarray(), backward.to_scipy().toarray())
    u = jnp.array([1.0, -2.0, 0.5, 3.0])
    np.testing.assert_array_equal(forward.mv(u), backward.mv(u))


def test_shifted_looks_ahead_and_wraps_where_it_should():
    u = jnp.arange(6, dtype=jnp.float32).reshape(2, 3)
    assert shifted(u, (0, 1), (False, False)).tolist() == [[1, 2, 0], [4, 5, 0]]
    assert shifted(u, (1, -1), (False, True)).tolist() == [[5, 3, 4], [0, 0, 0]]
    assert shifted(u, (-1, -1), (True, False)).tolist() == [[0, 3, 4], [0, 0, 1]]
    assert shifted(u, (0, 0), (True, False)).tolist() == u.tolist()


def test_full_row_holds_every_entry_of_a_row(x64):
    operator = _random_operator((4, 5), (True, False))
    total = sum(np.abs(np.asarray(entry)) for entry in full_row(operator).values())
    matrix = abs(operator.to_scipy())
    np.testing.assert_allclose(total.ravel(), matrix.sum(axis=1), rtol=1e-14)
    assert len(full_row(operator)) == 9


def test_dtypes(x64):
    operator = _random_operator((4, 5), (False, False))
    single = operator.astype(jnp.float32)
    assert operator.dtype == jnp.float64
    assert single.dtype == jnp.float32
    u = jnp.ones((4, 5), jnp.float32)
    # The vector decides: a float64 operator may act on a float32 one.
    assert operator.mv(u).dtype == jnp.float32
    assert single.mv(u.astype(jnp.float64)).dtype == jnp.float64
    np.testing.assert_allclose(operator.mv(u), single.mv(u), rtol=1e-6, atol=1e-6)


def test_jit_vmap_and_gradient(x64):
    operator = _random_operator((4, 5), (False, True))
    many = jnp.asarray(np.random.default_rng(5).normal(size=(3, 4, 5)))
    together = jax.jit(jax.vmap(operator.mv))(many)
    matrix = operator.to_scipy()
    for one, result in zip(many, together, strict=True):
        np.testing.assert_allclose(result.reshape(-1), matrix @ np.asarray(one).ravel(), atol=1e-13)
    gradient = jax.grad(lambda u: jnp.sum(u * operator.mv(u)))(many[0])
    np.testing.assert_allclose(gradient, 2 * operator.mv(many[0]), rtol=1e-12)


def test_lineax_form_is_tagged(x64):
    operator = _random_operator((3, 4), (False, False), solid=0.0)
    lineax_operator = operator.as_lineax()
    assert lx.is_symmetric(lineax_operator)
    assert lx.is_positive_semidefinite(lineax_operator)
    np.testing.assert_allclose(
        lineax_operator.as_matrix().reshape(12, 12), operator.to_scipy().toarray(), atol=1e-14
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"couplings": jnp.zeros((1, 3, 4))}, "`couplings` must have shape"),
        ({"offsets": ((1, 0), (0, 0))}, "not all 0"),
        ({"offsets": ((1, 0), (0, 2))}, "out of -1, 0, 1"),
        ({"offsets": ((1, 0), (1,))}, "must be 2 numbers"),
        ({"offsets": ((1, 0), (1, 0))}, "twice"),
        ({"offsets": ((1, 0), (-1, 0))}, "opposite"),
        ({"periodic": (True,)}, "2 booleans, one of each axis"),
        ({"diagonal": jnp.zeros((3, 4), jnp.float16)}, "one dtype"),
    ],
)
def test_refusals(change, message):
    arguments = {
        "diagonal": jnp.ones((3, 4)),
        "couplings": jnp.zeros((2, 3, 4)),
        "offsets": ((1, 0), (0, 1)),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        StencilOperator(**arguments)


def test_vector_of_another_shape_is_refused():
    operator = StencilOperator(jnp.ones((3, 4)), jnp.zeros((1, 3, 4)), ((1, 0),))
    for shape in ((12,), (4, 3)):
        with pytest.raises(ValueError, match=r"`u` must have shape \(3, 4\)"):
            operator.mv(jnp.ones(shape))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csc_matrix])
def test_from_scipy_takes_any_format_and_real_dtype(dtype, kind, x64):
    matrix = _five_point((4, 3), dtype)
    operator = StencilOperator.from_scipy(kind(matrix), (4, 3))
    assert operator.offsets == ((0, 1), (1, 0))
    assert operator.dtype == (np.float32 if dtype == np.float32 else np.float64)
    np.testing.assert_array_equal(operator.to_scipy().toarray(), matrix.toarray())


def test_from_scipy_adds_duplicates_up(x64):
    doubled = scipy.sparse.coo_array(
        (np.array([1.0, 1.0, 2.0]), (np.array([0, 0, 1]), np.array([0, 0, 1]))), shape=(2, 2)
    )
    assert StencilOperator.from_scipy(doubled, (2,)).diagonal.tolist() == [2, 2]


def _with_entries(entries):
    matrix = _five_point((4, 3)).tolil()
    for (row, column), value in entries.items():
        matrix[row, column] = value
    return matrix.tocsr()


@pytest.mark.parametrize(
    ("matrix", "arguments", "message"),
    [
        (_five_point((4, 3)), ((4, 4),), "16 unknowns"),
        (_five_point((4, 3))[:, :11], ((4, 3),), "12 unknowns"),
        (_with_entries({(5, 5): np.nan}), ((4, 3),), "finite"),
        (_with_entries({(0, 1): -2.0}), ((4, 3),), "not symmetric"),
        # An entry without its mirror image, in either direction.
        (_with_entries({(0, 4): -1.0}), ((4, 3),), "not symmetric"),
        (_with_entries({(4, 0): -1.0}), ((4, 3),), "not symmetric"),
        (_with_entries({(0, 2): -1.0, (2, 0): -1.0}), ((4, 3),), "only neighbours"),
        (_five_point((4, 3)), ((3, 4),), "only neighbours"),
        # Row-major wrap-around: the last cell of a row and the first of the next are far apart.
        (_with_entries({(2, 3): -1.0, (3, 2): -1.0}), ((4, 3),), "only neighbours"),
        (_five_point((6, 2)), ((6, 2), (False, True)), "3 points or more"),
        (_five_point((4, 3)), ((4, 3), (True,)), "periodic"),
    ],
)
def test_from_scipy_refusals(matrix, arguments, message):
    with pytest.raises(ValueError, match=message):
        StencilOperator.from_scipy(matrix, *arguments)


def test_from_scipy_allows_rounding_in_the_symmetry(x64):
    nearly = _with_entries({(0, 1): -1.0 - 1e-15})
    operator = StencilOperator.from_scipy(nearly, (4, 3))
    np.testing.assert_allclose(operator.to_scipy().toarray(), nearly.toarray(), rtol=1e-14)
