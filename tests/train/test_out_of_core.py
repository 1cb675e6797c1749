"""fit on data that stay in their file: the losses of memory to the bit, resumed, and on a mesh."""

import os
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from sciml.data import DataFileError, FieldDataset, open_dataset, save_dataset
from sciml.train import fit

WINDOWS = {"n_in": 2, "n_out": 2, "batch_size": 3, "seed": 31}


class Step(eqx.Module):
    weight: jax.Array

    def __call__(self, u):
        return jnp.tensordot(self.weight, u, 1)


def loss(model, window, key):
    del key
    return jnp.mean((jax.vmap(model)(window.inputs) - window.targets) ** 2)


def train(batches, n_steps=12, **options):
    model = Step(jnp.eye(2))
    return fit(
        model,
        batches,
        loss=loss,
        optimizer=optax.adam(1e-2),
        n_steps=n_steps,
        key=jax.random.key(5),
        progress=False,
        log_every=1,
        **options,
    )


def losses(solution):
    return solution.stats["history"]["loss"][1].tolist()


@pytest.fixture
def data():
    values = np.random.default_rng(88).normal(size=(7, 8, 1, 5)).astype(np.float32)
    return FieldDataset.from_array(values, dt=0.1, domain_extent=1.0)


@pytest.fixture
def stored(tmp_path, data):
    return open_dataset(save_dataset(tmp_path / "flow.h5", data))


def test_the_losses_are_those_of_memory_and_the_threads_end(data, stored):
    validation = {"shuffle": False} | WINDOWS
    options = {"checkpoint_every": 4}
    mine = train(stored.windows(**WINDOWS), validation=stored.windows(**validation), **options)
    assert not any(t.name == "sciml-prefetch" for t in threading.enumerate())
    theirs = train(data.windows(**WINDOWS), validation=data.windows(**validation), **options)
    assert losses(mine) == losses(theirs)
    for name, (_, values) in theirs.stats["history"].items():
        if name != "seconds":
            np.testing.assert_array_equal(mine.stats["history"][name][1], values)


@pytest.mark.parametrize("stop", ["error", "interrupt"])
def test_a_run_that_stops_within_an_epoch_is_resumed_exactly(tmp_path, data, stored, stop):
    calls = []

    def stops(window, generator):
        calls.append(0)
        if len(calls) == 6:
            raise KeyboardInterrupt if stop == "interrupt" else RuntimeError("no disk")
        return window

    folder = tmp_path / "run"
    options = {"run_dir": folder, "checkpoint_every": 4}
    with pytest.raises(KeyboardInterrupt if stop == "interrupt" else RuntimeError):
        train(stored.windows(**WINDOWS, transform=stops), **options)
    assert not any(t.name == "sciml-prefetch" for t in threading.enumerate())
    resumed = train(stored.windows(**WINDOWS), resume=True, **options)
    straight = train(data.windows(**WINDOWS))
    assert losses(resumed) == losses(straight)
    np.testing.assert_array_equal(resumed.value.weight, straight.value.weight)


def test_a_mesh_gets_the_same_batches(data, stored):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    mine = train(stored.windows(**WINDOWS), mesh=mesh)
    assert losses(mine) == losses(train(data.windows(**WINDOWS), mesh=mesh))


def test_a_file_that_is_cut_off_stops_with_its_name(stored):
    batches = stored.windows(**WINDOWS, prefetch=1)
    batches[0]
    os.truncate(stored.values.file.path, 3000)
    with pytest.raises(DataFileError, match=r"flow\.h5: .*was changed") as caught:
        train(batches)
    assert "fetching the batch of training step" in caught.value.__notes__[0]
    assert not any(t.name == "sciml-prefetch" for t in threading.enumerate())
