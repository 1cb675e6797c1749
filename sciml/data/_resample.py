"""Fourier resampling of stored arrays, a few samples at a time and in their own precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..numerics import fourier_resample

# Fields resampled in one call: enough to keep the cores busy, few enough to need little memory.
_POINTS_A_CALL = 2**22


def resample_array(array: np.ndarray, n_points: tuple[int, ...]) -> np.ndarray:
    """Resample the last ``len(n_points)`` axes of a NumPy array of periodic fields."""
    fields = array.reshape(-1, *array.shape[-len(n_points) :])
    block = max(1, _POINTS_A_CALL // max(fields[0].size, int(np.prod(n_points))))
    # A context, not a switch: float64 data must not pass through float32 on the way.
    with jax.enable_x64(array.dtype == np.float64):
        parts = [
            np.asarray(_resample(jnp.asarray(fields[i : i + block]), n_points))
            for i in range(0, len(fields), block)
        ]
    return np.concatenate(parts).reshape(*array.shape[: -len(n_points)], *n_points)


@functools.partial(jax.jit, static_argnums=1)
def _resample(fields: Float[Array, "field *space"], n_points: tuple[int, ...]) -> Array:
    return fourier_resample(fields, n_points)
