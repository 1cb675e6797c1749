"""The coarse operator ``P^T A P``, summed term by term.

With ``i`` a fine point of parity ``O`` in the coarse cell ``j``, both factors of the product reach
neighbouring coarse cells only:

    (A P)[O, s](j)  =  sum_o A(i, i + o) P(i + o, j + s),
    A_c[d](J)       =  sum_{O, c} P[O, c](J - c) (A P)[O, d + c](J - c).

Each sum is a list of terms, and each term a product of two arrays on the coarse grid, shifted. In
three dimensions that takes a tenth of the time of applying ``P^T A P`` to 27 vectors.
"""

import itertools
import math
from collections.abc import Iterator

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..numerics import StencilOperator
from ._galerkin_probing import half_offsets, probed_galerkin_operator
from ._interpolation import (
    Interpolation,
    Parity,
    coarse_points,
    corner_pairs,
    corners,
    parities,
    row_offsets,
    rows_by_parity,
)
from ._sums_of_products import Term, with_sums_of_products


def galerkin_operator(
    operator: StencilOperator,
    interpolation: Interpolation,
    parts: dict[Parity, Float[Array, "row cells"]] | None = None,
) -> StencilOperator:
    """Return ``P^T A P`` on the coarse grid, with couplings to all ``3^d - 1`` neighbours.

    Parameters
    ----------
    operator
        The fine operator ``A``.
    interpolation
        ``P``, with its transpose as restriction.
    parts
        `rows_by_parity` of the operator, if they are at hand.
    """
    if any(operator.periodic):
        # A shift in memory does not wrap around.
        return probed_galerkin_operator(operator, interpolation)
    coarsened = interpolation.coarsened
    n_points = coarse_points(operator.n_points, coarsened)
    n_cells = math.prod(n_points)
    strides = [math.prod(n_points[axis + 1 :]) for axis in range(len(n_points))]
    reach = sum(strides)
    offsets = row_offsets(operator)
    if parts is None:
        parts = rows_by_parity(operator, coarsened)
    slots = {pair: slot for slot, pair in enumerate(corner_pairs(coarsened))}
    padded = jnp.pad(
        jnp.stack(interpolation.weights).reshape(-1, n_cells), [(0, 0), (reach, reach)]
    )

    def step_of(shift: Parity) -> int:
        return reach + sum(k * stride for k, stride in zip(shift, strides, strict=True))

    # The entries of each parity in turn, one row for each offset.
    stacked = jnp.concatenate(list(parts.values()))
    first_row = {parity: k * len(offsets) for k, parity in enumerate(parts)}
    products = _product_shifts(offsets, coarsened)
    places = {name: place for place, name in enumerate(products)}
    product = with_sums_of_products(
        jnp.zeros((len(products), n_cells + 2 * reach), operator.dtype),
        [
            (place, first_row[parity] + number, 0, slots[pair], step_of(ahead))
            for place, ((parity, _), terms) in enumerate(products.items())
            for number, pair, ahead in terms
        ],
        stacked,
        padded,
        n_cells,
        reach,
    )

    def terms_of(number: int, offset: Parity) -> Iterator[Term]:
        for (parity, corner), slot in slots.items():
            shift = tuple(o + c for o, c in zip(offset, corner, strict=True))
            if (parity, shift) in places:
                step = step_of(tuple(-c for c in corner))
                yield number, slot, step, places[parity, shift], step

    halves = half_offsets(len(n_points))
    wanted = [(0,) * len(n_points), *halves]
    total = with_sums_of_products(
        jnp.zeros((len(wanted), n_cells), operator.dtype),
        [term for number, offset in enumerate(wanted) for term in terms_of(number, offset)],
        padded,
        product,
        n_cells,
    )
    total = total.reshape(-1, *n_points)
    return StencilOperator(total[0], total[1:], halves, operator.periodic)


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
