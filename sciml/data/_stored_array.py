"""An array that stays in its HDF5 file: what windows and statistics ask of it is read on demand."""

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ..core import import_optional
from ._file_errors import DataFileError, file_error
from ._hdf5 import damage_named, refuse_other_files


class StoredFile:
    """An HDF5 file of which each thread that reads has a handle of its own.

    Inside ``with file.opened():`` the thread keeps its handle; a read outside of it opens the file
    and closes it again. So no handle is shared, and none outlives a `fork`: a thread of the child
    opens the file anew.

    Parameters
    ----------
    path
        The file. Size and time of change are noted now, and a file that differs later is refused:
        HDF5 gives zeros for what a file has lost.

    Raises
    ------
    OSError
        If it is not there.
    """

    def __init__(self, path: Path):
        self.path = path
        self._stamp = _stamp(path)
        self._here = threading.local()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Any]:
        """Hold the file open for this thread.

        Raises
        ------
        DataFileError
            If the file is gone, changed or damaged.
        """
        held = getattr(self._here, "file", None)
        if held is not None and self._here.process == os.getpid():
            yield held
            return
        self.check_unchanged()
        h5py = import_optional("h5py", f"Reading the HDF5 file {self.path}")
        with contextlib.ExitStack() as stack:
            with damage_named(self.path):
                file = stack.enter_context(h5py.File(self.path, "r"))
                refuse_other_files(self.path, file, h5py)
            self._here.file, self._here.process = file, os.getpid()
            try:
                yield file
            finally:
                self._here.file = None

    @contextlib.contextmanager
    def reading(self, key: str) -> Iterator[Any]:
        """Give an array of the file; what was read inside counts if the file is whole after it.

        Raises
        ------
        DataFileError
            If the file is gone, changed or damaged.
        """
        with self.opened() as file:
            try:
                with damage_named(self.path):
                    yield file[key]
            except DataFileError:
                self.check_unchanged()  # the better reason, where it is one
                raise
            self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise `DataFileError` unless the file is the one that was opened first."""
        try:
            stamp = _stamp(self.path)
        except OSError as error:
            raise file_error(
                self.path,
                f"the file cannot be read any more ({error.strerror}). It must stay where it is "
                "while batches are read from it.",
            ) from error
        if stamp != self._stamp:
            raise file_error(
                self.path,
                f"the file was changed while batches are read from it: it had {self._stamp[0]} "
                f"bytes when it was opened and has {stamp[0]}. Restore it, or open it anew.",
            )


class StoredArray:
    """Samples of an array in a file, of which only what is asked for is read.

    It is indexed as a NumPy array is, by ``array[samples]`` (an integer, a slice or integers), and
    by ``array[samples[:, None], times]`` where the times of each sample follow one another. To
    iterate gives sample after sample, from one handle.

    Parameters
    ----------
    file
        Where it lies.
    key
        Its name there.
    rows
        Which samples of the stored array these are.
    sample_shape
        Shape of each.
    dtype
        Of what is read; the stored one, or another precision.
    """

    def __init__(
        self,
        file: StoredFile,
        key: str,
        rows: np.ndarray,
        sample_shape: tuple[int, ...],
        dtype: np.dtype,
    ):
        self.file, self.key = file, key
        self._rows = rows
        self.shape = (len(rows), *sample_shape)
        # Files may be big-endian; JAX takes only the machine's own byte order.
        self.dtype = np.dtype(dtype).newbyteorder("=")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Shaped[np.ndarray, "..."]:
        samples, times = index if isinstance(index, tuple) else (index, None)
        if times is None:
            rows = self._rows[samples]
            if rows.ndim == 0:
                return self._read(rows[None], None, self.shape[1:])[0]
            return self._read(rows, None, self.shape[1:])
        rows = self._rows[np.reshape(samples, -1)]
        if times.shape[0] != len(rows) or np.any(np.diff(times, axis=1) != 1):
            raise IndexError("the times of each sample must follow one another.")
        if times.min() < 0 or times.max() >= self.shape[1]:
            raise IndexError(f"there are {self.shape[1]} times, got {times.min()}-{times.max()}.")
        return self._read(rows, times[:, 0], (times.shape[1], *self.shape[2:]))

    def __iter__(self) -> Iterator[np.ndarray]:
        with self.file.opened():
            for i in range(len(self)):
                yield self[i]

    def select(self, samples: Any) -> "StoredArray":
        """Return the chosen samples, unread; they are taken as NumPy takes an index."""
        return StoredArray(self.file, self.key, self._rows[samples], self.shape[1:], self.dtype)

    def astype(self, dtype: Any) -> "StoredArray":
        """Return the array in another precision, to which each piece is rounded as it is read."""
        return StoredArray(self.file, self.key, self._rows, self.shape[1:], np.dtype(dtype))

    def _read(
        self, rows: np.ndarray, starts: np.ndarray | None, shape: tuple[int, ...]
    ) -> np.ndarray:
        out = np.empty((len(rows), *shape), self.dtype)
        with self.file.reading(self.key) as entry:
            for i, row in enumerate(rows):
                if starts is None:
                    out[i] = entry[row]
                else:
                    out[i] = entry[row, starts[i] : starts[i] + shape[0]]
        return out


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
