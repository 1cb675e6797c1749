"""The Laplacian of a network at a point, axis by axis in forward mode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import check_array, check_floating, check_shape


def check_point(x: Array) -> None:
    """Raise unless ``x`` is one point of real coordinates."""
    check_array("x", x)
    check_floating("x", x)
    check_shape("x", x, ("dim",))
    if x.shape[0] == 0:
        raise ValueError("`x` must be a point of one coordinate at least, got shape (0,).")


def laplacian_at(u: Callable[[Array], Any], x: Array) -> Array:
    """Return the trace of the second derivatives; no full Hessian is made."""
    check_point(x)

    def second(axis: Array) -> Array:
        first = lambda y: jax.jvp(u, (y,), (axis,))[1]  # noqa: E731
        return jax.jvp(first, (x,), (axis,))[1]

    return jnp.sum(jax.vmap(second)(jnp.eye(len(x), dtype=x.dtype)), axis=0)
