"""The folder of a training run: one run at a time, a record of its settings, what it left."""

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core import atomic_write_text
from ._metrics import METRICS

try:
    import fcntl
except ImportError:  # not a POSIX system: two runs are not kept apart
    fcntl = None

CHECKPOINT = "checkpoint"
BEST = "best"
_SETTINGS = "config.json"
_LOCK = ".lock"


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Make the folder and keep every other run out of it until the block ends.

    The operating system holds the lock and drops it when the process ends, however it ends: the
    file that a killed run leaves behind locks nothing.

    Raises
    ------
    RuntimeError
        If another run is using the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`run_dir` {str(folder)!r} is a file; give the name of a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 200).decode(errors="replace").strip()
                raise RuntimeError(
                    f"another training run is using {str(folder)!r} ({holder or 'unknown'}). Wait "
                    "until it ends, stop it, or choose another `run_dir`."
                ) from None
            except OSError:
                pass  # a network file system without locks
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        # The file stays: removing it would let a third run lock a new file of the same name.
        os.close(descriptor)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run left a finished checkpoint in ``folder``."""
    return (folder / CHECKPOINT / "config.json").exists()


def remove_run(folder: Path) -> None:
    """Remove the checkpoints and the log of an earlier run, and nothing else."""
    # First what makes a checkpoint one: a kill in between must not leave a torn one to resume.
    (folder / CHECKPOINT / "config.json").unlink(missing_ok=True)
    for name in (CHECKPOINT, BEST):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / METRICS).unlink(missing_ok=True)


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the ``config.json`` of the run.

    Raises
    ------
    TypeError
        If a value is nothing that JSON can say.
    """
    try:
        text = json.dumps(settings, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`config` must hold JSON values only: {error}") from None
    atomic_write_text(folder / _SETTINGS, text + "\n")
