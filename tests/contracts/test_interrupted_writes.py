"""SIGKILL and a full disk while something is written: the last finished file is there, whole."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from sciml.core import read_folder, write_folder, write_report
from sciml.data import (
    DataFileError,
    FieldDataset,
    FlowCase,
    FlowProblem,
    Trajectory,
    load,
    load_trajectories,
    save_dataset,
    save_flow_case,
    save_trajectories,
)
from sciml.data._generation_file import GenerationFile
from sciml.natural_gradient._march_checkpoint import read_march, write_march

_MARCH = {"span": [0, 1], "rows": [], "control": {}, "tangent": None}


def _fields(k):
    values = np.full((4, 8, 1, 32, 32), k, np.float32)
    return FieldDataset.from_array(values, dt=1.0, domain_extent=1.0, attributes={"k": k})


def _number(data):
    assert np.all(data.values == data.attributes["k"])
    return data.attributes["k"]


def _run(k):
    position = np.full((8, 500, 2), k, np.float32)
    return Trajectory.from_array(position, dt=0.1, bounds=[[0, 1]] * 2, attributes={"k": k})


def _read_arrays(path):
    _, groups = read_folder(path, ("a", "b"), ())
    first, second = (int(groups[name]["w"][0]) for name in "ab")
    assert first == second
    assert np.all(groups["a"]["w"] == first)
    return first


SAVERS = {
    "m": (
        lambda path, k: write_folder(
            path, {}, {name: {"w": np.full(20_000, k)} for name in ("a", "b")}
        ),
        _read_arrays,
    ),
    "march": (
        lambda path, k: write_march(path, np.zeros(3), np.full(9000, k), _MARCH | {"t": k}),
        lambda path: read_march(path, np.zeros(9000))[1]["t"],
    ),
    "d.npz": (lambda path, k: save_dataset(path, _fields(k)), lambda path: _number(load(path))),
    "d.h5": (lambda path, k: save_dataset(path, _fields(k)), lambda path: _number(load(path))),
    "p.npz": (
        lambda path, k: save_trajectories(path, _run(k)),
        lambda path: load_trajectories(path)[0].attributes["k"],
    ),
    "r.json": (
        lambda path, k: write_report(path, rows=[{"k": k}] * 500),
        lambda path: json.loads(path.read_text())["rows"][0]["k"],
    ),
}

# The process imports everything and starts no backend of JAX, so that it may fork the writers.
_KILLER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from contracts import test_interrupted_writes as job
for name in job.SAVERS:
    if name != "march":  # the same writer as that of "m"; its reader would start a backend
        job.kill_writers(job.Path(sys.argv[2]), name)
os._exit(0)
"""


def kill_writers(folder, name):
    """Start writers one after the other on one path, and kill each at a random moment."""
    save, read = SAVERS[name]
    path, moments, last = folder / name, random.Random(f"{name} 67"), 0
    for _ in range(8):
        child = os.fork()
        if child == 0:
            k = last
            while True:
                k += 1
                save(path, k)
        try:
            _wait_for_progress(path, read, last)
            time.sleep(moments.uniform(0.0, 0.03))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        found = read(path)
        assert found > last, (found, last)
        last = found
    save(path, last + 1)  # what the dead left is in nobody's way
    assert read(path) == last + 1
    print(name, flush=True)


def _wait_for_progress(path, read, last):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if read(path) > last:
                return
        except FileNotFoundError:  # nothing is finished yet
            pass
        time.sleep(0.002)
    raise TimeoutError(f"nothing new at {path}")


def test_killed_writers(tmp_path):
    tests = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-W", "ignore", "-c", _KILLER, str(tests), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    survived = [name for name in SAVERS if name != "march"]
    assert done.stdout.split() == survived, done.stderr


@pytest.mark.parametrize("n_bytes", [0, 300, 5000])
@pytest.mark.parametrize("name", SAVERS)
def test_a_full_disk(tmp_path, name, n_bytes):
    save, read = SAVERS[name]
    path = tmp_path / name
    save(path, 1)
    before = sorted(tmp_path.rglob("*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the length of files stands in for the disk; HDF5 would not survive a real one.
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            save(path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(tmp_path.rglob("*")) == before
    assert read(path) == 1
    save(path, 2)
    assert read(path) == 2


def test_a_case_that_is_half_written_is_none(tmp_path, monkeypatch):
    """``case.json`` comes last: without it the folder is free for the next run."""
    zeros = np.zeros((3, 6, 6), np.float32)
    params = {"vel_top": 2.0, "density": 1.0, "viscosity": 0.01, "height": 0.5, "width": 0.5}
    case = FlowCase(FlowProblem.CAVITY, zeros, zeros, params, dt=0.1)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sciml.data._cfdbench.atomic_write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            save_flow_case(tmp_path, "prop", 0, case)
    folder = save_flow_case(tmp_path, "prop", 0, case)
    assert sorted(p.name for p in folder.iterdir()) == ["case.json", "u.npy", "v.npy"]


# --- two runs, one file ---


def _generation(path):
    return GenerationFile(path, {"train": 4}, (1, 1, 4, 4), {}, {"seed": 3})


_GENERATE = """
import sys
sys.path.insert(0, sys.argv[1])
from contracts import test_interrupted_writes as job
with job._generation(job.Path(sys.argv[2])) as file:
    file.write("train", 0, job.np.ones((2, 1, 1, 4, 4), job.np.float32))
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_two_generations_of_one_file(tmp_path):
    tests = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-W", "ignore", "-c", _GENERATE, str(tests), str(tmp_path / "d.h5")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "writing\n"
        with (
            pytest.raises(DataFileError, match=r"d\.h5\.partial: another run is generating"),
            _generation(tmp_path / "d.h5"),
        ):
            pass
        process.kill()
    with _generation(tmp_path / "d.h5") as file:  # the lock died with its owner
        assert file.n_done() == {"train": 2}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f["progress/train"].__setitem__(0, 9), "9 of 4 samples"),
        (lambda f: f["progress/train"].__setitem__(0, -1), "-1 of 4 samples"),
        (lambda f: f.__delitem__("train/values"), "key is missing"),
        (lambda f: f.__delitem__("progress/train"), "key is missing"),
        (lambda f: f.attrs.__setitem__("parameters", "[" * 10**5), "recursion"),
        (lambda f: f.attrs.__setitem__("parameters", "3"), "no object"),
    ],
)
def test_a_spoiled_partial_file_is_named(tmp_path, spoil, words):
    with _generation(tmp_path / "d.h5"):
        pass
    with h5py.File(tmp_path / "d.h5.partial", "r+") as file:
        spoil(file)
    with (
        pytest.raises(DataFileError, match=rf"(?s)d\.h5\.partial.*{words}.*remove it"),
        _generation(tmp_path / "d.h5"),
    ):
        pass
    with h5py.File(tmp_path / "d.h5.partial", "r+"):  # not left open
        pass
