"""A power of two that scales a system before its squares are summed, and the start it allows."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from ..numerics._power_of_two import power_of_two_below


def scaled_start(
    operator: Any,
    b: Inexact[Array, "*shape"],
    x0: Inexact[Array, "*shape"] | None,
    project: Callable[[Array], Array],
) -> tuple[Float[Array, ""], Inexact[Array, "*shape"], Inexact[Array, "*shape"]]:
    """Divide ``A x = b`` by a power of two near its size: that of ``b`` or of ``b - A x0``.

    A start beside whose residual the squares of ``b`` would vanish is left out: zero is nearer to
    the answer, and a system without a right-hand side would call it solved.

    Parameters
    ----------
    operator
        Anything with ``mv(x)``.
    b, x0
        Right-hand side, and where to start, zero for None.
    project
        The projection off the nullspace.

    Returns
    -------
    scale
        The power of two.
    b, start
        Right-hand side and start divided by it.
    """
    size = jnp.max(jnp.abs(b), initial=0)
    if x0 is None:
        scale = power_of_two_below(size)
        return scale, b / scale.astype(b.dtype), jnp.zeros_like(b)
    start = project(x0)
    largest = jnp.maximum(size, jnp.max(jnp.abs(b - operator.mv(start)), initial=0))
    is_far = (size > 0) & (size < least_share(b.dtype) * largest)
    is_far &= jnp.all(jnp.isfinite(start))  # otherwise the solve says so
    scale = power_of_two_below(jnp.where(is_far, size, largest))
    start = jnp.where(is_far, jnp.zeros_like(start), start / scale.astype(b.dtype))
    return scale, b / scale.astype(b.dtype), start


def least_share(dtype: Any) -> float:
    """Return the least share of a system's size that a right-hand side may have: 1e-14, 1e-144.

    Its square is a thousand units of rounding above the least number of the precision.
    """
    info = jnp.finfo(dtype)
    return (1e3 * float(info.tiny) / float(info.eps)) ** 0.5
