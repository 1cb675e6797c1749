"""Left-preconditioned GMRES for a real-linear map, with a limit on matrix-vector products."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...numerics import full_precision

Vector = Float[Array, " n"]


class GMRESResult(NamedTuple):
    """The correction, the products used, and the relative residual reached."""

    value: Vector
    n_matvecs: Int[Array, ""]
    reduction: Float[Array, ""]


@full_precision
def gmres(
    operator: Callable[[Vector], Vector],
    rhs: Vector,
    *,
    rtol: Float[Array, ""],
    limit: Int[Array, ""],
    max_krylov: int,
) -> GMRESResult:
    """Solve ``operator(x) = rhs`` from zero in the norm of plain dot products.

    One cycle without restart: the caller's Newton iteration restarts it at a better point.
    Krylov vectors are made orthogonal twice, so that the reduction is the true one.

    Parameters
    ----------
    operator
        The linear map, a preconditioner included.
    rhs
        The right-hand side.
    rtol
        Stop when the residual has fallen by this factor.
    limit
        Stop after so many products.
    max_krylov
        Krylov vectors kept at most; fixes the memory.
    """
    size = jnp.sqrt(jnp.vdot(rhs, rhs))
    safe = jnp.where(size > 0, size, 1.0)
    basis = jnp.zeros((max_krylov + 1, rhs.size), rhs.dtype).at[0].set(rhs / safe)
    hessenberg = jnp.zeros((max_krylov + 1, max_krylov), rhs.dtype)

    class State(NamedTuple):
        j: Int[Array, ""]
        basis: Float[Array, "k n"]
        triangle: Float[Array, "k m"]
        rotations: Float[Array, "m 2"]
        tail: Float[Array, " k"]
        broke_down: Bool[Array, ""]

    def unfinished(state: State):
        return (
            (state.j < jnp.minimum(limit, max_krylov))
            & (jnp.abs(state.tail[state.j]) > rtol * size)
            & ~state.broke_down
        )

    def extend(state: State) -> State:
        j, basis = state.j, state.basis
        w = operator(basis[j])
        before = jnp.sqrt(jnp.vdot(w, w))
        h = basis @ w  # rows beyond j are zero
        w = w - h @ basis
        again = basis @ w
        w = w - again @ basis
        h = h + again
        after = jnp.sqrt(jnp.vdot(w, w))
        # An invariant subspace holds the solution; its remainder is round-off.
        broke_down = ~(after > 1e-14 * before)
        basis = basis.at[j + 1].set(
            jnp.where(broke_down, 0.0, w / jnp.where(after > 0, after, 1.0))
        )
        column = h.at[j + 1].set(after)

        def rotate(i, column):
            c, s = state.rotations[i]
            upper, lower = column[i], column[i + 1]
            turned = column.at[i].set(c * upper + s * lower).at[i + 1].set(c * lower - s * upper)
            return jnp.where(i < j, turned, column)

        column = jax.lax.fori_loop(0, max_krylov, rotate, column)
        length = jnp.hypot(column[j], column[j + 1])
        c, s = jnp.where(length > 0, column[j], 1.0), jnp.where(length > 0, column[j + 1], 0.0)
        c, s = c / jnp.where(length > 0, length, 1.0), s / jnp.where(length > 0, length, 1.0)
        column = column.at[j].set(length).at[j + 1].set(0.0)
        tail = state.tail.at[j + 1].set(-s * state.tail[j]).at[j].set(c * state.tail[j])
        return State(
            j + 1,
            basis,
            state.triangle.at[:, j].set(column),
            state.rotations.at[j].set(jnp.stack([c, s])),
            tail,
            broke_down,
        )

    start = State(
        jnp.asarray(0),
        basis,
        hessenberg,
        jnp.zeros((max_krylov, 2), rhs.dtype),
        jnp.zeros(max_krylov + 1, rhs.dtype).at[0].set(size),
        size == 0,
    )
    end = jax.lax.while_loop(unfinished, extend, start)
    used = jnp.arange(max_krylov) < end.j
    square = end.triangle[:max_krylov]
    # Unused columns become those of the identity; their part of the right-hand side is zero.
    square = jnp.where(used[None, :] & used[:, None], square, jnp.eye(max_krylov, dtype=rhs.dtype))
    weights = jax.scipy.linalg.solve_triangular(square, jnp.where(used, end.tail[:-1], 0.0))
    value = weights @ end.basis[:-1]
    return GMRESResult(value, end.j, jnp.abs(end.tail[end.j]) / safe)
