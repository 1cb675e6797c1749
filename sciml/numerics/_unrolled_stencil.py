"""A stencil operator laid out for speed: flat arrays, in which a neighbour is one shift away.

    (A u)_i = d_i u_i + sum_o [ c_o(i) u_{i+o} + c_o(i-o) u_{i-o} ]

Both the neighbours and the couplings towards them are found by one shift in memory. XLA fuses that
into a single vectorised loop; on a CPU it runs about ten times faster than shifting each axis. What
such a loop waits for is memory, so each coupling is stored once, not once in each direction.
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._stencil import StencilOperator, full_row, shifted


class UnrolledStencil(eqx.Module):
    """The action of a `StencilOperator`, prepared for many products.

    Parameters
    ----------
    operator
        The operator to prepare.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> off = jnp.array([[-1.0, -1.0, -1.0, 0.0]])
    >>> operator = StencilOperator(jnp.full(4, 2.0), off, offsets=((1,),))
    >>> UnrolledStencil(operator).mv(jnp.array([1.0, 2.0, 3.0, 4.0])).tolist()
    [0.0, 0.0, 0.0, 5.0]
    """

    diagonal: Float[Array, " cells"]
    couplings: tuple[Float[Array, " padded"], ...]
    offsets: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    n_points: tuple[int, ...] = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)

    def __init__(self, operator: StencilOperator):
        self.diagonal = operator.diagonal.reshape(-1)
        self.offsets = operator.offsets
        self.n_points = operator.n_points
        self.periodic = operator.periodic
        if any(self.periodic):
            # Around the edge there is no single shift: both directions are stored.
            row = full_row(operator)
            pairs = [(o, tuple(-k for k in o)) for o in self.offsets]
            self.couplings = tuple(row[o].reshape(-1) for pair in pairs for o in pair)
        else:
            zero = jnp.zeros((), operator.dtype)
            steps = _steps(self.offsets, self.n_points)
            # Room for the shift by -o; what comes in from the front is 0.
            self.couplings = tuple(
                jax.lax.pad(c.reshape(-1), zero, [(max(s, 0), max(-s, 0), 0)])
                for c, s in zip(operator.couplings, steps, strict=True)
            )

    def mv(self, u: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """Return ``A u``, in the dtype of ``u``.

        Parameters
        ----------
        u
            Shape ``(*space)``.
        """
        return materialised(self.product(u))

    def product(self, u: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """Return `mv` for a caller who keeps it in memory himself, see `materialised`."""
        offsets = [o for pair in self.offsets for o in (pair, tuple(-k for k in pair))]
        values = neighbour_values(u, offsets, self.periodic)
        total = self.diagonal.astype(u.dtype) * u.reshape(-1)
        for entry, value in zip(self._entries(), values, strict=True):
            total = total + entry.astype(u.dtype) * value
        return total.reshape(self.n_points)

    def _entries(self) -> list[Float[Array, " cells"]]:
        # A(i, i + o) and A(i, i - o) = c_o(i - o) for each stored offset. Where i - o is a cell
        # in memory but no neighbour on the grid, c_o is 0 there: it would lead out of the grid.
        if any(self.periodic):
            return list(self.couplings)
        size, entries = self.diagonal.size, []
        for coupling, step in zip(self.couplings, _steps(self.offsets, self.n_points), strict=True):
            here = max(step, 0)
            entries += [jax.lax.slice(coupling, [k], [k + size]) for k in (here, here - step)]
        return entries


def _steps(offsets: Sequence[tuple[int, ...]], n_points: tuple[int, ...]) -> list[int]:
    # How far away each neighbour is in memory.
    strides = [math.prod(n_points[axis + 1 :]) for axis in range(len(n_points))]
    return [sum(o * s for o, s in zip(offset, strides, strict=True)) for offset in offsets]


def neighbour_values(
    u: Float[Array, "*space"],
    offsets: Sequence[tuple[int, ...]],
    periodic: Sequence[bool],
) -> list[Float[Array, " cells"]]:
    """Return ``u`` at ``i + offset``, flattened, for each offset.

    Where a neighbour lies outside the grid the value has no meaning (it is finite where ``u`` is):
    this is for products with entries that are 0 there.

    Parameters
    ----------
    u
        Shape ``(*space)``.
    offsets
        Cells to look ahead along each axis.
    periodic
        Which axes wrap around.
    """
    if any(periodic):
        return [shifted(u, offset, periodic).reshape(-1) for offset in offsets]
    steps = _steps(offsets, u.shape)
    reach = max((abs(step) for step in steps), default=0)
    padded = jax.lax.pad(u.reshape(-1), jnp.zeros((), u.dtype), [(reach, reach, 0)])
    return [jax.lax.slice(padded, [reach + s], [reach + s + u.size]) for s in steps]


def materialised(
    u: Float[Array, "*space"], condition: Bool[Array, ""] | None = None
) -> Float[Array, "*space"]:
    """Return ``u``, made once and kept in memory.

    XLA's CPU compiler fuses an array into everything that reads it, and computes it anew for each
    reader: for each neighbour in a stencil, twice over in a stencil of a stencil, so that a cycle
    of them costs a hundred times too much. It drops optimization barriers before it fuses, but
    keeps a branch whose condition it cannot foresee.

    Parameters
    ----------
    u
        Any floating-point array with at least one entry.
    condition
        True, but not so that the compiler knows; by default that the first entry is a number. An
        array that is parted over devices needs another: its first entry is on one of them.
    """
    if condition is None:
        first = u.reshape(-1)[0]
        condition = first == first
    return jax.lax.cond(condition, lambda v: v, lambda v: v * jnp.nan, u)
