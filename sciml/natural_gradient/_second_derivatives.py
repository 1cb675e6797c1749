"""The Laplacian of a network at a point, axis by axis in forward mode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def laplacian_at(u: Callable[[Array], Any], x: Array) -> Array:
    """Return the trace of the second derivatives; no full Hessian is made."""

    def second(axis: Array) -> Array:
        first = lambda y: jax.jvp(u, (y,), (axis,))[1]  # noqa: E731
        return jax.jvp(first, (x,), (axis,))[1]

    return jnp.sum(jax.vmap(second)(jnp.eye(len(x), dtype=x.dtype)), axis=0)
