"""A folder of arrays with one commit point: ``config.json`` names every other file.

``config.json`` holds a manifest of the arrays; the arrays are in ``arrays-<digest>.npz``, named
after their content. Writing puts the new arrays beside the old ones and then replaces
``config.json``, in one atomic step. Whoever is killed at any moment leaves the old contents or
the new ones; files that no ``config.json`` names are swept away by the next write.
"""

import contextlib
import hashlib
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._atomic import atomic_write_text, flush_to_disk, temporary_path
from ._json_checksum import json_checksum
from ._leaves import LeafRecord, describe_leaf, from_raw, n_bytes, raw_layout, to_raw
from ._npy import read_npy_header
from ._types import PathLike

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes are not kept apart
    fcntl = None

CONFIG = "config.json"
_FORMAT = "sciml"
_VERSION = 2
# Files of version 1 have no checksum of config.json itself; sciml ships some.
_READABLE = (1, 2)
_ARRAYS_NAME = re.compile(r"arrays-[0-9a-f]{16}\.npz")
_LEFT_BEHIND = re.compile(r"\.(arrays|config)-[0-9a-f]{16}\.(npz|json)")
_OWN_KEYS = {"format", "format_version", "files", "sha256"}
_MAX_CONFIG_BYTES = 64 * 2**20


def write_folder(
    path: PathLike, config: Mapping[str, Any], groups: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write arrays and what describes them into a folder, all of it or nothing.

    Parameters
    ----------
    path
        The folder; it is made if it does not exist. One that this function wrote before is
        replaced, and other files in it are left alone.
    config
        JSON values that go into ``config.json`` beside the manifest.
    groups
        For each group its arrays by name; each group is a file of its own.

    Raises
    ------
    ValueError
        If ``path`` is a file, or a folder with a ``config.json`` from elsewhere.
    OSError
        If writing fails (a full disk, no permission). What was there before is unchanged.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{str(path)!r} is a file; give the name of a folder to save to.")
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            _refuse_foreign(path)
            try:
                files = {name: _write_arrays(path, arrays) for name, arrays in groups.items()}
                content = {"format": _FORMAT, "format_version": _VERSION, **config, "files": files}
                text = json.dumps(seal(content), indent=1, allow_nan=False)
                atomic_write_text(path / CONFIG, text)
            finally:
                # After a failure these are the new files, after a success the old ones.
                _sweep(path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not save to {str(path)!r}: {error.strerror or error}. "
            "What was there before is unchanged.",
        ) from error
    finally:
        if made:
            with contextlib.suppress(OSError):
                path.rmdir()  # only an empty folder goes


def read_folder(
    path: PathLike, groups: Collection[str], known_keys: Collection[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read ``config.json`` and the arrays of some groups, checked against the manifest.

    Parameters
    ----------
    path
        A folder that `write_folder` wrote.
    groups
        Names of the groups to read.
    known_keys
        The keys of ``config`` that the caller understands; others are refused.

    Returns
    -------
    config : dict
        The contents of ``config.json``, without what `write_folder` added.
    arrays : dict
        For each group its arrays by name, with the dtypes and kinds that were saved.

    Raises
    ------
    FileNotFoundError
        If ``path`` does not exist or has no ``config.json``.
    ValueError
        If a file is truncated, altered or not what its name says, or if the manifest and the
        file disagree.
    """
    path = Path(path)
    text = _read_config_text(path)
    while True:
        config = _parse_config(path / CONFIG, text)
        unknown = sorted(set(config) - _OWN_KEYS - set(known_keys))
        if unknown:
            raise ValueError(f"{path / CONFIG}: unknown key {unknown[0]!r}.")
        try:
            arrays = {group: _read_arrays(path, config["files"], group) for group in groups}
            return {k: v for k, v in config.items() if k not in _OWN_KEYS}, arrays
        except FileNotFoundError as error:
            # Another process may have replaced the contents between our two reads.
            again = _read_config_text(path)
            if again == text:
                raise ValueError(
                    f"{path}: {Path(error.filename).name!r}, which {CONFIG} names, is missing."
                ) from None
            text = again


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a ``config.json`` with the checksum that belongs to it."""
    content = {key: value for key, value in content.items() if key != "sha256"}
    return content | {"sha256": json_checksum(content)}


def _write_arrays(folder: Path, arrays: Mapping[str, Any]) -> dict[str, Any]:
    leaves = {}
    with temporary_path(folder, "arrays", ".npz") as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                leaves[name] = describe_leaf(name, array)._asdict()
                # A fixed date: equal arrays give equal files.
                info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                with archive.open(info, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, to_raw(array), allow_pickle=False)
        flush_to_disk(temporary)
        with temporary.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = temporary.stat().st_size
        final = f"arrays-{digest[:16]}.npz"
        temporary.replace(folder / final)
    return {"file": final, "bytes": size, "sha256": digest, "leaves": leaves}


def _read_arrays(folder: Path, files: dict[str, Any], group: str) -> dict[str, Any]:
    where = folder / CONFIG
    entry = _member(where, files, group, dict)
    name = _member(where, entry, "file", str)
    if not _ARRAYS_NAME.fullmatch(name):
        raise ValueError(f"{where}: {name!r} is not the name of an arrays file.")
    records = {
        leaf: _parse_record(where, leaf, record)
        for leaf, record in _member(where, entry, "leaves", dict).items()
    }
    path = folder / name
    with path.open("rb") as stream:
        size, expected = os.fstat(stream.fileno()).st_size, _member(where, entry, "bytes", int)
        if size != expected:
            raise ValueError(
                f"{path} is truncated or altered: {CONFIG} says {expected} bytes, it has {size}."
            )
        if hashlib.file_digest(stream, "sha256").hexdigest() != entry.get("sha256"):
            raise ValueError(f"{path} is corrupted: its content does not match its checksum.")
        try:
            with zipfile.ZipFile(stream) as archive:
                return _read_members(path, archive, records)
        except (
            *(zipfile.BadZipFile, EOFError, NotImplementedError, struct.error),
            # Encrypted, misnamed, compressed, with an entry that begins before the file.
            *(RuntimeError, UnicodeDecodeError, zlib.error, OSError),
        ) as error:
            raise ValueError(f"{path} is not an npz file: {error}.") from error


def _read_members(
    path: Path, archive: zipfile.ZipFile, records: dict[str, LeafRecord]
) -> dict[str, Any]:
    stored = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    for name in stored:
        if name not in records:
            raise ValueError(f"{path}: the array {name!r} is not in the manifest.")
    arrays = {}
    for name, record in records.items():
        if name not in stored:
            raise ValueError(f"{path}: the leaf {name!r} of the manifest is missing.")
        try:
            shape, dtype = raw_layout(name, record)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        info = stored[name]
        # Before any memory is taken: the entry must be as long as the manifest says, as it is.
        longest = n_bytes(shape, dtype) + 4096  # room for the header
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > longest:
            raise ValueError(f"{path}: the array {name!r} is compressed or too long.")
        with archive.open(info) as stream:
            found = _read_header(path, name, stream)
            if found != (shape, dtype):
                raise ValueError(
                    f"{path}: the array {name!r} must have shape {shape} and dtype {dtype} by the "
                    f"manifest, got shape {found[0]} and dtype {found[1]}."
                )
            data = stream.read()
        if len(data) != n_bytes(shape, dtype):
            raise ValueError(
                f"{path}: the array {name!r} must have {n_bytes(shape, dtype)} bytes, "
                f"got {len(data)}."
            )
        # bytearray: the array may be written to, as any other that NumPy loads.
        raw = np.frombuffer(bytearray(data), dtype).reshape(shape)
        arrays[name] = from_raw(raw, record)
    return arrays


def _read_header(path: Path, name: str, stream: Any) -> tuple[tuple[int, ...], np.dtype]:
    try:
        shape, fortran_order, dtype = read_npy_header(stream)
    except ValueError as error:
        raise ValueError(f"{path}: the array {name!r} cannot be read safely: {error}.") from error
    if fortran_order and len(shape) > 1:
        raise ValueError(f"{path}: the array {name!r} is stored in Fortran order.")
    return shape, dtype


def _read_config_text(folder: Path) -> str:
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}.")
    if not folder.is_dir():
        raise ValueError(
            f"{str(folder)!r} is a file; give the folder that `sciml.save` or a training run wrote."
        )
    config = folder / CONFIG
    if not config.is_file():
        raise FileNotFoundError(
            f"{str(folder)!r} has no {CONFIG}; it is not a folder that `sciml.save` or a training "
            "run finished writing."
        )
    size = config.stat().st_size
    if size > _MAX_CONFIG_BYTES:
        raise ValueError(f"{config} has {size} bytes, too many for a {CONFIG} of sciml.")
    try:
        return config.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{config} is not a text file in UTF-8.") from None


def _parse_config(where: Path, text: str) -> dict[str, Any]:
    if text.lstrip()[:1] == "<":
        raise ValueError(
            f"{where} holds HTML or XML, not JSON; a download probably saved an error page."
        )
    try:
        config = json.loads(text)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply.") from None
    except ValueError as error:
        raise ValueError(f"{where} is truncated or not JSON: {error}.") from None
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise ValueError(f"{where} was not written by sciml: it lacks 'format': '{_FORMAT}'.")
    version = _member(where, config, "format_version", int)
    if version not in _READABLE:
        raise ValueError(
            f"{where} has format version {version}, and this sciml reads up to {_VERSION}; "
            "load it with the sciml that wrote it (see 'versions' in the file)."
        )
    try:
        expected = seal(config)["sha256"]
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply.") from None
    # Where a checksum stands it counts: the damaged digit may be that of the version.
    if (version > 1 or "sha256" in config) and config.get("sha256") != expected:
        raise ValueError(
            f"{where} is corrupted: its content does not match its checksum. It was changed or "
            "damaged after it was written."
        )
    _member(where, config, "files", dict)
    return config


def _parse_record(where: Path, name: str, record: Any) -> LeafRecord:
    if not isinstance(record, dict) or set(record) != set(LeafRecord._fields):
        raise ValueError(f"{where}: leaf {name!r} must have the keys {LeafRecord._fields}.")
    shape, dtype, kind = record["shape"], record["dtype"], record["kind"]
    sizes_are_right = isinstance(shape, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape
    )
    if not sizes_are_right or not isinstance(dtype, str) or kind not in ("jax", "numpy", "key"):
        raise ValueError(f"{where}: leaf {name!r} has a malformed record {record!r:.200}.")
    return LeafRecord(tuple(shape), dtype, kind)


def _member(where: Path, mapping: dict[str, Any], key: str, kind: type) -> Any:
    value = mapping.get(key)
    if not isinstance(value, kind):
        raise ValueError(
            f"{where}: {key!r} must be of type {kind.__name__}, got {type(value).__name__}."
        )
    return value


def _refuse_foreign(folder: Path) -> None:
    if not (folder / CONFIG).exists():
        return
    try:
        _parse_config(folder / CONFIG, _read_config_text(folder))
    except ValueError as error:
        raise ValueError(
            f"will not overwrite {str(folder / CONFIG)!r}: {error} Choose another folder, or "
            "remove that file first."
        ) from None


def _sweep(folder: Path) -> None:
    """Remove arrays files that ``config.json`` does not name, and temporary files of the dead."""
    named = set()
    if (folder / CONFIG).exists():
        try:
            files = _parse_config(folder / CONFIG, _read_config_text(folder))["files"]
            named = {entry["file"] for entry in files.values()}
        except (ValueError, OSError, KeyError, TypeError):
            return  # what is needed cannot be told: remove nothing
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            ours = _ARRAYS_NAME.fullmatch(entry.name) or _LEFT_BEHIND.fullmatch(entry.name)
            if ours and entry.name not in named:
                entry.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second writer out: it would sweep our new arrays before we commit them."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
