"""Sums, means and softmax over segments: the reductions of a graph, aware of padding."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..core import check_array, check_count, check_floating, check_shape


def segment_sum(
    values: Float[Array, "n *rest"],
    segments: Int[Array, " n"],
    n_segments: int,
    *,
    mask: Bool[Array, " n"] | None = None,
) -> Float[Array, "n_segments *rest"]:
    """Return the sum of the values of each segment; 0 for an empty one.

    Parameters
    ----------
    values
        Shape ``(n, *rest)``.
    segments
        Shape ``(n,)``: the segment of each value.
    n_segments
        Their number.
    mask
        Shape ``(n,)``: which values count. What the others hold, NaN included, has no effect.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(segment_sum(jnp.array([1.0, 2.0, 4.0]), jnp.array([0, 0, 2]), 3))
    [3. 0. 4.]
    """
    _check("values", values, segments, n_segments, mask)
    return jax.ops.segment_sum(_masked(values, mask, 0.0), segments, n_segments)


def segment_mean(
    values: Float[Array, "n *rest"],
    segments: Int[Array, " n"],
    n_segments: int,
    *,
    mask: Bool[Array, " n"] | None = None,
) -> Float[Array, "n_segments *rest"]:
    """Return the mean of the values of each segment; 0, not NaN, for an empty one.

    Parameters
    ----------
    values, segments, n_segments, mask
        As in `segment_sum`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(segment_mean(jnp.array([1.0, 2.0, 4.0]), jnp.array([0, 0, 2]), 3))
    [1.5 0.  4. ]
    """
    _check("values", values, segments, n_segments, mask)
    total = segment_sum(values, segments, n_segments, mask=mask)
    count = segment_sum(jnp.ones(len(segments), values.dtype), segments, n_segments, mask=mask)
    count = jnp.maximum(count, jnp.ones((), values.dtype))
    return total / count.reshape(-1, *(1,) * (values.ndim - 1))


def segment_softmax(
    logits: Float[Array, "n *rest"],
    segments: Int[Array, " n"],
    n_segments: int,
    *,
    mask: Bool[Array, " n"] | None = None,
) -> Float[Array, "n *rest"]:
    """Return the softmax within each segment; masked entries give 0.

    Parameters
    ----------
    logits, segments, n_segments, mask
        As in `segment_sum`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(segment_softmax(jnp.array([9.0, 9.0, 1e4]), jnp.array([0, 0, 2]), 3))
    [0.5 0.5 1. ]
    """
    _check("logits", logits, segments, n_segments, mask)
    check_floating("logits", logits)
    low = float(jnp.finfo(logits.dtype).min)
    safe = _masked(logits, mask, low)
    top = jax.lax.stop_gradient(jax.ops.segment_max(safe, segments, n_segments))
    weights = jnp.exp(safe - jnp.maximum(top, jnp.asarray(low, logits.dtype))[segments])
    weights = _masked(weights, mask, 0.0)
    total = jax.ops.segment_sum(weights, segments, n_segments)
    total = jnp.where(total > 0, total, jnp.ones((), logits.dtype))
    return weights / total[segments]


def _check(name, values, segments, n_segments, mask):
    check_count("n_segments", n_segments, minimum=0)
    check_array(name, values)
    check_array("segments", segments)
    if not jnp.issubdtype(segments.dtype, jnp.integer):
        raise TypeError(f"`segments` must hold integers, got dtype {segments.dtype}.")
    check_shape("segments", segments, values.shape[:1] or ("n",))
    if isinstance(segments, Tracer) or isinstance(mask, Tracer):
        return
    bad = (np.asarray(segments) < 0) | (np.asarray(segments) >= n_segments)
    if mask is not None:
        bad = bad & np.asarray(mask, bool)
    if bad.any():
        where = int(np.argmax(bad))
        raise ValueError(
            f"`segments` must lie between 0 and {n_segments - 1} (`n_segments` - 1); entry {where} "
            f"is {int(np.asarray(segments)[where])}."
        )


def _masked(values, mask, fill):
    if mask is None:
        return values
    mask = mask.reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.where(mask, values, jnp.asarray(fill, values.dtype))
