"""The gallery of linear systems: what it promises about domains, matrices and answers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from sciml.problems._grid_boundaries import Dirichlet, Neumann, Periodic
from sciml.problems._linear_gallery import (
    anisotropic_problem,
    baffle_problem,
    checkerboard_problem,
    eigenmode_problem,
    inclusion_problem,
    moving_ball_problems,
    obstacle_problem,
    open_at_start,
    rotating_bar_problems,
)
from sciml.problems._moving_obstacles import moving_balls, rotating_bar
from sciml.problems._obstacles import fill_enclosed_parts, random_obstacles, thin_baffles
from sciml.problems._random_coefficients import gaussian_sources, random_checkerboard

MAKERS = [
    obstacle_problem,
    baffle_problem,
    checkerboard_problem,
    inclusion_problem,
    anisotropic_problem,
]


@pytest.mark.parametrize("shape", [(12, 13), (10, 9, 11)])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_systems(make, shape, getkey, x64):
    """Definite on the active cells, with a right-hand side there only, the same by key."""
    key = getkey()
    problem = make(shape, key=key)
    matrix = problem.operator.to_scipy(active_only=True).toarray()
    assert np.linalg.eigvalsh(matrix).min() > 0
    b = np.asarray(problem.right_hand_side)
    assert not b[~np.asarray(problem.operator.active)].any()
    assert np.abs(b).max() > 0.3
    np.testing.assert_array_equal(b, make(shape, key=key).right_hand_side)
    assert (b != np.asarray(make(shape, key=getkey()).right_hand_side)).any()
    known = problem.with_known_answer(key=getkey())
    active = np.asarray(known.operator.active)
    x = np.linalg.solve(matrix, np.asarray(known.right_hand_side)[active])
    np.testing.assert_allclose(x, np.asarray(known.exact)[active], atol=1e-8)


def test_dtype(getkey):
    assert obstacle_problem((12, 13), key=getkey()).right_hand_side.dtype == jnp.float32
    with jax.enable_x64(True):
        for make in (obstacle_problem, checkerboard_problem, anisotropic_problem):
            problem = make((12, 13), dtype=jnp.float32, key=getkey())
            assert problem.operator.dtype == problem.right_hand_side.dtype == jnp.float32


@pytest.mark.parametrize(
    "boundary",
    [Dirichlet(), Neumann(), Periodic(), [Dirichlet(), Neumann(), Periodic()]],
    ids=["dirichlet", "neumann", "periodic", "all"],
)
def test_eigenmodes(boundary, x64):
    problem = eigenmode_problem(
        (6, 7, 8),
        boundary=boundary,
        wavenumbers=((1, 2), (2, 0, 3))
        if not isinstance(boundary, Dirichlet)
        else ((1, 2), (3, 1, 2)),
    )
    b = problem.operator.mv(problem.exact)
    np.testing.assert_allclose(b, problem.right_hand_side, atol=1e-10 * float(jnp.abs(b).max()))
    assert float(jnp.abs(b).max()) > 1


def test_eigenmodes_misuse():
    with pytest.raises(ValueError, match="vanishes or is constant"):
        eigenmode_problem((6, 7), boundary=Neumann(), wavenumbers=((0, 0),))
    with pytest.raises(ValueError, match="one condition on both faces"):
        eigenmode_problem((6, 7), boundary=open_at_start(2))


def test_obstacles_scale_and_trace(getkey):
    """Finer grids show the same domain; keys may be batched."""
    key = getkey()
    coarse, fine = (random_obstacles((n, n), key=key) for n in (32, 64))
    blocks = np.asarray(fine).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    assert np.abs(np.asarray(coarse) - blocks).mean() < 0.04
    assert 0.05 < 1 - float(coarse.mean()) < 0.6
    keys = jax.random.split(key, 2)
    batch = jax.jit(jax.vmap(lambda k: random_obstacles((32, 32), key=k)))(keys)
    for mask, one in zip(batch, keys, strict=True):
        np.testing.assert_array_equal(mask, random_obstacles((32, 32), key=one))


@pytest.mark.parametrize("shape", [(40, 40), (20, 16, 12)])
def test_baffles(shape):
    """One cell thick, and the domain stays connected through the gaps."""
    mask = np.asarray(thin_baffles(shape))
    assert scipy.ndimage.label(mask)[1] == 1
    walls = np.flatnonzero(~mask.all(axis=tuple(range(1, mask.ndim))))
    assert len(walls) == 4
    assert (np.diff(walls) > 1).all()
    gaps = [mask[w].reshape(shape[1], -1).all(axis=1) for w in walls]
    for gap, following in itertools.pairwise(gaps):
        assert 0 < gap.sum() <= shape[1] // 4
        assert not (gap & following).any()
    with pytest.raises(ValueError, match="9 cells"):
        thin_baffles((8, 8))


def test_enclosed_parts():
    ring = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1]], bool)
    ring[3, 2] = False
    filled = fill_enclosed_parts(ring, boundary=open_at_start(2))
    expected = ring.copy()
    expected[2, 2] = False
    np.testing.assert_array_equal(filled, expected)
    # Two columns that only the seam of a periodic axis joins; the middle one is cut off.
    stripes = np.array([[1, 0, 1, 0, 1]] * 3, bool)
    seam = fill_enclosed_parts(stripes, boundary=[Neumann(), Periodic()])
    np.testing.assert_array_equal(seam, [[1, 0, 0, 0, 1]] * 3)


@pytest.mark.parametrize("shape", [(24, 24), (16, 16, 16)])
def test_moving(shape, getkey):
    """Sizes stay, places change, and a step moves little."""
    bar = np.asarray(rotating_bar(shape, n_steps=8, thickness=0.2))
    balls = np.asarray(moving_balls(shape, n_steps=8, n_balls=1, radius=0.2, key=getkey()))
    for masks in (bar, balls):
        solid = (~masks).sum(axis=tuple(range(1, masks.ndim)))
        assert solid.min() > 0.6 * solid.max()
        assert (masks[1:] != masks[:-1]).any(axis=tuple(range(1, masks.ndim))).sum() >= 3
    changed = (balls[1:] != balls[:-1]).sum(axis=tuple(range(1, balls.ndim)))
    assert changed.max() < 0.5 * (~balls[0]).sum()
    # A quarter turn of the square's bar is its transpose.
    np.testing.assert_array_equal(bar[4], np.swapaxes(bar[0], 0, 1))


def test_sequences(getkey):
    for make in (rotating_bar_problems, moving_ball_problems):
        problems = make((12, 13), n_steps=3, key=getkey())
        first, last = problems[0], problems[-1]
        assert (np.asarray(first.operator.active) != np.asarray(last.operator.active)).any()
        assert (np.asarray(first.right_hand_side) != np.asarray(last.right_hand_side)).any()


def test_random_fields(getkey):
    key = getkey()
    board = np.asarray(random_checkerboard((32, 32), n_tiles=4, contrast=1e4, key=key))
    assert set(np.unique(board)) == {1, 1e4}
    tiles = board.reshape(4, 8, 4, 8)
    assert (tiles == tiles[:, :1, :, :1]).all()
    smooth = gaussian_sources((64, 64), noise=0.0, key=key)
    assert float(smooth.max()) == pytest.approx(1, abs=0.05)
    noisy = gaussian_sources((64, 64), key=key)
    assert float(jnp.std(noisy - smooth)) == pytest.approx(0.1, rel=0.1)
