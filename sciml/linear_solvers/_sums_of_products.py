"""Many sums of products of shifted arrays, as short loops over tables of their terms.

XLA compiles a loop over a table in a tenth of the time of the terms one by one, and a sum of one
row at a time stays in the cache. Rows whose sums have about as many terms share a loop, in which
all terms of a row are fused: each row is written once.
"""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Row of the left factor and where to begin in it, row of the right factor and where to begin.
Term = tuple[int, int, int, int]


def with_sums_of_products(
    total: Float[Array, "rows padded"],
    sums: Iterable[tuple[int, list[Term]]],
    left: Float[Array, "left_rows _"],
    right: Float[Array, "right_rows _"],
    size: int,
    start: int = 0,
) -> Float[Array, "rows padded"]:
    """Return ``total`` with sums of products in some of its rows.

    Row ``row`` becomes the sum over its terms of ``left[i, a : a + size] * right[j, b : b + size]``
    in the entries from ``start`` on.

    Parameters
    ----------
    total
        Where the sums go.
    sums
        For each row its terms ``(i, a, j, b)``.
    left, right
        The factors.
    size
        Length of a row.
    start
        Where it begins in ``total``.
    """
    # A row of zeros completes sums that have fewer terms than others in their loop.
    left = jnp.concatenate([left, jnp.zeros_like(left[:1])])
    nothing = (len(left) - 1, 0, 0, 0)
    loops: dict[int, list[tuple[int, list[Term]]]] = {}
    for row, terms in sums:
        loops.setdefault(math.ceil(math.log2(max(len(terms), 1))), []).append((row, terms))

    def add_row(total, entry):
        row, terms = entry
        products = [_window(left, i, a, size) * _window(right, j, b, size) for i, a, j, b in terms]
        value = sum(products[1:], products[0])
        return jax.lax.dynamic_update_slice(total, value[None], (row, np.int32(start))), None

    for alike in loops.values():
        longest = max(1, *(len(terms) for _, terms in alike))
        rows = np.array([row for row, _ in alike], np.int32)
        table = np.array(
            [[*terms, *[nothing] * (longest - len(terms))] for _, terms in alike], np.int32
        )
        total, _ = jax.lax.scan(add_row, total, (rows, table))
    return total


def _window(arrays: Array, number: Array, start: Array, size: int) -> Float[Array, " size"]:
    return jax.lax.dynamic_slice(arrays, (number, start), (1, size))[0]
