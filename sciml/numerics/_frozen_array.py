"""A constant array that may stand in a static field: it can be hashed and compared, not trained."""

from typing import Any

import numpy as np


class FrozenArray:
    """A read-only NumPy array, equal to another one if all entries are.

    Parameters
    ----------
    values
        Anything that NumPy can copy into an array.
    """

    def __init__(self, values: Any):
        self.values = np.array(values)
        self.values.flags.writeable = False
        self._hash = hash((self.values.shape, self.values.dtype.str, self.values.tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, FrozenArray)
            and self._hash == other._hash
            and self.values.dtype == other.values.dtype
            and np.array_equal(self.values, other.values)
        )

    def __repr__(self) -> str:
        return f"FrozenArray(shape={self.values.shape}, dtype={self.values.dtype})"
