"""`load`: one door for shipped samples and for files of every layout that sciml reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

from ..core import PathLike, check_count, check_positive
from ._dataset import DatasetSplits, FieldDataset
from ._file_errors import file_error
from ._fno_mat import read_fno_v5, read_fno_v73
from ._hdf5 import open_hdf5
from ._options import ReadOptions
from ._own_format import read_npz, read_own_hdf5
from ._pdebench import read_compressible, read_incompressible, read_scalar, read_seeds
from ._samples import SHIPPED, load_shipped
from ._sniff import FileKind, sniff
from ._the_well import find_well_splits, read_well_directory, read_well_file


@overload
def load(source: Literal["navier-stokes"], *, n_points: int | None = ...) -> DatasetSplits: ...
@overload
def load(
    source: PathLike,
    *,
    n_points: int | None = ...,
    samples: slice = ...,
    dt: float | int | None = ...,
    domain_extent: float | int | Sequence[float | int] | None = ...,
    periodic: bool | Sequence[bool] | None = ...,
    prepend_initial: bool = ...,
) -> FieldDataset | DatasetSplits: ...
def load(
    source: PathLike,
    *,
    n_points: int | None = None,
    samples: slice = slice(None),
    dt: float | int | None = None,
    domain_extent: float | int | Sequence[float | int] | None = None,
    periodic: bool | Sequence[bool] | None = None,
    prepend_initial: bool = False,
) -> FieldDataset | DatasetSplits:
    """Load a shipped sample by name, or a file (for The Well also a folder) by path.

    What a file is, is told from its first bytes and its keys, never from its name. The layouts
    are described in the documentation, page "File formats".

    Parameters
    ----------
    source
        ``"navier-stokes"``, or a path.
    n_points
        Give the fields on a grid of this many points along each axis, through their Fourier
        series (periodic data only). The shipped sample is evaluated there directly, 64 by
        default.
    samples
        Read these samples only, for instance ``slice(0, 1000)`` of a file that is larger than
        the memory; in ascending order.
    dt
        Time between snapshots, for files that do not say. If the file does, it must agree.
    domain_extent
        Length of each space axis (points times spacing), for files without coordinates. If the
        file has them, it must agree. FNO files are taken to live on the unit torus.
    periodic
        Whether the axes are periodic, for layouts that do not say (PDEBench).
    prepend_initial
        FNO files only: put the initial field ``a`` before the snapshots ``u``.

    Returns
    -------
    FieldDataset or DatasetSplits
        Splits for the shipped samples, for folders of The Well, and for files of sciml that
        were saved as splits; otherwise one dataset, which `FieldDataset.split` cuts.

    Raises
    ------
    FileNotFoundError, PermissionError
        If there is no such file or shipped sample, or it may not be read.
    DataFileError
        If the file is not what it seems to be; the message names file and key.
    ImportError
        If an HDF5 file is read without the extra ``data``.

    Examples
    --------
    >>> splits = load("navier-stokes", n_points=16)
    >>> splits.train.values.shape
    (48, 64, 1, 16, 16)
    """
    if dt is not None:
        check_positive("dt", dt)
    if not isinstance(samples, slice):
        raise TypeError(f"`samples` must be a slice, such as `slice(0, 2)`; got {samples!r}.")
    if samples.step is not None:
        check_count("samples.step", samples.step)
    options = ReadOptions(samples, dt, domain_extent, periodic, prepend_initial)
    if isinstance(source, str) and source in SHIPPED:
        if options != ReadOptions():
            raise ValueError(
                f"the shipped sample {source!r} takes the option `n_points` only; it knows its "
                "grid and times. Use `select` to choose samples."
            )
        return load_shipped(source, n_points)
    data = _read(Path(source), options)
    return data if n_points is None else data.resample(n_points)


def _read(path: Path, options: ReadOptions) -> FieldDataset | DatasetSplits:
    if not path.exists():
        raise FileNotFoundError(
            f"no such file or folder: {path}. The shipped samples are "
            f"{', '.join(repr(name) for name in SHIPPED)}."
        )
    if path.is_dir():
        return read_well_directory(path, find_well_splits(path), options)
    if not path.is_file():  # a pipe would be waited for, without end
        raise file_error(path, "this is neither a regular file nor a folder.")
    kind = sniff(path)
    if kind is FileKind.MATLAB_5:
        return read_fno_v5(path, options)
    if kind is FileKind.NPZ:
        return read_npz(path, options)
    with open_hdf5(path) as file:
        return _read_hdf5(path, file, options)


def _read_hdf5(path: Path, file: Any, options: ReadOptions) -> FieldDataset | DatasetSplits:
    keys = set(file)
    if "header" in file.attrs:
        return read_own_hdf5(path, file, options)
    if keys & {"t0_fields", "t1_fields", "t2_fields"}:
        options.refuse(path, "The Well", "prepend_initial")
        return read_well_file(path, file, options)
    # MATLAB puts a user block with its own banner before the HDF5 part.
    if "u" in keys or file.userblock_size:
        return read_fno_v73(path, file, options)
    readers = (
        ("tensor" in keys, read_scalar),
        (bool(keys & {"density", "pressure", "Vx"}), read_compressible),
        ("velocity" in keys, read_incompressible),
        (bool(keys) and all(_has_data(file[key]) for key in keys), read_seeds),
    )
    for matches, reader in readers:
        if matches:
            options.refuse(path, "PDEBench", "prepend_initial")
            return reader(path, file, options)
    raise file_error(
        path,
        f"an HDF5 file whose layout sciml does not know: its keys are {sorted(keys)[:12]}. Known "
        "are FNO .mat (u, a, t), PDEBench (tensor | density ... | velocity | groups with data), "
        "The Well (t0_fields ...) and sciml's own. Read the array with h5py and pass it to "
        "`FieldDataset.from_array`.",
    )


def _has_data(entry: Any) -> bool:
    return hasattr(entry, "keys") and "data" in entry
