"""Damaged, foreign and hostile folders are refused by name; a failed write changes nothing."""

import contextlib
import errno
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml
from sciml.core import read_folder, write_folder
from sciml.core._folder import seal


class Scale(eqx.Module):
    size: int = eqx.field(static=True)
    weight: jax.Array

    def __init__(self, size):
        self.size = size
        self.weight = jnp.arange(float(size))


@pytest.fixture
def folder(tmp_path):
    sciml.save(tmp_path / "model", Scale(6))
    return tmp_path / "model"


def _arrays(folder: Path) -> Path:
    (path,) = folder.glob("arrays-*.npz")
    return path


def _edit(folder, change):
    """Change the config and give it the checksum that belongs to it."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(seal(config)))


def _replace_arrays(folder, write):
    """Put another npz in place, with the name, size and checksum that belong to it."""
    path = _arrays(folder)
    write(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    final = path.rename(folder / f"arrays-{digest[:16]}.npz")
    entry = {"file": final.name, "bytes": final.stat().st_size, "sha256": digest}
    _edit(folder, lambda c: c["files"]["module"].update(entry))


# --- the config file ---


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<!DOCTYPE html><html>404</html>", "holds HTML or XML, not JSON"),
        ("", "truncated or not JSON"),
        ('{"format": "sciml", "format_ver', "truncated or not JSON"),
        ("[1, 2]", "was not written by sciml"),
        ('{"model_type": "bert"}', "was not written by sciml"),
        ('{"format": "sciml", "format_version": 99}', "format version 99"),
        ('{"format": "sciml", "format_version": "1"}', "'format_version' must be of type int"),
        ('{"format": "sciml", "format_version": 1}', "'files' must be of type dict, got NoneType"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "truncated or not JSON"),
    ],
)
def test_config_that_is_not_ours(folder, text, match):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        sciml.load(folder)
    with pytest.raises(ValueError, match="will not overwrite"):
        sciml.save(folder, Scale(6))
    assert (folder / "config.json").read_text() == text


def test_binary_config(folder):
    (folder / "config.json").write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    with pytest.raises(ValueError, match="not a text file in UTF-8"):
        sciml.load(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(surprise=1), "unknown key 'surprise'"),
        (lambda c: c.pop("module"), "'class' and 'arguments'"),
        (lambda c: c["files"].pop("module"), "'module' must be of type dict"),
        (lambda c: c["module"].update({"class": "os.system"}), "unknown class 'os.system'"),
        (lambda c: c["module"].update({"class": "sciml.core._types.Field"}), "no public class"),
        (lambda c: c["module"].update({"class": "sciml.core.load"}), "no public class"),
        (lambda c: c["module"].update({"class": "sciml.core.RESULTS"}), "no public class"),
        (lambda c: c["module"].update({"class": 3}), "'class' must be a string"),
        (lambda c: c["module"]["arguments"].update(colour=1), "has no argument 'colour'"),
        (lambda c: c["module"]["arguments"].clear(), "'size' of .* is missing"),
        (lambda c: c["module"]["arguments"].update(size="six"), "refuses its stored arguments"),
        (lambda c: c["module"]["arguments"].update(size=5), r"must have shape \(5,\), got \(6,\)"),
        (
            lambda c: c["module"]["arguments"].update(size={"$function": "os.system"}),
            "unknown function 'os.system'",
        ),
        (
            lambda c: c["module"]["arguments"].update(size={"$function": "jax.numpy.linalg"}),
            "unknown function 'jax.numpy.linalg'",
        ),
        (lambda c: c["module"]["arguments"].update(size={"$eval": "1"}), "cannot be understood"),
        (lambda c: c["module"]["arguments"].update(size={"$array": ".no"}), "cannot be understood"),
        (lambda c: c["module"]["arguments"].update(size={"$dtype": "no"}), "unknown dtype 'no'"),
        (lambda c: c["files"]["module"].update(file="../../secret.npz"), "not the name of an arr"),
        (
            lambda c: c["files"]["module"].update(file=f"arrays-{'0' * 16}.npz"),
            "which config.json names, is missing",
        ),
        (lambda c: c["files"]["module"].update(bytes=12), "truncated or altered.*12 bytes"),
        (lambda c: c["files"]["module"].update(sha256="0"), "corrupted"),
        (lambda c: c["files"]["module"]["leaves"].clear(), "'.weight' is not in the manifest"),
        (
            lambda c: c["files"]["module"]["leaves"].update({".b": _record([1])}),
            "leaf '.b' of the manifest is missing",
        ),
        (lambda c: _set(c, _record([7])), r"must have shape \(7,\).*got shape \(6,\)"),
        (lambda c: _set(c, _record([10**15])), r"must have shape \(1000000000000000,\)"),
        (lambda c: _set(c, _record([6], "int32")), "dtype int32 by the manifest, got.*float32"),
        (lambda c: _set(c, _record([6], "object")), "unknown dtype 'object'"),
        (lambda c: _set(c, _record([6], "float32", "pickle")), "malformed record"),
        (lambda c: _set(c, _record([-6])), "malformed record"),
        (lambda c: _set(c, _record([6], "mersenne", "key")), "unknown key implementation"),
        (lambda c: _set(c, {"shape": [6]}), "must have the keys"),
    ],
)
def test_altered_config_is_refused_by_name(folder, change, match):
    _edit(folder, change)
    with pytest.raises(ValueError, match=match):
        sciml.load(folder, (Scale,))


def _record(shape, dtype="float32", kind="jax"):
    return {"shape": shape, "dtype": dtype, "kind": kind}


def _set(config, record):
    config["files"]["module"]["leaves"][".weight"] = record


@pytest.mark.parametrize("version", [1, 2])
def test_a_change_without_a_new_checksum_is_damage(folder, version):
    path = folder / "config.json"
    text = path.read_text()
    path.write_text(" ".join(text.split()))  # another layout is none
    sciml.load(folder, (Scale,))
    text = text.replace('"format_version": 2', f'"format_version": {version}')
    path.write_text(text.replace('"size": 6', '"size": 7'))
    with pytest.raises(ValueError, match=r"config\.json is corrupted.*checksum"):
        sciml.load(folder, (Scale,))


def test_version_1_has_no_checksum_of_its_config(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["sha256"]
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="corrupted"):
        sciml.load(folder, (Scale,))
    path.write_text(json.dumps(config | {"format_version": 1}))
    assert sciml.load(folder, (Scale,)).size == 6


def test_unknown_outside_class_tells_how_to_pass_it(folder):
    with pytest.raises(ValueError, match=r"load\(path, classes=\(Scale,\)\)"):
        sciml.load(folder)


# --- the arrays file ---


def test_truncated_and_corrupted_arrays(folder):
    path = _arrays(folder)
    whole = path.read_bytes()
    for n in (0, 10, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=f"{path.name} is truncated or altered.*has {n}"):
            sciml.load(folder, (Scale,))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match="is corrupted"):
        sciml.load(folder, (Scale,))


def test_no_zip_file(folder):
    _replace_arrays(folder, lambda path: path.write_bytes(b"<html>" * 50))
    with pytest.raises(ValueError, match="is not an npz file"):
        sciml.load(folder, (Scale,))


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda p: np.savez(p, **{".weight": np.array([None] * 6)}), "holds Python objects"),
        (lambda p: np.savez_compressed(p, **{".weight": np.zeros(6, "f4")}), "is compressed"),
        (lambda p: np.savez(p, **{".weight": np.zeros(10**6, "f4")}), "too long"),
        (lambda p: np.savez(p, **{".weight": np.zeros(6, ">f4")}), "got shape .* dtype >f4"),
        (lambda p: _zip(p, b"no numpy header"), "no valid npy header"),
        (lambda p: _zip(p, _npy(np.zeros(6, "f4"))[:-4]), "must have 24 bytes, got 20"),
    ],
)
def test_hostile_arrays(folder, write, match):
    _replace_arrays(folder, write)
    with pytest.raises(ValueError, match=match):
        sciml.load(folder, (Scale,))


def _npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _zip(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(".weight.npy", content)


# --- places ---


def test_places_without_a_model(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        sciml.load(tmp_path / "absent")
    with pytest.raises(ValueError, match="is a file; give the folder"):
        sciml.load(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        sciml.load(tmp_path)
    with pytest.raises(ValueError, match="is a file; give the name of a folder"):
        sciml.save(tmp_path / "file", Scale(3))
    with pytest.raises(OSError, match=r"could not save to .*file/below"):
        sciml.save(tmp_path / "file" / "below", Scale(3))


def test_unreadable_folder(folder, monkeypatch):
    # The suite may run as root, whom no permission bits stop.
    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / "config.json"))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(PermissionError, match=r"Permission denied: .*config\.json"):
        sciml.load(folder)
    monkeypatch.undo()
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionError, match="could not save to"):
        sciml.save(folder, Scale(3))


# --- failed and concurrent writes ---


@contextlib.contextmanager
def _files_up_to(n_bytes):
    """Let the operating system refuse to make any file longer than ``n_bytes``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [0, 100, 900, 1700])
def test_a_failing_write_leaves_the_old_model(folder, n_bytes):
    before = sorted(os.listdir(folder))
    new = folder.parent / "new"
    larger = Scale(400)  # made before the limit: compiling for a GPU writes files
    with _files_up_to(n_bytes):
        with pytest.raises(OSError, match=r"could not save to .*File too large.*unchanged"):
            sciml.save(folder, larger)
        with pytest.raises(OSError, match="File too large") as caught:
            sciml.save(new, larger)
    assert caught.value.errno == errno.EFBIG
    assert sorted(os.listdir(folder)) == before
    assert sciml.load(folder, (Scale,)).size == 6
    assert not new.exists()


def test_a_config_that_cannot_be_written(folder):
    before = sorted(os.listdir(folder))
    sizes = (folder / "config.json").stat().st_size, _arrays(folder).stat().st_size
    assert sizes[0] > sizes[1]
    new = Scale(7)
    with _files_up_to(sum(sizes) // 2), pytest.raises(OSError, match="could not save to"):
        sciml.save(folder, new)
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("size", ["8k", "20k"])
def test_full_disk(tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        if size == "20k":
            sciml.save(disk / "model", Scale(6))
        before = sorted(disk.rglob("*"))
        with pytest.raises(OSError, match="No space left on device") as caught:
            sciml.save(disk / "model", Scale(4000))
        assert caught.value.errno == errno.ENOSPC
        assert sorted(disk.rglob("*")) == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_interrupt_between_arrays_and_commit(folder, monkeypatch):
    before = sorted(os.listdir(folder))

    def interrupted(path, text):
        raise KeyboardInterrupt

    monkeypatch.setattr("sciml.core._folder.atomic_write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sciml.save(folder, Scale(9))
    assert sorted(os.listdir(folder)) == before


def test_remains_of_a_killed_writer_are_swept(folder):
    for name in (f"arrays-{'a' * 16}.npz", f".arrays-{'b' * 16}.npz", f".config-{'c' * 16}.json"):
        (folder / name).write_text("half")
    (folder / "arrays-of-mine.npz").write_text("mine")
    sciml.save(folder, Scale(9))
    assert len(os.listdir(folder)) == 3
    assert (folder / "arrays-of-mine.npz").exists()


def test_several_groups_commit_together(tmp_path):
    groups = {"a": {"x": np.arange(3)}, "b": {"x": jax.random.key(7), "y": jnp.ones(())}}
    write_folder(tmp_path, {"note": "n"}, groups)
    config, arrays = read_folder(tmp_path, ("a", "b"), ("note",))
    assert config == {"note": "n"}
    assert np.array_equal(arrays["a"]["x"], np.arange(3))
    assert jnp.array_equal(
        jax.random.key_data(arrays["b"]["x"]), jax.random.key_data(groups["b"]["x"])
    )


def test_a_reader_survives_constant_overwriting(folder):
    stop = threading.Event()

    def overwrite():
        size = 6
        while not stop.is_set():
            size = 6 + (size + 1) % 5
            write_folder(folder, {}, {"module": {"w": np.full(size, size)}})

    writer = threading.Thread(target=overwrite)
    writer.start()
    try:
        sciml.core.write_folder(folder, {}, {"module": {"w": np.full(6, 6)}})
        for _ in range(150):
            _, arrays = read_folder(folder, ("module",), ("module", "versions"))
            w = arrays["module"]["w"]
            assert np.array_equal(w, np.full(len(w), len(w)))
    finally:
        stop.set()
        writer.join()


def test_two_writers_at_once(tmp_path):
    def write(offset):
        for i in range(30):
            n = offset + i % 7
            write_folder(tmp_path / "m", {}, {"g": {"w": np.full(n, n)}})

    # Threads: the lock belongs to the open descriptor, so that they exclude each other as two
    # processes do.
    writers = [threading.Thread(target=write, args=(offset,)) for offset in (3, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    _, arrays = read_folder(tmp_path / "m", ("g",), ())
    assert len(arrays["g"]["w"]) in (3 + 29 % 7, 20 + 29 % 7)
    assert len(os.listdir(tmp_path / "m")) == 2
