"""Several devices and processes: the losses of one device, checkpoints for any number."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import optax
import pytest

from sciml.data import FieldDataset, save_dataset
from sciml.train import fit, read_metrics
from sciml.train._placement import positions_of, rows_of

COMMON = """
import shutil, sys
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import AxisType
from sciml.data import VorticitySymmetries, open_dataset
from sciml.neural_operators import FNO
from sciml.train import fit

X = np.random.default_rng(3).normal(size=(8, 1, 32)).astype(np.float32)
# Not before the processes have found each other.
key_of = lambda: jax.random.key(11)

def loss(model, batch, key):
    x = batch["x"] + 0.01 * jax.random.normal(key, batch["x"].shape)
    return jnp.mean((jax.vmap(model)(x) - batch["scale"] * batch["x"] ** 2) ** 2)

class Batches:
    def __getitem__(self, step):
        return {"x": np.roll(X, step, axis=2), "scale": np.float32(0.5)}

def train(mesh, n_steps=6, batches=None, **options):
    model = FNO(1, 1, (12,), hidden_channels=16, n_layers=1, key=key_of())
    return fit(
        model, batches or Batches(), loss=loss, optimizer=optax.adam(3e-3), n_steps=n_steps,
        key=key_of(), mesh=mesh, log_every=1, progress=False, **options,
    )

def mesh_of(shape, names):
    return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))

def losses(solution):
    return solution.stats["history"]["loss"][1]

def window_loss(model, window, key):
    x = window.inputs + 0.01 * jax.random.normal(key, window.inputs.shape)
    predicted = jax.vmap(model)(x.reshape(len(x), -1))
    return jnp.mean((predicted - window.targets.reshape(len(x), -1)) ** 2)

def train_on_windows(path, mesh, **options):
    # From a file that is read ahead, with augmentation, and a model that is compiled in a second.
    stored = open_dataset(path)
    sizes = {"n_in": 1, "n_out": 1, "batch_size": 8, "seed": 31}
    return fit(
        eqx.nn.MLP(16, 16, 64, 2, key=key_of()),
        stored.windows(**sizes, transform=VorticitySymmetries()), loss=window_loss,
        optimizer=optax.adam(3e-3), n_steps=12, key=key_of(), mesh=mesh, log_every=1,
        validation=stored.load().windows(**sizes, shuffle=False), validate_every=6,
        checkpoint_every=3, progress=False, **options,
    )
"""


def run(script, *arguments, devices):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(COMMON) + textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # XLA's threads: with fewer than devices they can wait for each other for ever.
        env=os.environ | {"XLA_FLAGS": flags, "NPROC": "8"},
    )


def finished(*processes):
    outputs = [process.communicate(timeout=280)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def test_four_devices_train_as_one(tmp_path):
    script = """
    folder = sys.argv[1]
    alone = train(None)
    split = {
        names: train(mesh_of(shape, names))
        for shape, names in (((4,), ("data",)), ((2, 2), ("data", "model")), ((2,), ("model",)))
    }
    for names, other in split.items():
        np.testing.assert_allclose(losses(other), losses(alone), rtol=2e-5, err_msg=str(names))
        for a, b in zip(jax.tree.leaves(alone.value), jax.tree.leaves(other.value)):
            if hasattr(a, "shape"):
                assert len(b.devices()) == 1, "the model comes home"
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)

    # A checkpoint of four devices goes on with two and with one.
    train(mesh_of((2, 2), ("data", "model")), 3, run_dir=folder)
    shutil.copytree(folder, folder + "2")
    for mesh, where in ((None, folder), (mesh_of((2,), ("data",)), folder + "2")):
        resumed = train(mesh, run_dir=where, resume=True)
        np.testing.assert_allclose(losses(resumed), losses(alone), rtol=2e-5)

    try:
        train(mesh_of((4,), ("data",)), batches=[{"x": X[:6], "scale": np.float32(1)}])
    except ValueError as error:
        assert "6 samples cannot be parted evenly over the 4 devices" in str(error), error
    else:
        raise AssertionError("six samples were parted over four devices")

    # What goes between devices is the sum of gradients, and parameters that are kept in parts: no
    # sample is gathered anywhere.
    from sciml.train._placement import Placement
    from sciml.train._step import TrainingStep
    model = FNO(1, 1, (12,), hidden_channels=16, n_layers=1, key=key_of())
    KEY = key_of()
    for shape, names, n_gathers in (((4,), ("data",), 0), ((2, 2), ("data", "model"), 1)):
        step = TrainingStep(model, loss, optax.adam(3e-3), KEY, Placement(mesh_of(shape, names)))
        text = step._compiled.lower(
            step._leaves, step.placement.batch(Batches()[0]), step._key, np.uint32(0)
        ).compile().as_text()
        assert "all-reduce" in text and "all-to-all" not in text
        assert text.count(" all-gather(") == n_gathers, text
    shares = [a.size / a.addressable_shards[0].data.size for a in step._leaves]
    assert max(shares) == 2, "no parameter was parted"
    # Six samples cannot be shared by four devices: two groups take three each.
    shares = step.placement.batch({"x": X[:6]})["x"].addressable_shards
    assert [share.data.shape[0] for share in shares] == [3] * 4, shares
    print("done")
    """
    (output,) = finished(run(script, str(tmp_path / "run"), devices=4))
    assert output.strip().endswith("done")


def _free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.timeout(600)
def test_a_worker_is_killed_and_both_go_on(tmp_path):
    """The other does not wait for ever; restarted, they end as if none had been killed.

    They train on windows in a file, of which each reads its half. When a read fails in one of
    them, both stop.
    """
    script = """
    import time
    from sciml.cli._device_options import DeviceOptions
    from sciml.cli._training_devices import training_devices
    from sciml.data._stored_array import StoredArray
    address, k, folder, slow = sys.argv[1:]
    read, n_rows, fails_at = StoredArray._read, [], None

    def counted(self, rows, starts, shape):
        if starts is not None:
            time.sleep(float(slow))
            n_rows.append(len(rows))
        if len(n_rows) == fails_at:
            raise OSError("no disk")
        return read(self, rows, starts, shape)

    StoredArray._read = counted

    options = DeviceOptions(distributed=True, coordinator_address=address, num_processes=2,
                            process_id=int(k), shard_weights=2, heartbeat_timeout=10)
    with training_devices(options, 8) as mesh:
        assert dict(mesh.shape) == {"data": 2, "model": 2}, mesh
        go = lambda where: train_on_windows(folder + ".h5", mesh, run_dir=where, resume=True)
        n_logged = len(losses(go(folder)))
        if float(slow) == 0:
            go(folder + "-straight")
            assert set(n_rows) == {4}, n_rows
            n_rows.clear()
            fails_at = 5 if k == "1" else None
            try:
                go(folder + "-failing")
            except (OSError, RuntimeError) as error:
                assert ("no disk" if k == "1" else "could not read its samples") in str(error)
            else:
                raise AssertionError("went on without samples")
        print("first")
    print("logged", n_logged)
    """
    folder = tmp_path / "run"
    fields = np.random.default_rng(8).normal(size=(11, 5, 1, 4, 4)).astype(np.float32)
    fields = FieldDataset.from_array(fields, dt=0.1, domain_extent=1.0)
    path = save_dataset(tmp_path / "run.h5", fields)

    def start(slow):
        address = _free_address()
        return [run(script, address, str(k), str(folder), str(slow), devices=2) for k in (0, 1)]

    first, second = start(0.5)
    deadline = time.monotonic() + 200
    while not (folder / "checkpoint" / "config.json").exists() and time.monotonic() < deadline:
        assert {first.poll(), second.poll()} == {None}, finished(first, second)
        time.sleep(0.05)
    time.sleep(0.7)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    said, _ = first.communicate(timeout=200)
    assert first.returncode != 0
    assert "another of the 2 processes has ended" in said, said
    assert "start all processes again with --resume" in said
    steps = read_metrics(folder)["loss"][0]
    assert 3 <= len(steps) < 12, steps

    outputs = finished(*start(0.0))
    found, straight = (read_metrics(where) for where in (folder, f"{folder}-straight"))
    np.testing.assert_array_equal(found["loss"][0], np.arange(1, 13))
    assert len(read_metrics(f"{folder}-failing")["loss"][0]) == 4
    namespace = {}
    exec(COMMON, namespace)
    with jax.numpy_rank_promotion("allow"):
        alone = namespace["train_on_windows"](path, None).stats["history"]
    for name in ("loss", "validation_loss"):
        np.testing.assert_array_equal(found[name][1], straight[name][1])
        np.testing.assert_allclose(found[name][1], alone[name][1], rtol=5e-5)
    # The second prints nothing inside, and keeps no log: it knows the steps of its own session.
    assert ["first\n" in text for text in outputs] == [True, False]
    counts = [int(text.split("logged")[1]) for text in outputs]
    assert counts[0] == 12
    assert counts[1] < 12


def test_a_mesh_with_another_axis_is_refused(getkey):
    model = [np.ones(3, np.float32)]
    mesh = jax.make_mesh((1,), ("batch",))
    with pytest.raises(ValueError, match=r"training knows 'data'.* and 'model'"):
        fit(model, [0], optimizer=optax.sgd(0.1), n_steps=1, key=getkey(), mesh=mesh)


def test_a_process_takes_the_samples_of_its_devices_once():
    # Two devices that hold the same, and one further on.
    shares = [slice(2, 4), slice(6, 8), slice(2, 4)]
    positions = positions_of(shares, 8)
    np.testing.assert_array_equal(positions, [2, 3, 6, 7])
    for share in shares:
        np.testing.assert_array_equal(positions[rows_of(share, positions, 8)], np.arange(8)[share])
    everything = positions_of([slice(None)], 3)
    assert rows_of(slice(None), everything, 3) == slice(0, 3)
