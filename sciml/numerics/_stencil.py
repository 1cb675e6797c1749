"""Symmetric operators on a structured grid, stored as one array of couplings per neighbour.

    (A u)_i = d_i u_i + sum_o [ c_o(i) u_{i+o} + c_o(i-o) u_{i-o} ]

Only one offset ``o`` of each pair ``+o, -o`` is stored, so the matrix is symmetric by construction.
The five-point stencil has the offsets ``(1, 0)`` and ``(0, 1)``. Cells that take no part (solid
ones) have ``d_i = 0`` and no couplings.
"""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from ..core import check_finite, check_flags, check_floating


class StencilOperator(eqx.Module):
    """A symmetric matrix on a grid, applied without assembling it.

    Parameters
    ----------
    diagonal
        Shape ``(*space)``; 0 in cells that take no part.
    couplings
        Shape ``(n_offsets, *space)``: ``couplings[k][i] = A[i, i + offsets[k]]``. It must be 0
        where that neighbour lies outside the grid or takes no part.
    offsets
        One tuple of -1, 0, 1 for each coupling; of a pair ``+o, -o`` only one is given.
    periodic
        Which axes wrap around; none by default.

    Raises
    ------
    ValueError
        If shapes do not match, or an offset is zero, repeated, or reaches beyond a neighbour.

    Examples
    --------
    The second difference on four points with walls held at zero:

    >>> import jax.numpy as jnp
    >>> off = jnp.array([[-1.0, -1.0, -1.0, 0.0]])
    >>> laplacian = StencilOperator(jnp.full(4, 2.0), off, offsets=((1,),))
    >>> laplacian.mv(jnp.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [0.0, 0.0, 0.0, 5.0]
    """

    diagonal: Float[Array, "*space"]
    couplings: Float[Array, "n_offsets *space"]
    offsets: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)

    def __init__(
        self,
        diagonal: Float[Array, "*space"],
        couplings: Float[Array, "n_offsets *space"],
        offsets: Sequence[Sequence[int]],
        periodic: Sequence[bool] | None = None,
    ):
        check_floating("diagonal", diagonal)
        check_floating("couplings", couplings)
        n_axes = diagonal.ndim
        self.offsets = _checked_offsets(offsets, n_axes)
        if couplings.shape != (len(self.offsets), *diagonal.shape):
            raise ValueError(
                f"`couplings` must have shape (n_offsets, *space) = "
                f"{(len(self.offsets), *diagonal.shape)}, got {couplings.shape}."
            )
        if couplings.dtype != diagonal.dtype:
            raise ValueError(
                f"`diagonal` and `couplings` must have one dtype, got {diagonal.dtype} and "
                f"{couplings.dtype}."
            )
        periodic = (False,) * n_axes if periodic is None else periodic
        self.periodic = check_flags("periodic", periodic, n_axes)
        self.diagonal = diagonal
        self.couplings = couplings

    @property
    def n_points(self) -> tuple[int, ...]:
        """Points along each axis."""
        return self.diagonal.shape

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the entries."""
        return self.diagonal.dtype

    @property
    def active(self) -> Bool[Array, "*space"]:
        """Which cells take part."""
        return self.diagonal > 0

    def mv(self, u: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """Return ``A u``.

        Parameters
        ----------
        u
            Shape ``(*space)``. Its dtype decides that of the result.
        """
        if u.shape != self.n_points:
            raise ValueError(f"`u` must have shape {self.n_points}, got {u.shape}.")
        # Many products with one operator are faster through `UnrolledStencil`.
        result = self.diagonal.astype(u.dtype) * u
        for coupling, offset in zip(self.couplings, self.offsets, strict=True):
            coupling = coupling.astype(u.dtype)
            back = tuple(-o for o in offset)
            result += coupling * shifted(u, offset, self.periodic)
            result += shifted(coupling * u, back, self.periodic)
        return result

    def astype(self, dtype: DTypeLike) -> "StencilOperator":
        """Return the operator with entries of another precision."""
        return StencilOperator(
            self.diagonal.astype(dtype), self.couplings.astype(dtype), self.offsets, self.periodic
        )

    def as_lineax(self) -> lx.FunctionLinearOperator:
        """Return a lineax operator on arrays of shape ``(*space)``, tagged symmetric and PSD.

        The tags are a promise: sciml cannot see from the entries that no eigenvalue is negative.
        """
        structure = jax.ShapeDtypeStruct(self.n_points, self.dtype)
        tags = (lx.symmetric_tag, lx.positive_semidefinite_tag)
        return lx.FunctionLinearOperator(self.mv, structure, tags)

    def to_scipy(self, *, active_only: bool = False) -> scipy.sparse.csr_array:
        """Return the matrix; unknowns are numbered row-major.

        Parameters
        ----------
        active_only
            Leave out the rows and columns of cells that take no part. Otherwise they are empty.
        """
        strides = [math.prod(self.n_points[axis + 1 :]) for axis in range(len(self.n_points))]
        distances = [int(np.dot(offset, strides)) for offset in self.offsets]
        reach = {0, *distances, *(-d for d in distances)}
        is_plain = not any(self.periodic) and len(reach) == 2 * len(distances) + 1
        matrix = self._banded(distances) if is_plain else self._summed()
        if active_only:
            keep = np.flatnonzero(_flat(self.active))
            matrix = matrix[keep][:, keep]
        return matrix

    def _banded(self, distances: list[int]) -> scipy.sparse.csr_array:
        """Return the matrix where each stored coupling is a diagonal of its own."""
        rows, places = [_flat(self.diagonal)], [0]
        for coupling, distance in zip(np.asarray(self.couplings), distances, strict=True):
            # SciPy numbers the entries of a diagonal by their column. What wraps around is 0.
            rows += [np.roll(coupling.ravel(), distance), coupling.ravel()]
            places += [distance, -distance]
        shape = (self.diagonal.size,) * 2
        matrix = scipy.sparse.dia_array((np.stack(rows), places), shape=shape).tocsr()
        matrix.eliminate_zeros()
        return matrix

    def _summed(self) -> scipy.sparse.csr_array:
        """Return the matrix where two couplings may meet in one entry."""
        numbers = np.arange(self.diagonal.size).reshape(self.n_points)
        rows, columns, values = [numbers.ravel()], [numbers.ravel()], [_flat(self.diagonal)]
        for coupling, offset in zip(np.asarray(self.couplings), self.offsets, strict=True):
            # With two points along a periodic axis both neighbours are the same cell; duplicates
            # in coordinate format add up, as they do in `mv`.
            neighbours = np.roll(numbers, [-o for o in offset], range(numbers.ndim))
            there = coupling != 0
            rows += [numbers[there], neighbours[there]]
            columns += [neighbours[there], numbers[there]]
            values += [coupling[there], coupling[there]]
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        matrix = scipy.sparse.coo_array(entries, shape=(numbers.size,) * 2).tocsr()
        matrix.eliminate_zeros()
        return matrix

    @classmethod
    def from_scipy(
        cls,
        matrix: Any,
        n_points: Sequence[int],
        periodic: Sequence[bool] | None = None,
    ) -> "StencilOperator":
        """Read a symmetric sparse matrix whose entries couple neighbouring cells of a grid.

        Parameters
        ----------
        matrix
            scipy.sparse matrix or array, square, of size ``prod(n_points)``; unknowns numbered
            row-major.
        n_points
            Points along each axis.
        periodic
            Which axes wrap around; none by default. A periodic axis needs three points or more.

        Raises
        ------
        ValueError
            If the sizes do not match, an entry is not finite, the matrix is not symmetric, or an
            entry couples cells that are not neighbours (diagonal neighbours are).
        """
        n_points = tuple(n_points)
        periodic = (False,) * len(n_points) if periodic is None else periodic
        periodic = check_flags("periodic", periodic, len(n_points))
        size = int(np.prod(n_points))
        if matrix.shape != (size, size):
            raise ValueError(
                f"a grid of {n_points} has {size} unknowns, but the matrix has shape "
                f"{matrix.shape}."
            )
        coo = scipy.sparse.coo_array(matrix.tocsr())  # csr first: it adds up duplicates
        check_finite("matrix", coo.data)
        steps = _grid_steps(coo, n_points, periodic)
        data = coo.data.astype(np.result_type(coo.data.dtype, np.float32))
        diagonal = np.zeros(size, data.dtype)
        on_diagonal = (steps == 0).all(axis=0)
        diagonal[coo.row[on_diagonal]] = data[on_diagonal]
        found = {tuple(int(s) for s in o) for o in np.unique(steps[:, ~on_diagonal], axis=1).T}
        offsets = tuple(
            sorted(o for o in found | {_negative(o) for o in found} if o > _negative(o))
        )
        couplings = np.zeros((len(offsets), size), data.dtype)
        for coupling, offset in zip(couplings, offsets, strict=True):
            forward = (steps == np.array(offset)[:, None]).all(axis=0)
            coupling[coo.row[forward]] = data[forward]
            backward = (steps == -np.array(offset)[:, None]).all(axis=0)
            mirrored = np.zeros_like(coupling)
            mirrored[coo.col[backward]] = data[backward]
            worst = np.abs(coupling - mirrored).max(initial=0)
            if worst > 100 * np.finfo(data.dtype).eps * np.abs(data).max():
                raise ValueError(
                    f"the matrix is not symmetric: A and its transpose differ by {worst:.3g} "
                    f"between cells and their neighbours at {offset}."
                )
        return cls(
            jnp.asarray(diagonal.reshape(n_points)),
            jnp.asarray(couplings.reshape(-1, *n_points)),
            offsets,
            periodic,
        )


def shifted(
    u: Float[Array, "*space"], offset: Sequence[int], periodic: Sequence[bool]
) -> Float[Array, "*space"]:
    """Return the array whose entry ``i`` is ``u[i + offset]``: wrapped, or 0 outside the grid.

    Parameters
    ----------
    u
        Shape ``(*space)``.
    offset
        Cells to look ahead along each axis.
    periodic
        Which axes wrap around.
    """
    pairs = list(enumerate(zip(offset, periodic, strict=True)))
    wrapped = [(axis, -o) for axis, (o, wraps) in pairs if wraps and o]
    if wrapped:
        axes, shifts = zip(*wrapped, strict=True)
        u = jnp.roll(u, shifts, axes)
    # A negative amount cuts off: this is a shift with zeros coming in.
    padding = [(0, 0, 0) if wraps else (-o, o, 0) for _, (o, wraps) in pairs]
    return jax.lax.pad(u, jnp.zeros((), u.dtype), padding)


def full_row(operator: StencilOperator) -> dict[tuple[int, ...], Float[Array, "*space"]]:
    """Return the entries ``A[i, i + o]`` by offset: zero, each stored offset, and its opposite."""
    row = {(0,) * len(operator.n_points): operator.diagonal}
    for offset, coupling in zip(operator.offsets, operator.couplings, strict=True):
        row[offset] = coupling
        row[_negative(offset)] = shifted(coupling, _negative(offset), operator.periodic)
    return row


def _checked_offsets(offsets: Sequence[Sequence[int]], n_axes: int) -> tuple[tuple[int, ...], ...]:
    result = tuple(tuple(int(o) for o in offset) for offset in offsets)
    for offset in result:
        if len(offset) != n_axes or any(abs(o) > 1 for o in offset) or not any(offset):
            raise ValueError(
                f"each of `offsets` must be {n_axes} numbers out of -1, 0, 1, not all 0; "
                f"got {offset}."
            )
        if _negative(offset) in result or result.count(offset) > 1:
            raise ValueError(
                f"`offsets` must hold one of each pair +o, -o, once; {offset} is there twice or "
                f"with its opposite."
            )
    return result


def _negative(offset: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-o for o in offset)


def _flat(array: Array) -> np.ndarray:
    return np.asarray(array).ravel()


def _grid_steps(
    coo: scipy.sparse.coo_array, n_points: tuple[int, ...], periodic: tuple[bool, ...]
) -> np.ndarray:
    # Shape (axes, entries): from the cell of the row to the cell of the column.
    steps = np.stack(np.unravel_index(coo.col, n_points)) - np.stack(
        np.unravel_index(coo.row, n_points)
    )
    for axis, (n, wraps) in enumerate(zip(n_points, periodic, strict=True)):
        if wraps:
            if n < 3:
                raise ValueError(
                    f"axis {axis} is periodic and needs 3 points or more to tell its two "
                    f"neighbours apart, got {n}."
                )
            steps[axis] = (steps[axis] + 1) % n - 1
    far = (np.abs(steps) > 1).any(axis=0)
    if far.any():
        k = int(np.argmax(far))
        raise ValueError(
            f"entry ({coo.row[k]}, {coo.col[k]}) couples cells that are {tuple(steps[:, k])} apart "
            f"on a grid of {n_points}; only neighbours fit a stencil. Is `n_points` right?"
        )
    return steps
