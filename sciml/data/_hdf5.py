"""Opening HDF5 files and reading arrays from them, with errors that name file and key."""

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import import_optional
from ._field_checks import require_finite
from ._file_errors import DataFileError, file_error

# Names, header, alignment.
_ROOM_FOR_METADATA = 2**20


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open for reading; a truncated or damaged file raises `DataFileError`."""
    h5py = import_optional("h5py", f"Reading the HDF5 file {path}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DataFileError:
        raise
    except (OSError, RuntimeError) as error:
        # RuntimeError is what h5py gives for a damaged inner structure.
        raise file_error(
            path,
            f"the HDF5 file is damaged or incomplete ({error}). Was the download or the run "
            "that wrote it cut off?",
        ) from error


def read_array(
    path: Path,
    group: Any,
    key: str,
    axes: Sequence[str],
    *,
    index: Any = (),
    reverse_axes: bool = False,
) -> np.ndarray:
    """Read a finite, real floating-point dataset with the given axes.

    Parameters
    ----------
    path
        Named in errors.
    group
        The open file or a group of it.
    key
        Name inside ``group``.
    axes
        A name for each axis, in the order of the result.
    index
        What to read of it (in the order of the file).
    reverse_axes
        Whether the file holds the axes in reverse, as MATLAB writes them.

    Raises
    ------
    DataFileError
        If the key is missing, is a group, or holds something else.
    """
    full = f"{group.name.rstrip('/')}/{key}".lstrip("/")
    if key not in group:
        raise file_error(path, f"the key is missing; the keys here are {sorted(group)}.", key=full)
    entry = group[key]
    if not hasattr(entry, "shape") or entry.shape is None:
        raise file_error(path, "expected an array, got a group or an empty entry.", key=full)
    check_stored_dtype(path, full, entry.dtype)
    if len(entry.shape) != len(axes):
        stored = axes[::-1] if reverse_axes else axes
        raise file_error(
            path,
            f"expected the {len(axes)} axes ({', '.join(stored)}), got shape {entry.shape}.",
            key=full,
        )
    array = np.asarray(entry[index])
    if reverse_axes:
        array = np.ascontiguousarray(array.T)
    if 0 in array.shape:
        raise file_error(path, f"the array is empty: shape {array.shape}.", key=full)
    check_finite_entries(path, full, array, axes)
    return array


def check_stored_dtype(path: Path, key: str, dtype: np.dtype) -> None:
    """Raise unless the dtype is float32 or float64; MATLAB's complex pairs are recognised."""
    names = dtype.names or ()
    if dtype.kind == "c" or {"real", "imag"} <= set(names):
        raise file_error(
            path,
            "the array is complex; sciml reads real fields. Store real and imaginary parts as "
            "two channels.",
            key=key,
        )
    if dtype.kind != "f" or dtype.itemsize not in (4, 8):
        raise file_error(path, f"expected float32 or float64, got dtype {dtype}.", key=key)


def check_finite_entries(path: Path, key: str, array: np.ndarray, axes: Sequence[str]) -> None:
    """Raise the readers' error if an entry is NaN or infinite."""
    try:
        require_finite(key, array, axes)
    except ValueError as error:
        raise file_error(path, str(error), key=key) from error


def reserve_space(path: Path, n_bytes: int, *, name: Path) -> None:
    """Claim the blocks of an HDF5 file of ``n_bytes`` in arrays before it is written.

    HDF5 does not survive a disk that fills up under it: it fails once more when the file is
    closed, and may take the process with it. A full disk, a quota or a limit is met here instead.

    Parameters
    ----------
    path
        The file; it is made if it does not exist, and what it holds is kept.
    n_bytes
        Size of the arrays.
    name
        What the message calls the file.

    Raises
    ------
    OSError
        If there is no room.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS has no such call
        return
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, n_bytes + _ROOM_FOR_METADATA)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            return  # the file system cannot reserve
        words = f"no room for {n_bytes / 1e6:.3g} MB: {os.strerror(error.errno)}"
        raise OSError(error.errno, words, str(name)) from error
    finally:
        os.close(descriptor)
