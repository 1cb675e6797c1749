"""The file that a generation run fills, survives and finally renames.

While it grows it is called ``<path>.partial``. Its arrays are contiguous and allocated at the
start, so that writing a batch changes array bytes only and never the structure of the HDF5 file:
a process that is killed between two batches leaves a file that opens. What is done is counted in
an array too, after the batch is on its way to the disk.
"""

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..core import import_optional
from ._dataset import FieldDataset
from ._file_errors import DataFileError, file_error
from ._hdf5 import checked_entry, refuse_other_files, reserve_space
from ._own_format import begin_checksum, checksum, make_header, store_text

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
            digest = begin_checksum(values.dtype, values.shape)
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
        store_text(self._file, "header", make_header(parts, sums))
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
        store_text(file, "parameters", self._parameters)
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
        except BlockingIOError as error:
            raise file_error(
                self.partial,
                "another run is generating this file now. Wait until it ends, or choose another "
                "path.",
            ) from error
        except OSError as error:
            raise self._spoiled(error) from error
        try:
            refuse_other_files(self.partial, file, h5py)
            begun = json.loads(file.attrs["parameters"])
            if not isinstance(begun, dict):
                raise ValueError("its parameters are no object")
        # Damage to an HDF5 file surfaces in many ways, and none of them is worth a second look.
        except Exception as error:
            file.close()
            raise self._spoiled(error) from error
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
        try:
            self._check_progress(file)
        except Exception as error:
            file.close()
            raise self._spoiled(error) from error
        return file

    def _spoiled(self, error: Exception) -> DataFileError:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        return file_error(
            self.partial,
            f"the file of an interrupted generation cannot be continued ({words}); remove it.",
        )

    def _check_progress(self, file: Any) -> None:
        """Raise unless the arrays are those that `_create` made, and the counts possible."""
        for split, count in self._counts.items():
            values = checked_entry(self.partial, file, f"{split}/values")
            done = checked_entry(self.partial, file, f"progress/{split}")
            shapes = (values.shape, values.dtype, done.shape, done.dtype)
            if shapes != ((count, *self._shape), np.float32, (1,), np.int64):
                raise ValueError(f"the arrays of {split!r} are not those of this generation")
            if not 0 <= done[0] <= count:
                raise ValueError(f"{done[0]} of {count} samples of {split!r} are counted as done")


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
