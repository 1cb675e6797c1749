"""A look at a MATLAB v5 file before SciPy reads it, which trusts it with its life."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_MATRIX, _COMPRESSED = 14, 15
# Storage of numbers: 8 to 64 bits, with and without sign, single and double.
_NUMBERS = (1, 2, 3, 4, 5, 6, 7, 9, 12, 13)
# Classes of arrays that are neither cells, structures, objects, texts nor sparse.
_NUMERIC_CLASSES = range(6, 16)
# What lies before the numbers of an array: flags, sizes, name.
_HEAD = 4096


def check_mat5(path: Path) -> None:
    """Raise unless each array of numbers is stored as numbers, as its header says.

    SciPy's compiled reader takes the kind of storage as an index into a table, unchecked: a
    damaged one ends the process.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ValueError, struct.error, zlib.error
        If it is damaged.
    """
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:])
        if order is None:
            raise ValueError("it does not say its byte order")
        while tag := file.read(8):
            kind, size = struct.unpack(f"{order}II", tag)
            end = file.tell() + size
            body = file.read(min(size, _HEAD))
            if kind == _COMPRESSED:
                body = zlib.decompressobj().decompress(body, _HEAD)
                (kind,) = struct.unpack_from(f"{order}I", body)
                body = body[8:]
            if kind == _MATRIX:
                _check_array(body, order)
            file.seek(end)


def _check_array(body: bytes, order: str) -> None:
    elements = _elements(body, order)
    (_, flags), _, _ = next(elements), next(elements), next(elements)
    (flag,) = struct.unpack_from(f"{order}I", flags)
    if flag & 0xFF not in _NUMERIC_CLASSES:
        return
    storage, _ = next(elements)
    if storage not in _NUMBERS:
        raise ValueError(f"an array of numbers is stored as kind {storage}")


def _elements(body: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Give kind and first bytes of each part of an array; short ones lie inside their tag."""
    at = 0
    while True:
        (kind,) = struct.unpack_from(f"{order}I", body, at)
        if kind >> 16:
            yield kind & 0xFFFF, body[at + 4 : at + 8]
            at += 8
        else:
            (size,) = struct.unpack_from(f"{order}I", body, at + 4)
            yield kind, body[at + 8 : at + 8 + size]
            at += 8 + (size + 7) // 8 * 8
