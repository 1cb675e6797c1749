"""Out of core: the batches of memory to the bit, few of them at once, and files that change."""

import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc

import h5py
import jax
import numpy as np
import pytest

from sciml.data import (
    DataFileError,
    DatasetSplits,
    FieldDataset,
    GaussianNormaliser,
    PrefetchedBatches,
    VorticitySymmetries,
    WindowBatches,
    load,
    open_dataset,
    save_dataset,
    save_pieces,
)
from sciml.data._own_format import seal_header


def dataset(n_samples=7, n_times=9, context="each", dtype=np.float32, points=(6, 6)):
    rng = np.random.default_rng(4127)
    values = (5 + rng.normal(size=(n_samples, n_times, 1, *points))).astype(dtype)
    shape = {"each": n_samples, "shared": 1}
    return FieldDataset.from_array(
        values,
        dt=0.5,
        domain_extent=2.0,
        start_time=1.0,
        channels=("vorticity",),
        context=rng.normal(size=(shape[context], 1, *points)).astype(dtype) if context else None,
        attributes={"origin": "test"},
    )


@pytest.fixture
def stored_file(tmp_path):
    return save_dataset(tmp_path / "flow.h5", dataset())


def threads():
    return [t for t in threading.enumerate() if t.name == "sciml-prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    gc.collect()
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == []


def assert_same(a, b):
    for mine, theirs in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


# --- the same as in memory ---


@pytest.mark.parametrize("context", ["each", "shared", None])
@pytest.mark.parametrize("shuffle", [True, False])
def test_two_epochs_are_those_of_memory(tmp_path, context, shuffle):
    data = dataset(context=context)
    path = save_dataset(tmp_path / "flow.h5", data)
    options = {"batch_size": 3, "seed": 815, "shuffle": shuffle}
    options["transform"] = VorticitySymmetries() if context is None else None
    in_memory = data.windows(2, 3, **options)
    batches = open_dataset(path).windows(2, 3, **options)
    assert batches.steps_per_epoch == in_memory.steps_per_epoch == 3
    for step in range(2 * 3):
        assert_same(batches[step], in_memory[step])
        assert batches.describe(step) == in_memory.describe(step)
    # Anywhere, as a resumed run and a validation ask.
    for step in (4, 5, 0, 17, 17):
        assert_same(batches[step], in_memory[step])
    assert_same(next(iter(batches)), in_memory[0])
    batches.release()
    assert_same(batches[6], in_memory[6])


def test_it_knows_what_the_dataset_knows(stored_file):
    data, stored = dataset(), open_dataset(stored_file)
    for name in ("n_samples", "n_times", "n_channels", "n_points", "channels", "axes", "dt"):
        assert getattr(stored, name) == getattr(data, name)
    for name in ("domain_extent", "start_time", "context_names", "periodic", "attributes"):
        assert getattr(stored, name) == getattr(data, name)
    np.testing.assert_array_equal(stored.times, data.times)
    assert len(stored) == 7
    assert "7 samples x 9 times x 1 channels on 6 x 6 points, float32" in repr(stored)
    assert (stored.values.ndim, stored.values.size) == (data.values.ndim, data.values.size)


def test_normaliser_by_streaming_has_the_same_figures(stored_file):
    part = slice(0, 5)
    expected = GaussianNormaliser.fit(dataset().select(part))
    assert GaussianNormaliser.fit(open_dataset(stored_file).select(part)) == expected


@pytest.mark.parametrize("samples", [3, slice(1, None, 2), [4, 0], np.array([6])])
def test_select_astype_and_load(stored_file, samples):
    stored = open_dataset(stored_file).select(samples).astype(np.float64)
    expected = dataset().select(samples).astype(np.float64)
    loaded = stored.load()
    assert_same(loaded.values, expected.values)
    assert_same(loaded.context, expected.context)
    size = min(2, len(expected))
    batches = stored.windows(1, 2, batch_size=size, seed=9)
    assert_same(batches[1], expected.windows(1, 2, batch_size=size, seed=9)[1])


def test_selections_that_make_no_sense(stored_file):
    stored = open_dataset(stored_file)
    with pytest.raises(ValueError, match="leaves none of the 7 samples"):
        stored.select(slice(7, None))
    with pytest.raises(IndexError):
        stored.select(7)
    with pytest.raises(ValueError, match="longer than the 9 snapshots"):
        stored.windows(5, 5, batch_size=1, seed=1)
    with pytest.raises(ValueError, match="prefetch"):
        stored.windows(1, 1, batch_size=1, seed=1, prefetch=0)
    with pytest.raises(IndexError, match="follow one another"):
        stored.values[np.array([[0]]), np.array([[0, 2]])]
    with pytest.raises(IndexError, match="there are 9 times"):
        stored.values[np.array([[0]]), np.array([[8, 9]])]


def test_parts_chunks_and_byte_order(tmp_path):
    splits = dataset().split(n_validation=2)
    path = save_dataset(tmp_path / "flow.h5", splits)
    # The numbers as another program may store them; the sums are over the numbers.
    with h5py.File(path, "r+") as file:
        values = file["train/values"][()]
        del file["train/values"]
        file.create_dataset("train/values", data=values.astype(">f4"), chunks=True, compression=1)
    with pytest.raises(DataFileError, match=r"one of \['train', 'validation'\]; got None"):
        open_dataset(path)
    train = open_dataset(path, part="train")
    assert_same(train.load().values, splits.train.values)
    assert_same(open_dataset(path, part="validation").load().values, splits.validation.values)
    assert isinstance(load(path), DatasetSplits)


# --- memory and threads ---


def test_memory_is_that_of_a_few_batches(tmp_path):
    path = save_dataset(tmp_path / "flow.h5", dataset(80, 40, points=(32, 32), context=None))
    batch_bytes = 4 * 10 * 32 * 32 * 4
    tracemalloc.start()
    try:
        stored = open_dataset(path)
        GaussianNormaliser.fit(stored)
        batches = stored.windows(4, 6, batch_size=4, seed=5, prefetch=3)
        for step in range(30):
            batches[step]
        time.sleep(0.2)  # it goes no further ahead
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert os.path.getsize(path) > 10 * 7 * batch_bytes
    assert peak < 7 * batch_bytes


def test_the_thread_ends_with_the_batches_and_starts_again(stored_file):
    batches = open_dataset(stored_file).windows(2, 3, batch_size=3, seed=815)
    assert threads() == []
    batches[0]
    assert len(threads()) == 1
    batches.release()
    assert threads() == []
    batches[1]
    batches[9]
    assert len(threads()) == 1  # not collected by hand: the fixture looks


def test_an_error_of_a_transform_comes_at_its_step(stored_file):
    calls = []

    def transform(window, generator):
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            raise ZeroDivisionError("in the transform")
        return window

    batches = open_dataset(stored_file).windows(1, 1, batch_size=2, seed=7, transform=transform)
    batches[0], batches[1]
    with pytest.raises(ZeroDivisionError, match="in the transform"):
        batches[2]
    assert set(calls) == {"sciml-prefetch"}
    batches[2]  # a second attempt


def test_an_interrupt_while_waiting_loses_no_batch(stored_file, monkeypatch):
    batches = open_dataset(stored_file).windows(2, 3, batch_size=3, seed=815)
    batches[0]

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(batches._worker, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batches[1]
    assert threads() == []
    assert_same(batches[1], dataset().windows(2, 3, batch_size=3, seed=815)[1])


def test_a_fork_reads_by_itself(stored_file):
    batches = open_dataset(stored_file).windows(2, 3, batch_size=3, seed=815)
    expected = [batches[step].inputs.sum() for step in range(6)]
    batches[0]
    worker = batches._worker
    worker.process -= 1  # what a child sees: the object, of a process that is not its own
    assert [batches[step].inputs.sum() for step in range(1, 6)] == expected[1:]
    assert batches._worker is not worker
    worker.stop()


AT_EXIT = """
import atexit, sys, threading, time
import h5py  # its own handler comes after the one that is registered here
from sciml.data import open_dataset

def tell():
    print([t.name for t in threading.enumerate() if t.name == "sciml-prefetch"])

atexit.register(tell)

def slow(window, generator):
    time.sleep(0.01)
    return window

batches = open_dataset(sys.argv[1]).windows(2, 3, batch_size=3, seed=815, transform=slow)
batches[0]
"""


def test_the_thread_ends_before_what_it_reads_with(stored_file):
    command = [sys.executable, "-c", AT_EXIT, str(stored_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_batches_of_memory_can_be_made_ahead():
    in_memory = dataset().windows(2, 3, batch_size=3, seed=815)
    batches = PrefetchedBatches(in_memory, prefetch=1)
    assert isinstance(batches.batches, WindowBatches)
    assert_same([batches[step] for step in range(5)], [in_memory[step] for step in range(5)])


# --- files that are damaged, or change ---


def truncate(path):
    os.truncate(path, os.path.getsize(path) - 5000)


def overwrite(path):
    with path.open("r+b") as file:
        file.write(b"?" * 200)
    os.utime(path, ns=(1, 1))


CHANGES = {
    "removed": (lambda path: path.unlink(), "cannot be read any more"),
    "truncated": (truncate, "was changed while batches are read from it"),
    "overwritten": (overwrite, "was changed while batches are read from it"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_under_the_training(stored_file, change):
    stored = open_dataset(stored_file)
    batches = stored.windows(2, 3, batch_size=3, seed=815, prefetch=1)
    batches[0]
    CHANGES[change][0](stored_file)
    match = rf"flow\.h5: .*{CHANGES[change][1]}"
    with pytest.raises(DataFileError, match=match):
        for step in range(1, 5):  # the one that was there already is good
            batches[step]
    assert threads() == []
    with pytest.raises(DataFileError, match=match):
        stored.load()


def bad_value(file):
    file["dataset/values"][3, 2, 0, 1, 1] = 17


def nan(file):
    file["dataset/values"][3, 2, 0, 1, 1] = np.nan


def no_values(file):
    del file["dataset/values"]


def few_contexts(file):
    context = file["dataset/context"][:3]
    del file["dataset/context"]
    file["dataset/context"] = context


def few_axes(file):
    del file["dataset/values"]
    file["dataset/values"] = np.zeros((3, 4), np.float32)


def no_sample(file):
    del file["dataset/values"]
    file["dataset/values"] = np.zeros((0, 4, 1, 6, 6), np.float32)


def other_header(file):
    file.attrs["header"] = seal_header({"format": "x", "version": 2, "sha256": {}, "parts": {}})


DAMAGES = {
    "bad value": (bad_value, "'dataset/values': the checksum differs"),
    "nan": (nan, "sample 3 has 1 entries that are not finite"),
    "no values": (no_values, "the key is missing"),
    "few contexts": (few_contexts, r"'dataset/context': (the checksum|expected 1 or 7)"),
    "few axes": (few_axes, "must have 5 axes"),
    "no sample": (no_sample, "empty|which the file"),
    "other header": (other_header, "expected the format 'sciml fields'"),
    "no header": (lambda file: file.attrs.clear(), "only HDF5 files of sciml"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_when_it_is_opened(stored_file, damage):
    change, match = DAMAGES[damage]
    with h5py.File(stored_file, "r+") as file:
        change(file)
    with pytest.raises(DataFileError, match=r"flow\.h5.*" + match):
        open_dataset(stored_file)


def test_without_verification_the_arrays_are_not_read(stored_file):
    with h5py.File(stored_file, "r+") as file:
        bad_value(file)
    stored = open_dataset(stored_file, verify=False)
    assert stored.load().values[3, 2, 0, 1, 1] == 17


def test_what_is_not_a_file_of_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        open_dataset(tmp_path / "none.h5")
    npz = save_dataset(tmp_path / "mine.npz", dataset())
    for path in (tmp_path, npz):
        with pytest.raises(DataFileError, match=r"only HDF5 files of sciml.*`save_pieces"):
            open_dataset(path)


# --- writing in pieces ---


@pytest.mark.parametrize("context", ["each", "shared", None])
def test_pieces_become_one_file(tmp_path, context):
    data = dataset(context=context)
    source = save_dataset(tmp_path / "source.h5", data)
    pieces = (load(source, samples=slice(i, i + 3)) for i in (0, 3))
    path = save_pieces(tmp_path / "large.h5", pieces)
    expected = data.select(slice(0, 6))
    for found in (load(path), open_dataset(path).load()):
        assert_same(found.values, expected.values)
        assert_same(found.context, expected.context)
        assert (found.dt, found.attributes) == (data.dt, data.attributes)
    assert_same(
        open_dataset(path).windows(2, 3, batch_size=4, seed=3)[1],
        expected.windows(2, 3, batch_size=4, seed=3)[1],
    )
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["large.h5", "source.h5"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.replace(dt=1.0), "piece 1 .* `dt`: 1.0, not 0.5"),
        (lambda d: d.slice_times(0, 5), "`n_times`: 5, not 9"),
        (lambda d: d.astype(np.float64), "its dtype: float64"),
        (lambda d: d.replace(context=2 * d.context), "`context`, which"),
    ],
)
def test_pieces_that_do_not_fit_leave_nothing(tmp_path, change, match):
    data = dataset(context="shared")
    with pytest.raises(ValueError, match=match):
        save_pieces(tmp_path / "large.h5", [data, change(data)])
    assert list(tmp_path.iterdir()) == []


def test_other_refusals_of_pieces(tmp_path):
    each = dataset(context="each")
    with pytest.raises(ValueError, match="of which the first has one for each"):
        save_pieces(tmp_path / "large.h5", [each, each.replace(context=each.context[:1])])
    with pytest.raises(ValueError, match="no dataset"):
        save_pieces(tmp_path / "large.h5", [])
    with pytest.raises(ValueError, match=r"end in \.h5"):
        save_pieces(tmp_path / "large.npz", [each])
