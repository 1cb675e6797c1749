"""Cell lists: the points in the cells around each query, found by sorting the cells' numbers."""

import itertools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


def candidates_of_cells(
    points: Float[Array, "n_points dim"],
    queries: Float[Array, "n_queries dim"],
    radius: Float[Array, ""],
    points_mask: Bool[Array, " n_points"],
    box: Float[Array, " dim"] | None,
    capacity: int,
) -> tuple[Int[Array, "n_queries candidates"], Bool[Array, "n_queries candidates"], Int[Array, ""]]:
    """Return indices of the points near each query, which of them count, and the room needed.

    Cells have edges of at least ``radius``. The points of a cell are consecutive once their
    numbers are sorted, and so are those of a row of three cells, whose room is ``capacity``; along
    a periodic axis rows wrap, and each cell is looked up by itself.
    """
    n_points, dim = points.shape
    usable = points_mask & jnp.all(jnp.isfinite(points), axis=1)
    inside = jnp.where(usable[:, None], points, jnp.zeros((), points.dtype))
    least = jnp.min(jnp.where(usable[:, None], points, jnp.inf), axis=0)
    largest = jnp.max(jnp.where(usable[:, None], points, -jnp.inf), axis=0)
    # Infinite if no point is usable.
    low = lax.select(jnp.isfinite(least), least, jnp.zeros_like(least))
    high = lax.select(jnp.isfinite(largest), largest, jnp.zeros_like(largest))
    # So few cells that their numbers fit 32 bits; wider cells only mean more candidates.
    most: int = {1: 2**29, 2: 2**14, 3: 2**9}.get(dim, int(2 ** (29 // dim)))
    # A touch wider than the radius, so that rounding never moves a neighbour two cells away.
    edge = jnp.maximum(radius * 1.0001, jnp.max(high - low) / (most - 8))
    edge = jnp.full(dim, edge)
    is_periodic = jnp.zeros(dim, bool) if box is None else jnp.isfinite(box)
    if box is not None:
        period = jnp.where(is_periodic, box, jnp.ones((), box.dtype))
        n_wrapped = jnp.clip(jnp.floor(period / edge), 1, most - 8).astype(jnp.int32)
        edge = jnp.where(is_periodic, period / n_wrapped.astype(box.dtype), edge)
    else:
        n_wrapped = jnp.ones(dim, jnp.int32)
    n_open = jnp.floor((high - low) / edge).astype(jnp.int32) + 5
    n_cells = jnp.where(is_periodic, n_wrapped, n_open)

    def cell_of(x):
        cell = jnp.floor((x - low[None]) / edge[None])
        cell = jnp.clip(cell, -(2.0**30), 2.0**30).astype(jnp.int32)
        # Two empty cells around an open domain; whoever is outside looks at empty ones.
        wrapped, open_ended = jnp.mod(cell, n_cells[None]), jnp.clip(cell + 2, 1, n_cells[None] - 2)
        return jnp.where(is_periodic[None], wrapped, open_ended)

    def number_of(cell):
        number = cell[:, dim - 1]
        for axis in reversed(range(dim - 1)):
            number = number * n_cells[axis] + cell[:, axis]
        return number

    none = jnp.iinfo(jnp.int32).max
    numbers = jnp.where(usable, number_of(cell_of(inside)), none)
    order = jnp.argsort(numbers)
    numbers = numbers[order]
    mine = cell_of(queries)
    columns, masks, longest = [], [], jnp.zeros((), jnp.int32)
    rows = box is None
    offsets = itertools.product(*([(0,)] if rows else [(-1, 0, 1)]), *[(-1, 0, 1)] * (dim - 1))
    for offset in offsets:
        step = jnp.asarray(offset, jnp.int32)
        cell = mine + step[None]
        distinct = jnp.ones((), bool)
        if rows:
            ends = jnp.zeros(dim, jnp.int32).at[0].set(1)
            first, last = number_of(cell - ends[None]), number_of(cell + ends[None])
        else:
            # With one or two cells around, the neighbours to both sides are the same.
            seen = (step == 0) | (n_cells >= 3) | ((n_cells == 2) & (step == 1))
            distinct = jnp.all(seen | ~is_periodic)
            first = number_of(jnp.where(is_periodic[None], jnp.mod(cell, n_cells[None]), cell))
            last = first
        begin = jnp.searchsorted(numbers, first, side="left").astype(jnp.int32)
        end = jnp.searchsorted(numbers, last, side="right").astype(jnp.int32)
        place = begin[:, None] + jnp.arange(capacity, dtype=jnp.int32)[None]
        masks.append((place < end[:, None]) & distinct)
        columns.append(order[jnp.minimum(place, n_points - 1)].astype(jnp.int32))
        longest = jnp.maximum(longest, jnp.max(end - begin, initial=0))
    columns, mask = jnp.concatenate(columns, 1), jnp.concatenate(masks, 1)
    # In order of the index, as a search among all pairs gives them.
    by_index = jnp.argsort(jnp.where(mask, columns, none), axis=1)
    return (
        jnp.take_along_axis(columns, by_index, axis=1),
        jnp.take_along_axis(mask, by_index, axis=1),
        longest,
    )
