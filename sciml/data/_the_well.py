"""The Well: HDF5 files with scalar, vector and tensor fields, and folders of them.

``t0_fields``, ``t1_fields``, ``t2_fields`` hold arrays (sample, time, *space[, D[, D]]); an axis
is left out where the attribute ``sample_varying``, ``time_varying`` or an entry of
``dim_varying`` is False. Fields that vary in time become channels (vectors one a component, named
``velocity_x``, ...), static ones context. A folder has ``train``, ``valid`` and ``test``.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ._dataset import DatasetSplits, FieldDataset
from ._file_errors import file_error
from ._hdf5 import checked_entry, checked_group, open_hdf5, read_array, read_numbers
from ._options import ReadOptions, build_dataset, share_times, stored_extent
from ._sniff import FileKind, sniff

_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_BOUNDARIES = ("wall", "open", "periodic")
_SUFFIXES = (".hdf5", ".h5")


def find_well_splits(path: Path) -> dict[str, list[Path]]:
    """Return the files of each split of a folder; raise if there are none."""
    for root in (path / "data", path):
        found = {
            split: sorted(p for p in (root / folder).iterdir() if p.suffix in _SUFFIXES)
            for folder, split in _SPLITS.items()
            if (root / folder).is_dir()
        }
        found = {split: files for split, files in found.items() if files}
        if "train" in found:
            return found
    raise file_error(
        path,
        "a folder is read as a set of The Well, which has data/train/*.hdf5 (and valid, test); "
        "there are no such files. Pass the path of a file to read one file.",
    )


def read_well_directory(
    path: Path, files: dict[str, list[Path]], options: ReadOptions
) -> DatasetSplits:
    """Read all files of each split and join them along the samples."""
    options.refuse(path, "folders of The Well", "samples", "prepend_initial")
    return DatasetSplits(
        **{
            split: _join([_read_path(p, options) for p in paths], paths)
            for split, paths in files.items()
        }
    )


def _read_path(path: Path, options: ReadOptions) -> FieldDataset:
    if sniff(path) is not FileKind.HDF5:
        raise file_error(path, "the files of a folder of The Well must be HDF5.")
    with open_hdf5(path) as file:
        return read_well_file(path, file, options)


def read_well_file(path: Path, file: Any, options: ReadOptions) -> FieldDataset:
    """Read one open file."""
    grid_type = _text(file.attrs.get("grid_type", "cartesian"))
    if grid_type.lower() != "cartesian":
        raise file_error(
            path, f"sciml reads cartesian grids of The Well, this one is {grid_type!r}."
        )
    axes = _axes(path, file)
    extents, sizes = [], []
    for axis in axes:
        points = read_array(path, file["dimensions"], axis, (axis,))
        extents.append(stored_extent(path, f"dimensions/{axis}", points))
        sizes.append(len(points))
    start, dt, n_times = _times(path, file, options)
    n_samples = int(file.attrs.get("n_trajectories", 0))
    if n_samples < 1:
        raise file_error(path, "the root attribute must be a positive count.", key="n_trajectories")
    full = (n_samples, n_times, *sizes)
    moving: list[tuple[str, np.ndarray]] = []
    static: list[tuple[str, np.ndarray]] = []
    for rank in range(3):
        group = checked_group(path, file, f"t{rank}_fields")
        for name in sorted(group):
            components, time_varying = _read_field(
                path, group, name, rank, axes, full, options.samples
            )
            (moving if time_varying else static).extend(components)
    if not moving:
        raise file_error(path, "no field varies in time: there is no trajectory to learn.")
    scalars, attributes = _scalars(path, file, full, options.samples)
    static += scalars
    values = np.stack([array for _, array in moving], axis=2)
    context = np.stack([array[:, 0] for _, array in static], axis=1) if static else None
    if context is not None:
        context = context.astype(values.dtype)
    periodic = _periodic(path, file, axes) if options.periodic is None else options.periodic
    return build_dataset(
        path,
        values,
        channels=[name for name, _ in moving],
        axes=axes,
        domain_extent=options.extent(path, len(axes), extents, None),
        dt=dt,
        start_time=start,
        context=context,
        context_names=[name for name, _ in static],
        periodic=periodic,
        attributes={"format": "The Well", "source": path.name} | attributes,
    )


def _axes(path: Path, file: Any) -> tuple[str, ...]:
    if "dimensions" not in file or "spatial_dims" not in file["dimensions"].attrs:
        raise file_error(path, "missing, or without `spatial_dims`.", key="dimensions")
    axes = tuple(_text(name) for name in file["dimensions"].attrs["spatial_dims"])
    stated = int(file.attrs.get("n_spatial_dims", len(axes)))
    if stated != len(axes):
        raise file_error(
            path, f"n_spatial_dims is {stated}, but spatial_dims names {axes}.", key="dimensions"
        )
    return axes


def _times(path: Path, file: Any, options: ReadOptions) -> tuple[float, float, int]:
    times = read_numbers(path, file["dimensions"], "time")
    if times.ndim == 2:
        if not share_times(times):
            raise file_error(
                path, "the trajectories must share their times.", key="dimensions/time"
            )
        times = times[0]
    start, dt = options.step(path, "dimensions/time", times)
    return start, dt, len(times)


def _read_field(
    path: Path,
    group: Any,
    name: str,
    rank: int,
    axes: tuple[str, ...],
    full: tuple[int, ...],
    samples: slice,
) -> tuple[list[tuple[str, np.ndarray]], bool]:
    """Return the components of a field as ``(sample, time or 1, *space)``, and if it moves."""
    shape = checked_entry(path, group, name).shape
    flags = group[name].attrs
    varying = (
        bool(flags.get("sample_varying", True)),
        bool(flags.get("time_varying", True)),
        *(bool(v) for v in flags.get("dim_varying", [True] * len(axes))),
    )
    labels = [a for a, v in zip(("sample", "time", *axes), varying, strict=True) if v]
    n_component_axes = len(shape) - len(labels)
    # Tensors are stored with two component axes or one of D * D entries.
    allowed = {0: (0,), 1: (1,), 2: (1, 2)}[rank]
    key = f"{group.name.lstrip('/')}/{name}"
    if n_component_axes not in allowed:
        raise file_error(
            path,
            f"expected ({', '.join(labels)}) and {rank} component axes, got shape {shape}.",
            key=key,
        )
    expected = tuple(n for n, v in zip(full, varying, strict=True) if v)
    stored = shape[: len(labels)]
    if stored != expected:
        raise file_error(
            path,
            f"expected {expected} for the axes ({', '.join(labels)}) by `n_trajectories` and "
            f"`dimensions`, got {stored}.",
            key=key,
        )
    index = samples if varying[0] else ()
    component_labels = ("component",) * n_component_axes
    array = read_array(path, group, name, (*labels, *component_labels), index=index)
    array = array.reshape(*array.shape[: len(labels)], -1)
    n_components = len(axes) ** rank
    if array.shape[-1] != n_components:
        raise file_error(path, f"expected {n_components} components, got shape {shape}.", key=key)
    for position, v in enumerate(varying):
        if not v:
            array = np.expand_dims(array, position)
    n_samples = len(range(full[0])[samples])
    whole = (n_samples, full[1] if varying[1] else 1, *full[2:], n_components)
    array = np.broadcast_to(array, whole)
    suffixes = {0: [""], 1: [f"_{a}" for a in axes], 2: [f"_{a}{b}" for a in axes for b in axes]}
    return [(name + s, array[..., i]) for i, s in enumerate(suffixes[rank])], varying[1]


def _scalars(
    path: Path, file: Any, full: tuple[int, ...], samples: slice
) -> tuple[list[tuple[str, np.ndarray]], dict[str, Any]]:
    """Return scalars that vary by sample as constant context fields, the others as attributes."""
    fields: list[tuple[str, np.ndarray]] = []
    attributes: dict[str, Any] = {}
    skipped = []
    group = checked_group(path, file, "scalars")
    for name in sorted(group):
        entry = group[name]
        if entry.attrs.get("time_varying", False):
            skipped.append(name)
        elif entry.attrs.get("sample_varying", False):
            column = read_array(path, group, name, ("sample",), index=samples)
            n_rows = len(range(full[0])[samples])
            if len(column) != n_rows:
                raise file_error(
                    path, f"expected {n_rows} entries, got {len(column)}.", key=f"scalars/{name}"
                )
            shaped = column.reshape(-1, *(1,) * (len(full) - 1))
            fields.append((name, np.broadcast_to(shaped, (n_rows, 1, *full[2:]))))
        else:
            attributes[name] = float(read_numbers(path, group, name).reshape(-1)[0])
    if skipped:
        attributes["scalars not read (they vary in time)"] = ", ".join(skipped)
    return fields, attributes


def _periodic(path: Path, file: Any, axes: tuple[str, ...]) -> tuple[bool, ...]:
    periodic = set()
    group = checked_group(path, file, "boundary_conditions")
    if not group:
        raise file_error(
            path, "the key is missing or empty; pass `periodic=...`.", key="boundary_conditions"
        )
    for name in group:
        attributes = group[name].attrs
        for fact in ("bc_type", "associated_dims"):
            if fact not in attributes:
                raise file_error(path, f"`{fact}` is missing.", key=f"boundary_conditions/{name}")
        kind = _text(attributes["bc_type"]).lower()
        dims = {_text(axis) for axis in attributes["associated_dims"]}
        if kind not in _BOUNDARIES or not dims <= set(axes):
            raise file_error(
                path,
                f"expected a `bc_type` of {_BOUNDARIES} on some of the axes {axes}, got {kind!r} "
                f"on {sorted(dims)}.",
                key=f"boundary_conditions/{name}",
            )
        if kind == "periodic":
            periodic |= dims
    return tuple(axis in periodic for axis in axes)


def _join(parts: list[FieldDataset], paths: list[Path]) -> FieldDataset:
    first = parts[0]
    for part, path in zip(parts, paths, strict=True):
        for field in ("channels", "axes", "n_points", "n_times", "context_names", "periodic"):
            if getattr(part, field) != getattr(first, field):
                raise file_error(
                    path,
                    f"`{field}` is {getattr(part, field)}, but {getattr(first, field)} in "
                    f"{paths[0].name}; the files of one split must agree.",
                )
        if not np.allclose(
            [part.dt, *part.domain_extent], [first.dt, *first.domain_extent], rtol=1e-4, atol=0
        ):
            raise file_error(path, f"time step or extent differs from that of {paths[0].name}.")
    common = {
        key: value
        for key, value in first.attributes.items()
        if all(part.attributes.get(key) == value for part in parts)
    }
    differing = sorted({key for part in parts for key in part.attributes} - {*common, "source"})
    if any(abs(part.start_time - first.start_time) > 1e-3 * first.dt for part in parts):
        differing.append("start time")
    if differing:
        common["differs between files"] = ", ".join(differing)
    context = None
    if first.context is not None:
        rows = [
            np.broadcast_to(part.context, (len(part), *part.context.shape[1:]))
            for part in parts
            if part.context is not None
        ]
        context = np.concatenate(rows)
    return first.replace(
        values=np.concatenate([part.values for part in parts]), context=context, attributes=common
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
