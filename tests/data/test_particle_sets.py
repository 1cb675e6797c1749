"""Generated sets of particles: disjoint and extendable splits, files, bad input."""

import numpy as np
import pytest

from sciml.data import ParticleRecipe, TrajectorySplits, generate_particles, load_trajectories
from sciml.problems import Water

TINY = ParticleRecipe.water(n_particles=60, n_frames=4)


def make(path=None, *, n_train=2, n_test=1, seed=4021, recipe=TINY, **options):
    return generate_particles(
        path, recipe=recipe, n_train=n_train, n_test=n_test, seed=seed, progress=False, **options
    )


@pytest.fixture(scope="module")
def splits():
    return make()


def test_what_is_made(splits):
    run = splits.train[0]
    assert run.position.shape == (4, 60, 2)
    assert run.position.dtype == np.float32
    assert (run.dt, run.type_names) == (3.2e-3, ("Water",))
    assert run.attributes["n_blocks"] == 1
    assert splits.train[1].attributes["n_blocks"] == 2
    assert (run.position >= 0).all()
    assert (run.position <= 1).all()
    assert np.abs(run.displacement[-1]).max() > 1e-3


def test_splits_are_disjoint_and_a_longer_set_extends_a_shorter_one(splits):
    longer = make(n_train=3, n_test=2, n_validation=1)
    for name, part in splits.items():
        for old, new in zip(part, getattr(longer, name), strict=False):
            np.testing.assert_array_equal(old.position, new.position)
    sums = [run.checksum() for _, part in longer.items() for run in part]
    assert len(set(sums)) == 6
    assert make(n_train=1, n_test=0, seed=1).train[0].checksum() not in sums


def test_file_equals_memory(tmp_path, splits):
    path = make(tmp_path / "water.npz")
    back = load_trajectories(path)
    assert isinstance(back, TrajectorySplits)
    np.testing.assert_array_equal(back.test[0].position, splits.test[0].position)
    with pytest.raises(FileExistsError, match="is there already"):
        make(path)
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        make(tmp_path / "water.h5")


def test_bad_recipes_are_named():
    with pytest.raises(ValueError, match="`n_frames` must be at least 2"):
        ParticleRecipe(Water(), n_frames=1)
    with pytest.raises(ValueError, match="2 or 3"):
        ParticleRecipe(Water(), dim=1)
    with pytest.raises(ValueError, match="`seed` must be at least 0"):
        make(seed=-1)
