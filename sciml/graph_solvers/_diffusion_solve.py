r"""Flow through a network of conductances, differentiable in all of them.

.. math:: \sum_j k_{ij} (u_i - u_j) = s_i \text{ inside}, \qquad u_i = g_i \text{ on the boundary.}

The matrix of the unknowns is symmetric and positive definite, so that conjugate gradients solve for
them, and also for the adjoint.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from ..core import (
    RESULTS,
    Solution,
    check_array,
    check_count,
    check_finite,
    check_floating,
    check_positive,
    check_shape,
    throw_if_failed,
)
from ..numerics import full_precision, segment_sum
from ..numerics._power_of_two import power_of_two_below

# By default as many roundings of the solution count as solved.
_ROUNDINGS = 16
_ADJOINT_FAILED = (
    "diffusion_solve: the linear system of the derivative did not reach its tolerance. Raise "
    "`max_steps`, loosen `rtol`, or take float64."
)


@full_precision
def diffusion_solve(
    conductance: Float[Array, " n_links"],
    ends: Int[Array, "n_links 2"],
    is_boundary: Bool[Array, " n_nodes"],
    boundary: Float[Array, " n_nodes"],
    *,
    source: Float[Array, " n_nodes"] | None = None,
    rtol: float | None = None,
    max_steps: int = 10_000,
    throw: bool = True,
) -> Solution:
    r"""Return the potential of a network with given conductances and boundary values.

    Derivatives with respect to conductances, boundary values and sources exist in forward and
    reverse mode; each costs one more solve, and memory is that of the links.

    Parameters
    ----------
    conductance
        Of each link, positive or zero, shape ``(n_links,)``. Parallel links add up.
    ends
        The two nodes of each link, which is listed once; shape ``(n_links, 2)``.
    is_boundary
        Which nodes are held; at least one in every connected part.
    boundary
        Their values, shape ``(n_nodes,)``; what it holds elsewhere has no effect.
    source
        What flows in at the nodes inside, shape ``(n_nodes,)``; by default nothing.
    rtol
        Of the residual, relative to the right-hand side, in the 2-norm of the system scaled by its
        diagonal. By default 1e-12 in float64 and 1e-6 in float32 or, if that is more, a few
        roundings of what the residual is the difference of: no solver comes nearer.
    max_steps
        Most steps of conjugate gradients.
    throw
        Raise on failure.

    Returns
    -------
    Solution
        ``value`` of shape ``(n_nodes,)``; ``stats`` with ``n_steps``, ``residual`` (relative, as
        ``rtol``), ``imbalance`` (the net flows that should vanish, summed, over the sum of all
        flows: how well flow is conserved) and ``outflow`` (what leaves the network into each
        boundary node; zero elsewhere).

    Raises
    ------
    ValueError
        If shapes do not fit, or, where values are known: a conductance is negative, an index is
        out of range, an entry is not finite, or a part has no boundary node.
    RuntimeError
        With ``throw``: if the steps run out (``nonlinear_max_steps_reached``), rounding stops
        them above the tolerance (``residual_at_rounding``), or a node inside with a source has no
        link (``isolated_source``).

    Notes
    -----
    Under ``jit`` with links that only the running program knows, parts without boundary cannot be
    looked for: without sources they stay at 0.

    Examples
    --------
    Two equal resistors in a row:

    >>> import jax, jax.numpy as jnp
    >>> ends, held = jnp.array([[0, 1], [1, 2]]), jnp.array([True, False, True])
    >>> def middle(k):
    ...     return diffusion_solve(k, ends, held, jnp.array([1.0, 0.0, 0.0])).value[1]
    >>> print(middle(jnp.ones(2)), jax.grad(middle)(jnp.ones(2)))
    0.5 [ 0.25 -0.25]
    """
    _check(conductance, ends, is_boundary, boundary)
    dtype, n = conductance.dtype, len(is_boundary)
    check_count("max_steps", max_steps)
    if rtol is not None:
        check_positive("rtol", rtol)
    source = jnp.zeros(n, dtype) if source is None else source
    if source.shape != (n,):
        raise ValueError(f"`source` must have shape ({n},), got {source.shape}.")
    still = jax.lax.stop_gradient((conductance, boundary, source))
    system = _Network(still[0], ends, is_boundary)
    zero = jnp.zeros((), dtype)
    held = jnp.where(is_boundary, still[1], zero)
    inside, n_steps, residual, is_close, is_stuck = system.solve(
        still[2] - system.net_flow(held), rtol, max_steps
    )
    u = jax.lax.stop_gradient(held + inside)
    net = system.net_flow(u)
    total = jnp.sum(jnp.abs(still[0] * (u[ends[:, 0]] - u[ends[:, 1]])))
    gap = jnp.sum(jnp.abs(jnp.where(is_boundary, zero, net - still[2])))
    u = _with_rule((rtol, max_steps, throw), u, conductance, boundary, source, ends, is_boundary)
    flows = _Network(conductance, ends, is_boundary).net_flow(u)
    stats = {
        "n_steps": n_steps,
        "residual": residual,
        "imbalance": gap / jnp.where(total > 0, total, jnp.ones((), dtype)),
        "outflow": -jnp.where(is_boundary, flows, zero),
    }
    ended: Any = RESULTS.nonlinear_max_steps_reached
    for holds, member in (
        (n_steps < max_steps, RESULTS.residual_at_rounding),
        (is_close, RESULTS.successful),
        (~jnp.isfinite(residual), RESULTS.nonlinear_divergence),
        (is_stuck, RESULTS.isolated_source),
    ):
        ended = RESULTS.where(holds, member, ended)  # pyright: ignore[reportArgumentType]
    solution = Solution(u, ended, stats)
    return throw_if_failed(solution) if throw else solution


class _Network(eqx.Module):
    """The matrix of the unknowns, scaled by its diagonal; known nodes are rows of the identity."""

    conductance: Float[Array, " n_links"]
    ends: Int[Array, "n_links 2"]
    is_boundary: Bool[Array, " n_nodes"]

    def net_flow(self, u):
        """Return what flows out of each node into its links."""
        i, j = self.ends[:, 0], self.ends[:, 1]
        flow, n = self.conductance * (u[i] - u[j]), len(self.is_boundary)
        return segment_sum(flow, i, n) - segment_sum(flow, j, n)

    def solve(self, right, rtol, max_steps):
        """Return the unknowns (0 at the boundary), steps, relative residual and two answers.

        Whether the residual met the tolerance, and whether a source has nowhere to go.
        """
        n, zero = len(self.is_boundary), jnp.zeros((), right.dtype)
        sizes = jax.lax.stop_gradient(jnp.abs(self.conductance))
        diagonal = sum(segment_sum(sizes, self.ends[:, k], n) for k in (0, 1))
        free = ~self.is_boundary & (diagonal > 0)
        root = jax.lax.rsqrt(jnp.where(free, diagonal, jnp.ones((), right.dtype)))
        scale = jnp.where(free, root, zero)

        def product(x):
            return jnp.where(free, scale * self.net_flow(scale * x), x)

        # A node inside without links has no potential, and cannot take a source.
        stuck = ~self.is_boundary & ~free & (right != 0)
        roundings = 0 if rtol is not None else _ROUNDINGS
        if rtol is None:
            rtol = 1e-12 if right.dtype == jnp.float64 else 1e-6
        x, n_steps, residual, size = _conjugate_gradient(product, scale * right, rtol, max_steps)
        within = jnp.maximum(rtol, roundings * jnp.finfo(right.dtype).eps * size)
        return scale * x, n_steps, residual, residual <= within, jnp.any(stuck)


def _conjugate_gradient(product, b, rtol, max_steps):
    """Return the solution, steps, true residual and size of the solution, both over that of ``b``.

    The recurrence of the residual drifts: it is begun again from the true one while that halves it.
    """
    # Squares of small numbers would vanish, and the tolerance with them.
    scale = power_of_two_below(jnp.max(jnp.abs(b), initial=0.0))
    b = b / scale
    size = jnp.linalg.norm(b)
    some = jnp.where(size > 0, size, jnp.ones((), b.dtype))
    eps = jnp.finfo(b.dtype).eps

    def goal(x):
        # The matrix has a norm of two at most: no residual is known better than to this rounding.
        return jnp.maximum(rtol * size, eps * jnp.linalg.norm(x))

    def go_on(carry):
        x, _, _, rho, k = carry
        # Below half the tolerance, so that the true residual meets it.
        return (jnp.sqrt(rho) > 0.5 * goal(x)) & (k < max_steps)

    def step(carry):
        x, r, p, rho, k = carry
        q = product(p)
        alpha = rho / jnp.vdot(p, q)
        x, r = x + alpha * p, r - alpha * q
        new = jnp.vdot(r, r)
        return x, r, r + (new / rho) * p, new, k + 1

    def improves(carry):
        x, r, before, k = carry
        now = jnp.linalg.norm(r)
        return (now > goal(x)) & (now <= 0.5 * before) & (k < max_steps)

    def restart(carry):
        x, r, _, k = carry
        x, _, _, _, k = jax.lax.while_loop(go_on, step, (x, r, r, jnp.vdot(r, r), k))
        return x, b - product(x), jnp.linalg.norm(r), k

    start = (jnp.zeros_like(b), b, jnp.asarray(jnp.inf, b.dtype), jnp.asarray(0))
    x, r, _, k = jax.lax.while_loop(improves, restart, start)
    return x * scale, k, jnp.linalg.norm(r) / some, jnp.linalg.norm(x) / some


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_rule(config, u, conductance, boundary, source, ends, is_boundary):
    """Return ``u``, with the derivative of the solution."""
    return u


@_with_rule.defjvp
@full_precision
def _tangent(config, primals, tangents):
    rtol, max_steps, throw = config
    _, conductance, _, _, ends, is_boundary = primals
    # With the rule again, so that second derivatives know how the solution moves.
    u = _with_rule(config, *primals)
    _, d_conductance, d_boundary, d_source, *_ = tangents
    network = _Network(conductance, ends, is_boundary)
    zero = jnp.zeros((), u.dtype)
    d_held = jnp.where(is_boundary, d_boundary, zero)
    change = _Network(d_conductance, ends, is_boundary).net_flow(u) + network.net_flow(d_held)
    right = jnp.where(is_boundary, zero, d_source - change)

    def product(x):
        return jnp.where(is_boundary, x, network.net_flow(jnp.where(is_boundary, zero, x)))

    def solve_with(_, right):
        frozen = _Network(jax.lax.stop_gradient(conductance), ends, is_boundary)
        x, _, _, is_close, is_stuck = frozen.solve(right, rtol, max_steps)
        ok = is_close & ~is_stuck
        if throw:
            x = eqx.error_if(x, ~ok, _ADJOINT_FAILED)
        return jnp.where(ok, x, jnp.nan)

    inside = jax.lax.custom_linear_solve(product, right, solve_with, symmetric=True)
    return u, d_held + inside


def _check(conductance, ends, is_boundary, boundary):
    for name, array in (("ends", ends), ("is_boundary", is_boundary)):
        check_array(name, array)
    for name, array in (("conductance", conductance), ("boundary", boundary)):
        check_array(name, array)
    check_shape("is_boundary", is_boundary, ("n_nodes",))
    check_floating("conductance", conductance)
    check_floating("boundary", boundary)
    n = len(is_boundary)
    if conductance.dtype != boundary.dtype:
        raise ValueError(
            "`conductance` and `boundary` must have one dtype, got "
            f"{conductance.dtype} and {boundary.dtype}."
        )
    if conductance.ndim != 1 or ends.shape != (len(conductance), 2) or boundary.shape != (n,):
        raise ValueError(
            "`conductance` must have shape (n_links,), `ends` (n_links, 2), `is_boundary` and "
            f"`boundary` (n_nodes,); got {conductance.shape}, {ends.shape}, {is_boundary.shape} "
            f"and {boundary.shape}."
        )
    check_finite("conductance", conductance)
    if not isinstance(is_boundary, Tracer) and not isinstance(boundary, Tracer):
        # What stands at the other nodes has no effect: it may be a NaN that says so.
        check_finite("boundary", np.where(np.asarray(is_boundary), np.asarray(boundary), 0))
    known = not any(isinstance(x, Tracer) for x in (ends, conductance))
    if known and len(conductance):
        # NumPy's arrays: under `jit` even known values become traced ones once JAX computes.
        low, lowest = int(np.asarray(ends).min()), float(np.asarray(conductance).min())
        worst = low if low < 0 else int(np.asarray(ends).max())
        if not 0 <= worst < n:
            raise ValueError(f"`ends` must lie between 0 and {n - 1}, but holds {worst}.")
        if lowest < 0:
            raise ValueError(f"`conductance` must not be negative, got {lowest:.6g}.")
    if known and not isinstance(is_boundary, Tracer):
        links = np.asarray(ends)[np.asarray(conductance) > 0]
        joined = scipy.sparse.coo_array((np.ones(len(links)), tuple(links.T)), (n, n))
        _, part = scipy.sparse.csgraph.connected_components(joined, directed=False)
        lonely = ~np.isin(part, part[np.asarray(is_boundary)])
        if lonely.any():
            raise ValueError(
                f"{int(lonely.sum())} nodes, the first of them {int(np.argmax(lonely))}, are not "
                "connected to any boundary node, so that their potential is not determined. Hold "
                "one node of their part, or drop them."
            )
