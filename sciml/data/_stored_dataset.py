"""Data sets larger than the memory: trajectories that stay in their HDF5 file."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import PathLike
from ._dataset import Attribute, FieldDataset
from ._field_sizes import FieldSizes
from ._file_errors import file_error
from ._hdf5 import check_stored_dtype, checked_entry, damage_named
from ._options import build_dataset
from ._own_format import (
    FORMAT,
    METADATA,
    begin_checksum,
    bytes_to_sum,
    check_parts,
    compare_checksum,
    header_text,
    parse_header,
)
from ._prefetch import PrefetchedBatches
from ._sniff import FileKind, sniff
from ._stored_array import StoredArray, StoredFile
from ._windows import Transform, WindowBatches

_NOT_OURS = (
    "only HDF5 files of sciml are read while training goes on. Make one of this: "
    "`save_pieces(new_path, (load(path, samples=slice(i, i + 50)) for i in range(0, n, 50)))`."
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StoredDataset(FieldSizes):
    """A `FieldDataset` whose arrays stay in a file of sciml; `open_dataset` makes it.

    It knows names, units and sizes as a `FieldDataset` does, gives training batches by `windows`,
    and is what `GaussianNormaliser.fit` takes. `load` reads what everything else needs.

    Parameters
    ----------
    values
        ``(sample, time, channel, *space)``, unread.
    context
        Static fields ``(sample, context_channel, *space)``, unread; in memory where all samples
        share them.
    channels, axes, domain_extent, dt, start_time, context_names, periodic, attributes
        As in `FieldDataset`.
    """

    values: StoredArray
    context: StoredArray | np.ndarray | None
    channels: tuple[str, ...]
    axes: tuple[str, ...]
    domain_extent: tuple[float, ...]
    dt: float
    start_time: float
    context_names: tuple[str, ...]
    periodic: tuple[bool, ...]
    attributes: dict[str, Attribute]

    def _where(self) -> str:
        return f", in {self.values.file.path}"

    def select(self, samples: int | slice | Sequence[int] | np.ndarray) -> "StoredDataset":
        """Return the dataset of the chosen samples, unread; the sample axis stays.

        Raises
        ------
        IndexError
            If an index is out of range.
        ValueError
            If no sample is left.
        """
        if isinstance(samples, int | np.integer):
            samples = [int(samples)]
        values = self.values.select(samples)
        if len(values) == 0:
            raise ValueError(f"`select` leaves none of the {self.n_samples} samples: {samples!r}.")
        context = self.context
        if isinstance(context, StoredArray):
            context = context.select(samples)
        return dataclasses.replace(self, values=values, context=context)

    def astype(self, dtype: Any) -> "StoredDataset":
        """Return the dataset in float32 or float64, to which it is rounded as it is read."""
        context = None if self.context is None else self.context.astype(dtype)
        return dataclasses.replace(self, values=self.values.astype(dtype), context=context)

    def load(self) -> FieldDataset:
        """Read all of it into memory, for instance the few samples that `select` has left.

        Raises
        ------
        DataFileError
            If the file is gone, changed or damaged, or a value is not finite.
        """
        context = self.context
        if isinstance(context, StoredArray):
            context = context[:]
        metadata = {name: getattr(self, name) for name in METADATA}
        return build_dataset(self.values.file.path, self.values[:], context=context, **metadata)

    def windows(
        self,
        n_in: int,
        n_out: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        transform: Transform | None = None,
        prefetch: int = 3,
    ) -> PrefetchedBatches:
        """Return the batches that `FieldDataset.windows` gives, to the bit, read ahead by a thread.

        Parameters
        ----------
        n_in, n_out, batch_size, seed, shuffle, transform
            As in `WindowBatches`.
        prefetch
            How many batches are read ahead. Beside them and the one in use, none are in memory.
        """
        batches = WindowBatches(
            self,
            n_in,
            n_out,
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            transform=transform,
        )
        return PrefetchedBatches(batches, prefetch=prefetch, opened=self.values.file.opened)


def open_dataset(path: PathLike, *, part: str | None = None, verify: bool = True) -> StoredDataset:
    """Open an HDF5 file of sciml without reading its arrays: for data larger than the memory.

    Such files are written by `save_dataset`, by `generate_navier_stokes`, and by `save_pieces`,
    which makes one of a file of another layout without loading it as a whole.

    Parameters
    ----------
    path
        The file. It must stay as it is while the dataset is in use.
    part
        ``"train"``, ``"validation"`` or ``"test"`` of a file that has parts; otherwise None.
    verify
        Read the part once, sample by sample, to compare its checksums and to refuse values that
        are not finite. That takes about a second for each GB, and again at each call; with False
        only the header is checked, and values that are not finite stop `fit` when it meets them.

    Returns
    -------
    StoredDataset
        The part.

    Raises
    ------
    FileNotFoundError, PermissionError
        If there is no such file, or it may not be read.
    DataFileError
        If it is no HDF5 file of sciml, has no such part, or is damaged.
    ImportError
        Without the extra ``data``.

    Examples
    --------
    Train without loading; the last sample is for validation, in memory:

    >>> import tempfile, numpy as np
    >>> from sciml.data import FieldDataset, GaussianNormaliser, save_dataset
    >>> u = np.random.default_rng(3).normal(size=(9, 20, 1, 16)).astype(np.float32)
    >>> data = FieldDataset.from_array(u, dt=0.5, domain_extent=1.0)
    >>> path = save_dataset(f"{tempfile.mkdtemp()}/flow.h5", data)
    >>> stored = open_dataset(path)
    >>> train, validation = stored.select(slice(0, 8)), stored.select(8).load()
    >>> normaliser = GaussianNormaliser.fit(train)
    >>> batches = train.windows(3, 5, batch_size=2, seed=11)
    >>> batches[0].inputs.shape
    (2, 3, 1, 16)
    >>> batches.release()
    """
    path = Path(path)
    file = StoredFile(path)
    with _opened(path, file) as (handle, header):
        name = "dataset" if part is None else part
        if name not in header["parts"]:
            raise file_error(path, f"pass `part=`, one of {sorted(header['parts'])}; got {part!r}.")
        metadata = header["parts"][name]
        kinds = ("values", "context") if metadata["context_names"] else ("values",)
        entries, first = {}, {}
        for kind in kinds:
            key = f"{name}/{kind}"
            entry = checked_entry(path, handle, key)
            check_stored_dtype(path, key, entry.dtype)
            few = entry[:1] if entry.shape else np.asarray(entry[()])
            # Files may be big-endian; JAX takes only the machine's own byte order.
            first[kind] = few.astype(few.dtype.newbyteorder("="))
            entries[kind] = entry
        # The constructor checks names, units and axes; one sample stands for all.
        sample = build_dataset(path, **first, **metadata)
        arrays = {
            kind: StoredArray(
                file, f"{name}/{kind}", np.arange(len(entry)), entry.shape[1:], entry.dtype
            )
            for kind, entry in entries.items()
        }
        if verify:
            for kind, entry in entries.items():
                _verify(file, f"{name}/{kind}", entry, header)
    values, context = arrays["values"], arrays.get("context")
    if context is not None and len(context) not in (1, len(values)):
        raise file_error(
            path,
            f"expected 1 or {len(values)} samples, got {len(context)}.",
            key=f"{name}/context",
        )
    if context is not None and len(context) == 1:
        context = sample.context
    return StoredDataset(values, context, **{name: getattr(sample, name) for name in METADATA})


def part_names(path: PathLike) -> tuple[str, ...]:
    """Return the parts of a file for `open_dataset`; none if it holds a single dataset.

    Raises
    ------
    FileNotFoundError, PermissionError, DataFileError, ImportError
        As `open_dataset` does.
    """
    path = Path(path)
    with _opened(path, StoredFile(path)) as (_, header):
        return tuple(name for name in header["parts"] if name != "dataset")


@contextlib.contextmanager
def _opened(path: Path, file: StoredFile) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Give the open file and its header, if it is one of ours."""
    if not path.is_file() or sniff(path) is not FileKind.HDF5:
        raise file_error(path, _NOT_OURS)
    with file.opened() as handle, damage_named(path):
        if "header" not in handle.attrs:
            raise file_error(path, _NOT_OURS)
        header = parse_header(path, header_text(path, handle), FORMAT)
        check_parts(path, header)
        yield handle, header


def _verify(file: StoredFile, key: str, entry: Any, header: dict[str, Any]) -> None:
    digest = begin_checksum(entry.dtype, entry.shape, version=header["version"])
    for i in range(len(entry)):
        with file.reading(key) as array:
            sample = array[i]
        if not np.isfinite(sample).all():
            n_bad = int((~np.isfinite(sample)).sum())
            raise file_error(
                file.path, f"sample {i} has {n_bad} entries that are not finite.", key=key
            )
        digest.update(bytes_to_sum(sample))
    compare_checksum(file.path, key, digest.hexdigest(), header)
