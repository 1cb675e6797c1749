"""Batches of which each of several processes reads the samples that its devices take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._batches import BatchSource, PartedSource, describe_batch, release_batches
from ._placement import Placement


def with_own_samples(source: Any, placement: Placement) -> Any:
    """Return a source whose batches lie on all devices, while this process reads only its share.

    Where there is one process, or its devices need all samples, or the source makes only whole
    batches, it is the source itself.
    """
    if placement.n_processes == 1 or not isinstance(source, PartedSource):
        return source
    n_samples = source.batch_size
    if not placement.parts_evenly(n_samples):
        return source  # training says so at its first step, validation does without
    positions = placement.own_positions(n_samples)
    part = source.for_positions(positions) if 0 < len(positions) < n_samples else None
    return source if part is None else OwnSamples(part, positions, n_samples, placement)


class OwnSamples:
    """Whole batches, parted over the devices of several processes that read their own samples.

    A process whose file fails cannot simply stop: the others would wait for it in the midst of a
    step, and it for them at its end. So it goes on with NaN, which stops them all at the same
    step, and `agree` says why.

    Parameters
    ----------
    part
        Batches of the samples of this process.
    positions
        Which samples of the batch these are, ascending.
    n_samples
        Those of the whole batch.
    placement
        The devices.
    """

    def __init__(
        self, part: BatchSource, positions: np.ndarray, n_samples: int, placement: Placement
    ):
        self._part, self._positions = part, positions
        self.batch_size = n_samples
        self._placement = placement
        self._error: Exception | None = None
        self._missing: Any = None  # what stands for samples that could not be read

    def __getitem__(self, step: int) -> Any:
        first = self._missing is None
        part = self._missing
        if self._error is None:
            try:
                part = self._part[step]
            except Exception as error:
                error.add_note(f"This happened while reading a part of batch {step}.")
                self._error = error
        if first:
            self.agree()  # without a batch it is not known what could stand for it
            self._missing = jax.tree.map(_nothing, part)
        return self._placement.assembled(part, self._positions, self.batch_size)

    def agree(self) -> None:
        """Raise in all processes if one of them could not read; all must ask together.

        Raises
        ------
        Exception
            What this process met.
        RuntimeError
            If it was another one.
        """
        if not self._placement.any_process(self._error is not None):
            return
        if self._error is not None:
            raise self._error
        raise RuntimeError(
            f"another of the {self._placement.n_processes} processes could not read its samples: "
            "its own message says why. Mend that and start all processes again."
        )

    def describe(self, step: int) -> str:
        """Say which samples the whole batch holds, for error messages."""
        return describe_batch(self._part, step)

    def release(self) -> None:
        """Let the part close its file and end its thread."""
        release_batches(self._part)


def agree_on_batches(source: Any) -> None:
    """Raise in all processes if one of them could not read its part of a batch."""
    if isinstance(source, OwnSamples):
        source.agree()


def _nothing(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return np.full_like(leaf, np.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0)
