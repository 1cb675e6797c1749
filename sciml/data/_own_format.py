"""sciml's own files, HDF5 or npz: arrays, one JSON header, and a SHA-256 sum of each array.

The arrays are ``<part>/values`` (sample, time, channel, *space) and, where there is one,
``<part>/context``. The parts are ``train``, ``validation``, ``test``, or a single ``dataset``.
The header is the attribute ``header`` of the HDF5 root, or the text array ``header`` of the npz.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..core import PathLike, atomic_path, import_optional
from ._dataset import DatasetSplits, FieldDataset
from ._file_errors import file_error
from ._hdf5 import check_stored_dtype, reserve_space
from ._options import ReadOptions, build_dataset

FORMAT = "sciml fields"
VERSION = 1
_HDF5_SUFFIXES = (".h5", ".hdf5")
_METADATA = (
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
                file.attrs["header"] = header
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
    return json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "parts": {
                name: {key: getattr(part, key) for key in _METADATA} for name, part in parts.items()
            },
            "sha256": checksums,
        }
    )


def checksum(array: np.ndarray) -> str:
    """Return the SHA-256 sum of the array's bytes in C order, little-endian."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).data).hexdigest()


def read_own_hdf5(path: Path, file: Any, options: ReadOptions) -> FieldDataset | DatasetSplits:
    """Read an open HDF5 file of sciml."""

    def read(key: str, rows: slice) -> np.ndarray:
        if key not in file:
            raise file_error(path, "the key is missing.", key=key)
        return file[key][rows]

    return _read_parts(path, str(file.attrs["header"]), read, options)


def read_npz(path: Path, options: ReadOptions) -> FieldDataset | DatasetSplits:
    """Read an npz file of sciml."""
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            if "header" not in file:
                raise file_error(
                    path,
                    f"an npz file of sciml has the key 'header', this one has {sorted(file)}. Use "
                    "`FieldDataset.from_array(numpy.load(path)[key], dt=..., domain_extent=...)`.",
                )

            def read(key: str, rows: slice) -> np.ndarray:
                if key not in file:
                    raise file_error(path, "the key is missing.", key=key)
                return _load_member(path, file, key)[rows]

            return _read_parts(path, str(_load_member(path, file, "header")), read, options)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise file_error(path, f"the npz file is damaged or incomplete ({error}).") from error


def _load_member(path: Path, file: Any, key: str) -> np.ndarray:
    try:
        return file[key]
    except ValueError as error:
        # NumPy's word for an array of Python objects, which only pickle could read.
        raise file_error(path, f"the array cannot be read safely: {error}", key=key) from error


def _read_parts(
    path: Path, header_text: str, read: Any, options: ReadOptions
) -> FieldDataset | DatasetSplits:
    options.refuse(path, "sciml's own files", "dt", "domain_extent", "periodic", "prepend_initial")
    header = parse_header(path, header_text, FORMAT)
    _check_parts(path, header)
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
                verify_checksum(path, key, array, header["sha256"].get(key))
            if kind == "context" and len(array) > 1:
                array = array[options.samples]
            arrays[kind] = array
        parts[name] = build_dataset(path, **arrays, **metadata)
    if "dataset" in parts:
        return parts["dataset"]
    return DatasetSplits(**parts)


def _check_parts(path: Path, header: dict[str, Any]) -> None:
    parts, sums = header.get("parts"), header.get("sha256")
    if not isinstance(parts, dict) or not isinstance(sums, dict):
        raise file_error(path, "the header lacks `parts` or `sha256`.", key="header")
    if set(parts) != {"dataset"} and not {"train"} <= set(parts) <= {"train", "validation", "test"}:
        raise file_error(
            path,
            "expected the parts train, validation, test (or a single part `dataset`), got "
            f"{sorted(parts)}.",
            key="header",
        )
    for name, metadata in parts.items():
        if set(metadata) != set(_METADATA):
            raise file_error(
                path,
                f"part {name!r} must have {sorted(_METADATA)}, got {sorted(metadata)}.",
                key="header",
            )


def parse_header(path: Path, text: str, expected_format: str) -> dict[str, Any]:
    """Return the header of a file; raise if it is not one, or is of a later version."""
    try:
        header = json.loads(text)
        found, version = header["format"], header["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise file_error(path, f"not a header of sciml ({error}).", key="header") from error
    if found != expected_format:
        raise file_error(
            path, f"expected the format {expected_format!r}, got {found!r}.", key="header"
        )
    if version > VERSION:
        raise file_error(
            path,
            f"the file has version {version} of the format, this sciml reads up to {VERSION}; "
            "update sciml.",
            key="header",
        )
    return header


def verify_checksum(path: Path, key: str, array: np.ndarray, expected: str | None) -> None:
    """Raise unless the array is the one that was written."""
    if expected is None:
        raise file_error(path, "the header has no checksum of the array.", key=key)
    found = checksum(array)
    if found != expected:
        raise file_error(
            path,
            f"the checksum differs: the header says {expected[:16]}..., the array has "
            f"{found[:16]}.... The file was changed or damaged after it was written.",
            key=key,
        )
