"""The front door of nonlinear least squares."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Bool, Float, PyTree

from ...core import Solution, check_array, check_count, check_floating, throw_if_failed
from ...numerics import full_precision
from ._implicit_adjoint import ImplicitAdjoint, minimise
from ._levenberg_marquardt import LevenbergMarquardt
from ._optimistix import OptimistixLeastSquares
from ._rows import RowBlock, RowProblem, row_factor, sound_points, vary, varying_axes
from ._solver import AbstractLeastSquaresSolver, Outcome, as_result


@full_precision
def least_squares(
    residual: Callable[..., Any],
    w0: Array,
    points: PyTree[Any],
    args: PyTree[Any] = None,
    *,
    weights: Float[Array, "..."] | None = None,
    fixed: Bool[Array, "..."] | None = None,
    chunk: int | None = None,
    solver: AbstractLeastSquaresSolver | optx.AbstractLeastSquaresSolver | None = None,
    adjoint: ImplicitAdjoint | None = None,
    axis_name: str | None = None,
    throw: bool = True,
) -> Solution:
    r"""Minimise :math:`\tfrac12 \sum_i \omega_i |r(w; x_i)|^2` over a few unknowns :math:`w`.

    Made for many small problems with many rows each: it runs under `jax.jit`, `jax.vmap` (with
    ``throw=False``) and `jax.shard_map`, its memory does not grow with the number of rows, and
    its solution has implicit derivatives, forwards and backwards.

    Parameters
    ----------
    residual
        ``residual(w, points, args)`` returns rows for a chunk of points: an array whose leading
        axis is theirs, in any unit. Only ``points`` and ``args``, and what the function closes
        over, are differentiated.
    w0
        Where to start, shape ``(n,)``. The solution has no derivative with respect to it.
    points
        A pytree of arrays with one leading axis ``m``: positions, data, tables.
    args
        Passed on to ``residual``.
    weights
        Weight of each point's squared rows, shape ``(m,)``, 1 by default. With 0 a point is left
        out whatever its data are, which makes padding simple. One that is negative or no number
        makes the result ``nonfinite_rows``.
    fixed
        Unknowns that stay at ``w0``, shape ``(n,)``.
    chunk
        How many points are evaluated at a time. None takes all at once.
    solver
        `LevenbergMarquardt` by default, or a least-squares solver of optimistix.
    adjoint
        How the solution is differentiated.
    axis_name
        Inside `jax.shard_map`: the mesh axis over which the points are split. Each step then sums
        ``(n + 1)^2`` numbers over it.
    throw
        Raise unless the result is successful.

    Returns
    -------
    Solution
        ``value`` is ``w``. ``stats`` has ``n_steps``, ``n_newton_steps``, ``stationarity``
        (the largest part of ``r`` along a column of ``J``, or in an orthonormal basis of their
        span as far as that is known; 1 is all of it), ``residual_norm``,
        ``condition_number`` (of the Jacobian with unit columns) and ``converged``. Results
        besides ``successful``: ``nonlinear_max_steps_reached``, ``least_squares_stalled``,
        ``nonfinite_rows`` (the value is ``w0``), ``least_squares_not_a_minimum`` (``w0`` is a
        maximum or a saddle), and ``rank_deficient`` (stationary, but not the only such ``w``;
        derivatives are those of least norm).

    Raises
    ------
    ValueError
        If shapes do not fit.
    RuntimeError
        With ``throw``, if the solve failed.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> t = jnp.linspace(0.0, 2.0, 20)
    >>> def fit(rate):
    ...     data = 3 * jnp.exp(-rate * t)
    ...     def residual(w, points, args):
    ...         return w[0] * jnp.exp(-w[1] * points[0]) - points[1]
    ...     return least_squares(residual, jnp.array([1.0, 0.5]), (t, data)).value[1]
    >>> print(f"{fit(1.5):.4f} {jax.grad(fit)(1.5):.4f}")
    1.5000 1.0000
    """
    check_array("w0", w0)
    check_floating("w0", w0)
    if jnp.finfo(w0.dtype).bits < 32:
        raise TypeError(f"`w0` must be float32 or float64, got {w0.dtype}.")
    if w0.ndim != 1 or w0.shape[0] == 0:
        raise ValueError(f"`w0` must have shape (n,) with n >= 1, got {w0.shape}.")
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(points) if eqx.is_array(leaf)}
    for leaf in jax.tree.leaves(points):
        if hasattr(leaf, "dtype"):
            check_array("points", leaf)
    if len(sizes) != 1 or () in sizes:
        raise ValueError(
            f"the arrays of `points` must share one leading axis; their leading axes are "
            f"{sorted(sizes)}."
        )
    ((m,),) = sizes
    if weights is None:
        weights = jnp.ones(m, w0.dtype)
    check_floating("weights", weights)
    if jnp.shape(weights) != (m,):
        raise ValueError(
            f"`weights` must have shape ({m},) as the points, got {jnp.shape(weights)}."
        )
    if chunk is not None:
        chunk = check_count("chunk", chunk)
    args = jax.tree.map(lambda a: jnp.asarray(a) if eqx.is_array_like(a) else a, args)
    weights = jnp.asarray(weights)
    points = sound_points(points, weights)
    if fixed is not None and fixed.shape != w0.shape:
        raise ValueError(f"`fixed` must have the shape of `w0`, {w0.shape}; got {fixed.shape}.")
    if fixed is not None and fixed.dtype != bool:
        raise TypeError(f"`fixed` must be boolean, got {fixed.dtype}.")
    free = None if fixed is None else ~fixed
    solver = as_solver(solver)
    size = m if chunk is None else min(m, chunk)
    _check_rows(residual, w0, points, args, size)
    hoisted = _hoisted(residual, w0, points, args, size)
    axes = varying_axes((hoisted, w0, points, args, weights, free))
    if axes:
        # Inside `jax.shard_map`: what devices share is marked as each one's own, as in `_spread`
        # and as the unknowns are wherever rows are made of them.
        points, args = vary((points, args), axes)
        weights = jnp.asarray(vary(weights, axes))
        hoisted = _hoisted(residual, vary(w0, axes), points, args, size)
    problem = RowProblem((RowBlock(hoisted, points, weights, chunk),), args, free, axis_name)
    w, outcome = _compiled(problem, w0, solver=solver, adjoint=adjoint or ImplicitAdjoint())
    solution = Solution(w, as_result(outcome.status), as_stats(outcome))
    return throw_if_failed(solution) if throw else solution


# Called outside `jax.jit` it is one program all the same.
@eqx.filter_jit
def _compiled(problem, w0, *, solver, adjoint):
    # Squares of rows in a very small or large unit would leave the range of float32.
    factor = row_factor(problem, w0)
    problem = eqx.tree_at(
        lambda p: p.blocks[0].factor, problem, factor, is_leaf=lambda x: x is None
    )
    w, outcome = minimise(problem, w0, solver=solver, adjoint=adjoint)
    return w, eqx.tree_at(lambda o: o.residual_norm, outcome, outcome.residual_norm / factor)


def as_solver(solver: Any) -> AbstractLeastSquaresSolver:
    """Return ours as it is, one of optimistix in our interface, and the default for None."""
    if solver is None:
        return LevenbergMarquardt()
    if isinstance(solver, optx.AbstractLeastSquaresSolver):
        return OptimistixLeastSquares(solver)
    if isinstance(solver, AbstractLeastSquaresSolver):
        return solver
    raise TypeError(
        f"`solver` must be LevenbergMarquardt or a least-squares solver of optimistix, got "
        f"{solver!r}."
    )


def as_stats(outcome: Outcome) -> dict[str, Array]:
    """Return the figures of an outcome by name."""
    names = ("n_steps", "n_newton_steps", "stationarity", "residual_norm", "condition_number")
    return {name: getattr(outcome, name) for name in (*names, "converged")}


def _check_rows(residual, w0, points, args, size):
    rows = eqx.filter_eval_shape(residual, w0, _first(points, size), args)
    if not isinstance(rows, jax.ShapeDtypeStruct) or rows.shape[:1] != (size,):
        raise ValueError(
            f"`residual` must return one array whose leading axis is that of the points, "
            f"{size}; got {rows}."
        )
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        raise TypeError(
            f"the rows that `residual` makes of `points` must be real floating-point, got dtype "
            f"{rows.dtype}. Split complex rows into real and imaginary parts."
        )


def _hoisted(residual, w0, points, args, size):
    """Turn tracers that the residual closes over into leaves: they are differentiated, too."""
    return eqx.filter_closure_convert(residual, w0, _first(points, size), args)


def _first(points, size):
    return jax.tree.map(lambda leaf: leaf[:size], points)
