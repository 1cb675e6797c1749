"""Neighbours are those of brute force and of SciPy's tree; nothing is lost without a flag."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from sciml.numerics import farthest_points, lattice_neighbours, most_neighbours, radius_neighbours


def cloud(n, dim, seed=5303):
    return np.random.default_rng(seed).random((n, dim)).astype(np.float32)


def as_sets(neighbours):
    index, mask = np.asarray(neighbours.index), np.asarray(neighbours.mask)
    return [set(row[kept].tolist()) for row, kept in zip(index, mask, strict=True)]


def by_tree(points, queries, radius, box=None):
    tree = cKDTree(points.astype(np.float64), boxsize=box)
    return [set(found) for found in tree.query_ball_point(queries.astype(np.float64), radius)]


@pytest.mark.parametrize(
    ("n", "dim", "box"), [(300, 3, None), (300, 2, 1.0), (2_500, 2, None), (2_500, 3, 1.0)]
)
def test_neighbours_are_those_of_a_tree(n, dim, box):
    points, queries = cloud(n, dim), cloud(40, dim, seed=77)
    radius = 0.0713 if n > 2_000 or dim == 2 else 0.2
    found = radius_neighbours(
        jnp.asarray(points),
        jnp.asarray(queries),
        radius,
        box=None if box is None else jnp.ones(dim),
    )
    assert not bool(found.overflow)
    wanted = by_tree(points, queries, radius, box)
    assert as_sets(found) == wanted
    kept = np.asarray(found.index)[0][np.asarray(found.mask)[0]]
    assert sorted(kept) == list(kept), "in order of the index"


def test_neighbours_are_those_of_brute_force_also_among_few_cells():
    """Two cells around, one axis open, points far outside: the corner cases of cell lists."""
    points = cloud(2_500, 2) * np.float32(0.3)
    points[0] = (40.0, -3.0)
    box = jnp.array([0.3, jnp.inf])
    found = radius_neighbours(jnp.asarray(points), jnp.asarray(points[:40]), 0.1, box=box)
    difference = points[:40, None].astype(np.float64) - points[None]
    difference[..., 0] -= np.float32(0.3) * np.round(difference[..., 0] / np.float32(0.3))
    near = np.sum(difference**2, axis=-1) < np.float32(0.1) ** 2
    sure = np.abs(np.sqrt(np.sum(difference**2, axis=-1)) - 0.1) > 1e-5
    ours = np.zeros_like(near)
    for row, members in enumerate(as_sets(found)):
        ours[row, list(members)] = True
    assert (ours == near)[sure].all()


@pytest.mark.parametrize("n", [300, 2_500])
def test_too_few_places_are_reported_and_grown(n):
    points = jnp.asarray(cloud(n, 2))
    few = radius_neighbours(points, points[:40], 0.15, capacity=3)
    assert bool(few.overflow)
    assert int(few.mask.sum(axis=1).max()) == 3
    all_of_them = radius_neighbours(points, points[:40], 0.15)
    assert not bool(all_of_them.overflow)
    assert all_of_them.capacity >= int(few.needed if n == 300 else 3)
    with pytest.raises(ValueError, match="fixed `capacity`"):
        jax.jit(lambda x: radius_neighbours(x, x, 0.1).index)(points[:10])


@pytest.mark.parametrize("n", [300, 2_500])
def test_what_is_masked_has_no_effect(n):
    points = cloud(n, 2)
    mask = np.arange(n) < n - 20
    poisoned = points.copy()
    poisoned[~mask] = np.nan
    last = poisoned[-40:]
    found = radius_neighbours(
        jnp.asarray(poisoned),
        jnp.asarray(last),
        0.06,
        points_mask=jnp.asarray(mask),
        queries_mask=jnp.asarray(mask[-40:]),
    )
    wanted = by_tree(points[mask], points[-40:-20], 0.06)
    assert as_sets(found) == wanted + [set()] * 20


def test_sums_over_neighbours(x64):
    points = jnp.asarray(cloud(60, 2).astype(np.float64))
    queries = jnp.asarray(cloud(25, 2, seed=78).astype(np.float64))
    near = radius_neighbours(points, queries, 0.3)
    dense = np.zeros((25, 60))
    for row, members in enumerate(as_sets(near)):
        dense[row, list(members)] = 1
    f, g = jnp.sin(points), jnp.cos(queries)
    over_points = near.sum_over_points(near.gather(f))
    np.testing.assert_allclose(over_points, dense @ np.asarray(f), atol=1e-12)
    spread = jnp.broadcast_to(g[:, None], (25, near.capacity, 2))
    over_queries = near.sum_over_queries(spread, 60)
    np.testing.assert_allclose(over_queries, dense.T @ np.asarray(g), atol=1e-12)


@pytest.mark.parametrize("radius", [0.1, 0.17])
def test_nodes_of_a_grid_are_those_of_a_search(radius):
    queries = jnp.asarray(cloud(80, 2)) * 1.2 - 0.1
    shape, spacing, origin = (7, 11), (0.15, 0.1), (0.0, -0.05)
    axes = [o + s * np.arange(n) for o, s, n in zip(origin, spacing, shape, strict=True)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    found = lattice_neighbours(queries, origin, spacing, shape, radius)
    assert not bool(found.overflow)
    wanted = radius_neighbours(jnp.asarray(nodes), queries, radius)
    assert as_sets(found) == as_sets(wanted)


@pytest.mark.parametrize("dim", [2, 3])
def test_farthest_points_spread(dim):
    points = cloud(400, dim)
    chosen = np.asarray(farthest_points(jnp.asarray(points), 60, start=17))
    assert chosen[0] == 17
    assert len(set(chosen.tolist())) == 60
    far = [
        min(np.linalg.norm(points[chosen[k]] - points[chosen[:k]], axis=1)) for k in range(1, 60)
    ]
    assert all(a >= b - 1e-6 for a, b in itertools.pairwise(far))
    # Greedy covering: no point is farther from the samples than these are from each other.
    cover = np.linalg.norm(points[:, None] - points[chosen][None], axis=-1).min(axis=1).max()
    assert cover <= far[-1] + 1e-6
    prefix = farthest_points(jnp.asarray(points), 20, start=17)
    assert (np.asarray(prefix) == chosen[:20]).all()
    tiny = farthest_points(jnp.asarray(points * np.float32(2.0**-70)), 60, start=17)
    np.testing.assert_array_equal(tiny, chosen)
    far_away = farthest_points(points.astype(np.float64) + 2.0**26, 60, start=17)
    assert len(set(np.asarray(far_away).tolist())) == 60
    coinciding = farthest_points(jnp.zeros((5, dim)), 5)
    assert sorted(np.asarray(coinciding).tolist()) == list(range(5))


def test_the_most_neighbours_of_any_frame():
    frames = np.random.default_rng(31).uniform(size=(4, 40, 2)).astype(np.float32)
    trees = [cKDTree(x) for x in frames]
    most = max(len(near) for tree in trees for near in tree.query_ball_tree(tree, 0.2))
    assert most_neighbours(jnp.asarray(frames), 0.2) == most
    with pytest.raises(ValueError, match="radius"):
        most_neighbours(jnp.asarray(frames), 0.0)


def test_the_most_neighbours_of_a_large_cloud():
    """Rows of cells have more points than anybody has neighbours, or fewer."""
    line = np.arange(14.0) / 14
    lattice = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3)
    spread = np.random.default_rng(37).uniform(size=(2500, 2))
    for cloud_, radius in ((lattice, 2.6 / 14), (spread, 0.05)):
        x = cloud_.astype(np.float32)
        most = cKDTree(x).query_ball_point(x, radius * (1 - 1e-6), return_length=True).max()
        assert most_neighbours(jnp.asarray(x)[None], radius) == most


def test_farthest_points_leave_out_what_is_masked(x64):
    points = cloud(50, 2).astype(np.float64)
    points[40:] = 1e9
    mask = jnp.arange(50) < 40
    chosen = farthest_points(jnp.asarray(points), 10, mask=mask)
    assert int(chosen.max()) < 40
    chosen = farthest_points(jnp.asarray(points[::-1].copy()), 10, mask=mask[::-1])
    assert int(chosen.min()) == 10, "the first point that may be chosen"
    with pytest.raises(ValueError, match="`start` = 45 is a point that `mask` leaves out"):
        farthest_points(jnp.asarray(points), 10, start=45, mask=mask)
    with pytest.raises(ValueError, match="False everywhere"):
        farthest_points(jnp.asarray(points), 10, mask=mask & False)
    with pytest.raises(ValueError, match="False everywhere"):
        farthest_points(points, 10, mask=np.zeros(50, bool))
    points[[3, 44]] = np.nan
    with pytest.raises(ValueError, match="non-finite"):
        farthest_points(jnp.asarray(points), 10, mask=mask)


def test_bad_input():
    points = jnp.asarray(cloud(20, 2))
    with pytest.raises(ValueError, match="`n_samples` = 21 is more than the 20 points"):
        farthest_points(points, 21)
    with pytest.raises(ValueError, match="`start` must be below"):
        farthest_points(points, 2, start=20)
    with pytest.raises(ValueError, match="non-finite"):
        farthest_points(points.at[3].set(jnp.nan), 2)
    for radius in (0.0, -0.1):
        with pytest.raises(ValueError, match="`radius` must be positive"):
            radius_neighbours(points, points, radius)
    with pytest.raises(ValueError, match="half of each period"):
        radius_neighbours(points, points, 0.6, box=jnp.ones(2))
    with pytest.raises(ValueError, match="`capacity` must be at least 1"):
        radius_neighbours(points, points, 0.1, capacity=0)
    none = radius_neighbours(points[:0], points, 0.1, capacity=2)
    assert not bool(none.mask.any())
    with pytest.raises(ValueError, match="`spacing` must be positive"):
        lattice_neighbours(points, (0.0, 0.0), (0.1, 0.0), (3, 3), 0.1)
