"""sciml data: generate, info, convert."""

import numpy as np
import pytest
import scipy.io

from sciml.data import (
    NavierStokesRecipe,
    generate_navier_stokes,
    load,
    load_trajectories,
    save_dataset,
)

from .conftest import make_dataset

SIZES = ("--n-points", "8", "--n-snapshots", "3", "--warm-up", "0", "--solver-dt", "0.2")


def test_generate_writes_what_the_library_makes(sciml):
    pytest.importorskip("h5py")
    counts = ("--n-train", "2", "--n-validation", "0", "--n-test", "1", "--batch-size", "2")
    words = ("--out", "a.h5", "--seed", "77", *SIZES, *counts)
    outcome = sciml("data", "generate", "navier-stokes", *words)
    assert outcome.status == 0, outcome.err
    recipe = NavierStokesRecipe(n_points=8, n_snapshots=3, warm_up=0.0, solver_dt=0.2)
    expected = generate_navier_stokes(
        None, n_train=2, n_test=1, seed=77, recipe=recipe, batch_size=2, progress=False
    )
    made = load("a.h5")
    np.testing.assert_array_equal(made.train.values, expected.train.values)
    np.testing.assert_array_equal(made.test.values, expected.test.values)
    assert sciml("data", "generate", "navier-stokes", *words).status == 2


def test_info_tells_sizes_and_parts(sciml, data_file, tmp_path):
    outcome = sciml("data", "info", data_file)
    assert outcome.status == 0
    assert "6 samples, 12 snapshots" in outcome.out
    parts = save_dataset(tmp_path / "parts.npz", make_dataset().split(n_validation=2, n_test=1))
    table = [line.split()[:2] for line in sciml("data", "info", parts).out.splitlines()]
    assert ["train", "3"] in table
    assert ["validation", "2"] in table
    assert ["test", "1"] in table


def test_particles_are_made_and_described(sciml):
    counts = ("--n-train", "1", "--n-validation", "0", "--n-test", "1")
    words = ("--out", "drops.npz", "--n-particles", "60", "--n-frames", "3", *counts)
    outcome = sciml("data", "particles", "water", *words)
    assert outcome.status == 0, outcome.err
    splits = load_trajectories("drops.npz")
    assert splits.test[0].position.shape == (3, 60, 2)
    table = [line.split() for line in sciml("data", "info", "drops.npz").out.splitlines()]
    assert ["train", "1", "60", "3", "0.0032", "Water"] in table
    assert sciml("info", "drops.npz").out == sciml("data", "info", "drops.npz").out
    assert "leave out --dt" in sciml("data", "info", "drops.npz", "--samples", "1").error
    assert "is there already" in sciml("data", "particles", "water", *words).error
    assert ".npz" in sciml("data", "particles", "sand", "--out", "a.h5").error


def test_info_of_the_shipped_sample(sciml):
    outcome = sciml("data", "info", "navier-stokes")
    assert outcome.status == 0
    assert "viscosity: 0.001" in outcome.out


def test_convert_keeps_what_the_file_says(sciml, tmp_path):
    values = np.random.default_rng(531).normal(size=(3, 8, 8, 6))
    scipy.io.savemat(tmp_path / "a.mat", {"u": values, "t": 0.5 * np.arange(1, 7)})
    words = ("--samples", "2", "--n-points", "4", "--domain-extent", "2")
    outcome = sciml("data", "convert", "a.mat", "a.npz", *words)
    assert outcome.status == 0, outcome.err
    made = load("a.npz")
    assert made.values.shape == (2, 6, 1, 4, 4)
    assert made.domain_extent == (2.0, 2.0)
    assert made.dt == 0.5
    np.testing.assert_allclose(
        made.values.mean((-1, -2)), np.moveaxis(values[:2], -1, 1)[:, :, None].mean((-1, -2))
    )
    assert "--overwrite" in sciml("data", "convert", "a.mat", "a.npz").error
