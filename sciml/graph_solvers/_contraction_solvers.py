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
from ..numerics._power_of_two import power_of_two_below
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

    def iterate(
        self, system: ContractionSystem, h: Heads, limit: Int[Array, ""] | None = None
    ) -> tuple[Heads, Int[Array, ""]]:
        """Return the last iterate and the number of steps, at most ``limit`` instead."""
        limit = jnp.asarray(self.max_steps) if limit is None else limit

        def go_on(carry):
            h, new, k = carry
            residual = system.norm(new - h)
            # Not the negation: a NaN ends the loop.
            return (residual > system.tolerance(new, self.rtol, self.atol)) & (k < limit)

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
            _, _, _, _, (best, _, least), k = carry
            return (least > system.tolerance(best, self.rtol, self.atol)) & (k < self.max_steps)

        def step(carry):
            h, f, dh, df, (best, f_best, least), k = carry
            # Squares of small or large numbers would leave the range of float32.
            units = power_of_two_below(jnp.max(jnp.abs(df), axis=1, initial=0.0))
            unit = power_of_two_below(jnp.max(jnp.abs(f), axis=0, initial=0.0))
            scaled = df / units[:, None]
            gram = jnp.einsum("inh,jnh->hij", scaled, scaled)
            diagonal = jnp.einsum("hii->hi", gram)
            scale = jnp.where(diagonal > 0, diagonal, jnp.ones((), dtype))
            root = jnp.sqrt(scale)
            gram = gram / (root[:, :, None] * root[:, None, :])
            lift = jnp.where(diagonal > 0, ridge, 1.0).astype(dtype)
            gram = gram + lift[:, :, None] * jnp.eye(m, dtype=dtype)[None]
            right = jnp.einsum("inh,nh->hi", scaled, f / unit[None]) / root
            theta = jnp.linalg.solve(gram, right[..., None])[..., 0] / root
            theta = theta * (unit[None] / units).T
            new = h + f - jnp.einsum("inh,hi->nh", dh + df, theta)
            f_new = system.apply(new) - new
            size = system.norm(f_new)
            slot = k % m
            dh, df = dh.at[slot].set(new - h), df.at[slot].set(f_new - f)
            better = size < least
            best, f_best = jnp.where(better, new, best), jnp.where(better, f_new, f_best)
            # After an overshoot the past is forgotten: the next step is a plain one from the best.
            bad = ~(size <= 4 * least)
            least = jnp.where(better, size, least)
            new, f_new = jnp.where(bad, best, new), jnp.where(bad, f_best, f_new)
            dh, df = jnp.where(bad, empty, dh), jnp.where(bad, empty, df)
            return new, f_new, dh, df, (best, f_best, least), k + 1

        f = system.apply(h) - h
        first = (h, f, empty, empty, (h, f, system.norm(f)), jnp.asarray(1))
        *_, (best, _, _), k = jax.lax.while_loop(go_on, step, first)
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
            unfinished = system.norm(r) > system.tolerance(h, self.rtol, self.atol)
            # A cycle that gains nothing has met rounding.
            return unfinished & (k < self.max_steps) & (gain < 1)

        def cycle(carry):
            h, r, k, _ = carry
            # The plain step makes every cycle a contraction, whatever GMRES does.
            plain = h + r
            r_plain = system.apply(plain) - plain
            new = plain + _gmres_cycle(system.product, r_plain, m)
            r_new = system.apply(new) - new
            better = system.norm(r_new) < system.norm(r_plain)
            new, r_new = jnp.where(better, new, plain), jnp.where(better, r_new, r_plain)
            return new, r_new, k + m + 2, system.norm(r_new) / system.norm(r)

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
    max_nodes
        Larger systems are refused, for their memory.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=1)
    max_nodes: int = eqx.field(static=True, default=2_000)

    def __check_init__(self):
        _check(self)
        check_count("max_nodes", self.max_nodes)

    def iterate(self, system: ContractionSystem, h: Heads) -> tuple[Heads, Int[Array, ""]]:
        """Return the solution, refined once, and the number of products.

        Raises
        ------
        ValueError
            If there are more than ``max_nodes`` nodes.
        """
        n, heads = h.shape
        if n > self.max_nodes:
            raise ValueError(
                f"`DenseSolver` takes up to max_nodes = {self.max_nodes} nodes, got {n}: its "
                f"{heads} matrices would hold {heads * n * n:.3g} numbers. Take KrylovSolver, or "
                "raise `max_nodes`."
            )
        if n == 0:
            return h, jnp.asarray(0)
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
    """Picard up to a factor of 0.75, Anderson above, and GMRES for what Anderson leaves.

    GMRES takes over after 100 steps of Anderson, in linear systems only. Dense elimination is not
    among them: it was faster only below a hundred nodes or so and at factors near 1, and slower by
    a factor of ten and more at 300 nodes (``benchmarks/graph_solvers_timing.py``).

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
        # One after the other, each leaving at once where it is not wanted: a conditional would
        # run all of them under `vmap`.
        is_linear = system.activation is None
        picard = PicardSolver(self.rtol, self.atol, self.max_steps)
        h, n_picard = picard.iterate(system, h, jnp.where(system.factor <= 0.75, self.max_steps, 1))
        n_anderson = min(self.max_steps, 100) if is_linear else self.max_steps
        h, n = AndersonSolver(self.rtol, self.atol, n_anderson).iterate(system, h)
        n = n_picard + n - 1
        if is_linear:
            h, n_krylov = KrylovSolver(self.rtol, self.atol, self.max_steps).iterate(system, h)
            n = n + n_krylov - 1
        return h, n

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
    # Squares of small or large numbers would leave the range of float32.
    unit = power_of_two_below(jnp.max(jnp.abs(r), axis=0, keepdims=True, initial=0.0))
    r = r / unit
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
    return unit * jnp.einsum("inh,hi->nh", basis[:m], y)
