"""Random initial weights: one compiled program for each shape.

Outside `jax.jit` JAX compiles every operation for itself, and the constructor of a network has
dozens: drawing, scaling, moving axes. Most of the time before a first forecast went there.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import KeyArray, RealScalar


@functools.partial(jax.jit, static_argnums=1)
def normal_weights(key: KeyArray, shape: tuple[int, ...], scale: RealScalar) -> Float[Array, "..."]:
    """Return float32 weights of mean zero and deviation ``scale``."""
    return scale * jax.random.normal(key, shape, jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def uniform_weights(
    key: KeyArray, shape: tuple[int, ...], limit: RealScalar
) -> Float[Array, "..."]:
    """Return float32 weights between ``-limit`` and ``limit``."""
    return jax.random.uniform(key, shape, jnp.float32, minval=-limit, maxval=limit)


def constant_weights(value: float, n: int) -> Float[Array, " n"]:
    """Return ``n`` equal float32 weights; from NumPy, for which nothing is compiled."""
    # A copy: an array that shares NumPy's memory must not be donated.
    return jnp.array(np.full(n, value, np.float32))


@functools.partial(jax.jit, static_argnums=(1, 3))
def spectral_weights(
    key: KeyArray, shape: tuple[int, ...], scale: RealScalar, order: Sequence[int]
) -> Float[Array, "..."]:
    """Return `normal_weights` of ``shape`` with their axes in another order."""
    return jnp.transpose(normal_weights(key, shape, scale), order)
