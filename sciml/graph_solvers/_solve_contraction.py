r"""Fixed points of contractions on graphs, certified, with derivatives in both modes.

For :math:`h = \phi(\Gamma A h + b)` the tangent solves
:math:`(I - D\,\Gamma A)\, dh = D\,(d(\Gamma A)\, h + db)` with
:math:`D = \mathrm{diag}\,\phi'`; its transpose is a contraction with the same factor in the 1-norm.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ..core import (
    RESULTS,
    Solution,
    check_array,
    check_finite,
    check_floating,
    cites,
    throw_if_failed,
)
from ..numerics import full_precision
from ..numerics._power_of_two import power_of_two_below
from ._bibliography import GU_2020, PARK_2022, WALKER_2011
from ._contraction_solvers import AbstractContractionSolver, AutoSolver
from ._system import ContractionSystem

# What the sum of a row may exceed 1 by, in units in the last place, where 1 is admitted.
_ROUNDING = 64
_ADJOINT_FAILED = (
    "solve_contraction: the linear system of the derivative did not reach its tolerance. Give "
    "`adjoint_solver` more steps or a looser `rtol`, or pass `throw=False` for NaN derivatives."
)


@cites(PARK_2022, GU_2020, WALKER_2011)
@full_precision
def solve_contraction(
    a: Float[Array, "n_edges heads"],
    b: Float[Array, "n_nodes heads"],
    rows: Int[Array, " n_edges"],
    columns: Int[Array, " n_edges"],
    *,
    gamma: Any,
    activation: Callable[[Array], Array] | None = None,
    solver: AbstractContractionSolver | None = None,
    adjoint_solver: AbstractContractionSolver | None = None,
    y0: Float[Array, "n_nodes heads"] | None = None,
    absorbing: bool = False,
    throw: bool = True,
) -> Solution:
    r"""Return the fixed point of :math:`h_i = \phi(\gamma_i \sum_e a_e h_{c(e)} + b_i)`.

    The heads are independent systems. Where every row satisfies
    :math:`q = \max_i \gamma_i \sum_e |a_e| < 1` the solution exists, is unique, and is reached
    from any start. Memory is proportional to edges times heads, also for derivatives.

    Parameters
    ----------
    a
        Entries, shape ``(n_edges, heads)``; those at one place add up. Signs are free.
    b
        Shape ``(n_nodes, heads)``.
    rows, columns
        Where the entries stand, shape ``(n_edges,)``.
    gamma
        A number, shape ``(n_nodes,)`` or ``(n_nodes, heads)``; from 0 to below 1.
    activation
        A pointwise function whose slope stays in [-1, 1], such as ``jnp.tanh``. It is not checked,
        and what it closes over gets no derivative.
    solver
        By default `AutoSolver`.
    adjoint_solver
        For the linear systems of derivatives, with tolerances of its own; by default `AutoSolver`
        with those of ``solver``. Its ``atol`` is relative to the right-hand side, which has the
        unit of the loss. In reverse mode the error is meant in the sum over the nodes, the
        norm in which the transpose contracts. If it fails, the derivatives are NaN, and with
        ``throw`` there is an error.
    y0
        A start, shape of ``b``; by default 0. It gets no derivative.
    absorbing
        Admit ``q = 1``: the caller knows that every node is connected to rows with less. The
        solution is then judged by its residual at rounding, and ``error_bound`` is infinite.
    throw
        Raise on failure.

    Returns
    -------
    Solution
        ``value`` of shape ``(n_nodes, heads)``; ``stats`` with ``n_steps`` (applications of the
        map), ``residual`` (its largest entry), ``factor`` (``q``) and ``error_bound``
        (``residual / (1 - q)``, which holds for the largest entry of the error).

    Raises
    ------
    ValueError
        If shapes do not fit, or, where values are known: ``gamma`` outside [0, 1), ``q`` not
        below 1, indices out of range, or entries that are not finite. Also for an activation with
        a solver of linear systems.
    RuntimeError
        With ``throw``: if the steps run out, rounding stops a solver above its tolerance, or the
        map found at run time is no contraction.

    Notes
    -----
    In float32 the residual cannot fall below about 1e-6 of the solution, so the bound is about
    ``1e-6 / (1 - q)``.

    References
    ----------
    .. [1] J. Park, J. Choo and J. Park, "Convergent Graph Solvers", ICLR, 2022.
    .. [2] F. Gu et al., "Implicit Graph Neural Networks", NeurIPS, 2020.
    .. [3] H. F. Walker and P. Ni, "Anderson Acceleration for Fixed-Point Iterations", SIAM
       J. Numer. Anal. 49, 2011.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> a, b = jnp.ones((2, 1)), jnp.array([[1.0], [0.0]])
    >>> solution = solve_contraction(a, b, jnp.array([0, 1]), jnp.array([1, 0]), gamma=0.5)
    >>> print(solution.value[:, 0].round(4))
    [1.3333 0.6667]
    """
    solver = AutoSolver() if solver is None else solver
    if adjoint_solver is None:
        adjoint_solver = AutoSolver(solver.rtol, solver.atol)
    if activation is not None and solver.linear_only():
        raise ValueError(
            f"`{type(solver).__name__}` solves linear systems, and there is an `activation`. Take "
            "PicardSolver, AndersonSolver or AutoSolver."
        )
    gamma = _checked(a, b, rows, columns, gamma, absorbing)
    h0 = start_of(y0, b)
    # Indices as small as a byte would overflow when they are compared.
    rows, columns = rows.astype(jnp.int32), columns.astype(jnp.int32)
    weights = a * gamma[rows]
    frozen = jax.lax.stop_gradient((weights, b))
    factor = _row_factor(frozen[0], rows, len(b))
    if not absorbing and not isinstance(factor, Tracer) and float(factor) >= 1:
        raise ValueError(
            f"the map is no contraction: the largest row sum of |gamma a| is {float(factor):.6g}, "
            "and must be below 1. Normalise the rows, or pass `absorbing=True` if you know that "
            "every node is connected to a row with less."
        )
    system = ContractionSystem(frozen[0], frozen[1], rows, columns, factor, activation)
    eps = float(jnp.finfo(b.dtype).eps)
    h, n_steps = solver.iterate(system, h0)
    h = jax.lax.stop_gradient(h)
    residual = system.residual_norm(h)
    ok = system.converged(h, residual, solver.rtol, solver.atol)
    result: Any = RESULTS.nonlinear_max_steps_reached
    result = RESULTS.where(ok, RESULTS.successful, result)  # pyright: ignore[reportArgumentType]
    diverged: Any = RESULTS.nonlinear_divergence
    result = RESULTS.where(jnp.isfinite(residual), result, diverged)
    lowest = jnp.min(jax.lax.stop_gradient(gamma), initial=0.0)
    limit = 1 + _ROUNDING * eps if absorbing else 1 - 0.5 * eps
    expands = (lowest < 0) | ((factor > limit) & jnp.isfinite(factor))
    result = RESULTS.where(expands, RESULTS.not_a_contraction, result)
    ends = jnp.concatenate([rows, columns])
    inside = jnp.all((ends >= 0) & (ends < len(b)))
    result = RESULTS.where(inside, result, RESULTS.index_out_of_range)
    bound = jnp.where(factor < 1, residual / (1 - factor), jnp.inf)
    value = _with_rule((adjoint_solver, activation, throw), h, weights, b, rows, columns)
    stats = {"n_steps": n_steps, "residual": residual, "factor": factor, "error_bound": bound}
    solution = Solution(value, result, stats)
    return throw_if_failed(solution) if throw else solution


def start_of(y0: Array | None, b: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return where an iteration begins: 0 by default, in the dtype of ``b``; no derivative."""
    if y0 is None:
        return jnp.zeros_like(b)
    if y0.shape != b.shape:
        raise ValueError(f"`y0` must have the shape {b.shape} of `b`, got {y0.shape}.")
    return jax.lax.stop_gradient(y0.astype(b.dtype))


def _checked(a, b, rows, columns, gamma, absorbing):
    for name, array in (("a", a), ("b", b), ("rows", rows), ("columns", columns)):
        check_array(name, array)
    check_floating("a", a)
    check_floating("b", b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            "`a` must have shape (n_edges, heads) and `b` (n_nodes, heads), got "
            f"{a.shape} and {b.shape}."
        )
    if a.dtype != b.dtype:
        raise ValueError(f"`a` and `b` must have one dtype, got {a.dtype} and {b.dtype}.")
    for name, index in (("rows", rows), ("columns", columns)):
        if index.shape != a.shape[:1]:
            raise ValueError(
                f"`{name}` must have one entry for each of the {len(a)} edges, got {index.shape}."
            )
        if not jnp.issubdtype(index.dtype, jnp.integer):
            raise TypeError(f"`{name}` must hold integers, got dtype {index.dtype}.")
        if not isinstance(index, Tracer) and index.size:
            values = np.asarray(index)
            low, high = int(values.min()), int(values.max())
            if low < 0 or high >= len(b):
                worst = low if low < 0 else high
                raise ValueError(
                    f"`{name}` must lie between 0 and {len(b) - 1}, but holds {worst}."
                )
    check_finite("a", a)
    check_finite("b", b)
    check_finite("gamma", gamma)
    if jnp.iscomplexobj(gamma):
        raise TypeError(f"`gamma` must be real, got {gamma!r}.")
    gamma = jnp.asarray(gamma, b.dtype)
    if gamma.ndim == 1:
        gamma = gamma[:, None]
    if gamma.ndim not in (0, 2) or any(
        g not in (1, n) for g, n in zip(gamma.shape, b.shape, strict=False)
    ):
        raise ValueError(
            "`gamma` must be a number or have shape (n_nodes,) or (n_nodes, heads), got "
            f"{gamma.shape} for {b.shape}."
        )
    if not isinstance(gamma, Tracer):
        # NumPy: under `jit` even known values become traced ones once JAX computes with them.
        known = np.asarray(gamma)
        low, high = float(np.min(known, initial=0.0)), float(np.max(known, initial=0.0))
        if not (low >= 0 and (high <= 1 if absorbing else high < 1)):
            worst = low if low < 0 else high
            raise ValueError(f"`gamma` must lie in [0, 1), got {worst:.6g}.")
    return jnp.broadcast_to(gamma, b.shape)


def _row_factor(weights, rows, n):
    sums = jax.ops.segment_sum(jnp.abs(weights), rows, n)
    return jnp.max(sums, initial=0.0)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_rule(config, h, weights, b, rows, columns):
    """Return ``h``, with the derivative of the fixed point."""
    return h


@_with_rule.defjvp
@full_precision
def _tangent(config, primals, tangents):
    solver, activation, throw = config
    _, weights, b, rows, columns = primals
    # With the rule again, so that second derivatives know how the solution moves.
    h = _with_rule(config, *primals)
    _, d_weights, d_b, *_ = tangents
    n = len(b)

    def right_of(weights, b):
        z = jax.ops.segment_sum(weights * h[columns], rows, n) + b
        return z if activation is None else activation(z)

    _, right = jax.jvp(right_of, (weights, b), (d_weights, d_b))
    if activation is None:
        matrix = weights
    else:
        z = jax.ops.segment_sum(weights * h[columns], rows, n) + b
        _, slope = jax.jvp(activation, (z,), (jnp.ones_like(z),))
        matrix = weights * slope[rows]

    def product(x):
        return x - jax.ops.segment_sum(matrix * x[columns], rows, n)

    def solve_with(transposed, _, right):
        frozen = jax.lax.stop_gradient(matrix)
        # The row sums of the matrix are the column sums of the transpose.
        factor = _row_factor(frozen, rows, n)
        ends = (columns, rows) if transposed else (rows, columns)
        # `atol` is meant for the solution; what comes here has the unit of the loss.
        size = power_of_two_below(jnp.max(jnp.abs(right), initial=0.0))
        system = ContractionSystem(frozen, right / size, *ends, factor, transposed=transposed)
        x, _ = solver.iterate(system, jnp.zeros_like(right))
        ok = system.converged(x, system.residual_norm(x), solver.rtol, solver.atol)
        if throw:
            x = eqx.error_if(x, ~ok, _ADJOINT_FAILED)
        return jnp.where(ok, size * x, jnp.nan)

    d_h = jax.lax.custom_linear_solve(
        product, right, solve=partial(solve_with, False), transpose_solve=partial(solve_with, True)
    )
    return h, d_h
