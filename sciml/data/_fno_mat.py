"""The ``.mat`` files of the Fourier neural operator benchmark, MATLAB v5 and v7.3.

Layout: ``u`` is (sample, x, y, time), the field at the times ``t``; ``a`` is (sample, x, y), the
field at time zero, which ``u`` leaves out. A v7.3 file is HDF5, in which MATLAB's column-major
arrays appear with all axes reversed: (time, y, x, sample).
"""

from pathlib import Path
from typing import Any

import numpy as np

from ._dataset import FieldDataset
from ._file_errors import DataFileError, file_error
from ._hdf5 import check_finite_entries, check_stored_dtype, read_array, read_numbers
from ._mat5 import check_mat5
from ._options import ReadOptions, build_dataset

_SPACE = ("x", "y", "z")


def read_fno_v5(path: Path, options: ReadOptions) -> FieldDataset:
    """Read a MATLAB v5 file with the keys ``u``, and ``a`` and ``t`` where present."""
    # Imported here: it costs as much time as the rest of sciml.data together.
    import scipy.io

    try:
        check_mat5(path)
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        axes = _axes(path, shapes)
        content = scipy.io.loadmat(path, variable_names=["u", "a", "t"])
    except DataFileError:
        raise
    except PermissionError:
        raise
    # SciPy's parser fails in every way when bytes are missing or changed, out of memory included:
    # it believes the sizes that it reads.
    except Exception as error:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise file_error(path, f"the MATLAB v5 file is damaged or incomplete ({words}).") from error
    arrays = {}
    for key, names in (("u", axes), ("a", axes[:-1])):
        if key in content:
            array = np.asarray(content[key])
            check_stored_dtype(path, key, array.dtype)
            array = array[options.samples]
            check_finite_entries(path, key, array, names)
            arrays[key] = array
    return _assemble(path, arrays["u"], arrays.get("a"), content.get("t"), options)


def read_fno_v73(path: Path, file: Any, options: ReadOptions) -> FieldDataset:
    """Read an open MATLAB v7.3 file; its axes are reversed here."""
    shapes = {
        key: tuple(entry.shape[::-1]) for key, entry in file.items() if hasattr(entry, "shape")
    }
    axes = _axes(path, shapes)
    last = (..., options.samples)
    u = read_array(path, file, "u", axes, index=last, reverse_axes=True)
    a = None
    if "a" in file:
        a = read_array(path, file, "a", axes[:-1], index=last, reverse_axes=True)
    t = read_numbers(path, file, "t") if "t" in file else None
    return _assemble(path, u, a, t, options)


def _axes(path: Path, shapes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the names of the axes of ``u``; raise unless the shapes of all keys agree."""
    if "u" not in shapes:
        raise file_error(
            path,
            f"the key is missing; the keys are {sorted(shapes)}. Only files of trajectories have "
            "the layout `u` (sample, x, y, time). Maps such as Darcy flow (`coeff`, `sol`) can "
            "be read with SciPy or h5py and passed to `FieldDataset.from_array`.",
            key="u",
        )
    shape = shapes["u"]
    if not 3 <= len(shape) <= 5:
        raise file_error(
            path,
            f"expected (sample, x[, y[, z]], time), got shape {shape}. An output without time "
            "axis, as in the Burgers file, is a map between fields and no trajectory.",
            key="u",
        )
    if "a" in shapes and shapes["a"] != shape[:-1]:
        raise file_error(
            path,
            f"expected the shape of `u` without time, {shape[:-1]}, got {shapes['a']}. The axes "
            "are not in the order (sample, x, y, time); reorder the array yourself and pass it "
            "to `FieldDataset.from_array(..., axis_order=...)`.",
            key="a",
        )
    n_times = int(np.prod(shapes["t"])) if "t" in shapes else shape[-1]
    if n_times != shape[-1]:
        hint = ""
        if n_times in shape:
            hint = f" Axis {shape.index(n_times)} has that size: is it the time axis?"
        raise file_error(
            path,
            f"{n_times} times for the last axis of `u`, which has size {shape[-1]} (shape "
            f"{shape}, expected (sample, x, y, time)).{hint}",
            key="t",
        )
    return ("sample", *_SPACE[: len(shape) - 2], "time")


def _assemble(
    path: Path,
    u: np.ndarray,
    a: np.ndarray | None,
    t: np.ndarray | None,
    options: ReadOptions,
) -> FieldDataset:
    n_space = u.ndim - 2
    values = np.moveaxis(u, -1, 1)
    start, dt = options.step(path, "t", None if t is None else np.ravel(t))
    if options.prepend_initial:
        if a is None:
            raise file_error(path, "`prepend_initial` needs the initial field.", key="a")
        if abs(start - dt) > 1e-3 * dt:
            raise file_error(
                path,
                f"`prepend_initial` puts `a` (time 0) before `u`, but `u` starts at {start:g} "
                f"with a step of {dt:g}: the times would not be uniform.",
                key="t",
            )
        values = np.concatenate([a[:, None].astype(u.dtype), values], axis=1)
        start = 0.0
    return build_dataset(
        path,
        np.ascontiguousarray(values[:, :, None]),
        channels=("vorticity",),
        axes=_SPACE[:n_space],
        # The benchmark lives on the unit torus; the files do not say so.
        domain_extent=options.extent(path, n_space, None, 1.0),
        dt=dt,
        start_time=start,
        periodic=True if options.periodic is None else options.periodic,
        attributes={"format": "FNO .mat", "source": path.name},
    )
