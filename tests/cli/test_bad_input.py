"""Malformed files and arguments: one clear line, the right status, nothing half-written."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from sciml.data import save_dataset

from .conftest import TINY_TRAINING, make_dataset


def _mat(path: Path, **changes) -> Path:
    arrays = {
        "u": np.random.default_rng(531).normal(size=(3, 8, 8, 6)),
        "t": 0.5 * np.arange(1, 7),
    } | changes
    scipy.io.savemat(path, arrays)
    return path


def _with_nan() -> np.ndarray:
    values = np.ones((3, 8, 8, 6))
    values[1, 2, 3, 4] = np.nan
    return values


def _truncated_npz(path: Path) -> Path:
    save_dataset(path, make_dataset())
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def _truncated_hdf5(path: Path) -> Path:
    save_dataset(path, make_dataset())
    path.write_bytes(path.read_bytes()[:5000])
    return path


def _changed_npz(path: Path) -> Path:
    save_dataset(path, make_dataset())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def _pickled_npz(path: Path) -> Path:
    np.savez(path, allow_pickle=True, header=np.array([{"a": 1}], dtype=object))
    return path


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _unknown_hdf5(path: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["measurements"] = np.zeros(3)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


MALFORMED = {
    "missing": (lambda p: p / "no.h5", "no such file"),
    "empty": (lambda p: _text(p / "a.h5", ""), "a.h5"),
    "html": (lambda p: _text(p / "ns.mat", "<!DOCTYPE html><html>Sign in</html>"), "HTML"),
    "text": (lambda p: _text(p / "a.npz", "hello"), "a.npz"),
    "truncated npz": (lambda p: _truncated_npz(p / "a.npz"), "damaged"),
    "truncated HDF5": (lambda p: _truncated_hdf5(p / "a.h5"), "a.h5"),
    "changed npz": (lambda p: _changed_npz(p / "a.npz"), "a.npz"),
    "pickle": (lambda p: _pickled_npz(p / "a.npz"), "safely"),
    "foreign HDF5": (lambda p: _unknown_hdf5(p / "a.h5"), "measurements"),
    "empty folder": (lambda p: _folder(p / "well"), "well"),
    "NaN": (lambda p: _mat(p / "a.mat", u=_with_nan()), "finite"),
    "complex": (lambda p: _mat(p / "a.mat", u=np.full((3, 8, 8, 6), 1j)), "complex"),
    "integer": (lambda p: _mat(p / "a.mat", u=np.ones((3, 8, 8, 6), np.int32)), "int32"),
    "unsorted times": (lambda p: _mat(p / "a.mat", t=[1.0, 2, 4, 3, 5, 6]), "ascend"),
    "uneven times": (lambda p: _mat(p / "a.mat", t=[1.0, 2, 3, 4, 5, 9]), "uniform"),
    "times of other length": (lambda p: _mat(p / "a.mat", t=[1.0, 2, 3]), "a.mat"),
    "axes lost": (lambda p: _mat(p / "a.mat", u=np.ones((3, 8))), "a.mat"),
}


def _files() -> dict[str, int]:
    return {str(p): p.stat().st_size for p in Path().rglob("*") if p.is_file()}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file(case, sciml, tmp_path):
    make, words = MALFORMED[case]
    path = make(tmp_path)
    before = _files()
    for command in (("data", "info", path), ("data", "convert", path, "out.npz")):
        outcome = sciml(*command)
        assert outcome.status == 2
        assert words in outcome.error
    assert _files() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(sciml, tmp_path):
    path = save_dataset(tmp_path / "a.npz", make_dataset())
    path.chmod(0)
    assert "a.npz" in sciml("data", "info", path).error


GENERATE = ("data", "generate", "navier-stokes", "--n-points", "8", "--n-snapshots", "3")
ARGUMENTS = {
    "dt zero": ((*GENERATE, "--out", "a.h5", "--dt", "0"), "dt"),
    "dt infinite": ((*GENERATE, "--out", "a.h5", "--dt", "inf"), "dt"),
    "viscosity negative": ((*GENERATE, "--out", "a.h5", "--viscosity", "-1"), "viscosity"),
    "viscosity NaN": ((*GENERATE, "--out", "a.h5", "--viscosity", "nan"), "viscosity"),
    "steps uneven": ((*GENERATE, "--out", "a.h5", "--solver-dt", "0.15"), "solver"),
    "nothing to make": ((*GENERATE, "--out", "a.h5", "--n-train", "0"), "--n-train"),
    "seed negative": ((*GENERATE, "--out", "a.h5", "--seed", "-3"), "--seed"),
    "no grid": ((*GENERATE[:-4], "--out", "a.h5", "--n-points", "1"), "n_points"),
    "other suffix": ((*GENERATE, "--out", "a.npz"), ".h5"),
    "no such folder": ((*GENERATE, "--out", "no/a.h5"), "does not exist"),
    "convert to csv": (("data", "convert", "DATA", "a.csv"), ".npz"),
    "convert to no points": (("data", "convert", "DATA", "a.npz", "--n-points", "0"), "n_points"),
    "convert over a folder": (("data", "convert", "DATA", "..", "--overwrite"), ".npz"),
    "no samples": (("data", "info", "DATA", "--samples", "0"), "--samples"),
    "read dt zero": (("data", "info", "DATA", "--dt", "0"), "--dt"),
    "dt known": (("data", "info", "DATA", "--dt", "0.3"), "dt"),
    "info on nothing": (("info", "nowhere"), "nowhere"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_arguments_of_data(case, sciml, data_file):
    arguments, words = ARGUMENTS[case]
    outcome = sciml(*(data_file if word == "DATA" else word for word in arguments))
    assert outcome.status == 2
    assert words in outcome.error
    assert _files() == {}


TRAINING = {
    "no output": (("--n-out", "0"), "--n-out"),
    "no input": (("--n-in", "0"), "--n-in"),
    "horizon too long": (("--n-out", "11"), "14 snapshots"),
    "modes over points": (("--modes", "3", "5", "3"), "at most 4"),
    "modes over latent nodes": (("--modes", "4", "3", "3"), "latent"),
    "modes missing": (("--modes", "3", "3"), "needs 3"),
    "modes zero": (("--modes", "3", "0", "3"), "n_modes"),
    "grid too coarse": (("--n-points", "4"), "--n-points"),
    "rate zero": (("--learning-rate", "0"), "--learning-rate"),
    "rate NaN": (("--learning-rate", "nan"), "--learning-rate"),
    "batch over samples": (("--batch-size", "50"), "batch_size"),
    "batch zero": (("--batch-size", "0"), "--batch-size"),
    "no steps": (("--steps", "0"), "--steps"),
    "seed negative": (("--seed", "-1"), "--seed"),
    "nothing to train on": (("--n-test", "6"), "none to train on"),
    "negative part": (("--n-test", "-1"), "negative"),
    "resume and replace": (("--resume", "--overwrite"), "exclude"),
    "nothing to resume": (("--resume",), "no checkpoint"),
    "no such data": (("--data", "no.h5"), "no.h5"),
}


@pytest.mark.parametrize("case", TRAINING)
def test_bad_arguments_of_train(case, sciml, data_file):
    arguments, words = TRAINING[case]
    outcome = sciml("train", "sfno", "--data", data_file, *TINY_TRAINING, *arguments)
    assert outcome.status == 2
    assert words in outcome.error
    assert _files() == {}


def test_train_refuses_data_that_are_not_periodic(sciml, tmp_path):
    path = save_dataset(tmp_path / "box.npz", make_dataset(periodic=(True, False)))
    outcome = sciml("train", "sfno", "--data", path, *TINY_TRAINING)
    assert outcome.status == 2
    assert "not periodic" in outcome.error


def test_train_refuses_symmetries_that_the_grid_lacks(sciml, tmp_path):
    path = save_dataset(tmp_path / "flow.npz", make_dataset().resample((8, 12)))
    words = ("train", "sfno", "--data", path, *TINY_TRAINING, "--symmetries", "vorticity")
    assert "equal points" in sciml(*words).error


def test_train_refuses_a_run_folder_that_is_taken(sciml, data_file, trained):
    words = ("train", "sfno", "--data", data_file, "--run-dir", trained, *TINY_TRAINING)
    outcome = sciml(*words)
    assert outcome.status == 2
    assert "--resume" in outcome.error
    changed = sciml(*words, "--resume", "--steps", "9")
    assert changed.status == 2
    assert "steps" in changed.err.splitlines()[-1]


def test_train_refuses_a_run_folder_that_is_a_file(sciml, data_file, tmp_path):
    (tmp_path / "file").write_text("mine")
    words = ("train", "sfno", "--data", data_file, "--run-dir", "file", *TINY_TRAINING)
    assert "is a file" in sciml(*words).error


PREDICTION = {
    "no such model": (("nowhere", "DATA", "--out", "o.npz"), "no such run"),
    "a file as model": (("DATA", "DATA", "--out", "o.npz"), "is a file"),
    "no such data": (("RUN", "no.h5", "--out", "o.npz"), "no.h5"),
    "no such part": (("RUN", "navier-stokes", "--out", "o.npz", "--n-points", "0"), "--n-points"),
    "no steps": (("RUN", "DATA", "--out", "o.npz", "--n-steps", "0"), "--n-steps"),
    "too many inputs": (("RUN", "DATA", "--out", "o.npz", "--n-in", "99"), "99 snapshots"),
    "window too long": (
        ("RUN", "DATA", "--out", "o.npz", "--n-steps", "8", "--window", "8"),
        "horizon",
    ),
    "other suffix": (("RUN", "DATA", "--out", "o.txt"), ".npz"),
    "no such folder": (("RUN", "DATA", "--out", "no/o.npz"), "does not exist"),
    "out is a folder": (("RUN", "DATA", "--out", ".npz/"), ".npz"),
    "figure suffix": (("RUN", "DATA", "--out", "o.npz", "--figure", "f.gif"), ".png"),
    "figure without truth": (
        ("RUN", "DATA", "--out", "o.npz", "--figure", "f.png", "--n-steps", "12"),
        "truth",
    ),
}


@pytest.mark.parametrize("case", PREDICTION)
def test_bad_arguments_of_predict(case, sciml, data_file, trained):
    arguments, words = PREDICTION[case]
    outcome = sciml("predict", *({"DATA": data_file, "RUN": trained}.get(w, w) for w in arguments))
    assert outcome.status == 2
    assert words in outcome.error
    assert _files() == {}


def test_predict_refuses_data_of_another_kind(sciml, trained, tmp_path):
    other_dt = save_dataset(tmp_path / "dt.npz", make_dataset(dt=0.1))
    assert "every 0.5" in sciml("predict", trained, other_dt, "--out", "o.npz").error
    values = np.repeat(make_dataset().values, 2, axis=2)
    two = save_dataset(
        tmp_path / "two.npz", make_dataset().replace(values=values, channels=("u", "v"))
    )
    assert "inputs" in sciml("predict", trained, two, "--out", "o.npz").error


def test_predict_keeps_a_file_that_is_there(sciml, data_file, trained, tmp_path):
    (tmp_path / "o.npz").write_text("mine")
    assert "--overwrite" in sciml("predict", trained, data_file, "--out", "o.npz").error
    assert (tmp_path / "o.npz").read_text() == "mine"


def _edit_config(folder: Path, change) -> None:
    path = folder / "checkpoint" / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _truncate_arrays(folder: Path) -> None:
    # The weights and the state of the optimiser: which is which depends on their digests.
    for path in (folder / "checkpoint").glob("arrays-*.npz"):
        path.write_bytes(path.read_bytes()[:300])


DAMAGE = {
    "truncated arrays": _truncate_arrays,
    "no arrays": lambda f: [p.unlink() for p in (f / "checkpoint").glob("arrays-*.npz")],
    "config cut": lambda f: (f / "checkpoint" / "config.json").write_text("{"),
    "run config cut": lambda f: (f / "config.json").write_text("{"),
    "no checkpoint": lambda f: shutil.rmtree(f / "checkpoint"),
    "unknown class": lambda f: _edit_config(f, lambda c: c["module"].update({"class": "os.Path"})),
    "unknown argument": lambda f: _edit_config(f, lambda c: c["module"]["arguments"].update(x=1)),
    "unknown key": lambda f: _edit_config(f, lambda c: c.update(extra=1)),
    "other width": lambda f: _edit_config(
        f, lambda c: c["module"]["arguments"].update(hidden_channels=5)
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_model(case, sciml, data_file, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    DAMAGE[case](tmp_path / "run")
    before = _files()
    outcome = sciml("predict", "run", data_file, "--out", "o.npz")
    assert outcome.status == 2
    assert "run" in outcome.error
    assert _files() == before


def test_full_disk(sciml, data_file, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fail)
    outcome = sciml("data", "convert", data_file, "copy.npz")
    assert outcome.status == 1
    assert "disk is full" in outcome.error
    assert _files() == {}
