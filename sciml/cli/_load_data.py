"""Data for the commands: the parts that they need, on the grid that they need."""

import numpy as np

from ..core import real_dtype
from ..data import DatasetSplits, FieldDataset, load
from ._errors import UsageError

SAMPLE = "navier-stokes"


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
        if n_validation is not None or n_test is not None:
            raise UsageError(
                f"{source} has its own parts ({', '.join(name for name, _ in data.items())}): "
                "leave out --n-validation and --n-test."
            )
    else:
        tenth = max(1, data.n_samples // 10)
        validation = tenth if n_validation is None else n_validation
        test = tenth if n_test is None else n_test
        if min(validation, test) < 0:
            raise UsageError("--n-validation and --n-test must not be negative.")
        if validation + test >= data.n_samples:
            raise UsageError(
                f"{source} has {data.n_samples} trajectories: {validation} for validation and "
                f"{test} for the test leave none to train on."
            )
        data = data.split(n_validation=validation, n_test=test)
    for _, part in data.items():
        check_periodic(source, part)
    return data.astype(real_dtype())


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
    check_periodic(source, data)
    return data.astype(real_dtype())


def check_periodic(source: str, dataset: FieldDataset) -> None:
    """Raise unless all axes are periodic, which these models take them to be."""
    open_axes = [
        axis for axis, wraps in zip(dataset.axes, dataset.periodic, strict=True) if not wraps
    ]
    if open_axes:
        raise UsageError(
            f"{source}: the axes {', '.join(open_axes)} are not periodic, and the Fourier models "
            "of this command need periodic ones."
        )


def check_window(dataset: FieldDataset, n_in: int, n_out: int) -> None:
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
        np.allclose((a.dt, *a.domain_extent), (dt, *extent), rtol=1e-3)
    )
