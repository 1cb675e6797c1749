"""Steppers of particles: what must not change their answer, long motions, and bad input."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

import sciml
from sciml.core import RESULTS
from sciml.data import ParticleBatch, ParticleNormaliser, ParticleWindows, Trajectory
from sciml.neural_operators import (
    GIOROM,
    GNS,
    AbstractParticleStepper,
    BallisticStepper,
    GraphNeuralOperator,
    KernelKind,
    LatentGrid,
    ParticleLoss,
    evaluate_particles,
    random_walk_noise,
    rollout_particles,
)
from sciml.neural_operators._giorom._particle_loss import scaled_acceleration_of
from sciml.neural_operators._giorom._particle_stepper import check_particles
from sciml.numerics import radius_neighbours

N, WINDOW, DT, RADIUS = 12, 3, 0.01, 0.15
BOX = ((0.0, 1.0), (0.0, 1.0))
SCALES = ParticleNormaliser((0.1, -0.2), (0.5, 0.6), (0.0, -9.8), (4.0, 5.0), dt=DT)
GRID = LatentGrid((9, 9), channels=3, n_layers=1)


def make_window(seed=5309, n=N):
    rng = np.random.default_rng(seed)
    x = 0.4 + 0.2 * rng.random((n, 2))
    steps = DT * (rng.normal(size=(n, 2)) + 0.1 * rng.normal(size=(WINDOW, n, 2)))
    return np.concatenate([x[None], x + np.cumsum(steps, axis=0)]).astype(np.float32)


def make_model(walls=False, key=7, **changes):
    options = {"radius": RADIUS, "window": WINDOW, "n_types": 2, "hidden_channels": 6}
    options |= {"n_layers": (1, 1), "latent": GRID, "walls": walls}
    options |= changes
    # One program for all weights instead of one for each.
    return eqx.filter_jit(lambda key: GIOROM(SCALES, BOX, **options, key=key))(jax.random.key(key))


@eqx.filter_jit
def accelerate(model, window, types, mask):
    return model(window, types, mask, model.neighbours(window[-1], mask, N))


def run(model, window, types=None, mask=None):
    types = jnp.zeros(N, jnp.int32) if types is None else jnp.asarray(types, jnp.int32)
    mask = jnp.ones(N, bool) if mask is None else jnp.asarray(mask)
    return np.asarray(accelerate(model, jnp.asarray(window, jnp.float32), types, mask))


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def without_grid():
    return make_model(latent=None)


@pytest.fixture(scope="module")
def types():
    return np.arange(N) % 2


def test_order_does_not_matter(model, types):
    window, order = make_window(), np.random.default_rng(3).permutation(N)
    straight = run(model, window, types)
    np.testing.assert_allclose(
        run(model, window[:, order], types[order]), straight[order], atol=2e-5
    )
    assert np.abs(run(model, window, 1 - types) - straight).max() > 1e-3, "types matter"


def test_shifts_by_a_cell_are_followed_exactly_and_others_nearly(model, without_grid, types):
    window, cell = make_window(), 1 / 8
    straight = run(model, window, types)
    moved = run(model, window + np.float32([cell, -2 * cell]), types)
    # Positions are rounded, and accelerations divide by dt squared.
    np.testing.assert_allclose(moved, straight, atol=1e-3)
    # Between the cells only the latent grid sees a difference.
    part = run(model, window + np.float32(0.3 * cell), types)
    size = np.abs(straight).max()
    assert np.abs(part - straight).max() < 0.5 * size
    np.testing.assert_allclose(
        run(without_grid, window + np.float32(0.3 * cell), types),
        run(without_grid, window, types),
        atol=1e-3,
    )


def test_padding_has_no_effect(model, types):
    window, mask = make_window(), np.arange(N) < 9
    poisoned = window.copy()
    poisoned[:, 9:] = np.nan
    a = run(model, poisoned, types, mask)
    other = window.copy()
    other[:, 9:] = 0.5
    b = run(model, other, types, mask)
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert (a[9:] == 0).all()
    assert np.isfinite(a).all()


def test_twice_as_many_particles_at_the_same_places_change_nothing(model):
    window = make_window(n=6)
    alone = np.concatenate([window, np.full_like(window, np.nan)], axis=1)
    single = run(model, alone, mask=np.arange(N) < 6)[:6]
    twice = run(model, np.concatenate([window, window], axis=1))
    np.testing.assert_allclose(twice[:6], single, atol=1e-4)
    np.testing.assert_allclose(twice[6:], single, atol=1e-4)


def test_alone_without_neighbours_and_all_in_one_place(model):
    window = make_window()
    one = run(model, window, mask=np.arange(N) == 4)
    assert np.isfinite(one).all()
    assert (one[np.arange(N) != 4] == 0).all()
    apart = window.copy()
    apart += np.float32(0.2) * (np.arange(N)[None, :, None] - 5)
    assert np.isfinite(run(model, apart)).all()
    assert np.isfinite(run(model, np.full_like(window, 0.5))).all()


def test_nothing_jumps_when_a_neighbour_crosses_the_radius(model):
    mask = np.arange(N) < 2
    window = np.full((WINDOW + 1, N, 2), 0.5, np.float32)
    found = []
    for distance in RADIUS + np.float32([-2e-4, -1e-4, 1e-4, 2e-4]):
        window[:, 1, 0] = 0.5 + distance
        found.append(run(model, window, mask=mask)[0])
    steps = np.abs(np.diff(found, axis=0)).max(axis=1)
    assert steps.max() < 20 * max(steps.min(), 1e-4), "no jump at the radius"


@pytest.mark.parametrize("kind", list(KernelKind))
def test_kernels_see_where_the_query_is(kind):
    x = jnp.array([[0.1, 0.1], [0.3, 0.2], [0.2, 0.4]])
    y = jnp.array([[0.2, 0.2], [0.25, 0.3]])
    find = eqx.filter_jit(radius_neighbours)
    near = find(x, y, 0.9, capacity=3)
    offset = near.gather(x) - y[:, None]
    make = eqx.filter_jit(
        lambda key: GraphNeuralOperator(2, 3, 2, hidden_channels=5, kind=kind, key=key)
    )
    block = make(jax.random.key(7))
    f, weight = jnp.ones((3, 2)), jnp.ones((2, 3))
    apply = eqx.filter_jit(block)
    out = apply(f, offset, weight, near)
    assert jnp.abs(out[0] - out[1]).max() > 1e-4, "equal neighbours, different places"
    if kind is KernelKind.LINEAR:
        # Of a constant function the kernel's mean is left.
        mean = jnp.mean(block.offset(offset), axis=1) * (f[:1] @ block.function)
        np.testing.assert_allclose(out, block.out(mean), atol=1e-5)
    # The pairs taken the other way round.
    back = find(y, x, 0.9, capacity=2)
    offset = x[:, None] - back.gather(y)
    swapped = apply(f, offset, jnp.ones((3, 2)), back, n_receivers=2)
    np.testing.assert_allclose(swapped, out, atol=1e-5)


def test_sums_are_integrals(without_grid):
    """More samples of the same body come closer to the limit of infinitely many."""

    @eqx.filter_jit
    @jax.vmap
    def at_centre(x):
        window = jnp.broadcast_to(x, (WINDOW + 1, *x.shape))
        mask = jnp.ones(len(x), bool)
        near = without_grid.neighbours(x, mask, len(x))
        return without_grid(window, jnp.zeros(len(x), jnp.int32), mask, near)[0]

    rng, spread = np.random.default_rng(5), []
    for n in (20, 320):
        x = 0.35 + 0.3 * rng.random((8, n, 2))
        x[:, 0] = 0.5
        spread.append(np.std(np.asarray(at_centre(jnp.asarray(x, jnp.float32))), axis=0).max())
    assert spread[1] < 0.5 * spread[0]


def test_a_perfect_model_takes_the_noise_back():
    window = make_window()
    key = jax.random.key(11)
    noise = random_walk_noise((WINDOW + 1, N, 2), jnp.array([0.3, 0.3]), DT, key=key)
    assert (noise[0] == 0).all()
    velocity = np.diff(np.asarray(noise), axis=0) / DT
    many = random_walk_noise((WINDOW + 1, 4000, 2), jnp.array([0.3, 0.3]), DT, key=key)
    last = np.diff(np.asarray(many), axis=0)[-1] / DT
    assert np.abs(last.std() / 0.3 - 1) < 0.05
    following = window[-1] + np.float32(0.01)
    stepper = BallisticStepper(SCALES, BOX, (0, 0), window=WINDOW, walls=False)
    noisy = jnp.asarray(window) + noise
    wanted = scaled_acceleration_of(stepper, noisy, jnp.asarray(following - window[-1]))
    reached = stepper.advance(noisy, wanted)
    np.testing.assert_allclose(reached, following + np.asarray(noise[-1]), atol=1e-6)
    true_velocity = (following - window[-1]) / DT
    new_velocity = np.asarray(reached - noisy[-1]) / DT
    np.testing.assert_allclose(new_velocity, true_velocity, atol=1e-3)
    assert np.abs(velocity[-1]).max() > 0.05


@pytest.fixture(scope="module")
def moved(model, types):
    start = jnp.asarray(make_window())
    kinds = jnp.asarray(types, jnp.int32)
    return rollout_particles(model, start, 3, particle_type=kinds, capacity=N)


def test_a_rollout_is_repeated_steps(model, types, moved):
    window = jnp.asarray(make_window())
    for frame in moved.value:
        following = model.advance(window, jnp.asarray(run(model, window, types)))
        np.testing.assert_allclose(frame, following, atol=1e-6)
        window = jnp.concatenate([window[1:], following[None]])
    assert int(moved.stats["n_good"]) == 3


def test_too_few_places_fail_and_are_grown(model):
    start = jnp.asarray(make_window())
    failed = rollout_particles(model, start, 3, capacity=2, throw=False)
    assert failed.result == RESULTS.neighbour_overflow
    assert int(failed.stats["neighbours"]) > 2
    assert int(failed.stats["n_good"]) == 0
    with pytest.raises(RuntimeError, match="more neighbours than there were places"):
        rollout_particles(model, start, 3, capacity=2)
    # More particles in one place than the 32 places that a rollout begins with.
    moved = rollout_particles(Counting(radius=0.4), jnp.asarray(make_window(n=50)), 3)
    assert int(moved.stats["neighbours"]) > 32
    assert int(moved.stats["capacity"]) >= int(moved.stats["neighbours"])


def test_motions_that_fail_are_told(model, types):
    start = jnp.asarray(make_window())
    wild = BallisticStepper(SCALES, BOX, (float("nan"), 0), window=WINDOW, walls=False)
    with pytest.raises(RuntimeError, match="non-finite"):
        rollout_particles(wild, start, 3, capacity=1)
    pushed = eqx.tree_at(lambda m: m.decode.biases[-1], model, jnp.array([1e4, 0.0]))
    left = rollout_particles(
        pushed, start, 3, particle_type=jnp.asarray(types, jnp.int32), capacity=N, throw=False
    )
    assert left.result == RESULTS.particles_left_grid
    assert int(left.stats["n_good"]) < 3


def test_trivial_motions():
    start = jnp.asarray(make_window())
    box = (SCALES, BOX)
    line = rollout_particles(BallisticStepper(*box, (0, 0), window=WINDOW), start, 5, capacity=1)
    steps = np.diff(np.concatenate([np.asarray(start[-2:]), line.value]), axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:1], steps.shape), atol=1e-6)
    still = rollout_particles(BallisticStepper(*box, None, window=WINDOW), start, 5, capacity=1)
    np.testing.assert_allclose(
        still.value, np.broadcast_to(start[-1], still.value.shape), atol=1e-6
    )
    fall = rollout_particles(BallisticStepper(*box, (0, -90), window=WINDOW), start, 40)
    assert float(fall.value[-1, :, 1].max()) == 0.0, "no one passes the floor"


def test_gradients_of_a_rollout_are_those_of_finite_differences(model, x64, types):
    start, kinds = np.asarray(make_window(), np.float64), jnp.asarray(types, jnp.int32)

    @eqx.filter_jit
    def value_and_gradients(model, start):
        def goal(pair):
            moved = rollout_particles(
                pair[0], pair[1], 5, particle_type=kinds, capacity=N, throw=False
            )
            return jnp.sum(jnp.sin(9 * moved.value[-1]))

        return eqx.filter_value_and_grad(goal)((model, jnp.asarray(start)))

    direction = np.random.default_rng(4).normal(size=start.shape)
    _, (of_model, of_start) = value_and_gradients(model, start)
    h = 1e-8
    up, _ = value_and_gradients(model, start + h * direction)
    down, _ = value_and_gradients(model, start - h * direction)
    expected = float((up - down) / (2 * h))
    assert abs(np.sum(np.asarray(of_start) * direction) / expected - 1) < 1e-5
    for path, leaf in jax.tree_util.tree_leaves_with_path(of_model):
        assert np.abs(leaf).max() > 0, f"no gradient for {jax.tree_util.keystr(path)}"


@pytest.mark.parametrize("kind", ["giorom", "gns"])
def test_saved_models_are_the_same(kind, model, tmp_path):
    if kind == "gns":
        options = {"radius": RADIUS, "window": WINDOW, "hidden_channels": 4, "n_layers": 1}
        model = eqx.filter_jit(lambda key: GNS(SCALES, BOX, **options, key=key))(jax.random.key(7))
    sciml.save(tmp_path / "model", model)
    again = sciml.load(tmp_path / "model")
    assert type(again) is type(model)
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.normaliser == model.normaliser


def test_loss_counts_real_particles_only_and_trains():
    windows = np.stack([make_window(seed) for seed in (1, 2)])
    following = windows[:, -1:] + np.diff(windows[:, -2:], axis=1)
    position = np.concatenate([windows, following], axis=1)
    types, mask = np.zeros((2, N), np.int32), np.ones((2, N), bool)
    stepper = BallisticStepper(SCALES, BOX, (0, 0), window=WINDOW, walls=False)
    loss = eqx.filter_jit(ParticleLoss(1, noise=0.0))
    value, figures = loss(stepper, ParticleBatch(position, types, mask), jax.random.key(3))
    assert float(value) < 1e-3, "constant velocity is exact here"
    assert int(figures["neighbours"]) == 1
    mask[1, 6:] = False
    position[1, :, 6:] = np.nan
    value, _ = loss(stepper, ParticleBatch(position, types, mask), jax.random.key(3))
    assert float(value) < 1e-3
    with pytest.raises(ValueError, match="must have more than the 4 frames"):
        ParticleLoss(1)(stepper, ParticleBatch(windows, types, mask), jax.random.key(3))


def test_errors_of_several_frames_add_up():
    """Without acceleration in the model, velocities are off by j times what was left out."""
    t = DT * np.arange(WINDOW + 4.0)[:, None, None]
    fall = 0.9 - 0.5 * t**2 * np.array([0.0, 3.0]) + np.zeros((1, N, 1))
    batch = ParticleBatch(
        fall[None].astype(np.float32), np.zeros((1, N), np.int32), np.ones((1, N), bool)
    )
    still = BallisticStepper(SCALES, BOX, (0, 0), window=WINDOW, walls=False)
    loss = eqx.filter_jit(ParticleLoss(1, noise=0.0))
    value, figures = loss(still, batch, jax.random.key(3))
    single = 0.5 * (3.0 / SCALES.acceleration_std[1]) ** 2
    np.testing.assert_allclose(float(figures["acceleration"]), single, rtol=0.02)
    # The mean over three frames of j^2 / j.
    np.testing.assert_allclose(float(value), 2 * single, rtol=0.02)


def test_scores():
    t = DT * np.arange(12.0)[:, None, None]
    path = np.concatenate([0.2 + 0 * t, 0.9 - 4.9 * t**2], axis=2) + np.zeros((1, 3, 2))
    path = path + np.array([[[0.0, 0.0], [0.2, 0.0], [0.4, 0.0]]])
    run = Trajectory.from_array(path.astype(np.float32), dt=DT, bounds=BOX)
    box = (SCALES, BOX)
    steppers = {
        "fall": BallisticStepper(*box, (0, -9.8), window=WINDOW),
        "still": BallisticStepper(*box, None, window=WINDOW),
    }
    fall, still = evaluate_particles(steppers, [run], n_steps=5)
    assert fall.position_mse < 1e-9 < still.position_mse
    assert fall.acceleration_mse < 1e-2 < still.acceleration_mse
    assert (fall.n_rollouts, fall.n_failed) == (1, 0)
    assert abs(fall.energy_ratio - 1) < 1e-3
    with pytest.raises(ValueError, match="no trajectory has the 104 frames"):
        evaluate_particles(steppers, [run])


class Counting(AbstractParticleStepper):
    """Accelerates by the number of neighbours."""

    normaliser: ParticleNormaliser = SCALES
    bounds: Any = BOX
    radius: float = 0.1
    window: int = WINDOW
    n_types: int = 1
    walls: bool = True

    def scaled_acceleration(self, cloud, particle_type, mask):
        count = jnp.sum(cloud.neighbours.mask, axis=1, dtype=jnp.float32)
        return jnp.stack([count, 0 * count], axis=1)


def test_single_steps_leave_no_neighbour_out():
    """A crowd that is there between the frames that a glance would look at."""
    rng = np.random.default_rng(8)
    apart = rng.uniform(0.05, 0.95, size=(60, 2))
    together = 0.5 + 0.02 * rng.uniform(size=(60, 2))
    path = np.stack([apart, *[together] * 8, apart, apart]).astype(np.float32)
    run = Trajectory.from_array(path, dt=DT, bounds=BOX)
    (score,) = evaluate_particles({"counting": Counting()}, [run], n_steps=1, stride=1)
    squares = []
    for k in range(len(path) - WINDOW - 1):
        tree = cKDTree(path[k + WINDOW])
        count = tree.query_ball_point(path[k + WINDOW], 0.1, return_length=True)
        x = path[k : k + WINDOW + 2].astype(np.float64)
        wanted = (x[-1] - 2 * x[-2] + x[-3]) / DT**2
        found = np.stack([4.0 * count, np.full(60, -9.8)], axis=1)
        squares.append(np.mean((found - wanted) ** 2))
    np.testing.assert_allclose(score.acceleration_mse, np.mean(squares), rtol=1e-5)


def test_unknown_types_are_not_taken_for_known_ones(model, types):
    some = np.where(np.arange(N) == 4, 7, types)
    found = run(model, make_window(), some)
    assert np.isnan(found[4]).all()
    assert np.isfinite(np.delete(found, 4, axis=0)).all()


def test_scenes_that_do_not_fit_are_refused():
    run = Trajectory.from_array(np.full((12, 3, 2), 0.5), dt=DT, bounds=BOX)
    stepper = {"fall": BallisticStepper(SCALES, BOX, (0, -9.8), window=WINDOW)}
    for changes, message in (
        ({"dt": 0.5}, "trained with frames 0.01 apart"),
        ({"bounds": np.array([[0, 9], [0, 1]])}, "these are 0.01 apart in"),
        ({"particle_type": np.full(3, 2)}, "there is the type 2"),
        ({"periodic": (True, False)}, "the box is periodic"),
    ):
        other = dataclasses.replace(run, **changes)
        with pytest.raises(ValueError, match=message):
            evaluate_particles(stepper, [other], n_steps=3)
    with pytest.raises(ValueError, match="`stride` must be at least 1"):
        evaluate_particles(stepper, [run], n_steps=3, stride=0)
    (score,) = evaluate_particles(stepper, [run, run.frames(slice(0, 3))], n_steps=3)
    assert score.n_rollouts == 1, "one that is too short is passed over"
    for make in (ParticleNormaliser.fit, lambda runs: ParticleWindows(runs, n_samples=2)):
        with pytest.raises(ValueError, match="the box is periodic"):
            make([dataclasses.replace(run, periodic=(True, False))])


def test_bad_input(model):
    start = jnp.asarray(make_window())
    with pytest.raises(TypeError, match="`mask` must be boolean, got int32"):
        check_particles(model, start, jnp.zeros(N, jnp.int32), jnp.ones(N, jnp.int32))
    walled = BallisticStepper(SCALES, BOX, (0, 0), window=WINDOW)
    with pytest.raises(ValueError, match="12 particles are outside the walls"):
        rollout_particles(walled, start + 3.0, 2)
    with pytest.raises(ValueError, match="leaves holes"):
        make_model(latent=LatentGrid((9, 9), radius=0.08))
    with pytest.raises(ValueError, match="must have 2 axes"):
        make_model(latent=LatentGrid((9, 9, 9)))
    with pytest.raises(ValueError, match="`radius` must be positive"):
        make_model(radius=0.0)
    with pytest.raises(ValueError, match=r"window \+ 1 = 4 frames"):
        rollout_particles(model, start[1:], 2)
    with pytest.raises(ValueError, match="below n_types=2 of the model, got 5"):
        rollout_particles(model, start, 2, particle_type=jnp.full(N, 5))
    with pytest.raises(ValueError, match="non-finite"):
        rollout_particles(model, start.at[1, 2, 0].set(jnp.nan), 2)
    with pytest.raises(ValueError, match="fixed `capacity`"):
        jax.jit(lambda x: rollout_particles(model, x, 2).value)(start)
    with pytest.raises(ValueError, match="2 pairs"):
        GIOROM(SCALES, ((0, 1),), radius=0.1, key=jax.random.key(7))
    with pytest.raises(ValueError, match="must be positive"):
        ParticleNormaliser((0, 0), (0.0, 1.0), (0, 0), (1, 1), dt=DT)
