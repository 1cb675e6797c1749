"""Files that are whole or absent: written aside, flushed to disk, then renamed."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ._types import PathLike


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it into place if the block succeeds.

    On an exception (a full disk, Ctrl-C) the temporary file is removed and ``path`` is as it
    was. The rename is atomic: a reader, or a process that is killed, sees the old file or the
    new one and never a part of it.

    Parameters
    ----------
    path
        The file to write. Its folder must exist.

    Yields
    ------
    pathlib.Path
        An empty file in the same folder, with the same suffix, named ``.<stem>-<random><suffix>``.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If the folder of ``path`` does not exist, or is a file.
    IsADirectoryError
        If ``path`` is a folder.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    path = Path(path)
    folder = path.parent
    if not folder.exists():
        raise FileNotFoundError(
            f"cannot write {path.name!r}: its folder {str(folder)!r} does not exist."
        )
    if not folder.is_dir():
        raise NotADirectoryError(f"cannot write {path.name!r}: {str(folder)!r} is not a folder.")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write the file {str(path)!r}: a folder has that name.")
    # The suffix is kept because some writers (numpy.savez) choose the format, or a new name, by it.
    with temporary_path(folder, path.stem, path.suffix) as temporary:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
    # The new file is in place; some file systems cannot flush a folder, and need not.
    with contextlib.suppress(OSError):
        flush_to_disk(folder)


@contextlib.contextmanager
def temporary_path(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    """Give an empty file ``.<stem>-<random><suffix>``; remove it if the block fails.

    The block renames it when it is done with it.
    """
    temporary = folder / f".{stem}-{secrets.token_hex(8)}{suffix}"
    # os.open rather than tempfile.mkstemp: the umask decides who may read, as for any new file.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write_text(path: PathLike, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, all of it or nothing (see `atomic_path`).

    Parameters
    ----------
    path
        The file; its folder must exist.
    text
        What it is to hold.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Wait until the contents of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
