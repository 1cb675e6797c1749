"""Random time windows for training, as a pure function of ``(seed, step)``.

Training that stops and resumes at step ``k`` must see the batches that an uninterrupted run
would have seen. So nothing here keeps a state: the order of epoch ``e`` is drawn from the seed
sequence ``(seed, e)``, and batch ``k`` is looked up in the endless row of epochs.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from ..core import check_count
from ._batch_part import BatchPart
from ._stored_array import StoredArray


@runtime_checkable
class Trajectories(Protocol):
    """What windows need of a dataset: `FieldDataset`, or `StoredDataset` for one in a file."""

    @property
    def values(self) -> Float[np.ndarray, "sample time channels *space"] | StoredArray: ...

    @property
    def context(
        self,
    ) -> Float[np.ndarray, "one_or_sample context_channels *space"] | StoredArray | None: ...

    @property
    def times(self) -> Float[np.ndarray, " time"]: ...


class Window(NamedTuple):
    """A batch of windows: what a forecaster sees, what it has to predict, and the static fields.

    Attributes
    ----------
    inputs
        ``(batch, n_in, channels, *space)``.
    targets
        ``(batch, n_out, channels, *space)``, the snapshots right after ``inputs``.
    context
        ``(batch, context_channels, *space)``, or None.
    """

    inputs: Float[np.ndarray, "batch n_in channels *space"]
    targets: Float[np.ndarray, "batch n_out channels *space"]
    context: Float[np.ndarray, "batch context_channels *space"] | None


Transform: TypeAlias = Callable[[Window, np.random.Generator], Window]
"""Augmentation: takes a window and the generator to draw from."""


@runtime_checkable
class SampleTransform(Protocol):
    """A `Transform` that treats each sample of a batch by itself, as `VorticitySymmetries` does.

    What is random about it is drawn for the whole batch and then applied to some of its samples or
    to all of them. So each of several processes can read and transform its own samples only, and
    gets what a process that makes the whole batch gets. Where there are several processes, batches
    with another transform are read as a whole by each of them.
    """

    def draw(self, n_samples: int, generator: np.random.Generator) -> Any:
        """Return what is random, an array ``(n_samples, ...)``."""
        ...

    def apply_drawn(self, window: Window, drawn: Any) -> Window:
        """Return the window transformed by what was drawn, one entry for each of its samples."""
        ...

    def __call__(self, window: Window, generator: np.random.Generator) -> Window:
        """Return ``apply_drawn(window, draw(len(window.inputs), generator))``."""
        ...


# Independent streams of one seed: the order and start times of an epoch, and augmentation.
_ORDER, _TRANSFORM = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class WindowBatches:
    """The endless sequence of training batches; ``batches[step]`` depends on the seed alone.

    Every sample is used exactly once an epoch, with a start time drawn anew. Epochs follow one
    another without a gap, so that all batches are full: when ``batch_size`` does not divide the
    number of samples a batch takes its last samples from the next epoch.

    Parameters
    ----------
    dataset
        Where the windows come from.
    n_in, n_out
        Snapshots that a model is given, and that it has to predict.
    batch_size
        Windows a batch; at most the number of samples.
    seed
        A non-negative integer.
    shuffle
        If False the samples come in order, and the start index of epoch ``e`` is ``e`` (modulo
        the number of starts) for all of them: a deterministic sweep.
    transform
        Augmentation, called as ``transform(window, generator)`` with a generator that depends
        on ``(seed, step)`` only. A `SampleTransform` lets several processes part the reading.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.data import FieldDataset
    >>> u = np.zeros((6, 20, 1, 8), np.float32)
    >>> data = FieldDataset.from_array(u, dt=0.5, domain_extent=1.0)
    >>> batches = data.windows(3, 5, batch_size=2, seed=11)
    >>> batches[0].inputs.shape, batches[0].targets.shape
    ((2, 3, 1, 8), (2, 5, 1, 8))
    >>> batches.steps_per_epoch
    3
    """

    dataset: Trajectories
    n_in: int
    n_out: int
    _: dataclasses.KW_ONLY
    batch_size: int
    seed: int
    shuffle: bool = True
    transform: Transform | None = None

    def __post_init__(self):
        _check_lengths(self.dataset, self.n_in, self.n_out)
        check_count("seed", self.seed, minimum=0)
        check_count("batch_size", self.batch_size)
        if self.batch_size > self.dataset.values.shape[0]:
            raise ValueError(
                f"`batch_size` {self.batch_size} is larger than the number of samples "
                f"{self.dataset.values.shape[0]}: a batch would repeat samples. Take a smaller one."
            )

    @property
    def n_starts(self) -> int:
        """Number of start indices at which a window fits."""
        return self.dataset.values.shape[1] - self.n_in - self.n_out + 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every sample has been used, rounded up."""
        return -(-self.dataset.values.shape[0] // self.batch_size)

    def sources(self, step: int) -> tuple[Int[np.ndarray, " batch"], Int[np.ndarray, " batch"]]:
        """Return the samples of batch ``step`` and the indices of their first snapshots."""
        step = check_count("step", step, minimum=0)
        position = step * self.batch_size + np.arange(self.batch_size)
        epochs, offsets = np.divmod(position, self.dataset.values.shape[0])
        samples, starts = np.empty_like(offsets), np.empty_like(offsets)
        for epoch in np.unique(epochs):
            order, first = self._epoch(int(epoch))
            here = epochs == epoch
            samples[here] = order[offsets[here]]
            starts[here] = first[offsets[here]]
        return samples, starts

    def __getitem__(self, step: int) -> Window:
        samples, starts = self.sources(step)
        window = gather_windows(self.dataset, self.n_in, self.n_out, samples, starts)
        if self.transform is not None:
            window = self.transform(window, self._generator(_TRANSFORM, step))
        return window

    def part(self, step: int, positions: Int[np.ndarray, " part"]) -> Window:
        """Return the samples of batch ``step`` at these positions; the others are not read.

        Parameters
        ----------
        step
            Which batch.
        positions
            Which of its samples, from 0 to ``batch_size - 1``.

        Returns
        -------
        Window
            These rows of ``self[step]``, to the bit.

        Raises
        ------
        TypeError
            If ``transform`` is no `SampleTransform`: what it draws is for a whole batch.

        Examples
        --------
        >>> import numpy as np
        >>> from sciml.data import FieldDataset
        >>> data = FieldDataset.from_array(np.zeros((6, 20, 1, 8)), dt=0.5, domain_extent=1.0)
        >>> data.windows(3, 5, batch_size=4, seed=11).part(0, np.array([2, 3])).inputs.shape
        (2, 3, 1, 8)
        """
        transform = self.transform
        if transform is not None and not isinstance(transform, SampleTransform):
            raise TypeError(
                "a part of a batch needs a `transform` with `draw` and `apply_drawn` (see "
                f"`SampleTransform`), got {transform!r}: take the whole batch, `batches[step]`."
            )
        samples, starts = (which[positions] for which in self.sources(step))
        window = gather_windows(self.dataset, self.n_in, self.n_out, samples, starts)
        if transform is not None:
            drawn = transform.draw(self.batch_size, self._generator(_TRANSFORM, step))
            window = transform.apply_drawn(window, drawn[positions])
        return window

    def for_positions(self, positions: Int[np.ndarray, " part"]) -> BatchPart | None:
        """Return the batches of which only these positions are read, see `part`.

        None if they cannot be read in parts, because ``transform`` is no `SampleTransform`.
        """
        if self.transform is not None and not isinstance(self.transform, SampleTransform):
            return None
        return BatchPart(self, positions)

    def __iter__(self) -> Iterator[Window]:
        """Yield batch 0, 1, 2, ... without end."""
        step = 0
        while True:
            yield self[step]
            step += 1

    def describe(self, step: int) -> str:
        """Say which samples and start times batch ``step`` holds, for error messages.

        Examples
        --------
        >>> import numpy as np
        >>> from sciml.data import FieldDataset
        >>> data = FieldDataset.from_array(np.zeros((2, 9, 1, 8)), dt=0.5, domain_extent=1.0)
        >>> data.windows(3, 5, batch_size=2, seed=11, shuffle=False).describe(1)
        'batch 1 (epoch 1): sample 0 from t = 0.5, sample 1 from t = 0.5'
        """
        samples, starts = self.sources(step)
        times = self.dataset.times[starts]
        parts = [f"sample {s} from t = {t:g}" for s, t in zip(samples, times, strict=True)]
        epoch = step * self.batch_size // self.dataset.values.shape[0]
        return f"batch {step} (epoch {epoch}): {', '.join(parts)}"

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        n_samples = self.dataset.values.shape[0]
        if not self.shuffle:
            return np.arange(n_samples), np.full(n_samples, epoch % self.n_starts)
        generator = self._generator(_ORDER, epoch)
        order = generator.permutation(n_samples)
        return order, generator.integers(0, self.n_starts, size=n_samples)

    def _generator(self, stream: int, index: int) -> np.random.Generator:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(stream, index))
        return np.random.default_rng(sequence)


def gather_windows(
    dataset: Trajectories,
    n_in: int,
    n_out: int,
    samples: Int[np.ndarray, " batch"],
    starts: Int[np.ndarray, " batch"],
) -> Window:
    """Copy the windows of these samples and start indices out of the dataset."""
    n_starts = _check_lengths(dataset, n_in, n_out)
    if np.any(starts >= n_starts):
        raise ValueError(
            f"a window of {n_in} + {n_out} snapshots cannot start at index {int(starts.max())}: "
            f"of {dataset.values.shape[1]} snapshots the last start is {n_starts - 1}."
        )
    times = starts[:, None] + np.arange(n_in + n_out)
    values = dataset.values[samples[:, None], times]
    context = dataset.context
    if context is not None:
        shared = context.shape[0] == 1
        context = context[np.zeros_like(samples) if shared else samples]
    return Window(values[:, :n_in], values[:, n_in:], context)


def _check_lengths(dataset: Trajectories, n_in: int, n_out: int) -> int:
    """Return the number of start indices at which the window fits, at least one."""
    length = check_count("n_in", n_in) + check_count("n_out", n_out)
    if length > dataset.values.shape[1]:
        raise ValueError(
            f"a window of {n_in} input and {n_out} output snapshots is longer than the "
            f"{dataset.values.shape[1]} snapshots of a trajectory."
        )
    return dataset.values.shape[1] - length + 1
