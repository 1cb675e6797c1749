"""Trajectories of particles: checks, padding, splits, our own files."""

import re

import numpy as np
import pytest

from sciml.data import (
    DataFileError,
    FieldDataset,
    Trajectory,
    TrajectorySplits,
    load_trajectories,
    save_dataset,
    save_trajectories,
)

BOX = [[0.0, 1.0], [0.0, 2.0]]


def make(seed=5323, n=4, dtype=np.float32, **options):
    position = np.random.default_rng(seed).uniform(size=(3, n, 2)).astype(dtype)
    return Trajectory.from_array(position, dt=0.01, bounds=BOX, **options)


def test_padding_has_no_content():
    position = np.random.default_rng(31).uniform(size=(3, 4, 2))
    mask = np.array([True, True, False, True])
    poisoned = position.copy()
    poisoned[:, 2] = np.nan
    runs = [
        Trajectory.from_array(p, dt=0.1, bounds=BOX, mask=mask, particle_type=[0, 1, t, 1])
        for p, t in ((position, 1), (poisoned, -9))
    ]
    np.testing.assert_array_equal(runs[0].position, runs[1].position)
    np.testing.assert_array_equal(runs[0].particle_type, runs[1].particle_type)
    padded = runs[0].pad(7)
    assert padded.n_particles == 7
    assert padded.checksum() == runs[0].checksum() == runs[1].checksum()
    np.testing.assert_array_equal(padded.select(slice(0, 4)).position, runs[0].position)
    assert not runs[0].position.flags.writeable


def test_frames_and_displacement():
    run = make()
    half = run.frames(slice(1, None, 2))
    assert (half.n_times, half.dt) == (1, 0.02)
    assert not run.displacement[0].any()
    np.testing.assert_array_equal(run.displacement[2], run.position[2] - run.position[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"position": np.zeros((3, 4))}, "(time, particle, dim)"),
        ({"position": np.zeros((3, 4, 1))}, "dim 2 or 3"),
        ({"position": np.full((3, 4, 2), np.nan)}, "frame 0, particle 0"),
        ({"position": np.zeros((3, 4, 2), int)}, "floating"),
        ({"dt": 0.0}, "`dt` must be positive"),
        ({"bounds": [[0, 1]]}, "(2, 2)"),
        ({"bounds": [[0, 1], [2, 2]]}, "rise along each axis"),
        ({"mask": [True]}, "one entry a particle"),
        ({"mask": [1, 1, 1, 1]}, "must be boolean"),
        ({"mask": [False] * 4}, "there is no particle"),
        ({"particle_type": [0, 0, 0, -1]}, "must not be negative"),
        ({"particle_type": [0, 0, 0, 0.5]}, "must hold integers"),
        ({"particle_type": [0, 0, 0, 2], "type_names": ("water", "sand")}, "has 2 names"),
        ({"periodic": (True,)}, "2 booleans, one of each axis"),
        ({"attributes": {"a": [1]}}, "must map strings"),
    ],
)
def test_bad_input_is_named(change, words):
    arguments = {"position": np.zeros((3, 4, 2)), "dt": 0.1, "bounds": BOX} | change
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        Trajectory.from_array(**arguments)


def test_a_trajectory_stands_in_one_split_only():
    a, b = make(1), make(2)
    splits = TrajectorySplits([a, a], test=[b])
    assert [name for name, _ in splits.items()] == ["train", "test"]
    with pytest.raises(ValueError, match=r"number 0 of test is also number 1 of train"):
        TrajectorySplits([b, a], test=[a.pad(9)])
    with pytest.raises(ValueError, match="empty"):
        TrajectorySplits([], test=[a])
    with pytest.raises(TypeError, match="Trajectory"):
        TrajectorySplits([a.position])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_files_keep_everything(tmp_path, dtype):
    a = make(1, dtype=dtype, periodic=(True, False), type_names=("water",), attributes={"E": 2.0})
    b = make(2, n=6, dtype=dtype, mask=[True] * 5 + [False])
    path = save_trajectories(tmp_path / "runs.npz", TrajectorySplits([a], test=[b]))
    back = load_trajectories(path)
    assert isinstance(back, TrajectorySplits)
    for old, new in ((a, back.train[0]), (b, back.test[0])):
        for name in ("position", "particle_type", "mask", "bounds"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name), strict=True)
        for name in ("dt", "periodic", "type_names", "attributes"):
            assert getattr(old, name) == getattr(new, name)
    several = load_trajectories(save_trajectories(path, [a, b]))
    assert [run.n_particles for run in several] == [4, 6]
    assert [p.name for p in tmp_path.iterdir()] == ["runs.npz"]


def test_bad_files_are_named(tmp_path):
    path = save_trajectories(tmp_path / "runs.npz", make())
    with np.load(path) as file:
        arrays = dict(file)
    for change, words in [
        ({"trajectories/0/position": np.zeros((3, 4, 2), np.float32)}, "checksum differs"),
        ({"trajectories/0/mask": np.array([None])}, "cannot be read safely"),
        ({"header": np.array("{}")}, "not a header"),
        ({"header": None}, "key is missing"),
    ]:
        kept = {k: v for k, v in (arrays | change).items() if v is not None}
        np.savez(path, **kept)
        with pytest.raises(DataFileError, match=words):
            load_trajectories(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataFileError, match="damaged"):
        load_trajectories(path)
    with pytest.raises(FileNotFoundError):
        load_trajectories(tmp_path / "none.npz")
    fields = FieldDataset.from_array(np.zeros((2, 3, 1, 4)), dt=0.5, domain_extent=1.0)
    with pytest.raises(DataFileError, match="expected the format 'sciml particles'"):
        load_trajectories(save_dataset(tmp_path / "fields.npz", fields))
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        save_trajectories(tmp_path / "a.h5", make())
    with pytest.raises(ValueError, match="no trajectory"):
        save_trajectories(tmp_path / "a.npz", [])
