"""Neighbours within a radius, in arrays of fixed size that say when they are too small."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..core import (
    RealScalar,
    check_count,
    check_finite,
    check_floating,
    check_not_traced,
    check_positive,
    check_shape,
)
from ._cell_list import candidates_of_cells
from ._graph import bucket_size
from ._segments import segment_sum

# Up to here all pairs are looked at; beyond, only those of neighbouring cells.
_DENSE = 2_000
# Places that a search begins with which is free to take more.
_START = 16


class Neighbours(eqx.Module):
    """For each query the points around it: ``capacity`` places, some of them empty.

    Attributes
    ----------
    index
        Which point, shape ``(n_queries, capacity)``; 0 in an empty place.
    mask
        Which places are taken, same shape.
    needed
        The capacity that the search asks for. For a small cloud it is the largest number of
        neighbours. A large one (cell list) must also have room for the points in a row of cells,
        of which not all need be neighbours; once there is an overflow it is a lower bound.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.0], [0.1], [0.9]])
    >>> neighbours = radius_neighbours(x, x, 0.2, capacity=2)
    >>> print(neighbours.mask.sum(axis=1), bool(neighbours.overflow))
    [2 2 1] False
    """

    index: Int[Array, "n_queries capacity"]
    mask: Bool[Array, "n_queries capacity"]
    needed: Int[Array, ""]

    @property
    def capacity(self) -> int:
        """Places of each query."""
        return self.index.shape[1]

    @property
    def overflow(self) -> Bool[Array, ""]:
        """Whether there were not enough places, so that neighbours may be missing."""
        return self.needed > self.capacity

    def gather(self, values: Float[Array, "n_points *rest"]) -> Float[Array, "n_queries k *rest"]:
        """Return the values of the neighbours; in empty places those of point 0.

        Parameters
        ----------
        values
            One entry for each point.
        """
        return values[self.index]

    def sum_over_points(
        self, values: Float[Array, "n_queries k *rest"]
    ) -> Float[Array, "n_queries *rest"]:
        """Return for each query the sum over its neighbours; 0 where there are none.

        Parameters
        ----------
        values
            One entry for each place; those of empty places do not count.
        """
        mask = self.mask.reshape(*self.mask.shape, *(1,) * (values.ndim - 2))
        return jnp.sum(jnp.where(mask, values, jnp.zeros((), values.dtype)), axis=1)

    def sum_over_queries(
        self, values: Float[Array, "n_queries k *rest"], n_points: int
    ) -> Float[Array, "n_points *rest"]:
        """Return for each point the sum over the queries that it is a neighbour of.

        Parameters
        ----------
        values
            One entry for each place; those of empty places do not count.
        n_points
            Number of points.
        """
        flat = values.reshape(-1, *values.shape[2:])
        return segment_sum(flat, self.index.reshape(-1), n_points, mask=self.mask.reshape(-1))


def radius_neighbours(
    points: Float[Array, "n_points dim"],
    queries: Float[Array, "n_queries dim"],
    radius: RealScalar,
    *,
    capacity: int | None = None,
    points_mask: Bool[Array, " n_points"] | None = None,
    queries_mask: Bool[Array, " n_queries"] | None = None,
    box: Float[Array, " dim"] | None = None,
) -> Neighbours:
    """Return the points closer than ``radius`` to each query, in order of their index.

    A point is its own neighbour where it is also a query. Up to 2,000 points all pairs are looked
    at, beyond that only those of neighbouring cells of a grid.

    Parameters
    ----------
    points, queries
        Positions, shapes ``(n_points, dim)`` and ``(n_queries, dim)``.
    radius
        A positive length.
    capacity
        Places of each query. Fixed, so that the search can be compiled; if it is too small,
        ``overflow`` of the result says so. None lets the search repeat with more places until all
        neighbours fit, which cannot be done inside `jax.jit`.
    points_mask, queries_mask
        Which points and queries count: no other has neighbours or is one, whatever it holds.
    box
        Periods of a periodic domain, one for each axis, infinite for none; distances are to the
        nearest image. The radius must be at most half of each.

    Returns
    -------
    Neighbours

    Raises
    ------
    ValueError
        If shapes do not fit, a position that counts is not finite, ``radius`` is not positive or
        exceeds half a period, or ``capacity`` is None under `jax.jit`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.05], [0.5], [0.95]])
    >>> neighbours = radius_neighbours(x, x[:1], 0.2, box=jnp.ones(1))
    >>> print(neighbours.index[0][neighbours.mask[0]])
    [0 2]
    """
    sizes = check_shape("points", points, ("n_points", "dim"))
    n_queries = check_shape("queries", queries, ("n_queries", sizes["dim"]))["n_queries"]
    check_floating("points", points)
    check_floating("queries", queries)
    check_positive("radius", radius)
    points, queries = jnp.asarray(points), jnp.asarray(queries)
    if points_mask is not None:
        check_shape("points_mask", points_mask, (sizes["n_points"],))
    if queries_mask is not None:
        check_shape("queries_mask", queries_mask, (n_queries,))
    if box is not None:
        check_shape("box", box, (sizes["dim"],))
        box = jnp.asarray(box, points.dtype)
        is_known = not isinstance(box, Tracer) and not isinstance(radius, Tracer)
        if is_known and not bool(jnp.all(box >= 2 * jnp.asarray(radius, box.dtype))):
            raise ValueError(
                f"`radius` must be at most half of each period, got {float(radius)} for the "
                f"periods {box.tolist()}."
            )
    radius = jnp.asarray(radius, points.dtype)
    if sizes["n_points"] == 0:
        n_places = 0 if capacity is None else capacity
        empty = jnp.zeros((n_queries, n_places), jnp.int32)
        return Neighbours(empty, empty > 0, jnp.zeros((), jnp.int32))
    masks = tuple(
        jnp.ones(n, bool) if mask is None else jnp.asarray(mask, bool)
        for n, mask in ((sizes["n_points"], points_mask), (n_queries, queries_mask))
    )
    for name, x, mask in (("points", points, masks[0]), ("queries", queries, masks[1])):
        if not isinstance(x, Tracer) and not isinstance(mask, Tracer):
            check_finite(name, jnp.where(mask[:, None], x, jnp.zeros((), x.dtype)))
    if capacity is not None:
        capacity = check_count("capacity", capacity)
        return _search(points, queries, radius, masks, box, capacity)
    if any(isinstance(array, Tracer) for array in (points, queries, radius, *masks)):
        raise ValueError("under `jax.jit` the neighbours need a fixed `capacity`.")
    capacity = _START
    while True:
        found = _search(points, queries, radius, masks, box, capacity)
        if not bool(found.overflow):
            return found
        capacity = bucket_size(int(found.needed))


def most_neighbours(frames: Float[Array, "time n dim"], radius: RealScalar) -> int:
    """Return the room that the neighbours of any particle need in any frame, itself included.

    Parameters
    ----------
    frames
        Positions of the particles, ``(time, n, dim)``.
    radius
        How far they see.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> most_neighbours(jnp.array([[[0.0], [0.5], [0.9]], [[0.0], [0.1], [0.2]]]), 0.3)
    3
    """
    check_floating("frames", frames)
    n_particles = check_shape("frames", frames, ("time", "n", "dim"))["n"]
    check_positive("radius", radius)
    check_not_traced("frames", frames, "the room for neighbours is found")
    check_not_traced("radius", radius, "the room for neighbours is found")
    frames = jnp.asarray(frames)
    radius = jnp.asarray(radius, frames.dtype)
    # A small cloud is counted as a whole, whatever the capacity.
    capacity = 1 if n_particles <= _DENSE else _START
    while True:
        most, needed = (int(figure) for figure in _most(frames, radius, capacity))
        if n_particles <= _DENSE or needed <= capacity:
            return most
        capacity = bucket_size(needed)


@eqx.filter_jit
def _most(frames, radius, capacity: int):
    everyone = jnp.ones(frames.shape[1], bool)

    def one(x):
        found = _search(x, x, radius, (everyone, everyone), None, capacity)
        count = found.needed
        if len(x) > _DENSE:
            count = jnp.max(jnp.sum(found.mask, axis=1, dtype=jnp.int32), initial=0)
        return count, found.needed

    counts, needed = jax.lax.map(one, frames)
    return jnp.max(counts, initial=0), jnp.max(needed, initial=0)


@eqx.filter_jit
def _search(points, queries, radius, masks, box, capacity: int) -> Neighbours:
    points_mask, queries_mask = masks
    points, queries = jax.lax.stop_gradient((points, queries))
    if len(points) <= _DENSE:
        columns, longest = None, jnp.zeros((), jnp.int32)
        difference = queries[:, None] - points[None]
        usable = points_mask[None] & queries_mask[:, None]
    else:
        columns, usable, longest = candidates_of_cells(
            points, queries, radius, points_mask, box, capacity
        )
        difference = queries[:, None] - points[columns]
        usable = usable & queries_mask[:, None]
    if box is not None:
        period = jnp.where(jnp.isfinite(box), box, jnp.ones((), box.dtype))
        period = jnp.broadcast_to(period, difference.shape)
        images = jnp.round(difference / period) * period
        is_periodic = jnp.broadcast_to(jnp.isfinite(box), difference.shape)
        difference = jnp.where(is_periodic, difference - images, difference)
    is_near = usable & (jnp.sum(difference**2, axis=-1) < radius**2)
    count = jnp.cumsum(is_near.astype(jnp.int32), axis=1)
    # The k-th neighbour stands where the count first reaches k: no sort, no scatter.
    wanted = jnp.arange(1, capacity + 1, dtype=jnp.int32)
    place = jax.vmap(lambda row: jnp.searchsorted(row, wanted))(count)
    mask = wanted[None] <= count[:, -1:]
    place = jnp.where(mask, place, jnp.zeros((), place.dtype)).astype(jnp.int32)
    index = place if columns is None else jnp.take_along_axis(columns, place, axis=1)
    needed = jnp.maximum(jnp.max(count[:, -1], initial=0), longest)
    return Neighbours(jnp.where(mask, index, jnp.zeros((), index.dtype)), mask, needed)
