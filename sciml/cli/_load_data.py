"""Data for the commands: the parts that they need, on the grid that they need."""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from ..core import real_dtype
from ..data import DatasetSplits, FieldDataset, StoredDataset, load, open_dataset
from ..data._stored_dataset import part_names
from ._errors import UsageError

SAMPLE = "navier-stokes"


@dataclasses.dataclass(frozen=True)
class StoredSplits:
    """`DatasetSplits` whose training part stays in its file."""

    train: StoredDataset
    validation: FieldDataset | None
    test: FieldDataset | None


AnySplits: TypeAlias = DatasetSplits | StoredSplits
TrainingDataset: TypeAlias = FieldDataset | StoredDataset


def load_splits(
    source: str, n_points: int | None, n_validation: int | None, n_test: int | None
) -> DatasetSplits:
    """Return train, validation and test, in the precision of the models.

    A file without parts is cut; a tenth each, at least one trajectory, where nothing is said.

    Raises
    ------
    UsageError
        If the numbers leave nothing to train on, or are given for data that have parts.
    """
    data = load(source, n_points=n_points)
    if isinstance(data, DatasetSplits):
        _refuse_cut(source, [name for name, _ in data.items()], n_validation, n_test)
    else:
        validation, test = _cut(source, data.n_samples, n_validation, n_test)
        data = data.split(n_validation=validation, n_test=test)
    return data.astype(real_dtype())


def open_splits(
    source: str, n_points: int | None, n_validation: int | None, n_test: int | None
) -> StoredSplits:
    """Return what `load_splits` gives, with the training part left in its file.

    Raises
    ------
    UsageError
        As `load_splits`; also if another grid than that of the file is wanted.
    DataFileError
        If the data are no HDF5 file of sciml.
    """
    if source == SAMPLE:
        raise UsageError("--out-of-core reads a file while it trains: name one by --data.")
    names = part_names(source)
    if names:
        _refuse_cut(source, names, n_validation, n_test)
        parts = {name: open_dataset(source, part=name) for name in names}
        train = parts["train"]
        kept = [parts[name] if name in names else None for name in ("validation", "test")]
    else:
        whole = open_dataset(source)
        validation, test = _cut(source, whole.n_samples, n_validation, n_test)
        first = whole.n_samples - validation - test
        train = whole.select(slice(0, first))
        # The same order as that of `FieldDataset.split`.
        kept = [
            whole.select(slice(start, start + size)) if size else None
            for start, size in ((first, validation), (first + validation, test))
        ]
    if n_points is not None and set(train.n_points) != {n_points}:
        raise UsageError(
            f"--out-of-core trains on the grid of the file, {' x '.join(map(str, train.n_points))} "
            f"points: leave out --n-points, or make a file with {n_points} points an axis first: "
            f"sciml data convert {source} coarse.h5 --n-points {n_points}"
        )
    dtype = real_dtype()
    loaded = [None if part is None else part.astype(dtype).load() for part in kept]
    return StoredSplits(train.astype(dtype), *loaded)


def held_out(splits: AnySplits) -> list[tuple[str, FieldDataset]]:
    """Return the parts for validation and test that exist, with their names."""
    parts = (("validation", splits.validation), ("test", splits.test))
    return [(name, part) for name, part in parts if part is not None]


def _refuse_cut(
    source: str, names: Sequence[str], n_validation: int | None, n_test: int | None
) -> None:
    if n_validation is not None or n_test is not None:
        raise UsageError(
            f"{source} has its own parts ({', '.join(names)}): leave out --n-validation and "
            "--n-test."
        )


def _cut(
    source: str, n_samples: int, n_validation: int | None, n_test: int | None
) -> tuple[int, int]:
    """Return how many trajectories are for validation and for the test."""
    tenth = max(1, n_samples // 10)
    validation = tenth if n_validation is None else n_validation
    test = tenth if n_test is None else n_test
    if min(validation, test) < 0:
        raise UsageError("--n-validation and --n-test must not be negative.")
    if validation + test >= n_samples:
        raise UsageError(
            f"{source} has {n_samples} trajectories: {validation} for validation and "
            f"{test} for the test leave none to train on."
        )
    return validation, test


def load_part(source: str, part: str, n_points: int | None) -> FieldDataset:
    """Return one part of the data, or all of it if it has none.

    Raises
    ------
    UsageError
        If the data have parts, but not this one.
    """
    data = load(source, n_points=n_points)
    if isinstance(data, DatasetSplits):
        parts = dict(data.items())
        if part not in parts:
            raise UsageError(f"{source} has no part {part!r}; it has {', '.join(parts)}.")
        data = parts[part]
    return data.astype(real_dtype())


def check_periodic(source: str, dataset: TrainingDataset) -> None:
    """Raise unless all axes are periodic, which Fourier models take them to be."""
    open_axes = [
        axis for axis, wraps in zip(dataset.axes, dataset.periodic, strict=True) if not wraps
    ]
    if open_axes:
        raise UsageError(
            f"{source}: the axes {', '.join(open_axes)} are not periodic, which the Fourier "
            "models of this command need. `sciml train t1` has a basis for walls, too."
        )


def check_window(dataset: TrainingDataset, n_in: int, n_out: int) -> None:
    """Raise unless ``n_in + n_out`` snapshots fit into the trajectories."""
    for name, value in (("--n-in", n_in), ("--n-out", n_out)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}.")
    if n_in + n_out > dataset.n_times:
        raise UsageError(
            f"--n-in {n_in} and --n-out {n_out} need {n_in + n_out} snapshots, but the "
            f"trajectories have {dataset.n_times}."
        )


def same_physics(a: FieldDataset, dt: float, extent: tuple[float, ...]) -> bool:
    """Return whether time step and periods are those given, up to rounding."""
    return len(extent) == len(a.domain_extent) and bool(
        np.allclose((a.dt, *a.domain_extent), (dt, *extent), rtol=1e-3, atol=0)
    )
