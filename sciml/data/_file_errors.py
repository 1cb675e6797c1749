"""The error of every reader: which file, which key, what was expected, what came."""

from pathlib import Path

from ..core import PathLike

# A damaged file may hold a name of a megabyte.
_LONGEST = 1200


class DataFileError(ValueError):
    """A data file that cannot be read as what it seems to be.

    The message starts with the path and, where there is one, the key inside the file.
    """


def file_error(path: PathLike, message: str, *, key: str | None = None) -> DataFileError:
    """Return the error that names ``path`` and ``key``; the caller raises it."""
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST // 2]} [...] {message[-_LONGEST // 4 :]}"
    where = f"{Path(path)}, key {key!r:.200}" if key is not None else f"{Path(path)}"
    return DataFileError(f"{where}: {message}")
