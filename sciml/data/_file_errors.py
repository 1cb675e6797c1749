"""The error of every reader: which file, which key, what was expected, what came."""

from pathlib import Path

from ..core import PathLike


class DataFileError(ValueError):
    """A data file that cannot be read as what it seems to be.

    The message starts with the path and, where there is one, the key inside the file.
    """


def file_error(path: PathLike, message: str, *, key: str | None = None) -> DataFileError:
    """Return the error that names ``path`` and ``key``; the caller raises it."""
    where = f"{Path(path)}, key {key!r}" if key is not None else f"{Path(path)}"
    return DataFileError(f"{where}: {message}")
