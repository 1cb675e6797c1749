"""Windows: a pure function of (seed, step), each sample once an epoch, contiguous in time."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.data import (
    FieldDataset,
    SampleTransform,
    VorticitySymmetries,
    encode_windows,
    open_dataset,
    save_dataset,
)
from sciml.numerics import FourierBasis


def labelled(n_samples=7, n_times=9, shared=False):
    """Values that say where they stand: 100 sample + time."""
    label = 100.0 * np.arange(n_samples)[:, None] + np.arange(n_times)
    values = np.broadcast_to(label[:, :, None, None], (n_samples, n_times, 1, 3)).copy()
    context = np.arange(1.0 if shared else n_samples)[:, None, None] * np.ones((1, 1, 3))
    return FieldDataset.from_array(values, dt=0.5, domain_extent=1.0, context=context)


def test_windows_are_contiguous_and_carry_their_context():
    batches = labelled().windows(2, 3, batch_size=3, seed=815)
    for step in range(8):
        window = batches[step]
        both = np.concatenate([window.inputs, window.targets], axis=1)[:, :, 0, 0]
        np.testing.assert_array_equal(np.diff(both, axis=1), 1.0)
        np.testing.assert_array_equal(window.context[:, 0, 0], both[:, 0] // 100)
        samples, starts = batches.sources(step)
        np.testing.assert_array_equal(both[:, 0], 100 * samples + starts)


def test_shared_context_is_repeated():
    window = labelled(shared=True).windows(2, 3, batch_size=4, seed=815)[0]
    assert window.context.shape == (4, 1, 3)


@settings(deadline=None, max_examples=15)
@given(
    n_samples=st.integers(1, 9),
    seed=st.integers(0, 2**40),
    data=st.data(),
)
def test_every_sample_once_an_epoch(n_samples, seed, data):
    batch_size = data.draw(st.integers(1, n_samples))
    batches = labelled(n_samples).windows(2, 3, batch_size=batch_size, seed=seed)
    n_epochs = 3
    steps = -(-n_epochs * n_samples // batch_size)
    stream = np.concatenate([batches.sources(step)[0] for step in range(steps)])
    for epoch in range(n_epochs):
        used = stream[epoch * n_samples : (epoch + 1) * n_samples]
        np.testing.assert_array_equal(np.sort(used), np.arange(n_samples))


def test_pure_function_of_seed_and_step():
    first = labelled().windows(2, 3, batch_size=3, seed=815)
    second = labelled().windows(2, 3, batch_size=3, seed=815)
    forward = [first[step].inputs for step in range(6)]
    backward = [second[step].inputs for step in reversed(range(6))][::-1]
    np.testing.assert_array_equal(forward, backward)
    np.testing.assert_array_equal([w.inputs for w in itertools.islice(iter(first), 6)], forward)
    other = labelled().windows(2, 3, batch_size=3, seed=816)
    assert any(not np.array_equal(other[s].inputs, forward[s]) for s in range(6))


def test_all_starts_are_drawn():
    batches = labelled(3, 6).windows(2, 2, batch_size=3, seed=29)
    assert batches.n_starts == 3
    starts = np.concatenate([batches.sources(step)[1] for step in range(40)])
    assert set(starts) == {0, 1, 2}


def test_without_shuffle_the_epochs_sweep_the_starts():
    batches = labelled(4, 6).windows(2, 2, batch_size=2, seed=3, shuffle=False)
    assert batches.steps_per_epoch == 2
    samples, starts = batches.sources(3)
    np.testing.assert_array_equal(samples, [2, 3])
    np.testing.assert_array_equal(starts, [1, 1])
    assert "batch 3 (epoch 1): sample 2 from t = 0.5" in batches.describe(3)


def test_transform_draws_from_seed_and_step():
    def jitter(window, generator):
        return window._replace(inputs=window.inputs + generator.normal())

    def batches():
        return labelled().windows(2, 3, batch_size=3, seed=815, transform=jitter)

    np.testing.assert_array_equal(batches()[5].inputs, batches()[5].inputs)
    noise = batches()[5].inputs - labelled().windows(2, 3, batch_size=3, seed=815)[5].inputs
    assert np.ptp(noise) < 1e-12
    assert not np.allclose(noise, batches()[6].inputs - np.round(batches()[6].inputs))


def test_evaluation_windows_are_fixed():
    window = labelled(3, 9).evaluation_windows(2, 3, starts=(0, 4))
    np.testing.assert_array_equal(window.inputs[:, 0, 0, 0], [0, 4, 100, 104, 200, 204])
    np.testing.assert_array_equal(window.targets[:, -1, 0, 0], [4, 8, 104, 108, 204, 208])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_in": 0}, ValueError, "`n_in` must be at least 1"),
        ({"n_out": 0}, ValueError, "`n_out` must be at least 1"),
        ({"n_out": 8}, ValueError, "longer than the 9 snapshots"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1"),
        ({"batch_size": 8}, ValueError, "larger than the number of samples 7"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    arguments = {"n_in": 2, "n_out": 3, "batch_size": 3, "seed": 5} | arguments
    with pytest.raises(error, match=message):
        labelled().windows(arguments.pop("n_in"), arguments.pop("n_out"), **arguments)


def test_bad_steps_and_starts():
    with pytest.raises(ValueError, match="`step` must be at least 0"):
        labelled().windows(2, 3, batch_size=3, seed=5)[-1]
    with pytest.raises(ValueError, match="the last start is 4"):
        labelled().evaluation_windows(2, 3, starts=(5,))
    with pytest.raises(ValueError, match="at least one start"):
        labelled().evaluation_windows(2, 3, starts=())


# --- what one process of several reads ---

SIZES = {"n_in": 2, "n_out": 3, "batch_size": 5, "seed": 815}


@pytest.fixture
def squares():
    values = np.random.default_rng(71).normal(size=(7, 9, 1, 4, 4))
    return FieldDataset.from_array(values, dt=0.5, domain_extent=1.0, context=values[:, 0])


def assert_rows(part, whole, positions):
    for mine, all_of_it in zip(part, whole, strict=True):
        np.testing.assert_array_equal(mine, all_of_it[positions])


@pytest.mark.parametrize("positions", [[0, 1], [2, 3, 4], [1, 4]])
@pytest.mark.parametrize("transform", [None, VorticitySymmetries()])
def test_a_part_is_rows_of_the_batch_wherever_it_is_read(tmp_path, squares, positions, transform):
    positions = np.array(positions)
    whole = squares.windows(**SIZES, transform=transform)
    stored = open_dataset(save_dataset(tmp_path / "squares.h5", squares))
    in_file = stored.windows(**SIZES, transform=transform).for_positions(positions)
    in_memory = whole.for_positions(positions)
    for step in range(4):  # the second batch is of two epochs
        assert_rows(in_memory[step], whole[step], positions)
        assert_rows(in_file[step], whole[step], positions)
    in_file.release()
    assert in_memory.batch_size == in_file.batch_size == len(positions)
    assert in_memory.steps_per_epoch == in_file.steps_per_epoch == whole.steps_per_epoch
    assert in_memory.describe(2) == in_file.describe(2) == whole.describe(2)
    assert_rows(in_memory.for_positions(np.array([1]))[0], whole[0], positions[[1]])


def test_only_the_positions_of_a_part_are_encoded_windows(squares):
    basis = FourierBasis((3, 3))
    whole = encode_windows(basis, squares, 2, 3, batch_size=5, seed=815)
    assert_rows(whole.for_positions(np.array([1, 4]))[1], whole[1], [1, 4])
    assert whole.batch_size == 5


def test_a_transform_of_whole_batches_cannot_be_parted(squares):
    batches = squares.windows(**SIZES, transform=lambda window, generator: window)
    assert not isinstance(batches.transform, SampleTransform)
    assert batches.for_positions(np.arange(2)) is None
    with pytest.raises(TypeError, match=r"`draw` and `apply_drawn`.*take the whole batch"):
        batches.part(0, np.arange(2))


def test_a_position_outside_the_batch_is_refused(squares):
    with pytest.raises(IndexError, match=r"from 0 to 4, the samples of a batch; got 3 to 5"):
        squares.windows(**SIZES).for_positions(np.array([3, 5]))
