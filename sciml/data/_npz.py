"""Reading npz files that may be damaged or hostile: no pickle, no memory beyond the file's own."""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core._npy import check_npy_size, read_npy_header
from ._file_errors import DataFileError, file_error

# Deflate cannot do better, nor do the filters of HDF5; what claims more is a bomb.
STRONGEST_COMPRESSION = 1100


class NpzFile:
    """The arrays of an open npz file.

    Parameters
    ----------
    path
        Named in errors.
    archive
        The open file.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self._path = path
        self._archive = archive
        self._members = {
            info.filename.removesuffix(".npy"): info
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def keys(self) -> list[str]:
        """Return the names of the arrays."""
        return sorted(self._members)

    def read(self, key: str) -> np.ndarray:
        """Return an array.

        Raises
        ------
        DataFileError
            If the key is missing, or the array is damaged or holds objects.
        """
        if key not in self._members:
            raise file_error(self._path, "the key is missing.", key=key)
        info = self._members[key]
        if info.file_size > STRONGEST_COMPRESSION * (info.compress_size + 100):
            raise file_error(
                self._path,
                f"{info.compress_size} bytes claim to hold {info.file_size}.",
                key=key,
            )
        with self._archive.open(info) as stream:
            try:
                header = read_npy_header(stream)
                if header.dtype.kind not in "biufcU":
                    raise ValueError(f"it holds no numbers and no text, but {header.dtype}")
                check_npy_size(header, info.file_size - stream.tell())
            except ValueError as error:
                raise file_error(
                    self._path, f"the array cannot be read safely: {error}.", key=key
                ) from error
            data = stream.read()
        if len(data) != header.n_bytes:
            raise file_error(
                self._path, f"expected {header.n_bytes} bytes, got {len(data)}.", key=key
            )
        # bytearray: the array may be written to, as any other that NumPy loads.
        array = np.frombuffer(bytearray(data), header.dtype) if data else np.empty(0, header.dtype)
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[NpzFile]:
    """Open an npz file for reading.

    Raises
    ------
    DataFileError
        If it is truncated or damaged, here or while an array is read.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            yield NpzFile(path, archive)
    except DataFileError:
        raise
    except (
        # What the zip reader raises for damage: the last ones stand for an encrypted member, an
        # unknown compression, and compressed data that break off or do not fit.
        *(zipfile.BadZipFile, EOFError, OSError, struct.error, UnicodeDecodeError),
        *(NotImplementedError, zlib.error, RuntimeError),
    ) as error:
        raise file_error(
            path, f"the npz file is damaged or incomplete ({error or type(error).__name__})."
        ) from error
