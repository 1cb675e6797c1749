"""STEER: train with random times, evaluate at the true ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..core import (
    KeyArray,
    check_array,
    check_floating,
    check_key,
    check_positive,
    check_real,
    check_shape,
    cites,
)
from ._bibliography import GHOSH_2020
from ._checks import forward_times


@cites(GHOSH_2020)
def steer_end_time(key: KeyArray, t1: Any, b: Any, *, t0: Any = 0.0) -> Array:
    """Return an end time drawn evenly from ``[t1 - b, t1 + b]``.

    Parameters
    ----------
    key
        A typed key, a new one for each training step.
    t1, b
        Mean and half width; ``b < |t1 - t0|``.
    t0
        Begin of the solve.

    Raises
    ------
    ValueError
        If ``b`` reaches the begin of the solve.

    Examples
    --------
    >>> bool(0.5 <= steer_end_time(jax.random.key(3), 1.0, 0.5) <= 1.5)
    True
    """
    check_key(key)
    check_positive("b", b)
    check_real("t0", t0)
    check_real("t1", t1)
    if not any(isinstance(x, Tracer) for x in (t0, t1, b)):
        # NumPy: under `jit` JAX would trace the difference of known times, too.
        length = abs(np.asarray(t1) - np.asarray(t0))
        if length <= np.asarray(b):
            raise ValueError(f"`b` must be below |t1 - t0| = {length}, got {b}.")
    t1 = jnp.asarray(t1, float)
    return t1 + jnp.asarray(b, t1.dtype) * jax.random.uniform(key, (), t1.dtype, -1.0, 1.0)


@cites(GHOSH_2020)
def steer_times(key: KeyArray, ts: Float[Array, " time"]) -> Float[Array, " time"]:
    """Return save times each moved by up to half of the gap before it; the first one stays.

    The result increases, and its last entry is clipped to the end of ``ts``.

    Parameters
    ----------
    key
        A typed key.
    ts
        Increasing times, shape ``(time,)``.

    Raises
    ------
    ValueError
        If the times do not increase.

    Examples
    --------
    >>> ts = steer_times(jax.random.key(3), jnp.linspace(0.0, 1.0, 5))
    >>> bool((jnp.diff(ts) >= 0).all() and ts[-1] <= 1)
    True
    """
    check_key(key)
    check_array("ts", ts)
    check_floating("ts", ts)
    check_shape("ts", ts, ("time",))
    # Equal neighbours have no gap, and do no harm.
    if not isinstance(ts, Tracer):
        forward_times(ts)
    gaps = jnp.diff(ts)
    moves = gaps * jax.random.uniform(key, gaps.shape, ts.dtype, -0.5, 0.5)
    moved = jnp.concatenate([ts[:1], ts[1:] + moves])
    # Uneven gaps can make neighbours pass each other.
    return jnp.minimum(jax.lax.cummax(moved), ts[-1:])
