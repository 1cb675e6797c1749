"""Levels of a multigrid cycle whose grids are parted over devices.

Each device has the operator on its block and one plane around it, and works on that as if it were
alone; before each product it fetches the planes of its neighbours. Couplings and interpolation of
coarser levels are made in the same way, from blocks with more planes around them. A level of few
points is whole on every device: all do the same there, which takes less time than the messages.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..numerics import StencilOperator, UnrolledStencil
from ..numerics._unrolled_stencil import materialised
from ._galerkin import galerkin_operator
from ._galerkin_probing import half_offsets
from ._grid_blocks import GridBlocks
from ._interpolation import Interpolation, operator_dependent_interpolation, rows_by_parity

# A level of fewer points is whole on every device.
LEAST_POINTS = 4096
# Coarse cells around a block that its coarse operator depends on: interpolation at a cell looks
# one cell ahead, the product P^T A P at three cells behind and two ahead.
_CELLS_AROUND = 3


class PartedStencil(eqx.Module):
    """The action of a `StencilOperator` on a grid that is parted over devices.

    Parameters
    ----------
    operator
        The operator.
    grid
        How the grid is parted.
    """

    blocks: UnrolledStencil
    is_number: Bool[Array, ""]
    grid: GridBlocks = eqx.field(static=True)

    def __init__(self, operator: StencilOperator, grid: GridBlocks):
        ones = (1,) * len(grid.counts)
        around = grid.surrounded
        diagonal = around(grid.cut(operator.diagonal), ones, ones, ones)
        couplings = [around(grid.cut(c), ones, ones, ones) for c in operator.couplings]

        def unrolled(diagonal: Array, couplings: list[Array]) -> UnrolledStencil:
            return UnrolledStencil(_local_operator(operator, grid, diagonal, couplings))

        self.blocks = grid.on_each(unrolled)(diagonal, couplings)
        self.is_number = is_number(operator)
        self.grid = grid

    def mv(self, u: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """Return ``A u``, in the dtype of ``u``; it exchanges one plane with each neighbour.

        Parameters
        ----------
        u
            Shape ``(*space)``.
        """
        grid, ones = self.grid, (1,) * len(self.grid.counts)
        # Kept in memory: otherwise each product looks up which of the parts its factor is in.
        around = materialised(grid.surrounded(grid.cut(u), ones, ones, ones), self.is_number)
        product = grid.on_each(UnrolledStencil.product)(self.blocks, around)
        return materialised(grid.joined(grid.without(product, ones)), self.is_number)


class PartedInterpolation(eqx.Module):
    """Interpolation between two grids that are parted alike, and its transpose.

    Parameters
    ----------
    blocks
        The interpolation on each block, with a coarse cell more at both ends of each parted axis.
    is_number
        A condition that is true, but not known to the compiler.
    grid
        How the fine grid is parted; the blocks have even sizes along axes that are coarsened.
    coarse_is_whole
        Whether the coarse grid is whole on every device, not parted.
    """

    blocks: Interpolation
    is_number: Bool[Array, ""]
    grid: GridBlocks = eqx.field(static=True)
    coarse_is_whole: bool = eqx.field(static=True)

    def prolong(self, u: Float[Array, "*coarse"]) -> Float[Array, "*fine"]:
        """Return the fine values of a coarse function."""
        coarse = self.grid.coarsened(self.blocks.coarsened)
        ones = (1,) * len(self.grid.counts)
        ahead = _only(self._factors, 2)
        # Otherwise XLA parts the levels below as well, whose arrays have another layout.
        u = self.grid.whole(u) if self.coarse_is_whole else u
        around = coarse.surrounded(coarse.cut(u), ones, (0,) * len(ones), ahead)
        fine = self.grid.on_each(Interpolation.prolonged)(self.blocks, around)
        fine = self.grid.joined(self.grid.without(fine, self._factors))
        return materialised(fine, self.is_number)

    def restrict(self, r: Float[Array, "*fine"]) -> Float[Array, "*coarse"]:
        """Return the transpose of `prolong`, applied to a fine residual."""
        ones = (1,) * len(self.grid.counts)
        behind = _only(self._factors, 2)
        around = self.grid.surrounded(self.grid.cut(r), self._factors, behind, (0,) * len(ones))
        coarse = self.grid.on_each(Interpolation.restricted)(self.blocks, around)
        grid = self.grid.coarsened(self.blocks.coarsened)
        result = materialised(grid.joined(grid.without(coarse, ones)), self.is_number)
        return grid.whole(result) if self.coarse_is_whole else result

    @property
    def _factors(self) -> tuple[int, ...]:
        # Fine planes of a coarse one.
        return _factors(self.grid, self.blocks.coarsened)


class GatheredInterpolation(eqx.Module):
    """Interpolation from a grid that is whole on every device to one that is parted.

    For blocks that are odd or thin: the fine residual is put together first.

    Parameters
    ----------
    interpolation
        That of the whole grid.
    grid
        How the fine grid is parted.
    """

    interpolation: Interpolation
    grid: GridBlocks = eqx.field(static=True)

    def prolong(self, u: Float[Array, "*coarse"]) -> Float[Array, "*fine"]:
        """Return the fine values of a coarse function."""
        return self.grid.placed(self.grid.whole(self.interpolation.prolong(u)))

    def restrict(self, r: Float[Array, "*fine"]) -> Float[Array, "*coarse"]:
        """Return the transpose of `prolong`, applied to a fine residual."""
        return self.interpolation.restrict(self.grid.whole(r))


def coarsened_in_blocks(
    operator: StencilOperator, coarsened: tuple[bool, ...], grid: GridBlocks
) -> tuple[PartedInterpolation | GatheredInterpolation, StencilOperator, GridBlocks | None]:
    """Return interpolation and operator of the next level, and how that lies on the devices.

    Parameters
    ----------
    operator
        The operator on the fine grid.
    coarsened
        Along which axes every second point is left out.
    grid
        How the fine grid is parted.

    Returns
    -------
    interpolation, coarse operator, coarse grid
        The latter None where the next level is whole on every device.
    """
    factors = _factors(grid, coarsened)
    width = tuple(_CELLS_AROUND * f for f in factors)
    fits = all(m % f == 0 and m >= w for m, f, w in zip(grid.block, factors, width, strict=True))
    if not fits:
        whole: StencilOperator = jax.tree.map(grid.whole, operator)
        parts = rows_by_parity(whole, coarsened)
        interpolation = operator_dependent_interpolation(whole, coarsened, parts)
        coarse = galerkin_operator(whole, interpolation, parts)
        return GatheredInterpolation(interpolation, grid), coarse, None
    around = [
        grid.surrounded(grid.cut(entries), width, width, width)
        for entries in (operator.diagonal, *operator.couplings)
    ]

    def coarsen(diagonal: Array, couplings: list[Array]) -> Any:
        local = _local_operator(operator, grid, diagonal, couplings)
        parts = rows_by_parity(local, coarsened)
        interpolation = operator_dependent_interpolation(local, coarsened, parts)
        coarse = galerkin_operator(local, interpolation, parts)
        return interpolation.weights, coarse.diagonal, tuple(coarse.couplings)

    weights, diagonal, couplings = grid.on_each(coarsen)(around[0], around[1:])
    next_grid = grid.coarsened(coarsened)
    n_axes = len(grid.n_points)
    # As `galerkin_operator` has it: on an axis of two points both neighbours are one cell.
    periodic = tuple(p and n > 2 for p, n in zip(grid.periodic, next_grid.n_points, strict=True))
    next_grid = GridBlocks(grid.mesh, next_grid.n_points, periodic)
    outer = (_CELLS_AROUND,) * len(factors)

    def field(blocks: Array) -> Array:
        return next_grid.joined(next_grid.without(blocks, outer))

    coarse = StencilOperator(
        field(diagonal),
        jnp.stack([field(c) for c in couplings]),
        half_offsets(n_axes),
        periodic,
    )
    is_whole = math.prod(next_grid.n_points) < LEAST_POINTS
    # One coarse cell around is what applying it takes.
    weights = tuple(next_grid.without(w, (_CELLS_AROUND - 1,) * len(factors)) for w in weights)
    n_local = [f * (m // f + 2) for m, f in zip(grid.block, factors, strict=True)]
    blocks = Interpolation(
        weights,
        (*n_local, *grid.n_points[len(n_local) :]),
        coarsened,
        grid.locally_periodic,
    )
    interpolation = PartedInterpolation(blocks, is_number(operator), grid, is_whole)
    if is_whole:
        return interpolation, jax.tree.map(grid.whole, coarse), None
    return interpolation, coarse, next_grid


def is_number(operator: StencilOperator) -> Bool[Array, ""]:
    """Return whether an entry is a number: a condition that XLA does not know beforehand.

    `materialised` needs one, and an entry of the array itself is on one device only.
    """
    first = operator.diagonal[(0,) * operator.diagonal.ndim]
    return first == first


def _local_operator(
    operator: StencilOperator, grid: GridBlocks, diagonal: Array, couplings: list[Array]
) -> StencilOperator:
    # At its edge a block has couplings that lead out of it, so the outermost rows mean nothing.
    return StencilOperator(diagonal, jnp.stack(couplings), operator.offsets, grid.locally_periodic)


def _factors(grid: GridBlocks, coarsened: tuple[bool, ...]) -> tuple[int, ...]:
    return tuple(2 if c else 1 for c in coarsened[: len(grid.counts)])


def _only(factors: tuple[int, ...], value: int) -> tuple[int, ...]:
    # One plane is fetched along the axes that are coarsened.
    return tuple(int(f == value) for f in factors)
