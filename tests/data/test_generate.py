"""Generation: disjoint and extendable splits, streaming, exact resume, blow-up, checksums."""

import dataclasses
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from sciml.data import (
    DataFileError,
    Forcing,
    InitialField,
    NavierStokesRecipe,
    generate_navier_stokes,
    load,
    save_dataset,
)
from sciml.data import _generate as generate_module
from sciml.problems import fno_forcing, solve

TINY = NavierStokesRecipe(n_points=8, n_snapshots=3, warm_up=0.2)


def generate(path=None, *, recipe=TINY, n_train=3, n_test=2, seed=611, **options):
    options = {"batch_size": 2, "progress": False} | options
    return generate_navier_stokes(
        path, n_train=n_train, n_test=n_test, seed=seed, recipe=recipe, **options
    )


@pytest.fixture(scope="module")
def splits():
    return generate()


def test_fields_of_the_dataset(splits):
    assert splits.validation is None
    train = splits.train
    assert train.values.shape == (3, 3, 1, 8, 8)
    assert train.values.dtype == np.float32
    assert (train.dt, train.start_time, train.domain_extent) == (0.2, 0.2, (1.0, 1.0))
    np.testing.assert_allclose(train.context[0], fno_forcing((8, 8)), rtol=1e-6)
    assert train.attributes["viscosity"] == 1e-3
    assert (train.attributes["split"], splits.test.attributes["split"]) == ("train", "test")


def test_trajectories_solve_the_equation(splits):
    start = splits.train.values[1, 0]
    run = solve(TINY.problem(), start, dt=0.1, n_steps=4, save_every=2)
    np.testing.assert_allclose(run.value, splits.train.values[1], atol=2e-6)


def test_splits_are_disjoint_and_a_longer_set_extends_a_shorter_one(splits):
    everything = np.concatenate([splits.train.values, splits.test.values])[:, 0].reshape(5, -1)
    distances = np.linalg.norm(everything[:, None] - everything[None], axis=-1)
    scale = np.linalg.norm(everything, axis=-1).min()
    assert np.all(distances[~np.eye(5, dtype=bool)] > 0.1 * scale)
    longer = generate(n_train=4, n_test=3, batch_size=3)
    np.testing.assert_allclose(longer.train.values[:3], splits.train.values, atol=1e-6)
    np.testing.assert_allclose(longer.test.values[:2], splits.test.values, atol=1e-6)
    other = generate(seed=612)
    assert np.abs(other.train.values - splits.train.values).max() > 0.1


def test_streamed_file_equals_memory(tmp_path, splits):
    path = generate(tmp_path / "ns.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["ns.h5"]
    back = load(path)
    np.testing.assert_array_equal(back.train.values, splits.train.values)
    np.testing.assert_array_equal(back.test.values, splits.test.values)
    np.testing.assert_array_equal(back.train.context, splits.train.context)
    assert back.train.attributes == splits.train.attributes
    with pytest.raises(FileExistsError, match="is there already"):
        generate(path)


_ON_DEVICES = r"""
import sys
import jax, numpy as np
from jax.sharding import AxisType
from sciml.cli import main
from sciml.data import NavierStokesRecipe, generate_navier_stokes, load
from sciml.data import _generate as module

folder = sys.argv[1]
recipe = NavierStokesRecipe(n_points=8, n_snapshots=3, warm_up=0.2)
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

def generate(path=None, **options):
    return generate_navier_stokes(
        path, n_train=5, n_test=1, seed=611, recipe=recipe, progress=False, **options)

# Three solved together are filled up to one on each device.
on_four, alone = generate(batch_size=3, mesh=mesh), generate(batch_size=1)
np.testing.assert_array_equal(on_four.train.values, alone.train.values)
np.testing.assert_array_equal(on_four.test.values, alone.test.values)

# Begun on four devices, finished by one.
solve = module._solve_on_mesh
def once(*arguments):
    def stop(*arguments):
        raise KeyboardInterrupt
    module._solve_on_mesh = stop
    return solve(*arguments)
module._solve_on_mesh = once
try:
    generate(folder + "/a.h5", batch_size=4, mesh=mesh)
except KeyboardInterrupt:
    pass
np.testing.assert_array_equal(
    load(generate(folder + "/a.h5", batch_size=1)).train.values, alone.train.values)
module._solve_on_mesh = solve

words = "data generate navier-stokes --n-points 8 --n-snapshots 3 --warm-up 0.2 --seed 611"
words += f" --n-train 5 --n-test 1 --n-validation 0 --batch-size 4 --out {folder}/b.h5 --devices "
assert main((words + "5").split()) == 2
assert main((words + "4").split()) == 0
np.testing.assert_array_equal(load(folder + "/b.h5").train.values, alone.train.values)
print("done")
"""


def test_four_devices_generate_as_one(tmp_path):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    process = subprocess.run(
        [sys.executable, "-c", _ON_DEVICES, str(tmp_path)],
        capture_output=True,
        text=True,
        # XLA's threads: with fewer than devices they can wait for each other for ever.
        env=os.environ | {"XLA_FLAGS": flags, "NPROC": "8", "SCIML_COMPILATION_CACHE": "off"},
        timeout=280,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "4 devices are asked" not in process.stderr
    assert "5 devices are asked for and JAX sees 4" in process.stderr
    assert process.stdout.strip().endswith("done")


def interrupt_after(monkeypatch, n_batches):
    """Make the solver fail like Ctrl-C after some batches; return the list of solved ones."""
    solved = []
    original = generate_module._solve_batch

    def interrupted(problem, recipe, keys):
        if len(solved) == n_batches:
            raise KeyboardInterrupt
        solved.append(len(keys))
        return original(problem, recipe, keys)

    monkeypatch.setattr(generate_module, "_solve_batch", interrupted)
    return solved


def test_interrupted_run_is_continued_bitwise(tmp_path, monkeypatch, splits):
    path = tmp_path / "ns.h5"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            generate(path)
    assert [p.name for p in tmp_path.iterdir()] == ["ns.h5.partial"]
    with monkeypatch.context() as patch:
        solved = interrupt_after(patch, 99)
        generate(path)
        assert len(solved) == 2  # of three batches
    back = load(path)
    np.testing.assert_array_equal(back.train.values, splits.train.values)
    np.testing.assert_array_equal(back.test.values, splits.test.values)


def test_a_run_killed_before_the_rename_is_finished_by_the_same_call(tmp_path, monkeypatch, splits):
    path = tmp_path / "ns.h5"

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            generate(path)
    solved = interrupt_after(monkeypatch, 0)
    np.testing.assert_array_equal(load(generate(path)).test.values, splits.test.values)
    assert solved == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 613}, "seed was 611, now 613"),
        ({"n_train": 4}, "train was 3, now 4"),
        (
            {"recipe": dataclasses.replace(TINY, viscosity=2e-3)},
            r"viscosity was 0\.001, now 0\.002",
        ),
    ],
)
def test_interrupted_run_with_other_parameters_is_refused(tmp_path, monkeypatch, changes, message):
    path = tmp_path / "ns.h5"
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        generate(path)
    with pytest.raises(DataFileError, match=r"ns\.h5\.partial: .*" + message):
        generate(path, **changes)
    assert (tmp_path / "ns.h5.partial").exists()


def test_damaged_partial_file_is_named(tmp_path):
    (tmp_path / "ns.h5.partial").write_bytes(b"not HDF5")
    with pytest.raises(DataFileError, match=r"ns\.h5\.partial: .* remove it"):
        generate(tmp_path / "ns.h5")


_KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from sciml.data._generation_file import GenerationFile

file = GenerationFile(Path(sys.argv[1]), {"train": 10**5}, (1, 1, 16, 16),
                      {"train": {}}, {"seed": 3}).__enter__()
print("ready", flush=True)
for first in range(0, 10**5, 64):
    file.write("train", first, np.full((64, 1, 1, 16, 16), first // 64 + 1, np.float32))
"""


def test_a_killed_run_leaves_a_file_that_opens(tmp_path):
    """SIGKILL in the middle of writing: what is counted as done is there, whole."""
    path = tmp_path / "ns.h5"
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.kill()
    process.wait()
    process.stdout.close()
    with h5py.File(tmp_path / "ns.h5.partial", "r+") as file:
        done = int(file["progress/train"][0])
        assert done > 0
        assert done % 64 == 0
        for first in (0, done - 64):
            assert np.all(file["train/values"][first : first + 64] == first // 64 + 1)


def test_a_full_disk_is_met_before_the_work(tmp_path, splits):
    """The limit on file sizes stands in for a disk: HDF5 would crash the process in it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"no room for .* MB: File too large: .*ns\.h5"):
            generate(tmp_path / "ns.h5")
        with pytest.raises(OSError, match=r"no room for .* MB: File too large: .*copy\.h5"):
            save_dataset(tmp_path / "copy.h5", splits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_blow_up_names_sample_and_time(tmp_path):
    wild = NavierStokesRecipe(
        n_points=32, viscosity=1e-6, dt=8.0, solver_dt=8.0, n_snapshots=9, warm_up=0.0
    )
    with pytest.raises(RuntimeError, match=r"sample \d of train blew up at time \d+.*`solver_dt`"):
        generate(tmp_path / "ns.h5", recipe=wild)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"viscosity": -1e-3}, ValueError, "`viscosity` must be positive"),
        ({"dt": 0.0}, ValueError, "`dt` must be positive"),
        ({"warm_up": -1.0}, ValueError, "`warm_up` must be zero or positive"),
        ({"n_snapshots": 0}, ValueError, "`n_snapshots` must be at least 1"),
        ({"n_points": 2}, ValueError, "`n_points` must be at least 4"),
        ({"solver_dt": 0.5}, ValueError, "larger than `dt`"),
        ({"solver_dt": 0.15}, ValueError, "`dt` must be a whole number of solver steps"),
        ({"warm_up": 0.25}, ValueError, "`warm_up` must be a whole number"),
        ({"drag": float("nan")}, ValueError, "`drag`"),
        ({"forcing": "fno"}, TypeError, "Forcing"),
    ],
)
def test_bad_recipes_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(TINY, **changes)


def test_bad_calls_are_named(tmp_path):
    for changes, message in (
        ({"n_train": 0}, "`n_train` must be at least 1"),
        ({"n_test": -1}, "`n_test` must be at least 0"),
        ({"seed": -5}, "`seed` must be at least 0"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(**changes)
    with pytest.raises(ValueError, match=r"must end in \.h5"):
        generate(tmp_path / "ns.npz")
    assert list(tmp_path.iterdir()) == []


def test_float64_solve_and_kolmogorov_forcing(x64):
    recipe = dataclasses.replace(
        TINY, forcing=Forcing.KOLMOGOROV, drag=0.1, domain_extent=2.0, warm_up=0.0
    )
    splits = generate(recipe=recipe, n_train=1, n_test=0)
    assert splits.train.values.dtype == np.float32
    assert splits.train.attributes["solver_precision"] == "float64"
    assert splits.train.domain_extent == (2.0, 2.0)


@pytest.mark.parametrize("initial_field", InitialField)
def test_initial_fields_come_from_the_documented_keys(initial_field):
    recipe = dataclasses.replace(
        TINY, forcing=Forcing.NONE, initial_field=initial_field, n_snapshots=1, warm_up=0.0
    )
    data = generate(recipe=recipe, n_train=2, n_test=0).train
    assert data.context is None
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(611), 0), 1)
    field = initial_field.draw((8, 8), 1.0, key)
    np.testing.assert_allclose(data.values[1, 0], field, rtol=1e-5, atol=1e-5)
    assert data.attributes["initial_field"] == initial_field.value


def test_progress_bar_counts_trajectories(capsys):
    generate(n_train=2, n_test=0, progress=True)
    assert "2/2" in capsys.readouterr().err
