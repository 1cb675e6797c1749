"""sciml predict: the file it writes, the errors it tells, and longer and finer forecasts."""

import jax.numpy as jnp
import numpy as np
import pytest

import sciml as library
from sciml.cli._load_data import same_physics
from sciml.data import FieldDataset, save_dataset
from sciml.data._trajectory import same_box
from sciml.neural_operators import rollout

from .conftest import make_dataset


def test_forecasts_are_those_of_the_model(sciml, data_file, trained):
    outcome = sciml("predict", trained, data_file, "--out", "o.npz", "--figure", "f.png")
    assert outcome.status == 0, outcome.err
    made, data = library.data.load("o.npz"), library.data.load(data_file)
    model = library.load(trained / "checkpoint")
    assert made.values.shape == (6, 4, 1, 8, 8)
    # Batches of four: the second one is filled up.
    np.testing.assert_allclose(
        made.values[5], model(jnp.asarray(data.values[5, :3]), 4), rtol=1e-5, atol=1e-5
    )
    assert made.start_time == pytest.approx(3 * 0.5)
    assert made.dt == 0.5
    assert made.attributes["forecast_by"] == "SpatiotemporalFNO"
    errors = {
        line.split()[0]: float(line.split()[1])
        for line in outcome.out.splitlines()
        if line.startswith(("persistence", "SpatiotemporalFNO"))
    }
    truth = data.values[:, 3:7]
    expected = np.mean(
        [np.linalg.norm(p - t) / np.linalg.norm(t) for p, t in zip(made.values, truth, strict=True)]
    )
    assert errors["SpatiotemporalFNO"] == pytest.approx(expected, rel=0.01)
    assert errors["persistence"] > 0


def test_a_small_unit_hides_no_other_physics():
    values = np.zeros((1, 2, 1, 4, 4), np.float32)
    data = FieldDataset.from_array(values, dt=2e-9, domain_extent=1e-9)
    assert same_physics(data, 2e-9, (1e-9, 1e-9))
    assert not same_physics(data, 8e-9, (1e-9, 1e-9))
    assert not same_physics(data, 2e-9, (1e-9, 5e-9))
    box = 1e-9 * np.array([[0.0, 1.0], [0.0, 2.0]])
    assert same_box(box, box.tolist())
    assert not same_box(box, 3 * box)


def test_long_forecasts_chain_windows(sciml, data_file, trained):
    words = ("--n-steps", "11", "--batch-size", "6")
    outcome = sciml("predict", trained / "best", data_file, "--out", "o.npz", *words)
    assert outcome.status == 0, outcome.err
    assert "does not hold the snapshots" in outcome.out
    data = library.data.load(data_file)
    inputs = jnp.asarray(data.values[0, :3])
    chained = rollout(library.load(trained / "best"), inputs, 11, window=4)
    values = library.data.load("o.npz").values
    np.testing.assert_allclose(values[0], chained, rtol=1e-4, atol=1e-4)


def test_another_grid_and_a_part_of_the_file(sciml, trained, tmp_path):
    path = save_dataset(tmp_path / "parts.npz", make_dataset().split(n_validation=2, n_test=1))
    words = ("--n-points", "12", "--split", "validation", "--overwrite")
    (tmp_path / "o.npz").write_text("old")
    outcome = sciml("predict", trained, path, "--out", "o.npz", *words)
    assert outcome.status == 0, outcome.err
    assert library.data.load("o.npz").values.shape == (2, 4, 1, 12, 12)


def test_a_part_that_is_missing_is_named(sciml, trained, tmp_path):
    path = save_dataset(tmp_path / "parts.npz", make_dataset().split(n_validation=2))
    outcome = sciml("predict", trained, path, "--out", "o.npz")
    assert "no part 'test'" in outcome.error


def test_a_model_saved_by_hand(sciml, data_file, trained):
    library.save("model", library.load(trained / "checkpoint"))
    outcome = sciml("predict", "model", data_file, "--out", "o.npz", "--n-in", "5")
    assert outcome.status == 0, outcome.err
    # The horizon of the model is 2 time units, four snapshots.
    assert library.data.load("o.npz").values.shape == (6, 4, 1, 8, 8)
