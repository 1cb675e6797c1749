r"""How the fixed point is found: Picard, Anderson, GMRES, dense elimination, or a choice of them.

Each stops on the certificate that the caller is shown: the residual of the map itself, set
against :math:`(1 - q)(\text{atol} + \text{rtol}\,\|h\|_\infty)`, where `q` is the factor of the
contraction; the error is then below :math:`\text{atol} + \text{rtol}\,\|h\|_\infty`.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..core import check_count, check_non_negative
from ._system import ContractionSystem

Heads = Float[Array, "n_nodes heads"]


class AbstractContractionSolver(eqx.Module):
    """A way to the fixed point of a `ContractionSystem`; all its settings are static."""

    rtol: eqx.AbstractVar[float]
    atol: eqx.AbstractVar[float]
    max_steps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def iterate(self, system: ContractionSystem, h: Heads) -> tuple[Heads, Int[Array, ""]]:
        """Return the last iterate from the start ``h``, and how often the map was applied."""

    @abc.abstractmethod
    def linear_only(self) -> bool:
        """Return whether systems with an activation are refused."""


class PicardSolver(AbstractContractionSolver):
    """The plain iteration ``h <- phi(W h + b)``: cheap steps, ``log(tol) / log(q)`` of them.

    Parameters
    ----------
    rtol, atol
        Tolerances of the error.
    max_steps
        Most steps.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=10_000)

    def __check_init__(self):
        _check(self)

    def iterate(self, system: ContractionSystem, h: Heads) -> tuple[Heads, Int[Array, ""]]:
        """Return the last iterate and the number of steps."""

        def go_on(carry):
            h, new, k = carry
            residual = jnp.max(jnp.abs(new - h), initial=0.0)
            # Not the negation: a NaN ends the loop.
            return (residual > system.tolerance(new, self.rtol, self.atol)) & (k < self.max_steps)

        def step(carry):
            _, new, k = carry
            return new, system.apply(new), k + 1

        _, new, k = jax.lax.while_loop(go_on, step, (h, system.apply(h), jnp.asarray(1)))
        return new, k

    def linear_only(self) -> bool:
        """Return False."""
        return False


class AndersonSolver(AbstractContractionSolver):
    """Picard accelerated by the last few steps, head by head, with a return when it overshoots.

    Parameters
    ----------
    rtol, atol, max_steps
        As in `PicardSolver`.
    depth
        How many steps are remembered.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=2_000)
    depth: int = eqx.field(static=True, default=6)

    def __check_init__(self):
        _check(self)
        check_count("depth", self.depth)

    def iterate(self, system: ContractionSystem, h: Heads) -> tuple[Heads, Int[Array, ""]]:
        """Return the best iterate and the number of steps."""
        m, dtype = self.depth, h.dtype
        ridge = 100 * float(jnp.finfo(dtype).eps)
        empty = jnp.zeros((m, *h.shape), dtype)

        def go_on(carry):
            _, _, _, _, best, least, k = carry
            return (least > system.tolerance(best, self.rtol, self.atol)) & (k < self.max_steps)

        def step(carry):
            h, f, dh, df, best, least, k = carry
            gram = jnp.einsum("inh,jnh->hij", df, df)
            diagonal = jnp.einsum("hii->hi", gram)
            scale = jnp.where(diagonal > 0, diagonal, jnp.ones((), dtype))
            root = jnp.sqrt(scale)
            gram = gram / (root[:, :, None] * root[:, None, :])
            lift = jnp.where(diagonal > 0, ridge, 1.0).astype(dtype)
            gram = gram + lift[:, :, None] * jnp.eye(m, dtype=dtype)[None]
            right = jnp.einsum("inh,nh->hi", df, f) / root
            theta = jnp.linalg.solve(gram, right[..., None])[..., 0] / root
            new = h + f - jnp.einsum("inh,hi->nh", dh + df, theta)
            f_new = system.apply(new) - new
            size = jnp.max(jnp.abs(f_new), initial=0.0)
            # An overshoot forgets the past and takes a plain step from the best point.
            bad = ~(size <= 4 * least)
            plain = system.apply(best)
            f_plain = system.apply(plain) - plain
            new = jnp.where(bad, plain, new)
            f_new = jnp.where(bad, f_plain, f_new)
            size = jnp.max(jnp.abs(f_new), initial=0.0)
            slot = k % m
            dh = jnp.where(bad, jnp.zeros((), dtype), dh.at[slot].set(new - h))
            df = jnp.where(bad, jnp.zeros((), dtype), df.at[slot].set(f_new - f))
            better = (size < least) | bad
            best, least = jnp.where(better, new, best), jnp.where(better, size, least)
            return new, f_new, dh, df, best, least, k + 1

        f = system.apply(h) - h
        first = (h, f, empty, empty, h, jnp.max(jnp.abs(f), initial=0.0), jnp.asarray(1))
        *_, best, _, k = jax.lax.while_loop(go_on, step, first)
        return best, k

    def linear_only(self) -> bool:
        """Return False."""
        return False


class KrylovSolver(AbstractContractionSolver):
    """Restarted GMRES, each head in a Krylov space of its own: for factors close to 1.

    Parameters
    ----------
    rtol, atol
        Tolerances of the error.
    max_steps
        Most applications of the map.
    restart
        Dimension of the Krylov space.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=10_000)
    restart: int = eqx.field(static=True, default=20)

    def __check_init__(self):
        _check(self)
        check_count("restart", self.restart)

    def iterate(self, system: ContractionSystem, h: Heads) -> tuple[Heads, Int[Array, ""]]:
        """Return the best iterate and the number of products."""
        m = self.restart

        def go_on(carry):
            h, r, k, gain = carry
            size = jnp.max(jnp.abs(r), initial=0.0)
            unfinished = size > system.tolerance(h, self.rtol, self.atol)
            # A cycle that gains nothing has met rounding.
            return unfinished & (k < self.max_steps) & (gain < 1)

        def cycle(carry):
            h, r, k, _ = carry
            new = h + _gmres_cycle(system.product, r, m)
            r_new = system.apply(new) - new
            old_size, size = jnp.max(jnp.abs(r), initial=0.0), jnp.max(jnp.abs(r_new), initial=0.0)
            better = size < old_size
            h, r = jnp.where(better, new, h), jnp.where(better, r_new, r)
            return h, r, k + m + 1, size / old_size

        start = (h, system.apply(h) - h, jnp.asarray(1), jnp.zeros((), h.dtype))
        h, _, k, _ = jax.lax.while_loop(go_on, cycle, start)
        return h, k

    def linear_only(self) -> bool:
        """Return True."""
        return True


class DenseSolver(AbstractContractionSolver):
    """Gaussian elimination, ``O(heads n^2)`` memory: for a few hundred nodes at most.

    Parameters
    ----------
    rtol, atol
        By which the result is judged.
    max_steps
        Not used; there so that solvers are alike.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        _check(self)

    def iterate(self, system: ContractionSystem, h: Heads) -> tuple[Heads, Int[Array, ""]]:
        """Return the solution, refined once, and 2 for the number of eliminations' products."""
        n, heads = h.shape
        matrix = jnp.zeros((heads, n, n), h.dtype)
        matrix = matrix.at[:, system.rows, system.columns].add(system.weights.T)
        factors = jax.scipy.linalg.lu_factor(jnp.eye(n, dtype=h.dtype)[None] - matrix)

        def solve(right):
            return jax.scipy.linalg.lu_solve(factors, right.T[..., None])[..., 0].T

        h = solve(system.bias)
        return h + solve(system.apply(h) - h), jnp.asarray(2)

    def linear_only(self) -> bool:
        """Return True."""
        return True


class AutoSolver(AbstractContractionSolver):
    """Dense below 200 nodes, otherwise Picard up to a factor of 0.9 and GMRES above.

    With an activation it is Picard up to 0.9 and Anderson above.

    Parameters
    ----------
    rtol, atol, max_steps
        As in `PicardSolver`.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=10_000)

    def __check_init__(self):
        _check(self)

    def iterate(self, system: ContractionSystem, h: Heads) -> tuple[Heads, Int[Array, ""]]:
        """Return the last iterate and the number of products."""
        settings = (self.rtol, self.atol, self.max_steps)
        if system.activation is None and len(h) <= 200:
            return DenseSolver(self.rtol, self.atol).iterate(system, h)
        hard = KrylovSolver if system.activation is None else AndersonSolver
        return jax.lax.cond(
            system.factor <= 0.9,
            lambda h: PicardSolver(*settings).iterate(system, h),
            lambda h: hard(*settings).iterate(system, h),
            h,
        )

    def linear_only(self) -> bool:
        """Return False."""
        return False


def _check(solver):
    check_non_negative("rtol", solver.rtol)
    check_non_negative("atol", solver.atol)
    check_count("max_steps", solver.max_steps)


def _gmres_cycle(product, r, m):
    """Return the corrections that minimise the residual of (1 - W) d = r over Krylov spaces."""
    dtype = r.dtype
    beta = jnp.linalg.norm(r, axis=0)
    tiny = jnp.finfo(dtype).tiny

    def normed(v, size):
        size = size[None]
        is_some = size > tiny
        scaled = v / jnp.where(is_some, size, jnp.ones((), dtype))
        return jnp.where(is_some, scaled, jnp.zeros((), dtype))

    basis = jnp.zeros((m + 1, *r.shape), dtype).at[0].set(normed(r, beta))
    matrix = jnp.zeros((r.shape[1], m + 1, m), dtype)

    def arnoldi(j, carry):
        basis, matrix = carry
        w = basis[j] - product(basis[j])
        before = jnp.sqrt(jnp.sum(w * w, axis=0))
        column = jnp.zeros((m + 1, r.shape[1]), dtype)
        for _ in range(2):
            dots = jnp.einsum("inh,nh->ih", basis, w)
            w = w - jnp.einsum("inh,ih->nh", basis, dots)
            column = column + dots
        size = jnp.sqrt(jnp.sum(w * w, axis=0))
        size = jnp.where(size > 10 * jnp.finfo(dtype).eps * before, size, jnp.zeros((), dtype))
        column = column.at[j + 1].set(size)
        return basis.at[j + 1].set(normed(w, size)), matrix.at[:, :, j].set(column.T)

    basis, matrix = jax.lax.fori_loop(0, m, arnoldi, (basis, matrix))
    # Columns after a happy breakdown are zero: give them a harmless pivot.
    empty = jnp.sum(jnp.abs(matrix), axis=1) == 0
    q, upper = jnp.linalg.qr(matrix)
    pivots = jnp.einsum("hii->hi", upper)
    largest = jnp.max(jnp.abs(pivots), axis=1, keepdims=True)
    weak = empty | (jnp.abs(pivots) <= 10 * jnp.finfo(dtype).eps * largest)
    upper = jnp.where(weak[:, :, None] | weak[:, None, :], jnp.zeros((), dtype), upper)
    upper = upper + weak.astype(dtype)[:, :, None] * jnp.eye(m, dtype=dtype)[None]
    right = jnp.where(weak, jnp.zeros((), dtype), q[:, 0, :] * beta[:, None])
    y = jax.scipy.linalg.solve_triangular(upper, right[..., None])[..., 0]
    return jnp.einsum("inh,hi->nh", basis[:m], y)
