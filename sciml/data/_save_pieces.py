"""Writing a data set that never is in memory as a whole."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..core import PathLike, atomic_path, import_optional
from ._dataset import FieldDataset
from ._hdf5 import reserve_space
from ._own_format import METADATA, begin_checksum, bytes_to_sum, make_header, store_text

_LARGEST_CHUNK = 2**20


def save_pieces(path: PathLike, pieces: Iterable[FieldDataset]) -> Path:
    """Write the samples of several datasets, one after another, to one file for `open_dataset`.

    Only one piece at a time is in memory, if ``pieces`` makes them one by one: so a file of another
    layout that is larger than the memory becomes one that training can read from. The file is
    written aside and renamed, as `save_dataset` does.

    Parameters
    ----------
    path
        Ends in ``.h5`` or ``.hdf5`` (needs the extra ``data``).
    pieces
        Datasets that differ in their samples only; a context is for each sample, or the same in
        all pieces.

    Returns
    -------
    Path
        Where the file is.

    Raises
    ------
    ValueError
        If the suffix is another, there is no piece, or one does not fit the first.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from sciml.data import FieldDataset, load, open_dataset, save_dataset
    >>> folder = tempfile.mkdtemp()
    >>> data = FieldDataset.from_array(np.zeros((6, 3, 1, 4)), dt=0.5, domain_extent=1.0)
    >>> source = save_dataset(f"{folder}/any_layout.h5", data)
    >>> pieces = (load(source, samples=slice(i, i + 2)) for i in range(0, 6, 2))
    >>> open_dataset(save_pieces(f"{folder}/large.h5", pieces)).n_samples
    6
    """
    path = Path(path)
    if path.suffix not in (".h5", ".hdf5"):
        raise ValueError(f"`path` must end in .h5 or .hdf5, got {path.name!r}.")
    h5py = import_optional("h5py", f"Writing the HDF5 file {path}")
    first, n_bytes = None, 0
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for i, piece in enumerate(pieces):
            if first is None:
                first = _describe(piece)
            different = _difference(first, piece)
            if different:
                raise ValueError(f"piece {i} of `pieces` differs from the first in {different}.")
            arrays = {"values": piece.values}
            if piece.context is not None and (i == 0 or first.context is None):
                arrays["context"] = piece.context
            n_bytes += sum(array.nbytes for array in arrays.values())
            reserve_space(temporary, n_bytes, name=path)
            for kind, array in arrays.items():
                _append(file, f"dataset/{kind}", array)
        if first is None:
            raise ValueError("`pieces` has no dataset.")
        sums = {f"dataset/{kind}": _sum_of(entry) for kind, entry in file["dataset"].items()}
        store_text(file, "header", make_header({"dataset": first.dataset}, sums))
    return path


@dataclasses.dataclass(frozen=True)
class _First:
    """What all pieces share: the first snapshot carries names and units."""

    dataset: FieldDataset
    context: np.ndarray | None
    """That of all samples; None where each has its own, or none has any."""
    n_times: int


def _describe(piece: FieldDataset) -> _First:
    context = piece.context
    shared = context if context is not None and len(context) == 1 < len(piece) else None
    head = piece.replace(
        values=piece.values[:1, :1].copy(), context=None if context is None else context[:1].copy()
    )
    return _First(head, shared, piece.n_times)


def _difference(first: _First, piece: FieldDataset) -> str:
    """Return in what the piece does not fit, or nothing."""
    for name in (*METADATA, "n_points"):
        if getattr(piece, name) != getattr(first.dataset, name):
            return f"`{name}`: {getattr(piece, name)!r}, not {getattr(first.dataset, name)!r}"
    if piece.n_times != first.n_times:
        return f"`n_times`: {piece.n_times}, not {first.n_times}"
    if piece.values.dtype != first.dataset.values.dtype:
        return f"its dtype: {piece.values.dtype}, not {first.dataset.values.dtype}"
    context = piece.context
    if context is None:  # so it is in the first, which has the same names
        return ""
    if first.context is not None and not np.array_equal(context, first.context):
        return "`context`, which the samples of the first share"
    if first.context is None and len(context) != len(piece):
        return "`context`, of which the first has one for each sample"
    return ""


def _append(file: Any, key: str, array: np.ndarray) -> None:
    if key not in file:
        # Chunks of whole snapshots, as windows ask for them.
        shape = array.shape[1:]
        n = max(1, min(shape[0], _LARGEST_CHUNK * shape[0] // max(1, array[0].nbytes)))
        file.create_dataset(key, data=array, maxshape=(None, *shape), chunks=(1, n, *shape[1:]))
        return
    entry = file[key]
    n_before = len(entry)
    entry.resize(n_before + len(array), axis=0)
    entry[n_before:] = array


def _sum_of(entry: Any) -> str:
    digest = begin_checksum(entry.dtype, entry.shape)
    for i in range(len(entry)):
        digest.update(bytes_to_sum(entry[i]))
    return digest.hexdigest()
