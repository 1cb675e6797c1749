"""A file written through atomic_path is whole or as it was."""

import errno
import os
import stat

import pytest

from sciml.core import atomic_path, atomic_write_text


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "a.txt"
    atomic_write_text(target, "first")
    atomic_write_text(str(target), "second: é")
    assert target.read_text(encoding="utf-8") == "second: é"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failing_flush_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write_text(tmp_path / "a.txt", "new")
    assert os.listdir(tmp_path) == []


def test_the_umask_decides_who_may_read(tmp_path):
    previous = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_wrong_places_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=r"its folder '.*absent' does not exist"):
        atomic_write_text(tmp_path / "absent" / "a.txt", "x")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        atomic_write_text(tmp_path / "file" / "a.txt", "x")
    with pytest.raises(IsADirectoryError, match="a folder has that name"):
        atomic_write_text(tmp_path, "x")
