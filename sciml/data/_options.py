"""What a caller of `load` may say about a file, and how it meets what the file says itself."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._dataset import FieldDataset
from ._file_errors import file_error


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """The options of `load` that readers take; the meaning of each is documented there."""

    samples: slice = dataclasses.field(default_factory=lambda: slice(None))
    dt: float | int | None = None
    domain_extent: float | int | Sequence[float | int] | None = None
    periodic: bool | Sequence[bool] | None = None
    prepend_initial: bool = False

    def refuse(self, path: Path, layout: str, *names: str) -> None:
        """Raise for the named options if they are set: this layout has no use for them."""
        default = ReadOptions()
        for name in names:
            if getattr(self, name) != getattr(default, name):
                raise file_error(path, f"the option `{name}` does not apply to {layout}.")

    def step(self, path: Path, key: str, times: np.ndarray | None) -> tuple[float, float]:
        """Return ``(start_time, dt)`` from the stored times, or from the option ``dt``."""
        if times is None or times.size < 2:
            if self.dt is None and times is None:
                raise file_error(path, "the file has no times; pass `dt=...`.", key=key)
            start = 0.0 if times is None or times.size == 0 else float(times[0])
            # A single snapshot has no step: any positive number describes it.
            return start, 1.0 if self.dt is None else self.dt
        start, dt = uniform_step(path, key, times, "times")
        if self.dt is not None and abs(self.dt - dt) > 1e-3 * dt:
            raise file_error(
                path, f"`dt={self.dt:g}` was passed, but the stored times step by {dt:g}.", key=key
            )
        return start, dt

    def extent(
        self,
        path: Path,
        n_axes: int,
        stored: Sequence[float | None] | None,
        default: float | None,
    ) -> tuple[float, ...]:
        """Return the length of each space axis from the file, the option or the layout's own."""
        given = self.domain_extent
        if isinstance(given, int | float):
            given = (float(given),) * n_axes
        if given is not None and len(given) != n_axes:
            raise file_error(
                path, f"`domain_extent` has {len(given)} lengths, the file {n_axes} space axes."
            )
        if stored is not None:
            lengths: list[float] = []
            for axis, length in enumerate(stored):
                if length is None:  # one point has no spacing: there the option stands
                    if given is None:
                        raise file_error(
                            path,
                            f"axis {axis} has one point, which has no spacing; pass "
                            "`domain_extent=...`, one length an axis.",
                        )
                    length = float(given[axis])
                lengths.append(length)
            if given is not None and not np.allclose(given, lengths, rtol=1e-3, atol=0):
                raise file_error(
                    path,
                    f"`domain_extent={tuple(given)}` was passed, but the stored coordinates span "
                    f"{tuple(round(s, 6) for s in lengths)} (points times spacing).",
                )
            return tuple(lengths)
        if given is not None:
            return tuple(float(length) for length in given)
        if default is None:
            raise file_error(
                path, "the file has no coordinates; pass `domain_extent=...`, one length an axis."
            )
        return (default,) * n_axes


def stored_extent(path: Path, key: str, points: np.ndarray) -> float | None:
    """Return the length of an axis, points times spacing; None where one point has no spacing."""
    if len(points) == 1:
        return None
    return uniform_step(path, key, points, "coordinates")[1] * len(points)


def share_times(times: np.ndarray) -> bool:
    """Return whether all rows are the same times, up to rounding and in any unit."""
    rounding = 1e-8 * np.max(np.abs(times), initial=0.0)
    return bool(np.allclose(times, times[:1], rtol=1e-5, atol=rounding))


def uniform_step(path: Path, key: str, points: np.ndarray, what: str) -> tuple[float, float]:
    """Return the first entry and the step of points that ascend in equal steps, or raise."""
    points = np.asarray(points, np.float64)
    if not np.isfinite(points).all():
        raise file_error(path, f"the {what} must be finite.", key=key)
    steps = np.diff(points)
    if np.any(steps <= 0):
        i = int(np.argmax(steps <= 0))
        raise file_error(
            path,
            f"the {what} must ascend, but entry {i + 1} is {points[i + 1]:g} after {points[i]:g}.",
            key=key,
        )
    step = float((points[-1] - points[0]) / (len(points) - 1))
    off = np.abs(steps - step)
    # Stored in float32, points far from zero carry a rounding of this size each.
    tolerance = 1e-3 * step + 4 * np.finfo(np.float32).eps * float(np.max(np.abs(points)))
    if np.any(off > tolerance):
        i = int(np.argmax(off))
        raise file_error(
            path,
            f"the {what} must be uniform: the mean step is {step:g}, but from entry {i} to "
            f"{i + 1} it is {steps[i]:g}. Interpolate the data to equal steps first.",
            key=key,
        )
    return float(points[0]), step


def build_dataset(path: Path, values: np.ndarray, **fields: Any) -> FieldDataset:
    """Return the dataset; an error of its constructor is given the name of the file."""
    try:
        return FieldDataset(values, **fields)
    except (ValueError, TypeError) as error:
        raise file_error(path, str(error)) from error
