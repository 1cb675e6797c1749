"""Operator-dependent interpolation between a grid and the one with every second point.

Black-box multigrid (Dendy, 1982): a point between coarse ones takes the value that its own row of
the matrix gives it, with the couplings across the remaining axes lumped together. So interpolation
follows jumps of the coefficient, and never reaches through a wall. Points are told apart by the
set of axes along which their index is odd; with ``O`` that set and ``S`` the lumped row,

    u_i = -1 / S_0(i) * sum_{o != 0} S_o(i) u_{i+o},   o nonzero along axes of O only,

where ``u_{i+o}`` has fewer odd indices and is already known. Unrolled, each point has ``2^|O|``
weights, one for each corner of the coarse cell around it.
"""

import itertools
import math
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..numerics import StencilOperator, full_precision
from ..numerics._stencil import full_row, shifted
from ..numerics._unrolled_stencil import materialised, neighbour_values
from ._sums_of_products import with_sums_of_products

# Which axes are odd, or on which side a corner lies: one entry an axis.
Parity = tuple[int, ...]


class Interpolation(eqx.Module):
    """Interpolation from the coarse grid to the fine one, and its transpose.

    Parameters
    ----------
    weights
        For each parity of a fine point, and each corner it is interpolated from, the weights in
        the shape of the coarse grid. The order is that of `corner_pairs`.
    n_points
        Points of the fine grid along each axis.
    coarsened
        Along which axes every second point is left out.
    periodic
        Which axes wrap around.
    """

    weights: tuple[Float[Array, "..."], ...]
    n_points: tuple[int, ...] = eqx.field(static=True)
    coarsened: tuple[bool, ...] = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)

    def _weighted_pairs(self) -> Iterator[tuple[Array, Parity, Parity]]:
        for weight, pair in zip(self.weights, corner_pairs(self.coarsened), strict=True):
            yield weight, *pair

    def prolong(self, u: Float[Array, "*coarse"]) -> Float[Array, "*fine"]:
        """Return the fine values of a coarse function."""
        return materialised(self.prolonged(u))

    def restrict(self, r: Float[Array, "*fine"]) -> Float[Array, "*coarse"]:
        """Return the transpose of `prolong`, applied to a fine residual."""
        return materialised(self.restricted(r))

    def prolonged(self, u: Float[Array, "*coarse"]) -> Float[Array, "*fine"]:
        """Return `prolong` for a caller who keeps it in memory himself, see `materialised`."""
        every = corners((1,) * u.ndim)
        values = dict(zip(every, neighbour_values(u, every, self.periodic), strict=True))
        terms: dict[Parity, list[Array]] = {}
        for weight, parity, corner in self._weighted_pairs():
            terms.setdefault(parity, []).append(weight.reshape(-1) * values[corner])
        parts = {parity: sum_arrays(of).reshape(u.shape) for parity, of in terms.items()}
        return _interleave(parts, self.coarsened, self.n_points)

    def restricted(self, r: Float[Array, "*fine"]) -> Float[Array, "*coarse"]:
        """Return `restrict` for a caller who keeps it in memory himself."""
        parts = _split(r, self.coarsened)
        # What all fine points give to one corner moves there together.
        gifts: dict[Parity, list[Array]] = {}
        for weight, parity, corner in self._weighted_pairs():
            gifts.setdefault(corner, []).append(weight * parts[parity])
        terms = []
        for corner, of in gifts.items():
            back = tuple(-c for c in corner)
            terms += neighbour_values(sum_arrays(of), [back], self.periodic)
        return sum_arrays(terms).reshape(self.weights[0].shape)


def operator_dependent_interpolation(
    operator: StencilOperator,
    coarsened: tuple[bool, ...],
    parts: dict[Parity, Float[Array, "row cells"]] | None = None,
) -> Interpolation:
    """Return the interpolation that the rows of an operator ask for.

    Parameters
    ----------
    operator
        The operator on the fine grid. A fine point without any coupling to a coarse one, such as
        a solid cell, gets weights of zero.
    coarsened
        Along which axes every second point is left out.
    parts
        `rows_by_parity` of the operator, if they are at hand.
    """
    n_points = coarse_points(operator.n_points, coarsened)
    offsets = row_offsets(operator)
    if parts is None:
        parts = rows_by_parity(operator, coarsened)
    owners = _owners(parts)
    attached = _attached(parts, offsets, owners)
    shares, totals = _shares(parts, offsets, owners)
    slots = {pair: slot for slot, pair in enumerate(corner_pairs(coarsened))}
    near = (0,) * len(coarsened)
    known = owners[near][None]
    for n_odd in range(1, 1 + sum(coarsened)):
        those = [parity for parity in parities(coarsened) if sum(parity) == n_odd]
        terms, first = [], 0
        for parity in those:
            for target, number, source, ahead in _terms(parity, shares[parity][0], slots):
                terms.append((target, first + number, source, ahead))
            first += len(shares[parity][0])
        stacked = jnp.concatenate([shares[parity][1] for parity in those])
        n_fresh = len(those) * 2**n_odd
        fresh = _weighted_sums(known, n_fresh, stacked, terms, n_points, operator.periodic)
        for parity, own in zip(those, jnp.split(fresh, len(those)), strict=True):
            # Neighbours without weights, or beside a Dirichlet face, give less than their share.
            # The others make up for it: constants are kept. Where there are no others, the point
            # takes the value of its own coarse cell.
            found = own.sum(axis=0)
            free = owners[parity] == 0
            some = free & (found > 1e-3 * totals[parity])
            one = jnp.ones_like(found)
            factor = jnp.where(some, totals[parity] / jnp.where(some, found, one), one)
            alone = jnp.where(
                free & ~some, attached[parity] * totals[parity], jnp.zeros_like(found)
            )
            # The near corner comes first.
            nearest = own[0] * factor + alone + owners[parity]
            known = jnp.concatenate([known, nearest[None], own[1:] * factor[None]])
    in_order = tuple(known.reshape(-1, *n_points))
    return Interpolation(in_order, operator.n_points, coarsened, operator.periodic)


def _owners(parts: dict[Parity, Float[Array, "row cells"]]) -> dict[Parity, Float[Array, " cells"]]:
    # Which point of each cell of the coarse grid stands for it: the even one, or where that is
    # solid another one. Otherwise a channel between two even rows would have no coarse points.
    taken = jnp.zeros_like(next(iter(parts.values()))[0])
    owners = {}
    for parity, entries in parts.items():
        owner = (entries[0] > 0).astype(taken.dtype) * (1 - taken)
        taken = taken + owner
        owners[parity] = owner
    return owners


def _attached(
    parts: dict[Parity, Float[Array, "row cells"]],
    offsets: list[Parity],
    owners: dict[Parity, Float[Array, " cells"]],
) -> dict[Parity, Float[Array, " cells"]]:
    # Which points are coupled to the owner of their coarse cell by a path inside that cell: 1 or
    # 0. Owners themselves need no weights but their own.
    every = list(parts)
    nothing = len(every) * len(offsets)
    # In which row of all entries the coupling between two points of a cell stands.
    where = np.full((len(every), len(every)), nothing)
    for here, parity in enumerate(every):
        for number, offset in enumerate(offsets):
            other = tuple(p + o for p, o in zip(parity, offset, strict=True))
            if other in parts:
                where[here, every.index(other)] = here * len(offsets) + number
    own = jnp.stack([owners[parity] for parity in every]) > 0
    coupled = jnp.concatenate([*(part != 0 for part in parts.values()), jnp.zeros_like(own[:1])])
    ways = coupled[where]

    def one_step_further(_, reached):
        return reached | jnp.any(ways & reached[None], axis=1)

    reached = jax.lax.fori_loop(0, len(every[0]), one_step_further, own) & ~own
    dtype = next(iter(parts.values())).dtype
    return {parity: value.astype(dtype) for parity, value in zip(every, reached, strict=True)}


@full_precision
def _shares(
    parts: dict[Parity, Float[Array, "row cells"]],
    offsets: list[Parity],
    owners: dict[Parity, Float[Array, " cells"]],
) -> tuple[dict[Parity, tuple[list[Parity], Float[Array, "shares cells"]]], dict[Parity, Array]]:
    # For each parity its offsets along odd axes, with -S_o / S_0 for each of them: what a point
    # takes from there. And the sum of these; for a point that has lumped neighbours only, what
    # they all would give.
    shares, totals = {}, {}
    for parity, entries in parts.items():
        if not any(parity):
            continue
        alike: dict[Parity, list[int]] = {}
        for number, offset in enumerate(offsets):
            along = tuple(o if p else 0 for o, p in zip(offset, parity, strict=True))
            alike.setdefault(along, []).append(number)
        lumping = np.zeros((len(alike), len(offsets)), entries.dtype)
        for line, numbers in zip(lumping, alike.values(), strict=True):
            line[numbers] = 1
        # The row begins with the entry on the diagonal: so do the lumped ones.
        lumped = jnp.asarray(lumping) @ entries
        centre, diagonal = lumped[0], entries[0]
        alone = centre <= 1e-4 * diagonal
        safe = ~alone & (owners[parity] == 0)
        divisor = jnp.where(safe, centre, jnp.ones_like(centre))
        share = jnp.where(safe[None], -lumped[1:] / divisor[None], jnp.zeros_like(lumped[1:]))
        shares[parity] = list(alike)[1:], share
        active = jnp.where(diagonal > 0, diagonal, jnp.ones_like(diagonal))
        every = jnp.clip(-jnp.sum(entries[1:], axis=0) / active, 0, 1)
        totals[parity] = jnp.where(alone, every, jnp.sum(share, axis=0))
    return shares, totals


def _terms(
    parity: Parity, offsets: list[Parity], slots: dict[tuple[Parity, Parity], int]
) -> Iterator[tuple[int, int, int, Parity]]:
    # Each weight is a sum over neighbours with fewer odd indices, whose weights are known: slot of
    # the weight, number of the share, slot of the neighbour's weight, and how far ahead it is.
    for number, offset in enumerate(offsets):
        known = tuple(p if o == 0 else 0 for p, o in zip(parity, offset, strict=True))
        ahead = tuple(max(o, 0) for o in offset)
        for behind in corners(known):
            beside = zip(behind, offset, ahead, strict=True)
            corner = tuple(b if o == 0 else a for b, o, a in beside)
            yield slots[parity, corner], number, slots[known, behind], ahead


def _weighted_sums(
    known: Float[Array, "known cells"],
    n_fresh: int,
    shares: Float[Array, "shares cells"],
    terms: list[tuple[int, int, int, Parity]],
    n_points: tuple[int, ...],
    periodic: tuple[bool, ...],
) -> Float[Array, "fresh cells"]:
    # The weights in the slots that follow those which are known.
    n_cells = known.shape[1]
    fresh = jnp.zeros((n_fresh, n_cells), known.dtype)
    if any(periodic):
        # A shift in memory does not wrap around.
        for target, share, source, ahead in terms:
            value = shifted(known[source].reshape(n_points), ahead, periodic)
            fresh = fresh.at[target - len(known)].add(shares[share] * value.reshape(-1))
        return fresh
    strides = [math.prod(n_points[axis + 1 :]) for axis in range(len(n_points))]
    table = [
        (
            target - len(known),
            share,
            0,
            source,
            sum(o * s for o, s in zip(ahead, strides, strict=True)),
        )
        for target, share, source, ahead in terms
    ]
    # Beyond the end there is nothing to see: the share that multiplies it is 0.
    padded = jnp.pad(known, [(0, 0), (0, sum(strides))])
    return with_sums_of_products(fresh, table, shares, padded, n_cells)


def row_offsets(matrix: StencilOperator) -> list[Parity]:
    """Return the offsets of the entries of a row, the diagonal first."""
    opposite = [tuple(-o for o in offset) for offset in matrix.offsets]
    pairs = zip(matrix.offsets, opposite, strict=True)
    return [(0,) * len(matrix.n_points), *itertools.chain.from_iterable(pairs)]


def rows_by_parity(
    matrix: StencilOperator, coarsened: tuple[bool, ...]
) -> dict[Parity, Float[Array, "row cells"]]:
    """Return the entries ``A[i, i + o]`` for the fine points of each parity, flat.

    Parameters
    ----------
    matrix
        The operator on the fine grid.
    coarsened
        Along which axes every second point is left out.
    """
    row = full_row(matrix)
    by_parity: dict[Parity, list[Array]] = {parity: [] for parity in parities(coarsened)}
    for offset in row_offsets(matrix):
        for parity, part in _split(row[offset], coarsened).items():
            by_parity[parity].append(part.reshape(-1))
    return {parity: materialised(jnp.stack(part)) for parity, part in by_parity.items()}


def coarse_points(n_points: tuple[int, ...], coarsened: tuple[bool, ...]) -> tuple[int, ...]:
    """Return the size of the coarse grid."""
    return tuple((n + 1) // 2 if c else n for n, c in zip(n_points, coarsened, strict=True))


def parities(coarsened: tuple[bool, ...]) -> list[Parity]:
    """Return every way in which indices can be odd, those with fewer odd axes first."""
    every = itertools.product(*((0, 1) if c else (0,) for c in coarsened))
    return sorted(every, key=lambda parity: (sum(parity), parity))


def corners(parity: Parity) -> list[Parity]:
    """Return the corners that a point is interpolated from: 0 for the near side, 1 for the far."""
    return list(itertools.product(*((0, 1) if p else (0,) for p in parity)))


def corner_pairs(coarsened: tuple[bool, ...]) -> list[tuple[Parity, Parity]]:
    """Return parity and corner of each array of weights, in the order in which they are stored."""
    return [(parity, corner) for parity in parities(coarsened) for corner in corners(parity)]


def sum_arrays(arrays: Iterator[Array] | list[Array]) -> Array:
    """Return the sum of arrays of one shape; unlike `sum`, it starts from no integer."""
    first, *rest = arrays
    for array in rest:
        first = first + array
    return first


def _split(u: Array, coarsened: tuple[bool, ...]) -> dict[Parity, Array]:
    # Each part in the shape of the coarse grid; where the last odd point is missing there is a 0.
    u = jnp.pad(u, [(0, n % 2 if c else 0) for n, c in zip(u.shape, coarsened, strict=True)])
    parts = {}
    for parity in parities(coarsened):
        along = zip(parity, coarsened, strict=True)
        parts[parity] = u[tuple(slice(p, None, 2) if c else slice(None) for p, c in along)]
    return parts


def _interleave(
    parts: dict[Parity, Array], coarsened: tuple[bool, ...], n_points: tuple[int, ...]
) -> Array:
    for axis in reversed(range(len(coarsened))):
        if not coarsened[axis]:
            continue
        halves: dict[Parity, list[Array]] = {}
        for parity in sorted(parts):
            rest = (*parity[:axis], 0, *parity[axis + 1 :])
            halves.setdefault(rest, []).append(parts[parity])
        parts = {rest: _zip_axis(pair, axis, n_points[axis]) for rest, pair in halves.items()}
    (result,) = parts.values()
    return result


def _zip_axis(pair: list[Array], axis: int, n: int) -> Array:
    even, odd = pair
    shape = list(even.shape)
    shape[axis] *= 2
    zipped = jnp.stack([even, odd], axis + 1).reshape(shape)
    return jax.lax.slice_in_dim(zipped, 0, n, axis=axis)
