"""The nodes of a regular grid around each point, without any search."""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..core import check_positive, check_shape
from ._neighbours import Neighbours


def lattice_neighbours(
    queries: Float[Array, "n_queries dim"],
    origin: Sequence[float],
    spacing: Sequence[float],
    shape: Sequence[int],
    radius: float,
    *,
    queries_mask: Bool[Array, " n_queries"] | None = None,
) -> Neighbours:
    """Return the nodes of a regular grid that are closer than ``radius`` to each query.

    Nodes are numbered as ``reshape(-1)`` of the grid does. There are always enough places.

    Parameters
    ----------
    queries
        Positions, shape ``(n_queries, dim)``.
    origin
        Position of node ``(0, ..., 0)``, ``dim`` numbers.
    spacing
        Distance of the nodes along each axis.
    shape
        Nodes along each axis.
    radius
        A positive length.
    queries_mask
        Which queries count.

    Raises
    ------
    ValueError
        If shapes do not fit, or ``radius`` or a spacing is not positive.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> near = lattice_neighbours(jnp.array([[0.4]]), (0.0,), (1.0,), (5,), 1.0)
    >>> print(near.index[0][near.mask[0]])
    [0 1]
    """
    dim = len(shape)
    check_shape("queries", queries, ("n_queries", dim))
    check_shape("origin", origin, (dim,))
    check_shape("spacing", spacing, (dim,))
    check_positive("radius", radius)
    for length in spacing:
        check_positive("spacing", length)
    reach = [
        range(1 - half, half + 1)
        for half in (max(1, math.ceil(radius / length - 1e-6)) for length in spacing)
    ]
    offsets = jnp.asarray(list(itertools.product(*reach)), jnp.int32)
    queries = jax.lax.stop_gradient(queries)
    low, step = jnp.asarray(origin, queries.dtype), jnp.asarray(spacing, queries.dtype)
    scaled = jnp.floor((queries - low[None]) / step[None])
    base = jnp.clip(scaled, -(2.0**29), 2.0**29).astype(jnp.int32)
    node = base[:, None] + offsets[None]
    position = low[None, None] + node.astype(queries.dtype) * step[None, None]
    distance_2 = jnp.sum((position - queries[:, None]) ** 2, axis=-1)
    mask = jnp.all((node >= 0) & (node < jnp.asarray(shape, jnp.int32)[None, None]), axis=-1)
    mask = mask & (distance_2 < jnp.asarray(radius, queries.dtype) ** 2)
    if queries_mask is not None:
        check_shape("queries_mask", queries_mask, (len(queries),))
        mask = mask & queries_mask[:, None]
    number = jnp.zeros(node.shape[:-1], jnp.int32)
    for axis, size in enumerate(shape):
        number = number * size + node[..., axis]
    index = jnp.where(mask, number, jnp.zeros((), jnp.int32))
    return Neighbours(index, mask, jnp.max(jnp.sum(mask.astype(jnp.int32), axis=1), initial=0))
