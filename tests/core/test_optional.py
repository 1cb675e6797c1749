"""Libraries of the extras: a missing one is named with its command, a broken one is not hidden."""

import sys

import pytest

from sciml.core import import_optional


def test_present_library():
    assert import_optional("h5py", "Reading HDF5").__name__ == "h5py"


def test_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"Downloading needs .*`pooch`.*'sciml\[data\]'"):
        import_optional("pooch", "Downloading")


def test_broken_library_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "pooch.py").write_text("import a_dependency_that_is_absent")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pooch", raising=False)
    with pytest.raises(ModuleNotFoundError, match="a_dependency_that_is_absent"):
        import_optional("pooch", "Downloading")
