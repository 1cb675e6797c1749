"""The four HDF5 layouts of PDEBench.

- scalar: ``tensor`` (sample, time, x[, y[, z]]); Darcy flow adds ``nu`` (sample, x, y);
- compressible flow: ``density``, ``pressure``, ``Vx``, ``Vy``, ``Vz``, each (sample, time, *space);
- one group a seed ("0000", "0001", ...): ``data`` (time, *space, channel) and ``grid/{x,y,t}``;
- incompressible flow: ``velocity`` (sample, time, x, y, 2), ``particles`` (sample, time, x, y, 1),
  ``force`` (sample, x, y, 2), ``t`` (sample, time).

Coordinates are ``x-coordinate``, ..., ``t-coordinate``; the last may have one entry more than
there are snapshots.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ._dataset import FieldDataset
from ._file_errors import file_error
from ._hdf5 import checked_entry, read_array, read_numbers
from ._options import ReadOptions, build_dataset, share_times, stored_extent

_SPACE = ("x", "y", "z")
_STATE = ("density", "pressure", "Vx", "Vy", "Vz")


def read_scalar(path: Path, file: Any, options: ReadOptions) -> FieldDataset:
    """Read ``tensor``, with ``nu`` as context where present."""
    n_space = _n_space(path, file, "tensor")
    space = _SPACE[:n_space]
    values = read_array(path, file, "tensor", ("sample", "time", *space), index=options.samples)
    context, names = None, ()
    if "nu" in file:
        nu = read_array(path, file, "nu", ("sample", *space), index=options.samples)
        context, names = nu[:, None].astype(values.dtype), ("nu",)
    # The trajectories of this layout are periodic; a map with a coefficient (Darcy) has walls.
    periodic = context is None if options.periodic is None else options.periodic
    return _on_coordinates(
        path,
        file,
        values[:, :, None],
        options,
        channels=("tensor",),
        context=context,
        context_names=names,
        periodic=periodic,
    )


def read_compressible(path: Path, file: Any, options: ReadOptions) -> FieldDataset:
    """Read density, pressure and the velocity components as channels, in this order."""
    keys = [key for key in _STATE if key in file]
    n_space = _n_space(path, file, keys[0])
    axes = ("sample", "time", *_SPACE[:n_space])
    wanted = _STATE[: 2 + n_space]
    arrays = [read_array(path, file, key, axes, index=options.samples) for key in wanted]
    for key, array in zip(wanted, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise file_error(
                path,
                f"shape {array.shape} differs from that of {wanted[0]!r}, {arrays[0].shape}.",
                key=key,
            )
    # Periodic and open files share one layout, so nothing is claimed without the caller's word.
    periodic = False if options.periodic is None else options.periodic
    values = np.stack(arrays, axis=2)
    return _on_coordinates(path, file, values, options, channels=wanted, periodic=periodic)


def read_seeds(path: Path, file: Any, options: ReadOptions) -> FieldDataset:
    """Read one group a trajectory; all must share one grid."""
    names = sorted(file)
    first = checked_entry(path, file[names[0]], "data")
    if not 3 <= len(first.shape) <= 5:
        raise file_error(
            path,
            f"expected (time, x[, y[, z]], channel), got shape {first.shape}.",
            key=f"{names[0]}/data",
        )
    space = _SPACE[: len(first.shape) - 2]
    chosen = names[options.samples]
    if not chosen:
        raise file_error(path, f"`samples` leaves none of the {len(names)} groups.")
    arrays, grids = [], []
    for name in chosen:
        group = file[name]
        arrays.append(read_array(path, group, "data", ("time", *space, "channel")))
        if "grid" not in group:
            raise file_error(path, "the key is missing.", key=f"{name}/grid")
        grids.append({k: read_array(path, group["grid"], k, (k,)) for k in ("t", *space)})
        for key in ("t", *space):
            if not np.array_equal(grids[-1][key], grids[0][key]):
                raise file_error(
                    path,
                    f"the grid differs from that of group {chosen[0]!r}; sciml reads trajectories "
                    "on one grid. Read the groups apart with `samples=slice(i, i + 1)`.",
                    key=f"{name}/grid/{key}",
                )
        if arrays[-1].shape != arrays[0].shape:
            raise file_error(
                path,
                f"shape {arrays[-1].shape} differs from {arrays[0].shape} of {chosen[0]!r}.",
                key=f"{name}/data",
            )
    values = np.moveaxis(np.stack(arrays), -1, 2)
    coordinates = {f"{key}-coordinate": grids[0][key] for key in ("t", *space)}
    return _on_coordinates(
        path,
        coordinates,
        values,
        options,
        channels=tuple(f"channel{i}" for i in range(values.shape[2])),
        periodic=False if options.periodic is None else options.periodic,
    )


def read_incompressible(path: Path, file: Any, options: ReadOptions) -> FieldDataset:
    """Read velocity and particles as channels, the force as context."""
    axes = ("sample", "time", "x", "y", "component")
    rows = options.samples
    velocity = read_array(path, file, "velocity", axes, index=rows)
    if velocity.shape[-1] != 2:
        raise file_error(
            path, f"expected 2 components on the last axis, got {velocity.shape}.", key="velocity"
        )
    parts, channels = [velocity], ["velocity_x", "velocity_y"]
    if "particles" in file:
        parts.append(read_array(path, file, "particles", axes, index=rows))
        channels.append("particles")
    for key, part in zip(("velocity", "particles"), parts, strict=False):
        if part.shape[:-1] != velocity.shape[:-1]:
            raise file_error(
                path, f"shape {part.shape} does not fit velocity {velocity.shape}.", key=key
            )
    values = np.moveaxis(np.concatenate(parts, axis=-1), -1, 2)
    context, names = None, ()
    if "force" in file:
        force = read_array(path, file, "force", ("sample", "x", "y", "component"), index=rows)
        context, names = np.moveaxis(force, -1, 1).astype(values.dtype), ("force_x", "force_y")
    times = read_array(path, file, "t", ("sample", "time"), index=rows)
    if not share_times(times):
        raise file_error(path, "the trajectories must share their times.", key="t")
    _check_length(path, "t", times.shape[1], values.shape, 1)
    start, dt = options.step(path, "t", times[0])
    return build_dataset(
        path,
        np.ascontiguousarray(values),
        channels=channels,
        axes=("x", "y"),
        domain_extent=options.extent(path, 2, None, None),
        dt=dt,
        start_time=start,
        context=context,
        context_names=names,
        periodic=False if options.periodic is None else options.periodic,
        attributes=_attributes(path),
    )


def _on_coordinates(
    path: Path, coordinates: Any, values: np.ndarray, options: ReadOptions, **fields: Any
) -> FieldDataset:
    """Build the dataset of ``(sample, time, channel, *space)`` on the stored coordinates."""
    space = _SPACE[: values.ndim - 3]
    stored = []
    for axis, name in enumerate(space):
        key = f"{name}-coordinate"
        points = _coordinate(path, coordinates, key)
        if points is None:
            continue
        _check_length(path, key, len(points), values.shape, 3 + axis)
        stored.append(stored_extent(path, key, points))
    times = _coordinate(path, coordinates, "t-coordinate")
    n_times = values.shape[1]
    if times is not None:
        # Files made from cell edges in time have one entry more than snapshots.
        if len(times) == n_times + 1:
            times = times[:n_times]
        _check_length(path, "t-coordinate", len(times), values.shape, 1)
    elif n_times == 1:
        times = np.zeros(1)
    start, dt = options.step(path, "t-coordinate", times)
    return build_dataset(
        path,
        np.ascontiguousarray(values),
        axes=space,
        domain_extent=options.extent(
            path, len(space), stored if len(stored) == len(space) else None, None
        ),
        dt=dt,
        start_time=start,
        attributes=_attributes(path),
        **fields,
    )


def _coordinate(path: Path, coordinates: Any, key: str) -> np.ndarray | None:
    if key not in coordinates:
        return None
    # Of groups a seed each the coordinates are read before, and checked to be equal.
    points = coordinates[key]
    if not isinstance(points, np.ndarray):
        points = read_numbers(path, coordinates, key)
    if points.ndim != 1 or points.size == 0:
        raise file_error(path, f"expected one axis of points, got shape {points.shape}.", key=key)
    return points


def _check_length(path: Path, key: str, length: int, shape: tuple[int, ...], axis: int) -> None:
    if length == shape[axis]:
        return
    hint = ""
    if length in shape:
        hint = f" Axis {shape.index(length)} has that size: are the axes swapped?"
    raise file_error(
        path,
        f"{length} entries for axis {axis} of the field (sample, time, channel, *space), which "
        f"has shape {shape}.{hint}",
        key=key,
    )


def _n_space(path: Path, file: Any, key: str) -> int:
    shape = checked_entry(path, file, key).shape
    if not 3 <= len(shape) <= 5:
        raise file_error(path, f"expected (sample, time, x[, y[, z]]), got shape {shape}.", key=key)
    return len(shape) - 2


def _attributes(path: Path) -> dict[str, str]:
    return {"format": "PDEBench", "source": path.name}
