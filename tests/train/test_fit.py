"""fit from the user's side: run folder, resuming, refusals, failures, interrupts, validation."""

import errno
import json
import os
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental.compilation_cache import compilation_cache

import sciml
from sciml.core import RESULTS
from sciml.train import fit, one_cycle_adam, read_metrics

KEY = jax.random.key(271)


@pytest.fixture(autouse=True, scope="module")
def _compile_once(tmp_path_factory):
    """Keep compiled programs on disk: nearly all runs below are the same program."""
    names = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in names.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


class Net(eqx.Module):
    width: int = eqx.field(static=True)
    first: jax.Array
    second: jax.Array

    def __init__(self, width, *, key):
        self.width = width
        a, b = jax.random.split(key)
        self.first = jax.random.normal(a, (width, 2))
        self.second = jax.random.normal(b, (width,)) / width

    def __call__(self, x):
        return self.second @ jnp.tanh(self.first @ x)


class Other(eqx.Module):
    width: int = eqx.field(static=True)
    first: jax.Array
    second: jax.Array
    __init__ = Net.__init__
    __call__ = Net.__call__


class Data:
    """A pure function of the step; one batch can be poisoned, another interrupts."""

    def __init__(self, poisoned=None, interrupt_at=None, press=None):
        self.poisoned, self.interrupt_at, self.press = poisoned, interrupt_at, press

    def __getitem__(self, step):
        if step == self.interrupt_at:
            raise KeyboardInterrupt
        if step == self.press:
            os.kill(os.getpid(), signal.SIGINT)
        x = np.random.default_rng((77, step)).standard_normal((16, 2), np.float32)
        y = np.sin(x[:, 0]) * x[:, 1]
        if step == self.poisoned:
            y[3] = np.nan
        return x, y

    def describe(self, step):
        return f"samples {step}-{step + 15}"


def loss(model, batch, key):
    x, y = batch
    x = x + 0.01 * jax.random.normal(key, x.shape)
    value = jnp.mean((jax.vmap(model)(x) - y) ** 2)
    return value, {"rms": jnp.sqrt(value)}


def _net(width=4, cls=Net):
    return cls(width, key=jax.random.key(19))


def _fit(batches=None, model=None, **changes):
    n_steps = changes.pop("n_steps", 30)
    arguments = {
        "loss": loss,
        "optimizer": one_cycle_adam(1e-2, 30),
        "n_steps": n_steps,
        "key": KEY,
        "progress": False,
        "checkpoint_every": 10,
        "log_every": 5,
        **changes,
    }
    return fit(_net() if model is None else model, batches or Data(), **arguments)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run without interruption, which others must equal; treat its folder as read-only."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    validation = [Data()[1000], Data()[1001]]
    return folder, _fit(run_dir=folder, validation=validation, config={"name": "straight"})


def _same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def _log_without_time(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


# --- what a run leaves ---


def test_the_run_folder(straight):
    folder, solution = straight
    assert sorted(os.listdir(folder)) == [
        ".lock",
        "best",
        "checkpoint",
        "config.json",
        "metrics.jsonl",
    ]
    assert solution.result == RESULTS.successful
    assert _same(sciml.load(folder / "checkpoint", (Net,)), solution.value)
    settings = json.loads((folder / "config.json").read_text())
    assert settings["config"] == {"name": "straight"}
    assert settings["n_steps"] == 30
    assert settings["model"]["arguments"] == {"width": 4}
    assert settings["loss"] == "loss"


def test_the_log(straight):
    folder, solution = straight
    metrics = read_metrics(folder)
    assert metrics["loss"][0].tolist() == [1, 5, 10, 15, 20, 25, 30]
    np.testing.assert_allclose(metrics["rms"][1] ** 2, metrics["loss"][1], rtol=1e-5)
    assert metrics["loss"][1][-1] < metrics["loss"][1].max()
    assert metrics["validation_loss"][0].tolist() == [10, 20, 30]
    assert solution.stats["loss"] == metrics["loss"][1][-1]
    assert np.array_equal(solution.stats["history"]["loss"][1], metrics["loss"][1])
    assert solution.stats["n_steps"] == 30
    assert solution.stats["seconds"] > 0


def test_the_best_model(straight):
    folder, solution = straight
    steps, values = read_metrics(folder)["validation_loss"]
    assert solution.stats["best_value"] == values.min()
    assert solution.stats["best_step"] == steps[values.argmin()]
    best = sciml.load(folder / "best", (Net,))
    expected = np.mean([_value(best, Data()[i]) for i in (1000, 1001)])
    np.testing.assert_allclose(values.min(), expected, rtol=1e-5)


def _value(model, batch):
    return loss(model, batch, jax.random.fold_in(KEY, np.uint32(2**32 - 1)))[0]


def test_the_callers_model_and_a_run_without_folder(straight):
    model = _net()
    before = jax.tree.map(np.array, model)
    solution = _fit(model=model)
    assert _same(model, before)
    assert _same(solution.value, straight[1].value)  # checkpoints and validation change nothing


def test_progress_bar(capsys):
    _fit(n_steps=3, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "step/s" in shown
    assert "loss" in shown


# --- resuming ---


@pytest.mark.parametrize("batches", [Data, lambda: (Data()[step] for step in range(30))])
def test_resume_is_exact(straight, tmp_path, batches):
    _, whole = straight
    validation = [Data()[1000], Data()[1001]]
    # The first session stops between two checkpoints, at 17; its log goes further than 10.
    options = {
        "run_dir": tmp_path / "run",
        "validation": validation,
        "config": {"name": "straight"},
    }
    with pytest.raises(ValueError, match="lost connection") as caught:
        _fit(_breaks_at(batches(), 17), **options)
    assert "fetching the batch of training step 17" in caught.value.__notes__[0]
    assert read_metrics(tmp_path / "run")["loss"][0][-1] == 15
    solution = _fit(batches(), resume=True, **options)
    assert _same(solution.value, whole.value)
    assert _log_without_time(tmp_path / "run") == _log_without_time(straight[0])
    assert _same(
        sciml.load(tmp_path / "run" / "best", (Net,)), sciml.load(straight[0] / "best", (Net,))
    )
    assert solution.stats["best_step"] == whole.stats["best_step"]


def _breaks_at(batches, last):
    iterator = iter(batches) if not isinstance(batches, Data) else None
    for step in range(last):
        yield batches[step] if iterator is None else next(iterator)
    raise ValueError("lost connection")


def test_resume_without_a_checkpoint_starts(tmp_path, straight):
    solution = _fit(run_dir=tmp_path / "run", resume=True)
    assert _same(solution.value, straight[1].value)


def test_resume_of_a_finished_run_trains_no_more(straight, tmp_path):
    first = _fit(run_dir=tmp_path, n_steps=12)
    again = _fit(_breaks_at([], 0), run_dir=tmp_path, n_steps=12, resume=True)
    assert _same(first.value, again.value)
    assert again.stats["loss"] == first.stats["loss"]
    longer = _fit(run_dir=tmp_path, resume=True)
    assert _same(longer.value, straight[1].value)
    with pytest.raises(ValueError, match=r"is at step 30, beyond `n_steps` = 20"):
        _fit(run_dir=tmp_path, n_steps=20, resume=True)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model": _net(5)}, "argument 'width' of the model was 4 and is now 5"),
        ({"model": _net(cls=Other)}, "class of the model was '.*Net' and is now '.*Other'"),
        (
            {"model": jax.tree.map(lambda x: x.astype(jnp.bfloat16), _net())},
            "'.first' of the model had .* dtype float32, and has now .* dtype bfloat16",
        ),
        ({"optimizer": optax.sgd(1e-2)}, "the optimiser was .*ScaleByAdam"),
        ({"optimizer": optax.adam(1e-2)}, "the optimiser was .* and is now"),
        ({"key": jax.random.key(272)}, "trained with another `key`"),
        ({"config": {"name": "bent"}}, r"`config\['name'\]` was 'straight' and is now 'bent'"),
        ({"config": {"name": "straight", "n": 1}}, r"`config\['n'\]` was None and is now 1"),
    ],
)
def test_another_run_is_not_resumed(straight, changes, match):
    folder, _ = straight
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
    arguments = {"config": {"name": "straight"}, **changes}
    with pytest.raises(ValueError, match="cannot resume from .*" + match):
        _fit(run_dir=folder, resume=True, **arguments)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_damaged_checkpoint_is_not_resumed(tmp_path):
    _fit(run_dir=tmp_path, n_steps=2)
    (tmp_path / "checkpoint" / "config.json").write_text("<html>")
    with pytest.raises(ValueError, match="holds HTML"):
        _fit(run_dir=tmp_path, resume=True)
    sciml.save(tmp_path / "other" / "checkpoint", _net())
    with pytest.raises(ValueError, match=r"holds a model but no training state|'training' must be"):
        _fit(run_dir=tmp_path / "other", resume=True)


def test_an_earlier_run_is_not_overwritten_by_chance(tmp_path):
    _fit(run_dir=tmp_path, n_steps=12)
    with pytest.raises(FileExistsError, match=r"`resume=True` to go on.*`overwrite=True`"):
        _fit(run_dir=tmp_path, n_steps=12)
    (tmp_path / "notes.txt").write_text("mine")
    solution = _fit(run_dir=tmp_path, n_steps=3, overwrite=True)
    assert _same(sciml.load(tmp_path / "checkpoint", (Net,)), solution.value)
    assert read_metrics(tmp_path)["loss"][0].tolist() == [1, 3]
    assert (tmp_path / "notes.txt").exists()


def test_any_tree_trains_resumes_and_loads_with_like(tmp_path):
    model = {"w": jnp.ones(2), "f": jnp.tanh}

    def plain(model, batch, key):
        return jnp.mean((batch[0] @ model["w"] - batch[1]) ** 2)

    whole = _fit(model=model, loss=plain)
    _fit(model=model, loss=plain, run_dir=tmp_path, n_steps=13)
    resumed = _fit(model=model, loss=plain, run_dir=tmp_path, resume=True)
    assert np.array_equal(whole.value["w"], resumed.value["w"])
    with pytest.raises(ValueError, match=r"cannot be rebuilt.*load\(path, like=model\)"):
        sciml.load(tmp_path / "checkpoint")
    loaded = sciml.load(tmp_path / "checkpoint", like=model)
    assert np.array_equal(loaded["w"], whole.value["w"])


# --- ends of other kinds ---


def test_a_poisoned_batch_stops_and_keeps_the_checkpoint(tmp_path):
    poisoned = Data(poisoned=13)
    with pytest.raises(
        RuntimeError,
        match=r"step 13 is not finite: loss nan.*samples 13-28\. .*checkpoint.*smaller learning",
    ):
        _fit(poisoned, run_dir=tmp_path / "a")
    assert _same(sciml.load(tmp_path / "a" / "checkpoint", (Net,)), _fit(n_steps=10).value)

    solution = _fit(poisoned, throw=False)
    assert solution.result == RESULTS.nonfinite_loss
    assert solution.stats["n_steps"] == 13
    assert _same(solution.value, _fit(n_steps=13).value)

    # With the data repaired the run goes on, and the line of the failure leaves the log.
    assert np.isnan(read_metrics(tmp_path / "a")["loss"][1][-1])
    repaired = _fit(run_dir=tmp_path / "a", resume=True)
    assert _same(repaired.value, _fit().value)
    assert not np.isnan(read_metrics(tmp_path / "a")["loss"][1]).any()


@pytest.mark.parametrize("poisoned", [0, 9, 29])
def test_poison_at_the_start_at_a_checkpoint_and_at_the_end(tmp_path, poisoned):
    solution = _fit(Data(poisoned=poisoned), run_dir=tmp_path, throw=False)
    assert solution.result == RESULTS.nonfinite_loss
    assert solution.stats["n_steps"] == poisoned
    assert (tmp_path / "checkpoint").exists() == (poisoned == 29)


@pytest.mark.parametrize("how", ["signal", "raised by the data"])
def test_ctrl_c_saves_and_raises(tmp_path, how, straight, capsys):
    press = {"signal": Data(press=14), "raised by the data": Data(interrupt_at=15)}[how]
    with pytest.raises(KeyboardInterrupt):
        _fit(press, run_dir=tmp_path)
    assert ("press Ctrl-C again" in capsys.readouterr().err) == (how == "signal")
    checkpoint = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert checkpoint["training"]["step"] == 15
    assert _same(_fit(run_dir=tmp_path, resume=True).value, straight[1].value)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_without_throw(tmp_path):
    solution = _fit(Data(press=14), run_dir=tmp_path, throw=False)
    assert solution.result == RESULTS.interrupted
    assert solution.stats["n_steps"] == 15
    assert _same(sciml.load(tmp_path / "checkpoint", (Net,)), solution.value)
    # Pressed during the last step: the run is complete.
    assert _fit(Data(press=29), throw=False).result == RESULTS.successful
    with pytest.raises(KeyboardInterrupt):
        _fit(Data(press=29))


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    class Impatient(Data):
        def __getitem__(self, step):
            if step == 14:
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGINT)
                raise AssertionError("the second signal must interrupt here")
            return super().__getitem__(step)

    with pytest.raises(KeyboardInterrupt):
        _fit(Impatient(), run_dir=tmp_path)
    checkpoint = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert checkpoint["training"]["step"] == 14


def test_an_interrupt_in_the_middle_of_a_step_saves_nothing_wrong(tmp_path, monkeypatch):
    from sciml.train._step import TrainingStep

    advance = TrainingStep.advance

    def torn(self, batch, step):
        figures = advance(self, batch, step)
        if step == 14:  # the state has moved, and the loop never hears of it
            raise KeyboardInterrupt
        return figures

    monkeypatch.setattr(TrainingStep, "advance", torn)
    with pytest.raises(KeyboardInterrupt):
        _fit(run_dir=tmp_path, throw=False)
    checkpoint = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert checkpoint["training"]["step"] == 10


def test_a_full_disk_keeps_the_checkpoint(tmp_path, monkeypatch):
    def full(path, text):
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        calls.append(path)
        return atomic_write_text(path, text)

    from sciml.core import atomic_write_text

    calls = []
    monkeypatch.setattr("sciml.core._folder.atomic_write_text", full)
    with pytest.raises(OSError, match=r"could not save to .*checkpoint.*No space left"):
        _fit(run_dir=tmp_path)
    monkeypatch.undo()
    assert len(os.listdir(tmp_path / "checkpoint")) == 3
    assert _same(sciml.load(tmp_path / "checkpoint", (Net,)), _fit(n_steps=10).value)
    assert _same(_fit(run_dir=tmp_path, resume=True).value, _fit().value)


# --- validation and arguments ---


def test_validation_functions(tmp_path):
    kept = []

    def validate(model):
        kept.append(model)
        return {"score": [3.0, float("nan"), 1.0, 2.0][len(kept) - 1], "size": model.width}

    solution = _fit(validation=validate, validate_every=8, run_dir=tmp_path)
    assert read_metrics(tmp_path)["validation_score"][0].tolist() == [8, 16, 24, 30]
    assert (solution.stats["best_value"], solution.stats["best_step"]) == (1.0, 24)
    assert _same(sciml.load(tmp_path / "best", (Net,)), kept[2])  # later steps spared it


class Epochs(Data):
    steps_per_epoch = 2


def test_validation_on_an_epoch_source():
    with_source = _fit(n_steps=5, validation=Epochs()).stats["history"]["validation_loss"]
    with_list = _fit(n_steps=5, validation=[Data()[0], Data()[1]]).stats["history"]
    assert with_source[1] == with_list["validation_loss"][1]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"n_steps": 0}, ValueError, "`n_steps` must be at least 1"),
        ({"n_steps": 1.5}, TypeError, "n_steps"),
        ({"checkpoint_every": 0}, ValueError, "`checkpoint_every` must be at least 1"),
        ({"validate_every": -2}, ValueError, "`validate_every` must be at least 1"),
        ({"log_every": 0}, ValueError, "`log_every` must be at least 1"),
        ({"key": jax.random.PRNGKey(5)}, TypeError, "key"),
        ({"resume": True}, ValueError, "need a `run_dir`"),
        ({"resume": True, "overwrite": True, "run_dir": "x"}, ValueError, "not both"),
        ({"validation": 3}, TypeError, "`validation` must be a function of the model"),
        ({"validation": []}, ValueError, "`validation` has no batches"),
        ({"validation": lambda model: {}}, ValueError, "dictionary without figures"),
        ({"batches": {"x": 1}}, TypeError, "one batch for each step"),
        ({"config": {"a": {1}}, "run_dir": True}, TypeError, "JSON values only"),
    ],
)
def test_arguments(changes, error, match, tmp_path):
    if changes.get("run_dir") is True:
        changes = {**changes, "run_dir": tmp_path}
    with pytest.raises(error, match=match):
        _fit(**changes)
    assert not (tmp_path / "checkpoint").exists()
