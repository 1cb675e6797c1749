"""sciml train: the run folder, resuming, every model, and an interrupt."""

import json
import re
import shutil
import sys

import jax
import numpy as np
import pytest

import sciml as library
from sciml.cli import _train_job
from sciml.cli._build_model import build_model
from sciml.cli._errors import UsageError
from sciml.cli._load_data import held_out, open_splits
from sciml.cli._train import TrainFNO2d, TrainFNO3d, TrainT1
from sciml.data import save_dataset
from sciml.neural_operators import AutoregressiveFNO, SpaceTimeFNO
from sciml.train import read_metrics

from .conftest import TINY_TRAINING, make_dataset


def test_run_folder_is_complete(trained):
    names = {path.name for path in trained.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "checkpoint", "best", "figures"}
    assert (trained / "figures" / "training.png").stat().st_size > 1000
    assert len(read_metrics(trained)["validation_loss"][0]) == 2
    config = json.loads((trained / "config.json").read_text())["config"]
    assert config["n_in"] == 3
    assert config["n_out"] == 4
    assert config["dt"] == 0.5
    assert library.load(trained / "checkpoint").hidden_channels == 4


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (TrainFNO3d(n_in=3, n_out=4, width=4, layers=2, modes=(2, 3, 3)), SpaceTimeFNO),
        (TrainFNO2d(n_in=3, n_out=4, width=5, layers=2, modes=(3, 3)), AutoregressiveFNO),
    ],
)
def test_other_models_are_those_of_the_options(options, kind):
    model = build_model(options, make_dataset(), jax.random.key(31))
    assert type(model) is kind
    assert (model.n_in, model.n_modes, model.hidden_channels, model.n_layers) == (
        3,
        options.modes,
        options.width,
        2,
    )


def test_an_interrupted_run_ends_like_one_that_was_not(sciml, data_file, trained, monkeypatch):
    """Ctrl-C after step 2: status 130, a checkpoint, and the command that goes on."""
    shutil.copytree(trained, "again")
    command = ["train", "sfno", "--data", str(data_file), "--run-dir", "again", *TINY_TRAINING]
    monkeypatch.setattr("sys.argv", ["sciml", *command, "--overwrite"])
    real_fit = _train_job.fit

    def interrupted_fit(model, batches, **arguments):
        class Interrupting:
            def __getitem__(self, step):
                if step == 2:
                    raise KeyboardInterrupt
                return batches[step]

        return real_fit(model, Interrupting(), **arguments)

    monkeypatch.setattr(_train_job, "fit", interrupted_fit)
    assert sciml(*command).status == 2  # an earlier run is there
    stopped = sciml(*command, "--overwrite")
    assert stopped.status == 130
    assert stopped.err.endswith(f"go on with: sciml {' '.join(command)} --resume\n")
    assert "Traceback" not in stopped.err

    monkeypatch.setattr(_train_job, "fit", real_fit)
    resumed = sciml(*command, "--resume")
    assert resumed.status == 0
    table = [line.split()[:2] for line in resumed.out.splitlines()]
    for part in ("validation", "test"):
        assert [part, "persistence"] in table
        assert [part, "sfno"] in table
    assert f"Next     sciml predict again {data_file}" in resumed.out
    again, once = (jax.tree.leaves(library.load(f"{run}/checkpoint")) for run in ("again", trained))
    for mine, theirs in zip(again, once, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_training_needs_no_matplotlib(sciml, data_file, trained, monkeypatch, tmp_path):
    """It is the run of `trained`, whose programs are kept."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ("train", "sfno", "--data", data_file, "--run-dir", "run", *TINY_TRAINING)
    outcome = sciml(*words)
    assert outcome.status == 0
    assert "relative L2" in outcome.out
    assert outcome.out.count("pip install 'sciml[plot]'") == 1
    assert (tmp_path / "run" / "checkpoint" / "config.json").exists()
    assert not (tmp_path / "run" / "figures").exists()


def test_data_stay_in_their_file_and_a_mesh_trains_alike(sciml, tmp_path, trained):
    """The words of another run of the same settings: neither counts as another configuration."""
    path = save_dataset(tmp_path / "waves.h5", make_dataset())
    words = ("train", "sfno", "--data", path, "--run-dir", "my run", *TINY_TRAINING)
    done = sciml(*words, "--out-of-core", "--devices", 1)
    assert done.status == 0, done.err
    assert "StoredDataset" in done.out
    assert f"Next     sciml predict 'my run' {path} --out forecast.npz" in done.out
    found, expected = (read_metrics(run) for run in ("my run", trained))
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(found[name][1], expected[name][1], rtol=2e-6)
    # Another spelling of a path is the same file.
    detour = path.parent / ".." / path.parent.name / path.name
    assert sciml(*(detour if word == path else word for word in words), "--resume").status == 0


def test_parts_of_a_file_that_stays_closed_are_kept(tmp_path):
    parts = make_dataset().split(n_validation=2, n_test=1)
    splits = open_splits(str(save_dataset(tmp_path / "parts.h5", parts)), None, None, None)
    assert [(name, part.n_samples) for name, part in held_out(splits)] == [
        ("validation", 2),
        ("test", 1),
    ]
    whole = open_splits(str(save_dataset(tmp_path / "whole.h5", make_dataset())), None, 2, 0)
    np.testing.assert_array_equal(whole.validation.values, make_dataset().values[4:])
    assert (whole.train.n_samples, whole.test) == (4, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out-of-core",), "reads a file while it trains"),
        (("--devices", 97), r"97 devices are asked for and JAX sees \d+"),
        (("--devices", 0), "--devices must be at least 1"),
        (("--process-id", 0), "--process-id is for several processes: add --distributed"),
        (("--devices", 2, "--distributed"), "leave out --devices"),
        (("--distributed", "--num-processes", 2, "--process-id", 2), "from 0 to 1"),
        (("--distributed", "--coordinator-address", "here"), "must be host:port"),
    ],
)
def test_devices_that_cannot_be_had_are_named(sciml, options, words):
    outcome = sciml("train", "sfno", *options)
    assert outcome.status == 2
    assert re.search(words, outcome.error), outcome.error


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("sfno", ("--n-points", 4), "sciml data convert"),
        ("sfno", ("--n-test", 6), "leave none to train on"),
        ("t1", (), "is for sfno, fno3d and fno2d: t1 encodes"),
        ("noda", (), "is for sfno, fno3d and fno2d: noda takes"),
    ],
)
def test_what_cannot_stay_in_its_file_is_named(sciml, tmp_path, model, options, words):
    path = save_dataset(tmp_path / "waves.h5", make_dataset())
    outcome = sciml("train", model, "--data", path, "--out-of-core", *options)
    assert outcome.status == 2
    assert words in outcome.error


def test_parts_of_the_file_are_kept(sciml, tmp_path):
    data = make_dataset().split(n_validation=2, n_test=1)
    path = save_dataset(tmp_path / "parts.npz", data)
    words = ("train", "sfno", "--data", path, *TINY_TRAINING, "--n-test", "1")
    assert "its own parts" in sciml(*words).error


def test_noda_trains_and_shows_errors_by_availability(sciml, data_file):
    command = ["--steps", 2, "--batch-size", 2, "--width", 4, "--layers", 1, "--modes", 3, 3]
    command += ["--n-out", 3, "--sensor-stride", 2, "--validate-every", 2]
    outcome = sciml("train", "noda", "--data", data_file, *command)
    assert outcome.status == 0, outcome.err
    assert "availability 0.3" in outcome.out
    assert "nudging, gain 0.5" in outcome.out
    model = library.load("runs/noda/checkpoint")
    assert model.observe.n_measurements > 1
    assert "does not forecast" in sciml("predict", "runs/noda", data_file, "--out", "x.npz").error
    told = sciml("info", "runs/noda")
    assert told.status == 0
    assert "NODA" in told.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--n-in", 2), "leave out --n-in"),
        (("--sensor-stride", 0), "--sensor-stride"),
        (("--noise", -1), "--noise"),
        (("--modes", 3, 3, 3), "--modes needs 2 numbers"),
    ],
)
def test_noda_refuses_what_makes_no_sense(sciml, data_file, options, words):
    outcome = sciml("train", "noda", "--data", data_file, "--modes", 3, 3, *options)
    assert outcome.status == 2
    assert words in outcome.error


def test_t1_trains_on_coefficients_and_predicts(sciml, data_file):
    words = ["train", "t1", "--data", data_file, "--run-dir", "t1", "--n-in", 3, "--n-out", 4]
    words += ["--steps", 2, "--batch-size", 2, "--width", 4, "--layers", 1]
    done = sciml(*words, "--tolerance", 0.5)
    assert done.status == 0, done.err
    assert "which leave 0.5 of the fields or less" in done.out
    model = library.load("t1/checkpoint")
    assert (model.n_in, model.n_out, model.hidden_channels) == (3, 4, 4)
    predicted = sciml("predict", "t1", data_file, "--out", "forecast.npz")
    assert predicted.status == 0, predicted.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TrainT1(n_in=3, n_out=4, modes=(3,)), "--modes needs 2 numbers"),
        (TrainT1(n_in=3, n_out=4, modes=(3, 900)), "keeps 900 coefficients of axis 'y'"),
        (TrainT1(n_in=3, n_out=4, tolerance=2.0), "--tolerance must lie between 0 and 1"),
        (TrainT1(n_in=3, n_out=4, symmetries="vorticity"), "--symmetries turns fields"),
    ],
)
def test_t1_refuses_what_does_not_fit(options, message):
    with pytest.raises(UsageError, match=message):
        build_model(options, make_dataset(), jax.random.key(37))


def test_t1_learns_between_walls_and_the_fourier_models_say_no(sciml, tmp_path):
    path, folder = save_dataset(tmp_path / "walls.npz", make_dataset(periodic=False)), "run"
    common = ("--data", path, "--n-in", 2, "--n-out", 2, "--steps", 2, "--batch-size", 2)
    small = ("--modes", 4, 4, "--width", 4, "--layers", 1)
    done = sciml("train", "t1", *common, *small, "--run-dir", folder)
    assert done.status == 0, done.err
    done = sciml("predict", folder, path, "--out", "f.npz", "--n-steps", 2)
    assert done.status == 0, done.err
    # A Sobolev norm by Fourier modes would count a jump at the walls.
    assert done.out.splitlines()[-1].split()[-1] == "-"
    for refused in (("fno2d",), ("t1", "--basis", "fourier")):
        error = sciml("train", *refused, *common, "--run-dir", "other").error
        assert "`sciml train t1` has a basis for walls" in error
    # Nor may a model with a Fourier basis forecast between walls.
    periodic = save_dataset(tmp_path / "periodic.npz", make_dataset())
    done = sciml("train", "t1", "--data", periodic, *common[2:], *small, "--run-dir", "waves")
    assert done.status == 0, done.err
    assert "not periodic" in sciml("predict", "waves", path, "--out", "w.npz").error
