"""``sciml train giorom`` and ``sciml predict`` on particles, from file to film."""

import numpy as np
import pytest

from sciml.data import Trajectory, load_trajectories, save_trajectories

TRAIN = ("train", "giorom", "drops.npz", "--samples", "6", "--window", "2", "--width", "4")
TRAIN += ("--layers", "1", "--grid", "0", "--steps", "2", "--particles-per-batch", "12")
TRAIN += ("--test-steps", "3", "--radius", "0.3")


def make_drops(path, n=4, box=((0, 1), (0, 1))):
    rng = np.random.default_rng(909)
    runs = []
    for _ in range(n):
        x = 0.3 + 0.4 * rng.random((8, 2))
        t = 0.02 * np.arange(9.0)[:, None, None]
        path_of = x[None] + t * rng.normal(size=(8, 2)) - 4.9 * t**2 * np.array([0, 1])
        runs.append(
            Trajectory.from_array(np.clip(path_of, 0, 1).astype(np.float32), dt=0.02, bounds=box)
        )
    return save_trajectories(path, runs)


@pytest.fixture
def drops(tmp_path):
    return make_drops(tmp_path / "drops.npz")


def test_train_predict_and_describe(sciml, drops, tmp_path):
    trained = sciml(*TRAIN)
    assert trained.status == 0, trained.err
    for words in ("no motion", "constant velocity", "free fall", "giorom", "acceleration MSE"):
        assert words in trained.out
    assert (tmp_path / "runs/giorom/checkpoint/config.json").exists()
    done = sciml(
        *("predict", "runs/giorom", "drops.npz", "--out", "motion.npz", "--n-steps", "3"),
        *("--animation", "motion.gif", "--figure", "motion.png"),
    )
    assert done.status == 0, done.err
    assert "position MSE" in done.out
    moved = load_trajectories(tmp_path / "motion.npz")
    assert "3 trajectories that the model was trained on" in done.out
    assert len(moved) == 1
    assert moved[0].position.shape == (6, 6, 2)
    more = sciml(
        *("predict", "runs/giorom", "drops.npz", "--out", "all.npz", "--n-steps", "3"),
        *("--split", "train", "--all-particles"),
    )
    assert more.status == 0, more.err
    moved = load_trajectories(tmp_path / "all.npz")
    assert len(moved) == 3
    assert moved[0].position.shape == (6, 8, 2)
    assert (tmp_path / "motion.gif").stat().st_size > 0
    assert (tmp_path / "motion.png").stat().st_size > 0
    described = sciml("info", "runs/giorom")
    assert described.status == 0, described.err
    assert "GraphInteractionStepper" in described.out
    assert sciml(*TRAIN).status == 2, "the run is there already"
    make_drops(tmp_path / "wide.npz", box=((0, 2), (0, 1)))
    refused = sciml("predict", "runs/giorom", "wide.npz", "--out", "other.npz")
    assert "was trained with frames 0.02 apart in the box" in refused.error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--samples", "50"), "more than the 8 particles"),
        (("--radius", "0"), "--radius must be positive"),
        (("--window", "1"), "--window must be at least 2"),
        (("--n-test", "4"), "leaves none to train on"),
        (("--resume", "--overwrite"), "exclude one another"),
    ],
)
def test_bad_input(sciml, drops, words, message):
    outcome = sciml(*TRAIN, *words)
    assert outcome.status == 2
    assert message in outcome.error
