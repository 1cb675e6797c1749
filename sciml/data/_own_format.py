"""sciml's own files, HDF5 or npz: arrays, one JSON header, and a SHA-256 sum of each.

The arrays are ``<part>/values`` (sample, time, channel, *space) and, where there is one,
``<part>/context``. The parts are ``train``, ``validation``, ``test``, or a single ``dataset``.
The header is the attribute ``header`` of the HDF5 root, or the text array ``header`` of the npz.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..core import PathLike, atomic_path, import_optional
from ..core._json_checksum import json_checksum
from ._dataset import DatasetSplits, FieldDataset
from ._file_errors import file_error
from ._hdf5 import check_stored_dtype, checked_entry, reserve_space
from ._npz import open_npz
from ._options import ReadOptions, build_dataset

FORMAT = "sciml fields"
# Version 1 had no checksum of the header itself, and the others were of the bytes alone.
VERSION = 2
_HEADER = "header"
# HDF5 takes attributes up to 64 kB into the head of an object.
_LONGEST_FIXED_TEXT = 60_000
_HDF5_SUFFIXES = (".h5", ".hdf5")
METADATA = (
    "channels",
    "axes",
    "domain_extent",
    "dt",
    "start_time",
    "context_names",
    "periodic",
    "attributes",
)


def save_dataset(path: PathLike, dataset: FieldDataset | DatasetSplits) -> Path:
    """Write a dataset, or its splits, to one file that `load` reads.

    The file is written aside and renamed, so that an interrupted call or a full disk leaves
    nothing at ``path``, or what was there before.

    Parameters
    ----------
    path
        Ends in ``.h5`` or ``.hdf5`` (needs the extra ``data``), or in ``.npz``.
    dataset
        What to write, in its own precision.

    Returns
    -------
    Path
        Where the file is.

    Raises
    ------
    ValueError
        If the suffix is neither.
    TypeError
        If ``dataset`` is something else, such as a bare array.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from sciml.data import FieldDataset, load
    >>> data = FieldDataset.from_array(np.zeros((2, 3, 1, 4)), dt=0.5, domain_extent=1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save_dataset(f"{folder}/mine.npz", data)).dt
    0.5
    """
    path = Path(path)
    if not isinstance(dataset, FieldDataset | DatasetSplits):
        raise TypeError(
            f"`dataset` must be a FieldDataset or DatasetSplits, got {type(dataset).__name__}; "
            "`FieldDataset.from_array` makes one of an array."
        )
    parts = dataset.items() if isinstance(dataset, DatasetSplits) else [("dataset", dataset)]
    arrays = {}
    for name, part in parts:
        arrays[f"{name}/values"] = part.values
        if part.context is not None:
            arrays[f"{name}/context"] = part.context
    header = make_header(dict(parts), {key: checksum(a) for key, a in arrays.items()})
    if path.suffix in _HDF5_SUFFIXES:
        h5py = import_optional("h5py", f"Writing the HDF5 file {path}")
        with atomic_path(path) as temporary:
            reserve_space(temporary, sum(a.nbytes for a in arrays.values()), name=path)
            with h5py.File(temporary, "w") as file:
                for key, array in arrays.items():
                    file.create_dataset(key, data=array)
                store_text(file, _HEADER, header)
    elif path.suffix == ".npz":
        with atomic_path(path) as temporary:
            np.savez(temporary, allow_pickle=False, header=np.array(header), **arrays)
    else:
        raise ValueError(
            f"`path` must end in .h5, .hdf5 or .npz, which choose the format; got {path.name!r}."
        )
    return path


def make_header(parts: dict[str, FieldDataset], checksums: dict[str, str]) -> str:
    """Return the JSON header of a file with these parts."""
    return seal_header(
        {
            "format": FORMAT,
            "version": VERSION,
            "parts": {
                name: {key: getattr(part, key) for key in METADATA} for name, part in parts.items()
            },
            "sha256": checksums,
        }
    )


def seal_header(header: dict[str, Any]) -> str:
    """Return the text of a header, with its own checksum beside those of the arrays."""
    sums = header["sha256"] | {_HEADER: _header_checksum(header)}
    return json.dumps(header | {"sha256": sums})


def _header_checksum(header: dict[str, Any]) -> str:
    sums = {key: value for key, value in header["sha256"].items() if key != _HEADER}
    return json_checksum(header | {"sha256": sums})


def checksum(array: np.ndarray, *, version: int = VERSION) -> str:
    """Return the SHA-256 sum of dtype, shape, and bytes in C order, little-endian."""
    digest = begin_checksum(array.dtype, array.shape, version=version)
    digest.update(bytes_to_sum(array))
    return digest.hexdigest()


def begin_checksum(dtype: np.dtype, shape: tuple[int, ...], *, version: int = VERSION) -> Any:
    """Return the sum of an array's dtype and shape, which its bytes are to be added to."""
    if version == 1:
        return hashlib.sha256()
    return hashlib.sha256(f"{dtype.newbyteorder('<').str} {tuple(shape)}\n".encode())


def bytes_to_sum(block: np.ndarray) -> Any:
    """Return the bytes of (a block of) an array that its sum is over."""
    little = block.astype(block.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).data


def read_own_hdf5(path: Path, file: Any, options: ReadOptions) -> FieldDataset | DatasetSplits:
    """Read an open HDF5 file of sciml."""

    def read(key: str, rows: slice) -> np.ndarray:
        entry = checked_entry(path, file, key)
        return entry[rows] if entry.shape else np.asarray(entry[()])

    return _read_parts(path, header_text(path, file), read, options)


def header_text(path: Path, file: Any) -> str:
    """Return the attribute ``header`` of an open HDF5 file."""
    text = file.attrs[_HEADER]
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    if not isinstance(text, str):
        raise file_error(path, f"expected a text, got {type(text).__name__}.", key=_HEADER)
    return text


def store_text(file: Any, name: str, text: str) -> None:
    """Store an ASCII text as an attribute of an open HDF5 file.

    With its length in the type where it fits: one of any length lies in a heap of the file, and
    in a damaged heap the library can search for it without end.
    """
    fits = len(text) < _LONGEST_FIXED_TEXT
    file.attrs[name] = np.bytes_(text.encode("ascii")) if fits else text


def read_npz(path: Path, options: ReadOptions) -> FieldDataset | DatasetSplits:
    """Read an npz file of sciml."""
    with open_npz(path) as file:
        if _HEADER not in file:
            raise file_error(
                path,
                f"an npz file of sciml has the key 'header', this one has {file.keys()}. Use "
                "`FieldDataset.from_array(numpy.load(path)[key], dt=..., domain_extent=...)`.",
            )

        def read(key: str, rows: slice) -> np.ndarray:
            array = file.read(key)
            return array[rows] if array.ndim else array  # which has too few axes, as is said later

        return _read_parts(path, str(file.read(_HEADER)), read, options)


def _read_parts(
    path: Path, header_text: str, read: Any, options: ReadOptions
) -> FieldDataset | DatasetSplits:
    options.refuse(path, "sciml's own files", "dt", "domain_extent", "periodic", "prepend_initial")
    header = parse_header(path, header_text, FORMAT)
    check_parts(path, header)
    whole = options.samples == slice(None)
    parts = {}
    for name, metadata in header["parts"].items():
        arrays = {}
        for kind in ("values", "context"):
            key = f"{name}/{kind}"
            if kind == "context" and not metadata["context_names"]:
                continue
            array = read(key, options.samples if kind == "values" else slice(None))
            check_stored_dtype(path, key, array.dtype)
            # A slice of the samples cannot be compared with the sum of the whole array.
            if whole or kind == "context":
                verify_checksum(path, key, array, header)
            if kind == "context" and len(array) > 1:
                array = array[options.samples]
            arrays[kind] = array
        parts[name] = build_dataset(path, **arrays, **metadata)
    if "dataset" in parts:
        return parts["dataset"]
    try:
        return DatasetSplits(**parts)
    except (ValueError, TypeError) as error:
        raise file_error(path, str(error), key=_HEADER) from error


def check_parts(path: Path, header: dict[str, Any]) -> None:
    """Raise unless a header has the parts of one dataset or of splits, each described in full."""
    parts = header["parts"]
    if set(parts) != {"dataset"} and not {"train"} <= set(parts) <= {"train", "validation", "test"}:
        raise file_error(
            path,
            "expected the parts train, validation, test (or a single part `dataset`), got "
            f"{sorted(parts)}.",
            key="header",
        )
    for name, metadata in parts.items():
        found = sorted(metadata) if isinstance(metadata, dict) else type(metadata).__name__
        if found != sorted(METADATA):
            raise file_error(
                path,
                f"part {name!r} must have {sorted(METADATA)}, got {found}.",
                key="header",
            )


def parse_header(path: Path, text: str, expected_format: str) -> dict[str, Any]:
    """Return the header of a file; raise if it is not one, or is of a later version."""
    try:
        header = json.loads(text)
        found, version = header["format"], header["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise file_error(path, f"not a header of sciml ({error}).", key=_HEADER) from error
    if found != expected_format:
        raise file_error(
            path, f"expected the format {expected_format!r}, got {found!r}.", key=_HEADER
        )
    if type(version) is not int or version < 1:
        raise file_error(path, f"expected a positive version, got {version!r}.", key=_HEADER)
    if version > VERSION:
        raise file_error(
            path,
            f"the file has version {version} of the format, this sciml reads up to {VERSION}; "
            "update sciml.",
            key=_HEADER,
        )
    if not isinstance(header.get("parts"), dict) or not isinstance(header.get("sha256"), dict):
        raise file_error(path, "the header lacks `parts` or `sha256`.", key=_HEADER)
    # Where a checksum stands it counts: the damaged digit may be that of the version.
    has_checksum = version > 1 or _HEADER in header["sha256"]
    if has_checksum and header["sha256"].get(_HEADER) != _header_checksum(header):
        raise file_error(
            path,
            "the checksum of the header differs. The file was changed or damaged after it was "
            "written.",
            key=_HEADER,
        )
    return header


def verify_checksum(path: Path, key: str, array: np.ndarray, header: dict[str, Any]) -> None:
    """Raise unless the array is the one that was written by what its header says."""
    compare_checksum(path, key, checksum(array, version=header["version"]), header)


def compare_checksum(path: Path, key: str, found: str, header: dict[str, Any]) -> None:
    """Raise unless the sum of an array is the one that the header says."""
    expected = header["sha256"].get(key)
    if not isinstance(expected, str):
        raise file_error(path, "the header has no checksum of the array.", key=key)
    if found != expected:
        raise file_error(
            path,
            f"the checksum differs: the header says {expected[:16]}..., the array has "
            f"{found[:16]}.... The file was changed or damaged after it was written.",
            key=key,
        )
