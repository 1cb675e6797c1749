"""Sums, means and softmax over segments: the reductions of a graph, aware of padding."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


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
    low = float(jnp.finfo(logits.dtype).min)
    safe = _masked(logits, mask, low)
    top = jax.lax.stop_gradient(jax.ops.segment_max(safe, segments, n_segments))
    weights = jnp.exp(safe - jnp.maximum(top, jnp.asarray(low, logits.dtype))[segments])
    weights = _masked(weights, mask, 0.0)
    total = jax.ops.segment_sum(weights, segments, n_segments)
    total = jnp.where(total > 0, total, jnp.ones((), logits.dtype))
    return weights / total[segments]


def _masked(values, mask, fill):
    if mask is None:
        return values
    mask = mask.reshape(-1, *(1,) * (values.ndim - 1))
    return jnp.where(mask, values, jnp.asarray(fill, values.dtype))
