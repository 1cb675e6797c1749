"""Where batches come from: anything with ``batches[step]``, or anything that can be iterated."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np


@runtime_checkable
class BatchSource(Protocol):
    """A sequence of batches without end: ``source[step]`` must depend on ``step`` alone.

    Then training that resumes at a step sees the batches it would have seen. It may also offer
    ``describe(step) -> str`` (which samples a batch holds), which error messages quote.
    `sciml.data.WindowBatches` is one. With several processes each makes the whole batch and uses
    its share, unless the source is a `PartedSource`. A source that holds a file or a thread may
    offer ``release()``, which is called when no batch is needed for now.
    """

    def __getitem__(self, step: int) -> Any: ...


@runtime_checkable
class EpochSource(Protocol):
    """A `BatchSource` that says how many batches show every sample once."""

    @property
    def steps_per_epoch(self) -> int: ...

    def __getitem__(self, step: int) -> Any: ...


@runtime_checkable
class PartedSource(Protocol):
    """A `BatchSource` of which several processes read a part of each batch, each its own.

    `sciml.data.WindowBatches`, read ahead or not, and `sciml.data.EncodedWindows` are such.
    """

    @property
    def batch_size(self) -> int: ...

    def for_positions(self, positions: np.ndarray) -> BatchSource | None:
        """Return the source whose batches hold only the samples at these positions.

        They are ascending. Each array of its batches has the samples along the first axis, and is
        what these rows of the whole batch are. None if only whole batches can be made.
        """
        ...

    def __getitem__(self, step: int) -> Any: ...


@runtime_checkable
class _Describing(Protocol):
    def describe(self, step: int) -> str: ...


@runtime_checkable
class _Releasing(Protocol):
    def release(self) -> None: ...


def as_batch_source(batches: Any) -> BatchSource:
    """Return a source for ``batches``.

    A list or tuple is repeated epoch after epoch. An iterable without ``__getitem__`` is
    consumed in order, and started again where it can be.

    Raises
    ------
    TypeError
        If ``batches`` is a single array, a mapping, text, or cannot be iterated.
    ValueError
        If it is an empty sequence.
    """
    if isinstance(batches, np.ndarray | jax.Array | Mapping | str | bytes):
        raise TypeError(
            "`batches` must give one batch for each step: an object with `batches[step]`, a list "
            f"of batches or another iterable; got a single {type(batches).__name__}."
        )
    if isinstance(batches, Sequence):
        if not batches:
            raise ValueError("`batches` is empty.")
        return _Repeated(batches)
    if isinstance(batches, BatchSource):
        return batches
    if isinstance(batches, Iterable):
        return _Iterated(batches)
    raise TypeError(
        "`batches` must have `__getitem__(step)` or be iterable, got an object of type "
        f"{type(batches).__name__}."
    )


def describe_batch(source: BatchSource, step: int) -> str:
    """Say which samples batch ``step`` holds, as far as the source knows."""
    return source.describe(step) if isinstance(source, _Describing) else f"batch {step}"


def release_batches(source: Any) -> None:
    """Let a source close its file and end its thread, if it has any, until it is asked again."""
    if isinstance(source, _Releasing):
        source.release()


class _Repeated:
    def __init__(self, batches: Sequence[Any]):
        self._batches = batches

    def __getitem__(self, step: int) -> Any:
        return self._batches[step % len(self._batches)]

    def describe(self, step: int) -> str:
        return f"batch {step % len(self._batches)} of {len(self._batches)}"


class _Iterated:
    """Looks batches up by step in something that can only be walked forward."""

    def __init__(self, batches: Iterable[Any]):
        self._batches = batches
        self._iterator: Iterator[Any] = iter(batches)
        self._next_step = 0

    def __getitem__(self, step: int) -> Any:
        if step < self._next_step:
            raise ValueError(f"an iterable of batches cannot go back to step {step}.")
        while self._next_step < step:  # a resumed run: pass over what was seen
            self._advance()
        return self._advance()

    def _advance(self) -> Any:
        try:
            batch = next(self._iterator)
        except StopIteration:
            batch = self._start_again()
        self._next_step += 1
        return batch

    def _start_again(self) -> Any:
        again = iter(self._batches)  # once: it may shuffle, or open files
        if again is self._iterator:
            raise ValueError(
                f"`batches` ran out after {self._next_step} steps. Pass something that can be "
                "iterated again (a list, an object with `__iter__`), or train for fewer steps."
            ) from None
        self._iterator = again
        try:
            return next(self._iterator)
        except StopIteration:
            raise ValueError(
                f"`batches` ran out after {self._next_step} steps and gave nothing when it was "
                "iterated again."
            ) from None
