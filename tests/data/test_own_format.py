"""sciml's own files: exact round trip, checksums, nothing half-written."""

import json
import os

import h5py
import numpy as np
import pytest

from sciml.data import DataFileError, DatasetSplits, FieldDataset, load, save_dataset
from sciml.data._own_format import checksum, seal_header

SUFFIXES = (".npz", ".h5")


def dataset(n_samples=4, shared=False, dtype=np.float64, context=True):
    rng = np.random.default_rng(661)
    return FieldDataset(
        rng.normal(size=(n_samples, 3, 2, 5, 4)).astype(dtype),
        channels=("u", "v"),
        axes=("r", "z"),
        domain_extent=(0.1, np.pi),
        dt=0.1,
        start_time=1 / 3,
        context=rng.normal(size=(1 if shared else n_samples, 1, 5, 4)) if context else None,
        context_names=("mask",) if context else (),
        periodic=(True, False),
        attributes={"viscosity": 1e-3, "steady": False, "count": 3, "note": "ü"},
    )


def assert_equal(a, b):
    for field in ("channels", "axes", "domain_extent", "dt", "start_time", "context_names"):
        assert getattr(a, field) == getattr(b, field)
    assert (a.periodic, a.attributes) == (b.periodic, b.attributes)
    assert a.values.dtype == b.values.dtype
    np.testing.assert_array_equal(a.values, b.values)
    assert (a.context is None) == (b.context is None)
    if a.context is not None:
        np.testing.assert_array_equal(a.context, b.context)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_is_exact(tmp_path, suffix, dtype):
    data = dataset(dtype=dtype)
    back = load(save_dataset(tmp_path / f"mine{suffix}", data))
    assert_equal(back, data)
    assert [p.name for p in tmp_path.iterdir()] == [f"mine{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_splits_and_sample_slices(tmp_path, suffix):
    splits = DatasetSplits(
        train=dataset(shared=True), validation=dataset(2), test=dataset(3, context=False)
    )
    path = save_dataset(tmp_path / f"mine{suffix}", splits)
    back = load(path)
    for (name, part), (other, original) in zip(back.items(), splits.items(), strict=True):
        assert name == other
        assert_equal(part, original)
    first = load(path, samples=slice(0, 1))
    np.testing.assert_array_equal(first.validation.context, splits.validation.context[:1])
    np.testing.assert_array_equal(first.train.context, splits.train.context)
    with pytest.raises(ValueError, match=r"`samples\.step` must be at least 1, got -1"):
        load(path, samples=slice(None, None, -1))


def rewrite(path, *, header=None, arrays=None):
    """Change a file behind its own back."""
    arrays = arrays or {}
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            if header is not None:
                file.attrs["header"] = header(file.attrs["header"].decode())
            for key, change in arrays.items():
                value = change(file[key][()])
                del file[key]
                if value is not None:
                    file[key] = value
    else:
        with np.load(path) as file:
            content = dict(file)
        if header is not None:
            content["header"] = np.array(header(str(content["header"])))
        for key, change in arrays.items():
            content[key] = change(content[key])
        np.savez(path, **{k: v for k, v in content.items() if v is not None})


def edit(**changes):
    """Change the header and give it the checksum that belongs to it."""
    return lambda text: seal_header(json.loads(text) | changes)


def bump(array):
    array = array.copy()
    array.flat[7] += 1
    return array


BAD = {
    "changed value": ({"arrays": {"dataset/values": bump}}, "'dataset/values': the checksum"),
    "changed context": ({"arrays": {"dataset/context": bump}}, "'dataset/context': the checksum"),
    "missing values": ({"arrays": {"dataset/values": lambda _: None}}, "key is missing"),
    "integer values": ({"arrays": {"dataset/values": lambda a: a.astype(int)}}, "got dtype int64"),
    "not JSON": ({"header": lambda text: text[:40]}, "key 'header': not a header of sciml"),
    "other format": ({"header": edit(format="other")}, "expected the format 'sciml fields'"),
    "later version": ({"header": edit(version=99)}, "version 99 .* update sciml"),
    "odd parts": ({"header": edit(parts={"trial": {}})}, r"got \['trial'\]"),
    "no sums": ({"header": edit(sha256={})}, "no checksum"),
    "bare part": ({"header": edit(parts={"dataset": {"dt": 1.0}})}, "part 'dataset' must have"),
    "changed header": (
        {"header": lambda text: text.replace('"dt": 0.', '"dt": 1.')},
        "key 'header': the checksum of the header differs",
    ),
    "text for a version": ({"header": edit(version="2")}, "expected a positive version"),
    "part that is none": ({"header": edit(parts={"dataset": 7})}, "part 'dataset' must have"),
    "nested too deeply": ({"header": lambda _: "[" * 10**5}, "not a header of sciml"),
    "no parts": ({"header": edit(parts=None)}, "lacks `parts`"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", BAD)
def test_damaged_files_are_named(tmp_path, suffix, case):
    changes, message = BAD[case]
    path = save_dataset(tmp_path / f"mine{suffix}", dataset())
    rewrite(path, **changes)
    with pytest.raises(DataFileError, match=r"mine\.\w+.*" + message):
        load(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0.3, 0.95])
def test_truncated_files(tmp_path, suffix, keep):
    path = save_dataset(tmp_path / f"mine{suffix}", dataset(n_samples=50))
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(DataFileError, match="damaged or incomplete"):
        load(path)


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    path = save_dataset(tmp_path / "mine.npz", dataset())
    with np.load(path) as file:
        content = dict(file)
    content["dataset/values"] = np.array([Bomb()], dtype=object)
    np.savez(path, **content)
    with pytest.raises(DataFileError, match="'dataset/values': the array cannot be read safely"):
        load(path)
    assert not (tmp_path / "exploded").exists()


def test_only_datasets_are_saved(tmp_path):
    with pytest.raises(TypeError, match="dataset"):
        save_dataset(tmp_path / "mine.npz", np.ones(3))
    assert list(tmp_path.iterdir()) == []


def test_bad_suffix_and_foreign_options(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.h5, \.hdf5 or \.npz"):
        save_dataset(tmp_path / "mine.mat", dataset())
    assert list(tmp_path.iterdir()) == []
    path = save_dataset(tmp_path / "mine.npz", dataset())
    with pytest.raises(DataFileError, match="`dt` does not apply to sciml's own files"):
        load(path, dt=0.1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_keeps_the_old_file(tmp_path, suffix, monkeypatch):
    path = save_dataset(tmp_path / f"mine{suffix}", dataset())

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(OSError, match="No space left"):
        save_dataset(path, dataset(2))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert_equal(load(path), dataset())


@pytest.mark.parametrize(
    "change", [lambda a: a.swapaxes(0, 1).reshape(a.shape[::-1]), lambda a: a.view(np.int64)]
)
def test_checksums_are_of_shape_and_dtype_too(tmp_path, change):
    data = dataset()
    same_bytes = np.ascontiguousarray(data.values).reshape(3, 4, 2, 5, 4)
    assert checksum(same_bytes) != checksum(data.values)
    assert checksum(same_bytes, version=1) == checksum(data.values, version=1)
    assert checksum(change(data.values)) != checksum(data.values)
