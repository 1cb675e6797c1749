"""The Well: fields of rank 0, 1 and 2, left-out axes, boundary conditions, folders."""

import h5py
import numpy as np
import pytest

from sciml.data import DataFileError, DatasetSplits, load

N, T, X, Y = 3, 5, 4, 6


def normal(*shape, seed=577):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


FIELDS = {
    "t0_fields/tracer": normal(N, T, X, Y),
    "t0_fields/bottom": normal(X),
    "t1_fields/velocity": normal(N, T, X, Y, 2),
    "t2_fields/stress": normal(N, T, X, Y, 2, 2),
}


def write(path, *, attributes=None, replace=None, flags=None, seed_scalar=True):
    """Write a file with a tracer, a static profile along x, a velocity and a stress."""
    content = FIELDS | {
        "dimensions/time": 0.5 * np.arange(T, dtype=np.float32),
        "dimensions/x": np.linspace(0, 1, X, endpoint=False, dtype=np.float32),
        "dimensions/y": np.linspace(0, 3, Y, endpoint=False, dtype=np.float32),
        "scalars/Reynolds": np.float32(1e4),
        "scalars/mass": normal(N),
        "scalars/clock": normal(T),
        "boundary_conditions/y_periodic/mask": np.ones(Y, bool),
        "boundary_conditions/x_wall/mask": np.ones(X, bool),
    }
    content |= replace or {}
    root = {
        "dataset_name": "toy",
        "grid_type": "cartesian",
        "n_spatial_dims": 2,
        "n_trajectories": N,
    } | (attributes or {})
    set_flags = {
        "t0_fields/bottom": {
            "sample_varying": False,
            "time_varying": False,
            "dim_varying": [True, False],
        },
        "scalars/mass": {"sample_varying": True, "time_varying": False},
        "scalars/clock": {"sample_varying": False, "time_varying": True},
        "scalars/Reynolds": {"sample_varying": False, "time_varying": False},
        "boundary_conditions/y_periodic": {"bc_type": "PERIODIC", "associated_dims": ["y"]},
        "boundary_conditions/x_wall": {"bc_type": "wall", "associated_dims": ["x"]},
        "dimensions": {"spatial_dims": ["x", "y"]},
    } | (flags or {})
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            if value is not None:
                file[key] = value
        for key, values in set_flags.items():
            if key in file:
                file[key].attrs.update(values)
        file.attrs.update(root)
    return path


def test_fields_become_channels_and_context(tmp_path):
    data = load(write(tmp_path / "toy.hdf5"))
    assert data.channels == (
        "tracer",
        "velocity_x",
        "velocity_y",
        "stress_xx",
        "stress_xy",
        "stress_yx",
        "stress_yy",
    )
    np.testing.assert_array_equal(data.values[:, :, 0], FIELDS["t0_fields/tracer"])
    np.testing.assert_array_equal(data.values[:, :, 2], FIELDS["t1_fields/velocity"][..., 1])
    np.testing.assert_array_equal(data.values[:, :, 4], FIELDS["t2_fields/stress"][..., 0, 1])
    assert data.context_names == ("bottom", "mass")
    bottom = np.broadcast_to(FIELDS["t0_fields/bottom"][None, :, None], (N, X, Y))
    np.testing.assert_array_equal(data.context[:, 0], bottom)
    np.testing.assert_array_equal(data.context[:, 1, 2, 3], normal(N))
    assert data.periodic == (False, True)
    assert data.domain_extent == pytest.approx((1.0, 3.0))
    assert data.dt == pytest.approx(0.5)
    assert data.attributes["Reynolds"] == 1e4
    assert "clock" in data.attributes.values()


def test_samples_are_sliced_everywhere(tmp_path):
    path = write(tmp_path / "toy.hdf5")
    whole, part = load(path), load(path, samples=slice(1, 3))
    np.testing.assert_array_equal(part.values, whole.values[1:])
    np.testing.assert_array_equal(part.context, whole.context[1:])


def test_tensors_may_have_one_component_axis(tmp_path):
    flat = FIELDS["t2_fields/stress"].reshape(N, T, X, Y, 4)
    data = load(write(tmp_path / "toy.hdf5", replace={"t2_fields/stress": flat}))
    np.testing.assert_array_equal(data.values[:, :, 5], FIELDS["t2_fields/stress"][..., 1, 0])


def test_a_folder_becomes_splits(tmp_path):
    for folder in ("train", "valid", "test"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        write(tmp_path / "data" / folder / "a.hdf5")
    changed = {"t0_fields/tracer": normal(N, T, X, Y, seed=9), "scalars/Reynolds": np.float32(5)}
    changed["dimensions/time"] = 7 + 0.5 * np.arange(T, dtype=np.float32)
    write(tmp_path / "data" / "train" / "b.hdf5", replace=changed)
    splits = load(tmp_path)
    assert isinstance(splits, DatasetSplits)
    assert [(name, len(part)) for name, part in splits.items()] == [
        ("train", 2 * N),
        ("validation", N),
        ("test", N),
    ]
    np.testing.assert_array_equal(splits.train.values[N:, :, 0], changed["t0_fields/tracer"])
    differing = splits.train.attributes["differs between files"]
    assert "Reynolds" in differing
    assert "start time" in differing
    assert splits.test.attributes["Reynolds"] == 1e4


def test_files_of_a_split_must_agree(tmp_path):
    (tmp_path / "train").mkdir()
    write(tmp_path / "train" / "a.hdf5")
    write(
        tmp_path / "train" / "b.hdf5",
        replace={"dimensions/time": 0.7 * np.arange(T, dtype=np.float32)},
    )
    with pytest.raises(DataFileError, match=r"b\.hdf5: time step or extent differs"):
        load(tmp_path)
    write(tmp_path / "train" / "b.hdf5", replace={"t2_fields/stress": None})
    with pytest.raises(DataFileError, match=r"b\.hdf5: `channels` is"):
        load(tmp_path)
    with pytest.raises(DataFileError, match="`samples` does not apply to folders"):
        load(tmp_path, samples=slice(1))


def test_folders_without_data(tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    with pytest.raises(DataFileError, match=r"data/train/\*\.hdf5"):
        load(tmp_path)
    (tmp_path / "data" / "train" / "a.hdf5").write_text("<html>sorry</html>")
    with pytest.raises(DataFileError, match=r"a\.hdf5: this is a web page"):
        load(tmp_path)


BAD = {
    "spherical": ({"attributes": {"grid_type": "spherical"}}, "reads cartesian grids"),
    "no trajectories": ({"attributes": {"n_trajectories": 0}}, "key 'n_trajectories'"),
    "trajectories do not fit": (
        {"attributes": {"n_trajectories": 2}},
        r"key 't0_fields/tracer': expected \(2, 5, 4, 6\).* got \(3, 5, 4, 6\)",
    ),
    "axes swapped": (
        {"replace": {"t0_fields/tracer": normal(N, T, Y, X)}},
        r"key 't0_fields/tracer': expected \(3, 5, 4, 6\).* got \(3, 5, 6, 4\)",
    ),
    "dims do not fit": ({"attributes": {"n_spatial_dims": 3}}, "n_spatial_dims is 3"),
    "no dimensions": (
        {"replace": {f"dimensions/{k}": None for k in ("time", "x", "y")}},
        "key 'dimensions'",
    ),
    "no time": ({"replace": {"dimensions/time": None}}, "key 'dimensions/time'"),
    "missing x": ({"replace": {"dimensions/x": None}}, "key 'dimensions/x': the key is missing"),
    "non-uniform time": (
        {"replace": {"dimensions/time": np.array([0, 1, 2, 3, 9], np.float32)}},
        "key 'dimensions/time': the times must be uniform",
    ),
    "three components": (
        {"replace": {"t1_fields/velocity": normal(N, T, X, Y, 3)}},
        "key 't1_fields/velocity': expected 2 components",
    ),
    "vector without components": (
        {"replace": {"t1_fields/velocity": normal(N, T, X, Y)}},
        "key 't1_fields/velocity': expected .* 1 component axes",
    ),
    "integer field": (
        {"replace": {"t0_fields/tracer": np.ones((N, T, X, Y), int)}},
        "key 't0_fields/tracer': expected float32",
    ),
    "only static fields": (
        {"replace": dict.fromkeys(("t0_fields/tracer", "t1_fields/velocity", "t2_fields/stress"))},
        "no field varies in time",
    ),
    "boundary of an unknown type": (
        {"flags": {"boundary_conditions/x_wall": {"bc_type": "wal", "associated_dims": ["x"]}}},
        "'boundary_conditions/x_wall': expected a `bc_type` of .*got 'wal'",
    ),
    "boundary of an unknown axis": (
        {"flags": {"boundary_conditions/x_wall": {"bc_type": "wall", "associated_dims": ["q"]}}},
        r"'boundary_conditions/x_wall': .* on \['q'\]",
    ),
    "boundary of no axis": (
        {"flags": {"boundary_conditions/x_wall": {"bc_type": "wall"}}},
        "'boundary_conditions/x_wall': `associated_dims` is missing",
    ),
    "no boundaries": (
        {
            "replace": dict.fromkeys(
                ("boundary_conditions/y_periodic/mask", "boundary_conditions/x_wall/mask")
            )
        },
        r"'boundary_conditions': the key is missing or empty; pass `periodic=\.\.\.`",
    ),
    "array for a group": (
        {
            "replace": dict.fromkeys(k for k in FIELDS if k.startswith("t2"))
            | {"t2_fields": np.zeros(0)}
        },
        "'t2_fields': expected a group",
    ),
    "boundary without type": (
        {"replace": {"boundary_conditions/odd/mask": np.ones(3, bool)}},
        "key 'boundary_conditions/odd': `bc_type` is missing",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content_names_file_and_key(tmp_path, case):
    changes, message = BAD[case]
    path = write(tmp_path / "bad.hdf5", **changes)
    with pytest.raises(DataFileError, match=r"bad\.hdf5.*" + message):
        load(path)
