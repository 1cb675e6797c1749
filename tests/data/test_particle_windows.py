"""Windows of sampled particles, and the scales of a set of trajectories."""

import numpy as np
import pytest

from sciml.data import ParticleNormaliser, ParticleWindows, Trajectory, sample_particles

BOX = [[0.0, 1.0], [0.0, 2.0]]


def make_run(seed, n=15, n_times=12, **changes):
    rng = np.random.default_rng(seed)
    start = rng.random((1, n, 2)) * [1.0, 2.0]
    path = start + 0.01 * np.cumsum(rng.normal(size=(n_times, n, 2)), axis=0)
    arguments = {"dt": 0.1, "bounds": BOX, "particle_type": np.arange(n) % 3} | changes
    return Trajectory.from_array(path.astype(np.float32), **arguments)


@pytest.fixture(scope="module")
def runs():
    return [make_run(seed) for seed in (101, 102, 103)]


def test_scales_are_those_of_the_data_not_of_the_trajectories(runs):
    # Trajectories whose own deviations are equal differ by their mean: that is deviation, too.
    t = 0.1 * np.arange(9.0)[:, None, None]
    slow, fast = (
        np.concatenate([v * t + 0.1 * np.sin(9 * t), 0 * t], axis=2) + np.zeros((1, 4, 1))
        for v in (-1.0, 1.0)
    )
    pair = [Trajectory.from_array(x, dt=0.1, bounds=[[-2, 2], [-2, 2]]) for x in (slow, fast)]
    found = ParticleNormaliser.fit(pair)
    velocity = np.concatenate([np.diff(x, axis=0).reshape(-1, 2) / 0.1 for x in (slow, fast)])
    np.testing.assert_allclose(found.velocity_std[0], velocity[:, 0].std(), rtol=1e-6)
    assert found.velocity_std[0] > 1.0
    assert found.velocity_std[1] == found.velocity_std[0], "nothing moves along this axis"
    padded = [run.pad(20) for run in runs]
    np.testing.assert_allclose(
        ParticleNormaliser.fit(padded).acceleration_std,
        ParticleNormaliser.fit(runs).acceleration_std,
    )


def test_batches_depend_on_step_and_seed_alone(runs):
    options = {"window": 3, "n_samples": (4, 8), "particles_per_batch": 16, "n_copies": 2}
    windows = ParticleWindows(runs, **options, seed=3)
    again = ParticleWindows(runs, **options, seed=3)
    for step in (5, 0, 5):
        for a, b in zip(windows[step], again[step], strict=True):
            np.testing.assert_array_equal(a, b)
    assert windows[0].position.shape == (4, 5, 4, 2)
    assert windows[1].position.shape == (2, 5, 8, 2)
    assert windows[1].mask.all()
    assert not np.array_equal(windows[0].position, windows[2].position)
    other = ParticleWindows(runs, **options, seed=4)
    assert not np.array_equal(windows[0].position, other[0].position)
    assert "batch 1 (trajectory:frame" in windows.describe(1)


def test_windows_are_pieces_of_the_trajectories(runs):
    windows = ParticleWindows(runs, window=3, n_samples=5, n_copies=1, seed=3)
    batch = windows[7]
    for position, types in zip(batch.position, batch.particle_type, strict=True):
        hits = [
            (run, time, particle)
            for run in runs
            for time, particle in np.argwhere((run.position == position[0, 0]).all(axis=-1))
        ]
        (run, time, particle) = hits[0]
        np.testing.assert_array_equal(position[:, 0], run.position[time : time + 5, particle])
        assert types[0] == run.particle_type[particle]


def test_mirrored_windows_stay_in_the_box(runs):
    plain = ParticleWindows(runs, window=3, n_samples=5, seed=3)
    mirrored = ParticleWindows(runs, window=3, n_samples=5, seed=3, mirror_axes=(0,))
    a, b = plain[2].position, mirrored[2].position
    same = (a == b).all(axis=(1, 2, 3))
    assert 0 < same.sum() < len(same)
    np.testing.assert_allclose(a[~same][..., 0], 1 - b[~same][..., 0], atol=1e-6)
    np.testing.assert_array_equal(a[..., 1], b[..., 1])


def test_samples_are_real_and_spread(runs):
    padded = runs[0].pad(30)
    chosen = sample_particles(padded, 15)
    assert sorted(chosen.tolist()) == list(range(15))
    with pytest.raises(ValueError, match="more than the 15 particles"):
        sample_particles(padded, 16)
    with pytest.raises(ValueError, match="not a real particle"):
        sample_particles(padded, 3, start=20)


def test_bad_input(runs):
    with pytest.raises(ValueError, match="has 12 frames; a window of 11"):
        ParticleWindows(runs, window=11, n_samples=3)
    with pytest.raises(ValueError, match="`mirror_axes` must be axes of space"):
        ParticleWindows(runs, n_samples=3, mirror_axes=(2,))
    with pytest.raises(ValueError, match="must not be empty"):
        ParticleWindows([], n_samples=3)
    with pytest.raises(ValueError, match="must agree"):
        ParticleNormaliser.fit([runs[0], make_run(7, dt=0.2)])
    with pytest.raises(ValueError, match="an acceleration takes three"):
        ParticleNormaliser.fit([runs[0].frames(slice(0, 2))])
    still = Trajectory.from_array(np.ones((5, 3, 2)), dt=0.1, bounds=BOX)
    with pytest.raises(ValueError, match="never changes"):
        ParticleNormaliser.fit([still])
