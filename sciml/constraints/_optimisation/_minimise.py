r"""Newton's method for :math:`\min f(x)` with :math:`c(x) = 0`, globalised by an exact merit.

The merit function :math:`L_\eta = f + \lambda^T c + \tfrac{\eta_1}{2} \|c\|^2 + \tfrac{\eta_2}{2}
\|\nabla_x L\|^2` has its minimisers in :math:`(x, \lambda)` at the solutions, for suitable
:math:`\eta`; directions that the linear solver leaves inexact still decrease it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ...core import (
    RESULTS,
    KeyArray,
    Solution,
    check_array,
    check_count,
    check_floating,
    check_positive,
    cites,
    throw_if_failed,
)
from ...numerics import full_precision
from .._bibliography import HONG_2023
from .._implicit import implicit_root
from ._directions import AbstractDirection, DenseDirection, check_forcing

_RUNNING, _CONVERGED, _MAX_STEPS, _STALLED, _NONFINITE, _NO_MINIMUM = range(6)
_GROWTH = 2.0
_ARMIJO = 1e-4
_MOST_HALVINGS = 30
_ROUNDING = 8.0


@cites(HONG_2023)
@full_precision
def minimise_constrained(
    objective: Callable[[Any, Any], Any],
    constraint: Callable[[Any, Any], Any],
    x0: Float[Array, " n"],
    args: PyTree[Any] = None,
    *,
    direction: AbstractDirection | None = None,
    tol: float = 1e-8,
    max_steps: int = 200,
    forcing_term: float = 0.1,
    key: KeyArray | None = None,
    throw: bool = True,
) -> Solution:
    r"""Minimise ``objective(x, args)`` subject to ``constraint(x, args) = 0``.

    For smooth problems of up to a few hundred unknowns: second derivatives are formed. The Hessian
    of the Lagrangian is shifted where it is not positive on the null space of the constraints'
    Jacobian. Differentiable with respect to ``args`` through the optimality conditions.

    Parameters
    ----------
    objective
        ``objective(x, args)``, a number.
    constraint
        ``constraint(x, args)``, shape ``(p,)``.
    x0
        Where to start, shape ``(n,)``.
    args
        Passed on.
    direction
        `DenseDirection` by default; `KrylovDirection` or `SketchedDirection` solve inexactly.
    tol
        Bound on the largest entry of :math:`(\nabla_x L, c)`, the first over ``max(1, |grad f|)``.
        No less than round-off is asked: 8 rounding units of :math:`|\nabla f| + |J^T \lambda|`
        and of the terms that make up a constraint, estimated by two products with its Jacobian.
        In float32 that is about 1e-6 times the terms.
    max_steps
        Directions at most.
    forcing_term
        How far inexact directions reduce their residual, at first.
    key
        For `SketchedDirection`.
    throw
        Raise unless the result is successful.

    Returns
    -------
    Solution
        ``value`` is ``x``. ``stats`` has ``multipliers``, ``objective``, ``constraint_norm``,
        ``kkt_residual``, ``n_steps``, ``n_products`` (of the directions) and ``least_curvature``
        (of the Lagrangian where the constraints allow a step). Results besides ``successful``:
        ``nonlinear_max_steps_reached``, ``no_descent``, ``not_a_minimum`` (a saddle or a maximum),
        ``nonfinite_rows``. The derivative of a failed result is NaN.

    Raises
    ------
    ValueError
        If shapes do not fit.
    RuntimeError
        With ``throw``, if it failed.

    References
    ----------
    .. [1] I. Hong et al., "Constrained Optimization via Exact Augmented Lagrangian and Randomized
       Iterative Sketching", ICML, 2023.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> with jax.enable_x64(True):
    ...     solution = minimise_constrained(
    ...         lambda x, a: x[0] + x[1], lambda x, a: jnp.array([x @ x - a]), -jnp.ones(2), 2.5
    ...     )
    ...     print(f"{solution.value[0]:.4f} {solution.stats['objective']:.4f}")
    -1.1180 -2.2361
    """
    check_array("x0", x0)
    check_floating("x0", x0)
    if x0.ndim != 1 or x0.shape[0] == 0:
        raise ValueError(f"`x0` must have shape (n,) with n >= 1, got {x0.shape}.")
    check_positive("tol", tol)
    max_steps = check_count("max_steps", max_steps)
    forcing = check_forcing(forcing_term)
    direction = DenseDirection() if direction is None else direction
    key = jax.random.key(0) if key is None else key
    args = jax.tree.map(lambda a: jnp.asarray(a) if eqx.is_array_like(a) else a, args)
    value = eqx.filter_eval_shape(objective, x0, args)
    rows = eqx.filter_eval_shape(constraint, x0, args)
    if value.shape != () or len(rows.shape) != 1:
        raise ValueError(
            f"`objective` must return a number and `constraint` an array (p,); got the shapes "
            f"{value.shape} and {rows.shape}."
        )
    n = x0.shape[0]
    if rows.shape[0] > n:
        raise ValueError(f"there are {rows.shape[0]} constraints on {n} unknowns: at most {n}.")

    def lagrangian(x, multipliers, a):
        return objective(x, a) + multipliers @ constraint(x, a)

    def optimality(y, a):
        x, multipliers = y[:n], y[n:]
        slope = jax.grad(lagrangian)(x, multipliers, a)
        return jnp.concatenate([slope, constraint(x, a)])

    def solve(a):
        method = _Method(objective, constraint, direction, float(tol), max_steps, forcing, n)
        return method.run(x0, a, key)

    y, (status, stats) = implicit_root(optimality, solve, has_aux=True)(args)
    y = _marked(y, jnp.where(status == _CONVERGED, 1.0, jnp.nan).astype(y.dtype))
    stats = stats | {"multipliers": y[n:]}
    solution = Solution(y[:n], _as_result(status), stats)
    return throw_if_failed(solution) if throw else solution


class _State(NamedTuple):
    y: Float[Array, " total"]
    penalty: Float[Array, ""]
    slope_weight: Float[Array, ""]
    accuracy: Float[Array, ""]
    n_steps: Int[Array, ""]
    n_products: Int[Array, ""]
    status: Int[Array, ""]


class _Method(eqx.Module):
    objective: Callable[..., Any]
    constraint: Callable[..., Any]
    direction: AbstractDirection
    tol: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    forcing: float = eqx.field(static=True)
    n: int = eqx.field(static=True)
    """Unknowns, without multipliers."""

    def run(self, x0, args, key):
        jacobian = jax.jacrev(lambda x: self.constraint(x, args))(x0)
        slope = jax.grad(lambda x: self.objective(x, args))(x0)
        # The multipliers of least residual at the start.
        multipliers = jnp.linalg.lstsq(jacobian.T, -slope)[0]
        multipliers = jnp.where(jnp.all(jnp.isfinite(multipliers)), multipliers, 0)
        start = _State(
            jnp.concatenate([x0, multipliers]),
            jnp.asarray(1.0, x0.dtype),
            jnp.asarray(0.1, x0.dtype),
            jnp.asarray(self.forcing, x0.dtype),
            jnp.asarray(0, jnp.int32),
            jnp.asarray(0, jnp.int32),
            jnp.asarray(_RUNNING, jnp.int32),
        )
        start = start._replace(status=self._judge(start, args))
        end = jax.lax.while_loop(
            lambda s: s.status == _RUNNING, lambda s: self._step(s, args, key), start
        )
        n = x0.shape[0]
        x = end.y[:n]
        rows = self.constraint(x, args)
        stats = {
            "objective": self.objective(x, args),
            "constraint_norm": jnp.max(jnp.abs(rows), initial=0.0),
            "kkt_residual": self._size(end.y, args)[0],
            "n_steps": end.n_steps,
            "n_products": end.n_products,
        }
        # Maximisers and saddles satisfy the same equations.
        second = jax.hessian(lambda x: self._lagrangian(x, end.y[n:], args))(x)
        least, size = least_curvature(second, jax.jacrev(lambda x: self.constraint(x, args))(x))
        wrong = (end.status == _CONVERGED) & (least < -1e-6 * size)
        stats["least_curvature"] = least
        return end.y, (jnp.where(wrong, _NO_MINIMUM, end.status), stats)

    def _lagrangian(self, x, multipliers, args):
        return self.objective(x, args) + multipliers @ self.constraint(x, args)

    def _optimality(self, y, args):
        n = self.n
        slope = jax.grad(self._lagrangian)(y[:n], y[n:], args)
        return jnp.concatenate([slope, self.constraint(y[:n], args)])

    def _size(self, y, args):
        """Return how far the conditions are from zero, and whether that is small enough."""
        x, multipliers = y[: self.n], y[self.n :]
        slope = jax.grad(lambda x: self.objective(x, args))(x)
        rows, pullback = jax.vjp(lambda x: self.constraint(x, args), x)
        (pull,) = pullback(multipliers)
        # The objective's own unit drops out; what the constraints miss counts as it is.
        scale = jnp.maximum(1.0, jnp.max(jnp.abs(slope)))
        tilt = jnp.max(jnp.abs(slope + pull)) / scale
        miss = jnp.max(jnp.abs(rows), initial=0.0)
        # Below the rounding of the terms of these sums nothing can be asked.
        unit = _ROUNDING * jnp.finfo(y.dtype).eps
        tilt_floor = unit * (jnp.max(jnp.abs(slope)) + jnp.max(jnp.abs(pull))) / scale
        miss_floor = unit * jnp.max(self._terms(x, args), initial=0.0)
        good = (tilt <= jnp.maximum(self.tol, tilt_floor)) & (
            miss <= jnp.maximum(self.tol, miss_floor)
        )
        return jnp.maximum(tilt, miss), good

    def _terms(self, x, args):
        """Return about how large the terms are of which constraints are sums: ``|J| |x|``.

        Of two products, so that terms that cancel in one do not in the other.
        """
        signs = jnp.where(jnp.arange(self.n) % 2 == 0, 1, -1).astype(x.dtype)
        _, linear = jax.linearize(lambda x: self.constraint(x, args), x)
        return jnp.abs(linear(x)) + jnp.abs(linear(signs * x))

    def _judge(self, state, args):
        size, good = self._size(state.y, args)
        status = jnp.where(state.n_steps >= self.max_steps, _MAX_STEPS, _RUNNING)
        status = jnp.where(good, _CONVERGED, status)
        return jnp.where(jnp.isfinite(size), status, _NONFINITE).astype(jnp.int32)

    def _merit(self, y, args, penalty, slope_weight):
        n = self.n
        slope, rows = jnp.split(self._optimality(y, args), [n])
        value = self._lagrangian(y[:n], y[n:], args)
        return value + 0.5 * penalty * jnp.sum(rows**2) + 0.5 * slope_weight * jnp.sum(slope**2)

    def _step(self, state, args, key):
        y, n = state.y, self.n
        p = y.shape[0] - n
        residual = self._optimality(y, args)
        jacobian = jax.jacrev(lambda x: self.constraint(x, args))(y[:n])
        second = jax.hessian(lambda x: self._lagrangian(x, y[n:], args))(y[:n])
        second = positive_on_null_space(second, jacobian)
        zero = jnp.zeros((p, p), y.dtype)
        matrix = jnp.block([[second, jacobian.T], [jacobian, zero]])
        z, count = self.direction.solve(
            matrix, -residual, state.accuracy, jax.random.fold_in(key, state.n_steps)
        )

        def merit(t):
            return self._merit(y + t * z, args, state.penalty, state.slope_weight)

        here, descent = jax.jvp(merit, (jnp.zeros((), y.dtype),), (jnp.ones((), y.dtype),))
        enough = descent <= -0.5 * state.slope_weight * jnp.sum(residual**2)
        eps = jnp.finfo(y.dtype).eps

        def goes_on(search):
            t, there, halvings = search
            falls = there <= here + _ARMIJO * t * descent + 10 * eps * jnp.abs(here)
            return ~falls & (halvings < _MOST_HALVINGS)

        def halve(search):
            t, _, halvings = search
            return 0.5 * t, merit(0.5 * t), halvings + 1

        one = jnp.ones((), y.dtype)
        t, _, halvings = jax.lax.while_loop(
            goes_on, halve, (one, merit(one), jnp.asarray(0, jnp.int32))
        )
        failed = enough & (halvings >= _MOST_HALVINGS)
        failed = failed | (~enough & (state.penalty > 1e14)) | ~jnp.all(jnp.isfinite(z))
        after = _State(
            jnp.where(enough & ~failed, y + t * z, y),
            jnp.where(enough, state.penalty, state.penalty * _GROWTH**2),
            jnp.where(enough, state.slope_weight, state.slope_weight / _GROWTH),
            jnp.where(enough, state.accuracy, state.accuracy / _GROWTH**4),
            state.n_steps + 1,
            state.n_products + count,
            state.status,
        )
        status = self._judge(after, args)
        return after._replace(
            status=jnp.where(failed & (status == _RUNNING), _STALLED, status).astype(jnp.int32)
        )


@full_precision
def least_curvature(
    second: Float[Array, "n n"], jacobian: Float[Array, "p n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return the least eigenvalue where the Jacobian vanishes, and the size of the matrix."""
    onto = jnp.eye(second.shape[0], dtype=second.dtype) - jnp.linalg.pinv(jacobian) @ jacobian
    size = jnp.maximum(jnp.max(jnp.abs(second)), 1e-8)
    reduced = onto @ second @ onto + size * (jnp.eye(second.shape[0], dtype=second.dtype) - onto)
    return jnp.linalg.eigvalsh(0.5 * (reduced + reduced.T))[0], size


def positive_on_null_space(
    second: Float[Array, "n n"], jacobian: Float[Array, "p n"]
) -> Float[Array, "n n"]:
    """Return the matrix, shifted if it is not positive where the Jacobian vanishes."""
    least, size = least_curvature(second, jacobian)
    shift = jnp.where(least < 1e-8 * size, 0.1 * size - least, 0)
    return second + shift * jnp.eye(second.shape[0], dtype=second.dtype)


@jax.custom_jvp
def _marked(y, factor):
    del factor
    return y


@_marked.defjvp
def _marked_jvp(primals, tangents):
    return _marked(*primals), tangents[0] * primals[1]


def _as_result(status):
    if status.ndim > 0:
        return jax.vmap(_as_result)(status)
    members: Any = RESULTS
    result: Any = members.successful
    for code, member in (
        (_MAX_STEPS, RESULTS.nonlinear_max_steps_reached),
        (_STALLED, RESULTS.no_descent),
        (_NONFINITE, RESULTS.nonfinite_rows),
        (_NO_MINIMUM, RESULTS.not_a_minimum),
    ):
        result = members.where(status == code, member, result)
    return result
