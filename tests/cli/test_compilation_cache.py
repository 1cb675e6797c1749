"""The cache of compiled programs: where it is, off, and never a reason to fail."""

import os

import jax
import pytest

from sciml.cli import _compilation_cache
from sciml.cli._compilation_cache import compilation_cache_folder, enable_compilation_cache


@pytest.fixture
def configured(monkeypatch):
    """Collect what would be told to JAX."""
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    return told


def test_folder_follows_the_variables(monkeypatch, tmp_path):
    monkeypatch.delenv("SCIML_COMPILATION_CACHE")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation_cache_folder()
    assert folder is not None
    assert folder.parent == tmp_path / "sciml" / "compiled"
    monkeypatch.setenv("SCIML_COMPILATION_CACHE", str(tmp_path / "mine"))
    assert compilation_cache_folder() == tmp_path / "mine" / folder.name
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    assert compilation_cache_folder() is None


def test_off(configured):
    enable_compilation_cache()
    assert configured == {}


def test_a_folder_that_cannot_be_made_is_no_failure(configured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SCIML_COMPILATION_CACHE", str(tmp_path / "file"))
    enable_compilation_cache()
    assert configured == {}


def test_old_programs_make_room(configured, monkeypatch, tmp_path):
    monkeypatch.setenv("SCIML_COMPILATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_compilation_cache, "_MAX_BYTES", 25)
    enable_compilation_cache()
    folder = compilation_cache_folder()
    assert configured["jax_compilation_cache_dir"] == str(folder)
    for age, name in enumerate(("new", "middle", "old")):
        (folder / name).write_bytes(bytes(10))
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    enable_compilation_cache()
    assert {path.name for path in folder.iterdir()} == {"new", "middle"}
