"""The header of an array in NumPy's format, read before any memory is taken for the array."""

import math
from typing import Any, NamedTuple

import numpy as np


class NpyHeader(NamedTuple):
    """What stands before the numbers.

    Attributes
    ----------
    shape, dtype
        Of the array.
    fortran_order
        Whether the first axis varies fastest.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype

    @property
    def n_bytes(self) -> int:
        """Bytes of the numbers, as an exact integer however large it is."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(stream: Any) -> NpyHeader:
    """Read the header of an ``.npy`` file and leave ``stream`` at the first number.

    Parameters
    ----------
    stream
        A binary file at the start of the array.

    Raises
    ------
    ValueError
        If there is no valid header, a size is negative, or the array holds Python objects.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        header = NpyHeader(*read(stream))
    except OSError:
        raise
    # The header is a Python literal: damaged, it fails in every way in which Python can parse.
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise ValueError(
            f"there is no valid npy header ({words or type(error).__name__})"
        ) from error
    if header.dtype.hasobject:
        raise ValueError("it holds Python objects, which only pickle could read")
    if any(size < 0 for size in header.shape):
        raise ValueError(f"its header gives the negative shape {header.shape}")
    return header


def check_npy_size(header: NpyHeader, n_bytes: int) -> None:
    """Raise ``ValueError`` unless ``n_bytes`` follow the header, as it says.

    Parameters
    ----------
    header
        What `read_npy_header` gave.
    n_bytes
        What follows.
    """
    if n_bytes != header.n_bytes:
        raise ValueError(
            f"its header gives shape {header.shape} and dtype {header.dtype}, which are "
            f"{header.n_bytes} bytes, and {n_bytes} bytes follow"
        )


def load_npy(path: Any, *, mmap: bool = False) -> np.ndarray:
    """Read, or map, an ``.npy`` file that holds numbers and is exactly as long as it says.

    Parameters
    ----------
    path
        The file.
    mmap
        Map it instead of reading it.

    Raises
    ------
    OSError
        If it cannot be opened.
    ValueError
        If it is something else, or too short, or too long.
    """
    with open(path, "rb") as stream:
        if stream.read(2) == b"PK":
            raise ValueError("it is an archive of arrays (.npz), not one array")
        stream.seek(0)
        header = read_npy_header(stream)
        begin = stream.tell()
        check_npy_size(header, stream.seek(0, 2) - begin)
    return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
