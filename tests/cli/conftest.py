"""A command line in this process, in an empty folder, and one tiny run that the tests share."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from sciml.cli import main
from sciml.data import FieldDataset, save_dataset

TINY_TRAINING = (
    *("--n-in", "3", "--n-out", "4", "--steps", "4", "--batch-size", "2", "--width", "4"),
    *("--layers", "2", "--modes", "3", "3", "3", "--latent-steps", "6"),
    *("--validate-every", "2", "--checkpoint-every", "2"),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a failure."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"expected one line on standard error, got:\n{self.err}"
        assert lines[0].startswith("sciml: error: "), lines[0]
        return lines[0].removeprefix("sciml: error: ")


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCIML_COMPILATION_CACHE", "off")
    monkeypatch.delenv("SCIML_DEBUG", raising=False)


@pytest.fixture
def sciml(capfd):
    """Return a function that runs a command line: ``sciml("info")``."""

    def run(*words: object) -> Outcome:
        status = main([str(word) for word in words])
        return Outcome(status, *capfd.readouterr())

    return run


@pytest.fixture(autouse=True, scope="package")
def _compile_once(tmp_path_factory):
    """Keep compiled programs on disk: most runs below are the same program."""
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


def make_dataset(**changes) -> FieldDataset:
    """Return six trajectories of a travelling wave on 8 x 8 points."""
    x = np.arange(8) / 8
    phase = np.random.default_rng(7351).uniform(size=(6, 1, 1, 1, 1))
    times = 0.5 * np.arange(12).reshape(1, 12, 1, 1, 1)
    waves = np.sin(2 * np.pi * (x[:, None] + 2 * x + 0.05 * times + phase))
    arguments = {"dt": 0.5, "domain_extent": 1.0, "channels": ("vorticity",)} | changes
    return FieldDataset.from_array(waves.astype(np.float32), **arguments)


@pytest.fixture(scope="session")
def data_file(tmp_path_factory) -> Path:
    """A data file of our own."""
    return save_dataset(tmp_path_factory.mktemp("data") / "waves.npz", make_dataset())


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_file) -> Path:
    """The folder of a finished run; tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    words = ["train", "sfno", "--data", data_file, "--run-dir", folder, *TINY_TRAINING]
    assert main([str(word) for word in words]) == 0
    return folder
