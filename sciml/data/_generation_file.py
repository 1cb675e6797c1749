"""The file that a generation run fills, survives and finally renames.

While it grows it is called ``<path>.partial``. Its arrays are contiguous and allocated at the
start, so that writing a batch changes array bytes only and never the structure of the HDF5 file:
a process that is killed between two batches leaves a file that opens. What is done is counted in
an array too, after the batch is on its way to the disk.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..core import import_optional
from ._dataset import FieldDataset
from ._file_errors import file_error
from ._hdf5 import reserve_space
from ._own_format import checksum, make_header

_SAMPLES_A_HASH = 16


class GenerationFile:
    """An own-format HDF5 file under construction; a context manager.

    Parameters
    ----------
    path
        Where the finished file goes.
    counts
        Samples of each split.
    shape
        Shape of one sample ``(time, channel, *space)``.
    templates
        For each split, the arguments of `FieldDataset` but the values.
    parameters
        What must agree for a started file to be continued.
    """

    def __init__(
        self,
        path: Path,
        counts: dict[str, int],
        shape: tuple[int, ...],
        templates: dict[str, dict[str, Any]],
        parameters: dict[str, Any],
    ):
        if path.suffix not in (".h5", ".hdf5"):
            raise ValueError(f"`path` must end in .h5 or .hdf5, got {path.name!r}.")
        if path.exists():
            raise FileExistsError(f"{path} is there already; remove it or choose another path.")
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self._counts = counts
        self._shape = shape
        self._templates = templates
        self._parameters = json.dumps(parameters, sort_keys=True)
        self._file: Any = None

    def __enter__(self) -> "GenerationFile":
        h5py = import_optional("h5py", f"Generating the HDF5 file {self.path}")
        if self.partial.exists():
            self._file = self._reopen(h5py)
        else:
            self._file = self._create(h5py)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def n_done(self) -> dict[str, int]:
        """Return how many samples of each split are written."""
        return {split: int(self._file[f"progress/{split}"][0]) for split in self._counts}

    def write(self, split: str, first: int, block: np.ndarray) -> None:
        """Store samples ``first``, ``first + 1``, ... and then count them."""
        self._file[f"{split}/values"][first : first + len(block)] = block
        self._file.flush()
        self._file[f"progress/{split}"][0] = first + len(block)
        self._file.flush()

    def finish(self) -> None:
        """Add header and checksums, and give the file its name."""
        sums, parts = {}, {}
        for split, template in self._templates.items():
            values = self._file[f"{split}/values"]
            digest = hashlib.sha256()
            for first in range(0, len(values), _SAMPLES_A_HASH):
                block = np.ascontiguousarray(values[first : first + _SAMPLES_A_HASH])
                digest.update(block.tobytes())
            sums[f"{split}/values"] = digest.hexdigest()
            if template["context"] is not None:
                # A run that was killed in here finds its own context already there.
                if f"{split}/context" not in self._file:
                    self._file[f"{split}/context"] = template["context"]
                sums[f"{split}/context"] = checksum(template["context"])
            # The header holds names and numbers only, so one sample stands for all.
            parts[split] = FieldDataset(values[:1], **template)
        # The progress stays in the file: without it a kill before the rename could not resume.
        self._file.attrs["header"] = make_header(parts, sums)
        self._file.close()
        self._file = None
        _flush_to_disk(self.partial)
        self.partial.replace(self.path)

    def discard(self) -> None:
        """Remove the partial file."""
        self._file.close()
        self._file = None
        self.partial.unlink()

    def _create(self, h5py: Any) -> Any:
        n_bytes = 4 * sum(self._counts.values()) * math.prod(self._shape)
        try:
            reserve_space(self.partial, n_bytes, name=self.path)
        except OSError:
            self.partial.unlink(missing_ok=True)
            raise
        file = h5py.File(self.partial, "w")
        file.attrs["parameters"] = self._parameters
        for split, count in self._counts.items():
            values = file.create_dataset(f"{split}/values", (count, *self._shape), np.float32)
            progress = file.create_dataset(f"progress/{split}", (1,), np.int64)
            # HDF5 allocates at the first write: do it now, all at once.
            values[-1] = np.zeros(self._shape, np.float32)
            progress[0] = 0
        file.flush()
        # Opening the file gave the blocks back.
        reserve_space(self.partial, n_bytes, name=self.path)
        return file

    def _reopen(self, h5py: Any) -> Any:
        try:
            file = h5py.File(self.partial, "r+")
            begun = json.loads(file.attrs["parameters"])
        except (OSError, KeyError, ValueError) as error:
            raise file_error(
                self.partial,
                f"the file of an interrupted generation cannot be continued ({error}); remove it.",
            ) from error
        wanted = json.loads(self._parameters)
        differing = [
            f"{key} was {begun.get(key)!r}, now {wanted.get(key)!r}"
            for key in sorted(begun.keys() | wanted.keys())
            if begun.get(key) != wanted.get(key)
        ]
        if differing:
            file.close()
            raise file_error(
                self.partial,
                "an interrupted generation with other parameters is in the way "
                f"({'; '.join(differing)}). Repeat the call with the old ones to finish it, or "
                "remove the file.",
            )
        return file


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
