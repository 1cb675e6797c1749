"""`FieldDataset`: trajectories on a uniform grid, with the names and units that arrays lose."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Shaped

from ..core import check_count, check_flags, check_positive
from ._axis_order import reorder_axes
from ._field_checks import as_names, as_plain_array, check_attributes, check_context, check_values
from ._field_sizes import FieldSizes
from ._windows import Transform, Window, WindowBatches, gather_windows

Attribute = str | float | int | bool


@dataclasses.dataclass(frozen=True, eq=False, init=False, repr=False)
class FieldDataset(FieldSizes):
    """Trajectories of fields on one uniform grid, sampled at one time step.

    The arrays are NumPy arrays in ordinary memory and read-only: methods return a new dataset.
    A grid has ``n`` points at ``x_i = i L / n``, so that a periodic axis leaves out its end
    point, and ``domain_extent`` is always the number of points times the spacing.

    Parameters
    ----------
    values
        ``(sample, time, channel, *space)``, float32 or float64, finite.
    channels
        A name for each channel, for instance ``("vorticity",)``.
    axes
        A name for each space axis, in order, for instance ``("x", "y")``.
    domain_extent
        Physical length of each space axis (points times spacing).
    dt
        Physical time between neighbouring snapshots.
    start_time
        Physical time of the first snapshot.
    context
        Fields that do not change in time, such as a forcing: ``(sample, context_channel,
        *space)``, or with a first axis of 1 when all samples share them.
    context_names
        A name for each context channel.
    periodic
        Whether each space axis is periodic; one boolean stands for all axes.
    attributes
        Further facts (viscosity, seed, origin): strings, numbers or booleans.

    Raises
    ------
    ValueError, TypeError
        If any of these does not fit the others; the message says which axis, what was expected
        and what came.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.zeros((5, 11, 1, 8, 8), np.float32)
    >>> data = FieldDataset(values, channels=("u",), axes=("x", "y"), domain_extent=(1.0, 1.0),
    ...                     dt=0.2)
    >>> data
    FieldDataset(5 samples x 11 times x 1 channels on 8 x 8 points, float32)
    >>> data.select(slice(0, 2)).slice_times(0, 6).values.shape
    (2, 6, 1, 8, 8)
    """

    values: Float[np.ndarray, "sample time channel *space"]
    channels: tuple[str, ...]
    axes: tuple[str, ...]
    domain_extent: tuple[float, ...]
    dt: float
    start_time: float
    context: Float[np.ndarray, "context_sample context_channel *space"] | None
    context_names: tuple[str, ...]
    periodic: tuple[bool, ...]
    attributes: dict[str, Attribute]

    def __init__(
        self,
        values: np.ndarray,
        channels: Sequence[str],
        axes: Sequence[str],
        domain_extent: Sequence[float | int],
        dt: float | int,
        start_time: float | int = 0.0,
        context: np.ndarray | None = None,
        context_names: Sequence[str] = (),
        periodic: bool | Sequence[bool] = True,
        attributes: dict[str, Any] | None = None,
    ):
        axes = as_names("axes", axes)
        channels = as_names("channels", channels)
        context_names = as_names("context_names", context_names)
        values = check_values("values", values, ("sample", "time", "channel", *axes))
        if len(channels) != values.shape[2]:
            raise ValueError(
                f"`channels` names {len(channels)} channels {channels}, but axis 2 (channel) of "
                f"`values` has size {values.shape[2]} (shape {values.shape})."
            )
        space = values.shape[3:]
        if len(domain_extent) != len(axes):
            raise ValueError(
                f"`domain_extent` must have one length for each of the axes {axes}, "
                f"got {len(domain_extent)}: {tuple(domain_extent)}."
            )
        for name, extent in zip(axes, domain_extent, strict=True):
            check_positive(f"domain_extent[{name}]", extent)
        check_positive("dt", dt)
        if not np.isfinite(start_time):
            raise ValueError(f"`start_time` must be finite, got {start_time!r}.")
        if isinstance(periodic, bool | np.bool_):
            periodic = (bool(periodic),) * len(axes)
        periodic = check_flags("periodic", periodic, len(axes))
        if context is None and context_names:
            raise ValueError(f"`context_names` {context_names} were given without `context`.")
        if context is not None:
            context = check_context(context, context_names, values.shape[0], axes, space)
        fields = {
            "values": values,
            "channels": channels,
            "axes": axes,
            "domain_extent": tuple(float(extent) for extent in domain_extent),
            "dt": float(dt),
            "start_time": float(start_time),
            "context": context,
            "context_names": context_names,
            "periodic": periodic,
            "attributes": check_attributes(attributes or {}),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_array(
        cls,
        values: Shaped[np.ndarray | Array, "..."],
        *,
        dt: float | int,
        domain_extent: float | int | Sequence[float | int],
        axis_order: str | None = None,
        channels: Sequence[str] | None = None,
        context: Shaped[np.ndarray | Array, "..."] | None = None,
        start_time: float | int = 0.0,
        periodic: bool | Sequence[bool] = True,
        attributes: dict[str, Any] | None = None,
    ) -> "FieldDataset":
        """Make a dataset of your own array.

        Parameters
        ----------
        values
            The array, in the order that ``axis_order`` says.
        dt
            Physical time between neighbouring snapshots.
        domain_extent
            Physical length of each space axis; one number stands for all of them.
        axis_order
            Names of the array's axes separated by spaces. ``sample``, ``time`` and ``channel``
            are known; the others are space axes, in the order in which they stand. What is
            missing of the three (one trajectory, one channel) is added with size 1. None
            means ``"sample time channel"`` and then one to three space axes ``x y z``.
        channels
            A name for each channel; ``channel0``, ``channel1``, ... otherwise.
        context
            Static fields ``(sample or 1, context_channel, *space)``.
        start_time, periodic, attributes
            As in the class.

        Examples
        --------
        A MATLAB-like array, sample first and time last, without a channel axis:

        >>> import numpy as np
        >>> u = np.random.default_rng(7).normal(size=(5, 16, 12, 20))
        >>> data = FieldDataset.from_array(
        ...     u, dt=0.5, domain_extent=(1.0, 2.0), axis_order="sample x y time")
        >>> data.values.shape
        (5, 20, 1, 16, 12)
        """
        array, axes = reorder_axes(as_plain_array("values", values), axis_order)
        if isinstance(domain_extent, int | float | np.number):
            domain_extent = (float(domain_extent),) * len(axes)
        if channels is None:
            channels = tuple(f"channel{i}" for i in range(array.shape[2]))
        static = None if context is None else as_plain_array("context", context)
        names = ()
        if static is not None and static.ndim > 1:
            names = tuple(f"context{i}" for i in range(static.shape[1]))
        return cls(
            array,
            channels=channels,
            axes=axes,
            domain_extent=domain_extent,
            dt=dt,
            start_time=start_time,
            context=static,
            context_names=names,
            periodic=periodic,
            attributes=attributes,
        )

    def replace(self, **changes: Any) -> "FieldDataset":
        """Return a copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)

    def select(self, samples: int | slice | Sequence[int] | np.ndarray) -> "FieldDataset":
        """Return the dataset of the chosen samples; the sample axis stays.

        Raises
        ------
        IndexError
            If an index is out of range.
        ValueError
            If no sample is left.
        """
        if isinstance(samples, int | np.integer):
            samples = [int(samples)]
        index = np.arange(self.n_samples)[samples]
        if index.size == 0:
            raise ValueError(f"`select` leaves none of the {self.n_samples} samples: {samples!r}.")
        context = self.context
        if context is not None and context.shape[0] != 1:
            context = context[samples]
        return self.replace(values=self.values[samples], context=context)

    def slice_times(
        self, start: int | None = None, stop: int | None = None, step: int = 1
    ) -> "FieldDataset":
        """Return snapshots ``start:stop:step``; ``start_time`` and ``dt`` follow.

        Examples
        --------
        >>> import numpy as np
        >>> data = FieldDataset.from_array(np.zeros((2, 9, 1, 4)), dt=0.5, domain_extent=1.0)
        >>> coarse = data.slice_times(2, step=2)
        >>> coarse.times
        array([1., 2., 3., 4.])
        """
        check_count("step", step)
        for name, end in (("start", start), ("stop", stop)):
            if end is not None:
                is_below_zero = isinstance(end, int | np.integer) and end < 0
                check_count(name, -end if is_below_zero else end, minimum=0)
        first, last, _ = slice(start, stop).indices(self.n_times)
        if last <= first:
            raise ValueError(
                f"times {start}:{stop} leave none of the {self.n_times} snapshots of the dataset."
            )
        return self.replace(
            values=self.values[:, first:last:step],
            start_time=self.start_time + first * self.dt,
            dt=self.dt * step,
        )

    def stride(self, step: int) -> "FieldDataset":
        """Keep every ``step``-th point of each space axis, from the first.

        Every axis must have a multiple of ``step`` points: otherwise the points that are left
        would not be uniform over the period. Unlike `resample` this also holds for axes that
        are not periodic; scales below the coarse grid are aliased, not removed.
        """
        step = check_count("step", step)
        for name, n in zip(self.axes, self.n_points, strict=True):
            if n % step:
                raise ValueError(
                    f"`step` cannot keep every {step}-th of the {n} points of axis {name!r}: "
                    f"{step} does not divide {n}."
                )
        keep = (Ellipsis, *(slice(None, None, step) for _ in self.axes))
        context = None if self.context is None else np.ascontiguousarray(self.context[keep])
        return self.replace(values=np.ascontiguousarray(self.values[keep]), context=context)

    def resample(self, n_points: int | Sequence[int]) -> "FieldDataset":
        """Return the dataset on another periodic grid, through its Fourier series.

        Refining is exact (the trigonometric interpolant at the new points); coarsening removes
        the wavenumbers that the coarse grid cannot hold, so that nothing is aliased.

        Raises
        ------
        ValueError
            If an axis is not periodic.
        """
        from ._resample import resample_array

        n_new = (
            tuple(check_count("n_points", n) for n in n_points)
            if np.iterable(n_points)
            else (check_count("n_points", n_points),) * len(self.axes)
        )
        if len(n_new) != len(self.axes):
            raise ValueError(
                f"`n_points` must be one integer or one for each of the axes {self.axes}, "
                f"got {n_new}."
            )
        n_new = tuple(
            check_count(f"n_points[{a}]", n) for a, n in zip(self.axes, n_new, strict=True)
        )
        for name, periodic in zip(self.axes, self.periodic, strict=True):
            if not periodic:
                raise ValueError(
                    f"axis {name!r} is not periodic, so its Fourier series does not represent "
                    "the field between the points; use `stride` instead."
                )
        if n_new == self.n_points:
            return self
        context = None if self.context is None else resample_array(self.context, n_new)
        return self.replace(values=resample_array(self.values, n_new), context=context)

    def astype(self, dtype: Any) -> "FieldDataset":
        """Return the dataset in float32 or float64."""
        context = None if self.context is None else self.context.astype(dtype)
        return self.replace(values=self.values.astype(dtype), context=context)

    def split(self, *, n_validation: int = 0, n_test: int = 0) -> "DatasetSplits":
        """Cut the samples into train, validation and test, in this order, without shuffling.

        Examples
        --------
        >>> import numpy as np
        >>> data = FieldDataset.from_array(np.zeros((10, 4, 1, 8)), dt=1.0, domain_extent=1.0)
        >>> splits = data.split(n_validation=2, n_test=3)
        >>> len(splits.train), len(splits.validation), len(splits.test)
        (5, 2, 3)
        """
        n_validation = check_count("n_validation", n_validation, minimum=0)
        n_test = check_count("n_test", n_test, minimum=0)
        n_train = self.n_samples - n_validation - n_test
        if n_train < 1:
            raise ValueError(
                f"{n_validation} validation and {n_test} test samples leave nothing to train on "
                f"of {self.n_samples} samples."
            )
        cut = n_train + n_validation
        return DatasetSplits(
            train=self.select(slice(0, n_train)),
            validation=self.select(slice(n_train, cut)) if n_validation else None,
            test=self.select(slice(cut, None)) if n_test else None,
        )

    def windows(
        self,
        n_in: int,
        n_out: int,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        transform: Transform | None = None,
    ) -> WindowBatches:
        """Return the endless, resumable sequence of training batches; see `WindowBatches`."""
        return WindowBatches(
            self,
            n_in,
            n_out,
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            transform=transform,
        )

    def evaluation_windows(self, n_in: int, n_out: int, *, starts: Sequence[int] = (0,)) -> Window:
        """Return the windows of every sample at fixed start indices, in one batch.

        The batch runs over samples first, then over ``starts``: its length is
        ``n_samples * len(starts)`` and it is the same at every call.

        Examples
        --------
        >>> import numpy as np
        >>> data = FieldDataset.from_array(np.zeros((3, 20, 1, 8)), dt=1.0, domain_extent=1.0)
        >>> data.evaluation_windows(4, 6, starts=(0, 10)).targets.shape
        (6, 6, 1, 8)
        """
        if not np.iterable(starts) or len(starts) == 0:
            raise ValueError(f"`starts` must name at least one start index, got {starts!r}.")
        samples = np.repeat(np.arange(self.n_samples), len(starts))
        first = np.tile(
            np.asarray([check_count("starts", s, minimum=0) for s in starts]), len(self)
        )
        return gather_windows(self, n_in, n_out, samples, first)

    def describe(self) -> str:
        """Return a few lines on what the dataset holds, for people."""
        grid = ", ".join(
            f"{name}: {n} points over {extent:g}{' (periodic)' if periodic else ''}"
            for name, n, extent, periodic in zip(
                self.axes, self.n_points, self.domain_extent, self.periodic, strict=True
            )
        )
        low, high = float(self.values.min()), float(self.values.max())
        lines = [
            f"{self.n_samples} samples, {self.n_times} snapshots from t = {self.start_time:g} "
            f"every {self.dt:g}",
            f"channels: {', '.join(self.channels)} ({self.values.dtype}, "
            f"from {low:.4g} to {high:.4g})",
            f"grid: {grid}",
        ]
        if self.context_names:
            shared = self.context is not None and self.context.shape[0] == 1
            lines.append(
                f"context: {', '.join(self.context_names)} "
                f"({'shared by all samples' if shared else 'one for each sample'})"
            )
        lines += [f"{name}: {value}" for name, value in self.attributes.items()]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetSplits:
    """The parts of a data set that training, model choice and the final figures use.

    Parameters
    ----------
    train
        What a model is fitted on.
    validation, test
        What a model is chosen by and judged on; None when the set has no such part.

    Examples
    --------
    >>> from sciml.data import load
    >>> splits = load("navier-stokes", n_points=8)
    >>> {name: part.n_samples for name, part in splits.items()}
    {'train': 48, 'validation': 8, 'test': 8}
    """

    train: FieldDataset
    validation: FieldDataset | None = None
    test: FieldDataset | None = None

    def items(self) -> list[tuple[str, FieldDataset]]:
        """Return the parts that exist, with their names, in the order train, validation, test."""
        parts = (("train", self.train), ("validation", self.validation), ("test", self.test))
        return [(name, part) for name, part in parts if part is not None]

    def resample(self, n_points: int | Sequence[int]) -> "DatasetSplits":
        """Return all parts on another periodic grid; see `FieldDataset.resample`."""
        return type(self)(**{name: part.resample(n_points) for name, part in self.items()})

    def astype(self, dtype: Any) -> "DatasetSplits":
        """Return all parts in float32 or float64."""
        return type(self)(**{name: part.astype(dtype) for name, part in self.items()})

    def describe(self) -> str:
        """Return a few lines on each part, for people."""
        return "\n\n".join(f"[{name}]\n{part.describe()}" for name, part in self.items())
