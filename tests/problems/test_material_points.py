"""The material point method: conservation, walls, free fall, materials, stable steps, scenes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.core import RESULTS
from sciml.numerics import polar_rotation, signed_svd
from sciml.problems import (
    ElasticSolid,
    MaterialPointMethod,
    Sand,
    Wall,
    Water,
    march_particles,
    random_blocks,
)

CELL = 1 / 16
SPACING = 1 / 32
ALL = (Water(100.0, viscosity=0.01), ElasticSolid(300.0), Sand(300.0))


def block(n=8, dim=2, corner=0.3, seed=6151):
    axes = [corner + SPACING * (np.arange(n) + 0.5)] * dim
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dim)
    rng = np.random.default_rng(seed)
    x = x + 0.1 * SPACING * rng.uniform(-1, 1, x.shape)
    # A spin, a strain and noise.
    v = (x - x.mean(0)) @ rng.normal(size=(dim, dim)) + 0.1 * rng.normal(size=x.shape)
    v[:, 0] -= 2 * (x - x.mean(0))[:, 1]
    v[:, 1] += 2 * (x - x.mean(0))[:, 0]
    return x.astype(np.float32), v.astype(np.float32)


@functools.cache
def free(dim=2):
    """Three materials in one cloud, without walls and gravity."""
    bounds = ((0.0, 1.0),) * dim
    method = MaterialPointMethod(ALL, cell_size=CELL, bounds=bounds, gravity=0.0, walls=Wall.OPEN)
    x, v = block(8 if dim == 2 else 5, dim)
    types = np.arange(len(x)) % 3
    state = method.state(x, spacing=SPACING, velocity=v, particle_type=types)
    return method, state, march_particles(method, state, dt=0.01, n_frames=10)


MATERIALS = {"water": Water(100.0), "sand": Sand(300.0), "solid": ElasticSolid(3000.0)}


@functools.cache
def tank(name, n_cells=16):
    """A block that stands on the floor, left alone."""
    floor = Wall.STICKY if name == "sand" else None
    method = MaterialPointMethod([MATERIALS[name]], cell_size=1 / n_cells, floor=floor)
    axes = [0.3 + (np.arange(12 * n_cells // 16) + 0.5) / (2 * n_cells), None]
    axes[1] = axes[0] - 0.3
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    state = method.state(x, spacing=1 / (2 * n_cells))
    return march_particles(method, state, dt=0.01, n_frames=60)


@pytest.mark.parametrize("dim", [2, 3])
def test_momentum_and_angular_momentum_are_conserved(dim):
    method, start, run = free(dim)
    end = run.stats["state"]
    assert run.result == RESULTS.successful
    scale = float(jnp.sum(start.mass * jnp.linalg.norm(start.velocity, axis=1)))
    change = method.momentum(end) - method.momentum(start)
    assert float(jnp.max(jnp.abs(change))) < 1e-5 * scale
    change = method.angular_momentum(end) - method.angular_momentum(start)
    assert float(jnp.max(jnp.abs(change))) < 1e-5 * scale
    assert float(jnp.max(jnp.abs(method.angular_momentum(start)))) > 0.02 * scale
    # It is no trivial motion: velocities of particles changed.
    assert float(jnp.max(jnp.abs(end.velocity - start.velocity))) > 0.1


def test_the_grid_takes_the_whole_mass_and_carries_an_affine_velocity():
    method, start, _ = free()
    nodes, weights, offsets = method._stencil(start.position)
    np.testing.assert_allclose(jnp.sum(weights, 1), 1, atol=2e-6)
    np.testing.assert_allclose(jnp.einsum("pk,pkd->pd", weights, offsets), 0, atol=1e-7)
    assert int(nodes.min()) >= 0
    assert int(nodes.max()) < np.prod(method.n_nodes)
    gradient = jnp.array([[0.3, -1.0], [0.7, 0.2]])
    velocity = np.asarray(start.position) @ np.asarray(gradient).T
    rest = MaterialPointMethod([Water()], cell_size=CELL, gravity=0.0, walls=Wall.OPEN)
    moving = rest.state(start.position, spacing=SPACING, velocity=velocity)
    moving = jax.tree.map(lambda a: a, moving)
    object.__setattr__(moving, "affine", jnp.broadcast_to(gradient, moving.affine.shape))
    after = rest.step(moving, jnp.asarray(1e-6))
    np.testing.assert_allclose(after.velocity, moving.velocity, atol=3e-5)
    np.testing.assert_allclose(after.affine, moving.affine, atol=2e-3)


def test_free_fall_is_exact_and_a_massless_particle_drifts_along():
    method = MaterialPointMethod([ElasticSolid(300.0)], cell_size=CELL)
    x, _ = block()
    state = method.state(x + np.array([0, 0.3], np.float32), spacing=SPACING)
    run = march_particles(method, state, dt=0.02, n_frames=8)
    steps = 8 * run.stats["substeps"]
    t, step = 0.16, 0.16 / steps
    fall = 9.8 * (t**2 / 2 + t * step / 2)
    np.testing.assert_allclose(run.value[0, :, 1] - run.value[-1, :, 1], fall, rtol=1e-4)
    heavier = jnp.where(jnp.arange(len(x)) == 5, 0, state.mass)
    ghost = march_particles(
        method,
        type(state)(
            state.position, state.velocity, state.affine, state.deformation, state.memory,
            heavier, jnp.where(heavier > 0, state.volume, 0), state.particle_type,
        ),
        dt=0.02,
        n_frames=8,
    )  # fmt: skip
    np.testing.assert_allclose(ghost.value[-1], run.value[-1], atol=1e-4)


def test_water_levels_out_sand_keeps_a_slope_and_an_elastic_block_rests():
    water, sand, solid = tank("water"), tank("sand"), tank("solid")
    for run in (water, sand, solid):
        assert run.result == RESULTS.successful
        low, high = float(jnp.min(run.value)), float(jnp.max(run.value))
        assert low > -1e-5
        assert high < 1 + 1e-5

    def width(run):
        return float(jnp.ptp(run.value[-1, :, 0]))

    assert width(water) > 0.9  # nearly from wall to wall
    assert 0.4 < width(sand) < 0.87
    # The pile is higher in the middle than at its foot.
    x, y = np.asarray(sand.value[-1]).T
    middle, foot = np.abs(x - x.mean()) < 0.05, np.abs(x - x.mean()) > 0.3
    assert y[middle].max() > y[foot].max() + 0.05
    np.testing.assert_allclose(solid.value[-1], solid.value[0], atol=0.02)


def test_two_grids_agree_on_the_centre_of_mass():
    coarse, fine = tank("water"), tank("water", n_cells=32)
    for k in (10, 20, 30):
        np.testing.assert_allclose(coarse.value[k].mean(0), fine.value[k].mean(0), atol=0.02)


def test_the_stability_limit_has_room_and_is_enforced():
    method, start, _ = free()
    with pytest.raises(ValueError, match=r"`substeps` of at least \d+"):
        march_particles(method, start, dt=0.05, n_frames=1, substeps=3)
    # 1.5 times the limit is stable for all three; the public door stays below.
    step = jnp.asarray(1.5 * method.largest_step())
    end = jax.jit(lambda s: jax.lax.fori_loop(0, 100, lambda _, s: method.step(s, step), s))(start)
    assert float(jnp.max(jnp.abs(end.velocity))) < 5 * float(jnp.max(jnp.abs(start.velocity)))


@pytest.mark.parametrize("viscosity", [0.3, 3.0])
def test_viscosity_has_its_share_in_the_limit(viscosity):
    """By wave speed alone both blow up."""
    method = MaterialPointMethod([Water(100.0, viscosity=viscosity)], cell_size=1 / 32)
    scene = random_blocks(300, spacing=1 / 64, key=jax.random.key(3))
    state = method.state(scene.position, spacing=1 / 64, velocity=scene.velocity)
    run = march_particles(method, state, dt=0.05, n_frames=6)
    energy = jnp.sum(jnp.diff(run.value, axis=0) ** 2, axis=(1, 2))
    assert bool(jnp.all(jnp.isfinite(energy)))
    assert float(run.stats["courant"]) < 0.5


def test_what_leaves_the_grid_or_is_too_fast_is_told():
    method, start, _ = free()
    away = method.state(start.position, spacing=SPACING, velocity=start.velocity + 20.0,
                        particle_type=start.particle_type)  # fmt: skip
    run = march_particles(method, away, dt=0.01, n_frames=10, throw=False)
    assert run.result == RESULTS.particles_diverged
    with pytest.raises(RuntimeError, match="left the grid after frame"):
        march_particles(method, away, dt=0.01, n_frames=10)


def test_bad_input_is_named():
    method, start, _ = free()
    with pytest.raises(ValueError, match="empty"):
        MaterialPointMethod([], cell_size=0.1)
    with pytest.raises(ValueError, match="whole number of cells"):
        MaterialPointMethod([Water()], cell_size=0.3)
    with pytest.raises(ValueError, match="two or three axes"):
        MaterialPointMethod([Water()], cell_size=0.1, bounds=[(0, 1)])
    with pytest.raises(ValueError, match=r"outside the box .* number 1 at"):
        method.state(np.array([[0.5, 0.5], [0.5, 1.5]]), spacing=0.1)
    with pytest.raises(ValueError, match="between 0 and 2"):
        method.state(np.full((1, 2), 0.5), spacing=0.1, particle_type=np.array([3]))
    with pytest.raises(TypeError, match="`particle_type` must hold integers, got dtype float64"):
        method.state(np.full((1, 2), 0.5), spacing=0.1, particle_type=np.zeros(1))
    with pytest.raises(ValueError, match="non-finite"):
        method.state(np.full((1, 2), np.nan), spacing=0.1)
    with pytest.raises(ValueError, match=r"below 0\.5"):
        ElasticSolid(poisson_ratio=0.5)
    with pytest.raises(ValueError, match="below 90"):
        Sand(friction_angle=90.0)
    with pytest.raises(ValueError, match="enclose 1"):
        Water(volume_limits=(1.1, 1.2))
    with pytest.raises(ValueError, match="`n_frames` must be at least 1"):
        march_particles(method, start, dt=0.01, n_frames=0)


@pytest.mark.parametrize("dim", [2, 3])
def test_rotations_and_singular_values(dim):
    a = np.random.default_rng(7417).normal(size=(40, dim, dim)).astype(np.float32)
    u, s, v = signed_svd(jnp.asarray(a))
    np.testing.assert_allclose((u * s[:, None, :]) @ jnp.swapaxes(v, 1, 2), a, atol=3e-6)
    np.testing.assert_allclose(jnp.linalg.det(u), 1, atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.det(v), 1, atol=1e-5)
    np.testing.assert_allclose(
        np.sort(np.abs(s), 1)[:, ::-1], np.linalg.svd(a, compute_uv=False), atol=1e-5
    )
    np.testing.assert_allclose(polar_rotation(jnp.asarray(a)), u @ jnp.swapaxes(v, 1, 2), atol=1e-5)
    eye = jnp.eye(dim)[None]
    np.testing.assert_array_equal(polar_rotation(0 * eye), eye)


@pytest.mark.parametrize("material", ALL[1:])
def test_stress_is_that_of_the_energy_near_rest(material):
    """All solids agree with linear elasticity for small strains, and rotations cost nothing."""
    mu, lame = 300 / 2.6, 300 * 0.3 / (1.3 * 0.4)
    strain = np.array([[2e-3, 1e-3], [1e-3, -1e-3]])
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    deformation = jnp.asarray((turn @ (np.eye(2) + strain))[None], jnp.float32)
    expected = turn @ (2 * mu * strain + lame * np.trace(strain) * np.eye(2)) @ turn.T
    found = material.stress(deformation, jnp.zeros((1, 2, 2)))[0]
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_sand_bears_no_tension_and_yields_in_shear():
    sand = Sand(300.0)
    stretched = jnp.asarray(np.diag([1.1, 1.05])[None], jnp.float32)
    kept, memory = sand.relax(stretched, jnp.zeros(1))
    np.testing.assert_allclose(kept[0], np.eye(2), atol=1e-6)
    np.testing.assert_allclose(memory, np.log(1.1 * 1.05), rtol=1e-5)
    # Pressed back by as much, it still bears nothing.
    again, memory = sand.relax(jnp.asarray(np.diag([0.95, 0.95])[None], jnp.float32), memory)
    np.testing.assert_allclose(again[0], np.eye(2), atol=1e-6)
    sheared = jnp.asarray(np.diag([1.02, 0.9])[None], jnp.float32)
    kept, memory = sand.relax(sheared, jnp.zeros(1))
    assert float(memory[0]) == 0
    np.testing.assert_allclose(jnp.linalg.det(kept), 1.02 * 0.9, rtol=1e-5)
    assert 0.9 < float(kept[0, 1, 1]) < float(kept[0, 0, 0]) < 1.02


@pytest.mark.parametrize("dim", [2, 3])
def test_scenes_are_in_the_box_low_apart_and_repeatable(dim):
    bounds = ((0.0, 1.0),) * dim
    options = {"spacing": 1 / 64 if dim == 2 else 1 / 32, "bounds": bounds, "n_blocks": 2}
    scenes = [random_blocks(529, key=jax.random.key(k), **options) for k in (5, 5, 6)]
    np.testing.assert_array_equal(scenes[0].position, scenes[1].position)
    assert np.abs(scenes[0].position - scenes[2].position).max() > 0.01
    for scene in scenes:
        x = scene.position
        assert x.shape == scene.velocity.shape == (529, dim)
        assert x.min() > 0
        assert x.max() < 1
        assert x[:, -1].min() < 0.17
        first, second = (x[scene.block == k, 0] for k in (0, 1))
        assert first.max() < second.min()
    with pytest.raises(ValueError, match="do not fit"):
        random_blocks(40_000, key=jax.random.key(1), **options)


def test_an_interrupted_march_goes_on_where_it_stopped():
    method, start, run = free()
    half = march_particles(method, start, dt=0.01, n_frames=5)
    rest = march_particles(method, half.stats["state"], dt=0.01, n_frames=5)
    np.testing.assert_allclose(rest.value, run.value[5:], atol=1e-6)
