"""A grid parted into blocks, one for each device of a mesh.

A field ``(*space)`` is looked at as ``(*blocks, *block)``, with the axes of the mesh along the
first ones. What a device needs of its neighbours is put around its block by shifts along the axes
of blocks, which XLA turns into one collective permute each; what follows is `jax.vmap` over the
blocks, of the code of one device, and exchanges nothing.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from ..core import check_mesh
from ..numerics import StencilOperator


@dataclasses.dataclass(frozen=True)
class GridBlocks:
    """How a grid lies on a mesh: the k-th axis of the mesh parts the k-th axis of the grid.

    Parameters
    ----------
    mesh
        The devices, see `grid_blocks`.
    n_points
        Points along each axis of the grid.
    periodic
        Which axes wrap around.
    """

    mesh: Mesh
    n_points: tuple[int, ...]
    periodic: tuple[bool, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks along each parted axis."""
        return self.mesh.devices.shape

    @property
    def block(self) -> tuple[int, ...]:
        """Points of a block along each parted axis."""
        return tuple(n // k for n, k in zip(self.n_points, self.counts, strict=False))

    @property
    def locally_periodic(self) -> tuple[bool, ...]:
        """Which axes wrap around within a block: a parted one does so between blocks."""
        return tuple(p and axis >= len(self.counts) for axis, p in enumerate(self.periodic))

    def coarsened(self, coarsened: Sequence[bool]) -> "GridBlocks":
        """Return how the grid lies that has every second point along some axes."""
        n_points = tuple(
            -(-n // 2) if c else n for n, c in zip(self.n_points, coarsened, strict=True)
        )
        return dataclasses.replace(self, n_points=n_points)

    def placed(self, u: Array) -> Array:
        """Return a field ``(..., *space)`` with each block on its device."""
        before = (None,) * (u.ndim - len(self.n_points))
        return _put(u, NamedSharding(self.mesh, PartitionSpec(*before, *self.mesh.axis_names)))

    def whole(self, u: Array) -> Array:
        """Return an array as a whole on every device."""
        return _put(u, NamedSharding(self.mesh, PartitionSpec()))

    def cut(self, u: Array) -> Array:
        """Return the blocks ``(*blocks, *block)`` of a field ``(*space)``."""
        n = len(self.counts)
        pairs = [k for pair in zip(self.counts, self.block, strict=True) for k in pair]
        blocks = self.placed(u).reshape(*pairs, *u.shape[n:])
        blocks = jnp.moveaxis(blocks, range(0, 2 * n, 2), range(n))
        return _put(blocks, NamedSharding(self.mesh, PartitionSpec(*self.mesh.axis_names)))

    def joined(self, blocks: Array) -> Array:
        """Return the field of its blocks, the inverse of `cut`."""
        n = len(self.counts)
        u = jnp.moveaxis(blocks, range(n), range(0, 2 * n, 2))
        shape = [k * m for k, m in zip(self.counts, blocks.shape[n : 2 * n], strict=True)]
        return self.placed(u.reshape(*shape, *blocks.shape[2 * n :]))

    def surrounded(
        self, blocks: Array, width: Sequence[int], low: Sequence[int], high: Sequence[int]
    ) -> Array:
        """Return blocks with planes of their neighbours around them.

        Parameters
        ----------
        blocks
            Shape ``(*blocks, *block)``.
        width
            How many planes to put at each end of each parted axis.
        low, high
            How many of them, the ones nearest to the block, are fetched from the block before and
            behind; the others are 0. Outside the grid all are.
        """
        n = len(self.counts)
        for axis, (w, before, behind) in enumerate(zip(width, low, high, strict=True)):
            along, size = n + axis, blocks.shape[n + axis]
            parts = [blocks]
            for end, fetched in ((0, before), (1, behind)):
                first = size - fetched if end == 0 else 0
                planes = jax.lax.slice_in_dim(blocks, first, first + fetched, axis=along)
                if fetched:
                    planes = self._from_neighbour(planes, axis, 1 if end == 0 else -1)
                parts.insert(2 * end, planes)
            blocks = jnp.concatenate(parts, axis=along)
            if w > min(before, behind):
                padding = [(0, 0)] * blocks.ndim
                padding[along] = (w - before, w - behind)
                blocks = jnp.pad(blocks, padding)
        return blocks

    def without(self, blocks: Array, width: Sequence[int]) -> Array:
        """Return blocks without their outer planes, ``width`` of them at each end."""
        for axis, w in enumerate(width):
            along = len(self.counts) + axis
            blocks = jax.lax.slice_in_dim(blocks, w, blocks.shape[along] - w, axis=along)
        return blocks

    def on_each(self, function: Callable) -> Callable:
        """Return a function of one block as a function of all, whose arguments are blocks."""
        for _ in self.counts:
            function = jax.vmap(function)
        return function

    def _from_neighbour(self, planes: Array, axis: int, distance: int) -> Array:
        if self.periodic[axis]:
            return jnp.roll(planes, distance, axis)
        padding = [(0, 0, 0)] * planes.ndim
        padding[axis] = (distance, -distance, 0)
        return jax.lax.pad(planes, jnp.zeros((), planes.dtype), padding)


def grid_blocks(mesh: Mesh, n_points: tuple[int, ...], periodic: tuple[bool, ...]) -> GridBlocks:
    """Return how a grid is parted over a mesh.

    Parameters
    ----------
    mesh
        Its first axis parts the first axis of the grid, a second one the second, and so on,
        whatever their names.
    n_points
        Points along each axis of the grid.
    periodic
        Which axes wrap around.

    Raises
    ------
    TypeError
        If ``mesh`` is none.
    ValueError
        If the mesh has more axes than the grid, or does not divide it.
    """
    mesh = check_mesh(mesh)
    if len(mesh.axis_names) > len(n_points):
        raise ValueError(
            f"`mesh` has the axes {mesh.axis_names}, one for each axis of the grid, but the grid "
            f"of {n_points} has {len(n_points)} axes: take a mesh with fewer."
        )
    for axis, (name, k) in enumerate(mesh.shape.items()):
        if n_points[axis] % k:
            raise ValueError(
                f"axis {axis} of the grid has {n_points[axis]} points, which the {k} devices of "
                f"the mesh axis {name!r} cannot share evenly: take a multiple of {k} points, or a "
                f"number of devices that divides {n_points[axis]}."
            )
    return GridBlocks(mesh, tuple(n_points), tuple(periodic))


def mesh_of_solve(mesh: Mesh | None, operator: Any, preconditioner: Any) -> Mesh | None:
    """Return the mesh that a solver works on: the one given, or that of its preconditioner.

    Parameters
    ----------
    mesh
        As given by the user.
    operator
        The operator. If its grid is unknown, its vectors are not parted; that of a parted
        preconditioner parts them by itself.
    preconditioner
        Anything; with an attribute ``mesh`` it may be parted.

    Raises
    ------
    ValueError
        If a preconditioner that can be parted is on another mesh, or on none.
    TypeError
        If a mesh is given and the operator has no grid.
    """
    on_grid = isinstance(operator, StencilOperator)
    theirs = getattr(preconditioner, "mesh", None)
    if mesh is None:
        return theirs if on_grid else None
    if not on_grid:
        raise TypeError(
            "`mesh` parts the grid of a `StencilOperator`; got an operator of the type "
            f"{type(operator).__name__}. Make one of a matrix by `StencilOperator.from_scipy`, or "
            "pass `cg` the preconditioner `M=aspreconditioner(A, mesh=mesh)` of the same matrix."
        )
    if hasattr(preconditioner, "mesh") and mesh != theirs:
        said = "has none" if theirs is None else f"has {dict(theirs.shape)}"
        raise ValueError(
            f"the preconditioner must be on the mesh of the solve, {dict(mesh.shape)}, and {said}: "
            "make it with `mesh=`; then the solve needs no `mesh` of its own."
        )
    return mesh


def _put(u: Array, where: NamedSharding) -> Array:
    if isinstance(u, Tracer):
        return jax.lax.with_sharding_constraint(u, where)
    return jax.device_put(u, where)
