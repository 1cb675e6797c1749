r"""Fixed points of contractions that take a maximum over edges: dynamic programming on graphs.

At the solution of :math:`h_i = b_i + \max_e (\gamma_i h_{c(e)} + r_e)` one edge of each row attains
the maximum. Where it is the only one, the solution is that of the linear system with this edge
alone, to first order too: its derivatives are those of the optimal policy.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core import RESULTS, Solution, check_non_negative, check_shape, throw_if_failed
from ..numerics import segment_sum
from ._contraction_solvers import AbstractContractionSolver, AutoSolver
from ._solve_contraction import _checked, _with_rule, start_of


def solve_max_contraction(
    rewards: Float[Array, "n_edges heads"],
    b: Float[Array, "n_nodes heads"],
    rows: Int[Array, " n_edges"],
    columns: Int[Array, " n_edges"],
    *,
    gamma: Any,
    mask: Bool[Array, " n_edges"] | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 10_000,
    adjoint_solver: AbstractContractionSolver | None = None,
    y0: Float[Array, "n_nodes heads"] | None = None,
    throw: bool = True,
) -> Solution:
    r"""Return the fixed point of :math:`h_i = b_i + \max_e (\gamma_i h_{c(e)} + r_e)`.

    It exists, is unique and is reached from any start by value iteration, in ``log(tol) /
    log(gamma)`` steps. Nodes without edges have ``h = b``.

    Parameters
    ----------
    rewards
        ``r``, finite, shape ``(n_edges, heads)``; what is not allowed is masked.
    b
        Shape ``(n_nodes, heads)``.
    rows, columns
        Each edge's node and the one that it looks at, shape ``(n_edges,)``.
    gamma
        A number, shape ``(n_nodes,)`` or ``(n_nodes, heads)``; from 0 to below 1.
    mask
        Which edges count.
    rtol, atol
        Tolerances of the error, in the largest entry.
    max_steps
        Most steps.
    adjoint_solver
        As in `solve_contraction`.
    y0
        A start; by default 0.
    throw
        Raise on failure.

    Returns
    -------
    Solution
        ``value`` of shape ``(n_nodes, heads)``; ``stats`` as in `solve_contraction`.

    Raises
    ------
    ValueError
        As `solve_contraction`.
    RuntimeError
        With ``throw``: if the steps run out, or the map found at run time is no contraction.

    Notes
    -----
    The derivative is that of one edge a row; where two are equally good it is a subgradient.

    Examples
    --------
    One state that earns 1 or 2 for ever:

    >>> import jax.numpy as jnp
    >>> r, zero = jnp.array([[1.0], [2.0]]), jnp.array([0, 0])
    >>> found = solve_max_contraction(r, jnp.zeros((1, 1)), zero, zero, gamma=0.5)
    >>> print(found.value[0, 0].round(3))
    4.0
    """
    check_non_negative("rtol", rtol)
    check_non_negative("atol", atol)
    if adjoint_solver is None:
        adjoint_solver = AutoSolver(rtol, atol)
    gamma = _checked(rewards, b, rows, columns, gamma, False)
    mask = jnp.ones(len(rows), bool) if mask is None else mask
    check_shape("mask", mask, (len(rows),))
    rows, columns = rows.astype(jnp.int32), columns.astype(jnp.int32)
    n, dtype = len(b), b.dtype
    low = jnp.asarray(-jnp.inf, dtype)
    has_edges = segment_sum(jnp.ones(len(rows), dtype), rows, n, mask=mask)[:, None] > 0
    r, fixed, g = jax.lax.stop_gradient((rewards, b, gamma))

    def offers(h):
        return jnp.where(mask[:, None], g[rows] * h[columns] + r, low)

    def apply(h):
        best = jax.ops.segment_max(offers(h), rows, n)
        return fixed + jnp.where(has_edges, best, jnp.zeros((), dtype))

    factor = jnp.max(g, initial=0.0)
    margin, eps = jnp.maximum(1 - factor, jnp.zeros((), dtype)), float(jnp.finfo(dtype).eps)

    def tolerance(h):
        size = jnp.max(jnp.abs(h), initial=0.0)
        return jnp.maximum(margin * (atol + rtol * size), 16 * eps * size)

    def go_on(carry):
        h, new, k = carry
        return (jnp.max(jnp.abs(new - h), initial=0.0) > tolerance(new)) & (k < max_steps)

    start = start_of(y0, b)
    first = (start, apply(start), jnp.asarray(1))
    _, h, n_steps = jax.lax.while_loop(go_on, lambda c: (c[1], apply(c[1]), c[2] + 1), first)
    h = jax.lax.stop_gradient(h)
    residual = jnp.max(jnp.abs(apply(h) - h), initial=0.0)

    # Of the edges that attain the maximum the first one.
    at = offers(h)
    attains = (at >= jax.ops.segment_max(at, rows, n)[rows]) & mask[:, None]
    number = jnp.where(attains, jnp.arange(len(rows))[:, None], len(rows))
    chosen = number == jax.ops.segment_min(number, rows, n)[rows]
    chosen = (chosen & attains).astype(dtype)
    right = b + jax.ops.segment_sum(chosen * jnp.where(mask[:, None], rewards, 0.0), rows, n)
    weights = chosen * gamma[rows]
    value = _with_rule((adjoint_solver, None, throw), h, weights, right, rows, columns)

    failed: Any = RESULTS.nonlinear_max_steps_reached
    result = RESULTS.where(residual <= tolerance(h), RESULTS.successful, failed)  # pyright: ignore
    diverged: Any = RESULTS.nonlinear_divergence
    result = RESULTS.where(jnp.isfinite(residual), result, diverged)
    expands = (jnp.min(g, initial=0.0) < 0) | (factor >= 1)
    result = RESULTS.where(expands, RESULTS.not_a_contraction, result)
    ends = jnp.stack([rows, columns])
    inside = jnp.all(~mask[None] | ((ends >= 0) & (ends < n)))
    result = RESULTS.where(inside, result, RESULTS.index_out_of_range)  # pyright: ignore
    bound = jnp.where(factor < 1, residual / (1 - factor), jnp.inf)
    stats = {"n_steps": n_steps, "residual": residual, "factor": factor, "error_bound": bound}
    solution = Solution(value, result, stats)
    return throw_if_failed(solution) if throw else solution
