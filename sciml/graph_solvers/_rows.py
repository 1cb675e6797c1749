"""Rows of a contracting matrix from the logits of a network, and its choices."""

import enum

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..core import check_array, check_count, check_floating, check_shape
from ..numerics import segment_softmax, segment_sum


class RowNormaliser(enum.Enum):
    """How the logits of the edges become rows whose absolute values sum to 1 at most.

    Attributes
    ----------
    SOFTMAX
        The softmax over the edges of a row: sums to 1, and can single out one edge.
    CLIP_DEGREE
        The published code's: ``clip(logit, 0, 1)`` over the number of edges of the row. One edge
        cannot have more than its share, and outside the clip the gradient is zero.
    """

    SOFTMAX = "softmax"
    CLIP_DEGREE = "clip_degree"


class Aggregation(enum.Enum):
    """What a node makes of its edges within the fixed point.

    Attributes
    ----------
    SUM
        A weighted sum, as published: `solve_contraction`.
    MAXIMUM
        The largest of ``gamma h + r``, as in dynamic programming: `solve_max_contraction`.
    """

    SUM = "sum"
    MAXIMUM = "maximum"


class MessageDirection(enum.Enum):
    """Which end of an edge is the row of its entry.

    Attributes
    ----------
    TO_RECEIVER
        The receiver's state is made of the senders', as in the encoder.
    TO_SENDER
        The published code's: the sender's state is made of the receivers'.
    """

    TO_RECEIVER = "to_receiver"
    TO_SENDER = "to_sender"


class FactorKind(enum.Enum):
    """What the factor of the contraction is.

    Attributes
    ----------
    FIXED
        ``gamma`` itself, everywhere (published).
    LEARNED
        One number for each head, below ``gamma``.
    NODEWISE
        A function of each node's surroundings, below ``gamma``: nodes can absorb.
    ABSORBING
        Such a function ``s``, and the bias counts where it is small: in ``h = gamma s A h + (1 - s)
        c`` a node holds a value of its own or takes the mean of its neighbours, and a node that
        holds none is no source: for diffusion, where small sources add up over large graphs. Means
        are sums with softmax rows and no activation; other options are refused.
    """

    FIXED = "fixed"
    LEARNED = "learned"
    NODEWISE = "nodewise"
    ABSORBING = "absorbing"


class Readout(enum.Enum):
    """What is predicted.

    Attributes
    ----------
    NODES
        A vector for each node.
    SUM, MEAN
        A vector for each graph, from the sum or mean over its nodes.
    """

    NODES = "nodes"
    SUM = "sum"
    MEAN = "mean"


def contraction_rows(
    logits: Float[Array, "n_edges heads"],
    rows: Int[Array, " n_edges"],
    n_nodes: int,
    *,
    kind: RowNormaliser = RowNormaliser.SOFTMAX,
    mask: Bool[Array, " n_edges"] | None = None,
) -> Float[Array, "n_edges heads"]:
    """Return entries of a matrix whose rows sum to 1 at most, whatever the logits are.

    Parameters
    ----------
    logits
        Shape ``(n_edges, heads)``.
    rows
        The row of each entry, shape ``(n_edges,)``.
    n_nodes
        The number of rows.
    kind
        How they are normalised.
    mask
        Which edges are no padding; the others give 0.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> logits, rows = jnp.array([[0.0], [0.0], [9.0]]), jnp.array([0, 0, 2])
    >>> print(contraction_rows(logits, rows, 3)[:, 0])
    [0.5 0.5 1. ]
    >>> print(contraction_rows(logits, rows, 3, kind=RowNormaliser.CLIP_DEGREE)[:, 0])
    [0. 0. 1.]
    """
    check_count("n_nodes", n_nodes, minimum=0)
    check_floating("logits", logits)
    check_shape("logits", logits, ("n_edges", "heads"))
    check_array("rows", rows)
    check_shape("rows", rows, np.shape(logits)[:1])
    if kind is RowNormaliser.SOFTMAX:
        return segment_softmax(logits, rows, n_nodes, mask=mask)
    ones = jnp.ones(len(rows), logits.dtype)
    degree = jnp.maximum(segment_sum(ones, rows, n_nodes, mask=mask), jnp.ones((), logits.dtype))
    entries = jnp.clip(logits, 0, 1) / degree[rows][:, None]
    if mask is None:
        return entries
    return jnp.where(mask[:, None], entries, jnp.zeros((), logits.dtype))
