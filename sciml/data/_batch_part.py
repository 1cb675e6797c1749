"""Some samples of each batch: what one process of several reads."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int


@runtime_checkable
class _Parting(Protocol):
    @property
    def batch_size(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int: ...

    def part(self, step: int, positions: Int[np.ndarray, " part"]) -> Any: ...

    def describe(self, step: int) -> str: ...


class BatchPart:
    """The samples at fixed positions of each batch, without reading the others.

    Parameters
    ----------
    whole
        Where the batches come from.
    positions
        Which samples of each, ``0, ..., batch_size - 1``.

    Raises
    ------
    IndexError
        If a position is outside a batch.
    """

    def __init__(self, whole: _Parting, positions: Int[np.ndarray, " part"]):
        positions = np.asarray(positions)
        if positions.size and not 0 <= positions.min() <= positions.max() < whole.batch_size:
            raise IndexError(
                f"`positions` must be from 0 to {whole.batch_size - 1}, the samples of a batch; "
                f"got {positions.min()} to {positions.max()}."
            )
        self.whole, self.positions = whole, positions

    @property
    def batch_size(self) -> int:
        """Samples that are read of a batch."""
        return len(self.positions)

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every sample has been used, rounded up."""
        return self.whole.steps_per_epoch

    def describe(self, step: int) -> str:
        """Say which samples the whole of batch ``step`` holds, for error messages."""
        return self.whole.describe(step)

    def for_positions(self, positions: Int[np.ndarray, " part"]) -> "BatchPart":
        """Return a part of this part."""
        return BatchPart(self.whole, self.positions[positions])

    def __getitem__(self, step: int) -> Any:
        return self.whole.part(step, self.positions)
