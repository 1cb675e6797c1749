"""The reader of LagrangeBench's layout, on files that the test writes."""

import json

import h5py
import numpy as np
import pytest

from sciml.data import DataFileError, load_lagrangebench

METADATA = {
    "dim": 2,
    "dt": 0.0004,
    "write_every": 100,
    "bounds": [[0.0, 1.0], [0.0, 2.0]],
    "periodic_boundary_conditions": [True, False],
    "vel_mean": [0.0, 0.0],
    "description": "made by a test",
}


def write(folder, seed=8209, splits=("train", "valid", "test"), **changes):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    (folder / "metadata.json").write_text(json.dumps(METADATA | changes))
    for k, split in enumerate(splits):
        with h5py.File(folder / f"{split}.h5", "w") as file:
            for i in range(2 if k == 0 else 1):
                file[f"{i:05d}/position"] = rng.uniform(size=(6, 5, 2)).astype(np.float32)
                file[f"{i:05d}/particle_type"] = np.array([0, 1, 0, 3, 9])
    return folder


def test_what_is_read(tmp_path):
    splits = load_lagrangebench(write(tmp_path / "a"))
    assert {name: len(part) for name, part in splits.items()} == {
        "train": 2, "validation": 1, "test": 1,
    }  # fmt: skip
    run = splits.train[1]
    assert run.position.shape == (6, 5, 2)
    assert run.dt == pytest.approx(0.04)
    assert run.periodic == (True, False)
    assert run.mask.tolist() == [True] * 4 + [False]
    assert run.particle_type.tolist() == [0, 1, 0, 3, 0]
    assert run.attributes["description"] == "made by a test"
    with h5py.File(tmp_path / "a" / "train.h5") as file:
        np.testing.assert_array_equal(run.position[:, :4], file["00001/position"][:, :4])


def test_a_part_is_read(tmp_path):
    folder = write(tmp_path / "a", splits=("train",), write_every=1)
    splits = load_lagrangebench(folder, n_trajectories=1, frames=slice(1, None, 2))
    (run,) = splits.train
    assert run.n_times == 3
    assert run.dt == pytest.approx(0.0008)


def test_bad_sets_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metadata\.json is missing"):
        load_lagrangebench(tmp_path)
    with pytest.raises(DataFileError, match=r"metadata.json, key 'dt': expected a positive"):
        load_lagrangebench(write(tmp_path / "a", dt=-1))
    with pytest.raises(DataFileError, match="rise along each axis"):
        load_lagrangebench(write(tmp_path / "b", bounds=[[1, 0], [0, 1]]))
    folder = write(tmp_path / "c")
    (folder / "metadata.json").write_text("{")
    with pytest.raises(DataFileError, match="not JSON"):
        load_lagrangebench(folder)
    folder = write(tmp_path / "d")
    (folder / "test.h5").write_bytes((folder / "train.h5").read_bytes())
    with pytest.raises(DataFileError, match="number 0 of train"):  # a leak
        load_lagrangebench(folder)
    with h5py.File(folder / "train.h5", "a") as file:
        del file["00000/particle_type"]
    with pytest.raises(DataFileError, match="key '00000/particle_type'"):
        load_lagrangebench(folder)
    with h5py.File(folder / "train.h5", "a") as file:
        del file["00000/position"]
    with pytest.raises(DataFileError, match="key '00000/position'"):
        load_lagrangebench(folder)
    (folder / "train.h5").write_bytes(b"\x89HDF\r\n\x1a\n cut off")
    with pytest.raises(DataFileError, match="damaged"):
        load_lagrangebench(folder)


def test_what_is_not_said_is_not_guessed(tmp_path):
    folder = write(tmp_path / "a")
    facts = {k: v for k, v in METADATA.items() if k != "periodic_boundary_conditions"}
    (folder / "metadata.json").write_text(json.dumps(facts))
    with pytest.raises(DataFileError, match="'periodic_boundary_conditions': the entry is missing"):
        load_lagrangebench(folder)
    with pytest.raises(DataFileError, match="expected a list of booleans"):
        load_lagrangebench(write(tmp_path / "b", periodic_boundary_conditions=[1, 0]))
    (folder / "metadata.json").write_text("[" * 10**5)
    with pytest.raises(DataFileError, match="is not JSON"):
        load_lagrangebench(folder)
    with h5py.File(write(tmp_path / "c") / "train.h5", "r+") as file:
        del file["00001"]
        file["00001"] = np.zeros(3)
    with pytest.raises(DataFileError, match="'00001': expected a group"):
        load_lagrangebench(tmp_path / "c")
