"""What a file is, by its first bytes: names and suffixes lie, above all for failed downloads."""

import enum
from pathlib import Path

from ._file_errors import file_error

_HDF5 = b"\x89HDF\r\n\x1a\n"
# The HDF5 signature may follow a user block of 512, 1024, 2048, ... bytes; MATLAB uses 512.
_HDF5_OFFSETS = (0, 512, 1024, 2048, 4096)


class FileKind(enum.Enum):
    """The containers that sciml reads."""

    HDF5 = "HDF5"
    MATLAB_5 = "MATLAB v5"
    NPZ = "npz"


def sniff(path: Path) -> FileKind:
    """Return the container of the file.

    Raises
    ------
    DataFileError
        If it is empty, or anything else; the message says what it looks like instead.
    PermissionError
        If the file may not be read.
    """
    with path.open("rb") as file:
        head = file.read(8192)
    if not head:
        raise file_error(path, "the file is empty (0 bytes).")
    if any(head[offset : offset + len(_HDF5)] == _HDF5 for offset in _HDF5_OFFSETS):
        return FileKind.HDF5
    if head.startswith(b"MATLAB 5.0 MAT-file"):
        return FileKind.MATLAB_5
    if head.startswith(b"PK\x03\x04"):
        if b"data.pkl" in head[:200]:
            raise file_error(
                path,
                "this is a PyTorch file, which holds pickled objects; sciml never unpickles. "
                "Convert it where torch is installed, with numpy.savez or `save_dataset`.",
            )
        return FileKind.NPZ
    raise file_error(path, _diagnose(head))


def _diagnose(head: bytes) -> str:
    text = head[:512].lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return (
            "this is a web page (HTML), not data: the download brought a log-in, confirmation or "
            "error page. Open the link in a browser and save the file itself."
        )
    if head.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the data; run `git lfs pull`."
    if head.startswith(b"\x93NUMPY"):
        return (
            "this is a bare .npy array, without grid or time step. Use "
            "`FieldDataset.from_array(numpy.load(path), dt=..., domain_extent=...)`."
        )
    if head.startswith(b"MATLAB 7.3"):
        return "the header says MATLAB v7.3, but the HDF5 part is missing: the file is cut off."
    if head.startswith(b"\x80"):
        return "this looks like a Python pickle; sciml never unpickles."
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"Rar!", b"7z\xbc\xaf")):
        return "this is a compressed archive; unpack it first."
    return (
        "unknown file format: expected HDF5 (.h5, .hdf5, MATLAB v7.3), MATLAB v5 or .npz, but the "
        f"file starts with {head[:16]!r}."
    )
