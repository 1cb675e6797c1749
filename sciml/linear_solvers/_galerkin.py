"""The coarse operator ``P^T A P``, summed term by term.

With ``i`` a fine point of parity ``O`` in the coarse cell ``j``, both factors of the product reach
neighbouring coarse cells only:

    (A P)[O, s](j)  =  sum_o A(i, i + o) P(i + o, j + s),
    A_c[d](J)       =  sum_{O, c} P[O, c](J - c) (A P)[O, d + c](J - c).

Each sum is a list of terms, and each term a product of two arrays on the coarse grid, shifted. A
loop over the list compiles at once and never leaves the cache; in three dimensions it takes a
tenth of the time of applying ``P^T A P`` to 27 vectors.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..numerics import StencilOperator
from ..numerics._stencil import full_row
from ._galerkin_probing import half_offsets, probed_galerkin_operator
from ._interpolation import (
    Interpolation,
    Parity,
    _split_all,
    coarse_points,
    corner_pairs,
    corners,
    parities,
)


def galerkin_operator(operator: StencilOperator, interpolation: Interpolation) -> StencilOperator:
    """Return ``P^T A P`` on the coarse grid, with couplings to all ``3^d - 1`` neighbours.

    Parameters
    ----------
    operator
        The fine operator ``A``.
    interpolation
        ``P``, with its transpose as restriction.
    """
    if any(operator.periodic):
        # A shift in memory does not wrap around.
        return probed_galerkin_operator(operator, interpolation)
    coarsened = interpolation.coarsened
    n_points = coarse_points(operator.n_points, coarsened)
    n_cells = math.prod(n_points)
    strides = [math.prod(n_points[axis + 1 :]) for axis in range(len(n_points))]
    reach = sum(strides)
    row = full_row(operator)
    entries = _split_all(jnp.stack(list(row.values())), coarsened)
    slots = {pair: slot for slot, pair in enumerate(corner_pairs(coarsened))}
    padded = jnp.pad(
        jnp.stack(interpolation.weights).reshape(-1, n_cells), [(0, 0), (reach, reach)]
    )

    def step_of(shift: Parity) -> int:
        return reach + sum(k * stride for k, stride in zip(shift, strides, strict=True))

    products = _product_shifts(list(row), coarsened)
    places = {name: place for place, name in enumerate(products)}
    table = [
        (places[parity, shift], number, slots[pair], step_of(ahead))
        for (parity, shift), terms in products.items()
        for number, pair, ahead in terms
    ]
    # The entries of each parity in turn, one row for each offset.
    stacked = jnp.concatenate([part.reshape(len(row), -1) for part in entries.values()])
    first_row = {parity: k * len(row) for k, parity in enumerate(entries)}
    rows = [first_row[parity] for (parity, _), terms in products.items() for _ in terms]
    table = [
        (place, first + number, *rest)
        for first, (place, number, *rest) in zip(rows, table, strict=True)
    ]

    here = np.int32(reach)

    def add_product(total, term):
        place, number, slot, step = term
        value = stacked[number] * _window(padded, slot, step, n_cells)
        old = _window(total, place, here, n_cells)
        return jax.lax.dynamic_update_slice(total, (old + value)[None], (place, here)), None

    start = jnp.zeros((len(products), n_cells + 2 * reach), operator.dtype)
    product, _ = jax.lax.scan(add_product, start, np.array(table, np.int32))

    offsets = half_offsets(len(n_points))
    wanted = [(0,) * len(n_points), *offsets]
    table = [
        (number, slots[parity, corner], places[parity, shift], step_of(tuple(-c for c in corner)))
        for number, offset in enumerate(wanted)
        for parity, corner in slots
        if (parity, shift := tuple(o + c for o, c in zip(offset, corner, strict=True))) in places
    ]

    def add_entry(total, term):
        number, slot, place, step = term
        value = _window(padded, slot, step, n_cells) * _window(product, place, step, n_cells)
        return total.at[number].add(value), None

    start = jnp.zeros((len(wanted), n_cells), operator.dtype)
    total, _ = jax.lax.scan(add_entry, start, np.array(table, np.int32))
    total = total.reshape(-1, *n_points)
    return StencilOperator(total[0], total[1:], offsets, operator.periodic)


def _product_shifts(
    offsets: list[Parity], coarsened: tuple[bool, ...]
) -> dict[tuple[Parity, Parity], list[tuple[int, tuple[Parity, Parity], Parity]]]:
    # For each parity of a fine point and each coarse cell that A P reaches from there: number of
    # the entry of A, the weight behind it, and in which coarse cell that neighbour lies.
    terms: dict[tuple[Parity, Parity], list] = {}
    for parity, (number, offset) in itertools.product(parities(coarsened), enumerate(offsets)):
        places = [
            divmod(p + o, 2) if c else (o, 0)
            for p, o, c in zip(parity, offset, coarsened, strict=True)
        ]
        ahead = tuple(cell for cell, _ in places)
        other = tuple(rest for _, rest in places)
        for corner in corners(other):
            shift = tuple(a + c for a, c in zip(ahead, corner, strict=True))
            terms.setdefault((parity, shift), []).append((number, (other, corner), ahead))
    return terms


def _window(
    arrays: Float[Array, "n padded"], number: Array, start: Array | np.int32, size: int
) -> Float[Array, " size"]:
    return jax.lax.dynamic_slice(arrays, (number, start), (1, size))[0]
