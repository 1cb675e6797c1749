"""Opening HDF5 files and reading arrays from them, with errors that name file and key."""

import contextlib
import errno
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import import_optional
from ._field_checks import require_finite
from ._file_errors import DataFileError, file_error
from ._npz import STRONGEST_COMPRESSION

# Names, header, alignment.
_ROOM_FOR_METADATA = 2**20


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open for reading; what is damaged, or reaches out of the file, raises `DataFileError`."""
    h5py = import_optional("h5py", f"Reading the HDF5 file {path}")
    with damage_named(path), h5py.File(path, "r") as file:
        refuse_other_files(path, file, h5py)
        yield file


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what the library raises for a damaged file into a `DataFileError` of this path."""
    try:
        yield
    except DataFileError:
        raise
    # The library tells damage of an inner structure in all these ways, by where it meets it.
    except (
        *(OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError),
        *(OverflowError, IndexError),
    ) as error:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise file_error(
            path,
            f"the HDF5 file is damaged or incomplete ({words}). Was the download or the run "
            "that wrote it cut off?",
        ) from error


def refuse_other_files(path: Path, file: Any, h5py: Any) -> None:
    """Raise if an entry would be read from elsewhere: that is not what this file holds."""
    waiting, seen = [file], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            key = f"{group.name.rstrip('/')}/{name}".lstrip("/")
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _elsewhere(path, key, f"an external link to {link.filename!r:.200}")
            if isinstance(link, h5py.SoftLink):
                continue  # to a name in the file, which is met here by itself
            entry = group[name]
            if isinstance(entry, h5py.Dataset):
                if entry.external or entry.is_virtual:
                    raise _elsewhere(path, key, "an array that is stored in other files")
            elif isinstance(entry, h5py.Group):
                address = h5py.h5o.get_info(entry.id).addr
                if address not in seen:  # two names of one group may form a ring
                    seen.add(address)
                    waiting.append(entry)


def _elsewhere(path: Path, key: str, what: str) -> DataFileError:
    return file_error(
        path,
        f"this is {what}, and sciml reads only what the file itself holds. Copy the data into one "
        "file, for instance with `h5repack`.",
        key=key,
    )


def checked_group(path: Path, group: Any, key: str) -> Any:
    """Return a group inside ``group``, or an empty dictionary if there is none of that name.

    Parameters
    ----------
    path, group, key
        As in `checked_entry`.

    Raises
    ------
    DataFileError
        If something else has the name.
    """
    if key not in group:
        return {}
    entry = group[key]
    if not hasattr(entry, "keys"):
        full = f"{group.name.rstrip('/')}/{key}".lstrip("/")
        raise file_error(path, "expected a group, got an array or a type.", key=full)
    return entry


def checked_entry(path: Path, group: Any, key: str) -> Any:
    """Return a dataset, unread, whose numbers are all in the file.

    Parameters
    ----------
    path
        Named in errors.
    group
        The open file or a group of it.
    key
        Name inside ``group``.

    Raises
    ------
    DataFileError
        If the key is missing, is no array of numbers, or is larger than what the file holds of it.
    """
    full = f"{group.name.rstrip('/')}/{key}".lstrip("/")
    if key not in group:
        raise file_error(
            path, f"the key is missing; the keys here are {sorted(group)[:20]}.", key=full
        )
    entry = group[key]
    if not hasattr(entry, "shape") or entry.shape is None:
        raise file_error(path, "expected an array, got a group or an empty entry.", key=full)
    if entry.dtype.kind in "OSUV" and not entry.dtype.names:
        raise file_error(path, f"expected numbers, got dtype {entry.dtype}.", key=full)
    if entry.dtype.names:
        check_stored_dtype(path, full, entry.dtype)
    stored = entry.id.get_storage_size()
    declared = math.prod(entry.shape) * entry.id.get_type().get_size()
    # Chunks at the edges are stored whole, so that more may be there, and never less.
    strongest = STRONGEST_COMPRESSION if entry.id.get_create_plist().get_nfilters() else 1
    is_exact = entry.chunks is None and strongest == 1
    if declared > stored * strongest or (is_exact and declared != stored):
        raise file_error(
            path,
            f"shape {entry.shape} and dtype {entry.dtype} are {declared} bytes, of which the file "
            f"holds {stored}. Was the run that wrote it cut off?",
            key=full,
        )
    return entry


def read_numbers(path: Path, group: Any, key: str) -> np.ndarray:
    """Read an array of integers, booleans or floating-point numbers, whatever its axes are.

    Parameters
    ----------
    path, group, key
        As in `checked_entry`.

    Raises
    ------
    DataFileError
        As `checked_entry` does, and if the numbers are of another kind.
    """
    entry = checked_entry(path, group, key)
    if entry.dtype.kind not in "biuf":
        full = f"{group.name.rstrip('/')}/{key}".lstrip("/")
        raise file_error(path, f"expected real numbers, got dtype {entry.dtype}.", key=full)
    return np.asarray(entry[()])


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
    entry = checked_entry(path, group, key)
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
