r"""Implicit derivatives of solvers that users bring: roots, fixed points, minimisers.

Where :math:`F(x, \theta) = 0`, :math:`\partial_x F\, dx = -\partial_\theta F\, d\theta`. The rule
is one for forward mode whose linear solve can be transposed, so that all modes and orders follow.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ..core import cites
from ..core._constant import constant
from ..numerics import full_precision
from ._bibliography import BLONDEL_2022


@cites(BLONDEL_2022)
def implicit_root(
    residual: Callable[[PyTree[Any], PyTree[Any]], PyTree[Any]],
    solve: Callable[[PyTree[Any]], Any],
    *,
    linear_solver: lx.AbstractLinearSolver | None = None,
    has_aux: bool = False,
) -> Callable[[PyTree[Any]], Any]:
    r"""Return ``solve`` with the derivative of the root :math:`F(x, \theta) = 0` that it finds.

    What happens inside ``solve`` is not differentiated: it may be a loop, a call of a compiled
    library through `jax.pure_callback`, a table. The derivative is that of the exact root; it is
    off by an amount in proportion to how far the value is from it.

    Parameters
    ----------
    residual
        ``residual(x, args)``, a pytree with the shapes of ``x``.
    solve
        ``solve(args)`` returns the root ``x``, or ``(x, aux)`` with ``has_aux``.
    linear_solver
        What solves with the Jacobian of ``residual``, by default ``lineax.AutoLinearSolver(
        well_posed=True)``, which forms the matrix. Take ``lineax.GMRES`` for large systems, and
        ``lineax.AutoLinearSolver(well_posed=False)`` for singular ones.
    has_aux
        Whether ``solve`` returns something besides the root. It gets no derivative.

    Returns
    -------
    Callable
        A function of ``args``. Derivatives flow to ``args`` and to what ``residual`` closes over,
        forwards and backwards, to any order. Where the linear solve fails they are NaN; with the
        default solver also where the Jacobian is singular to rounding.

    Raises
    ------
    ValueError
        If ``residual`` does not return the structure and shapes of the root.

    References
    ----------
    .. [1] M. Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS, 2022.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> def newton(a):
    ...     return jax.lax.fori_loop(0, 20, lambda _, x: 0.5 * (x + a / x), a)
    >>> root = implicit_root(lambda x, a: x * x - a, newton)
    >>> print(f"{root(4.0):.3f} {jax.grad(root)(4.0):.3f} {jax.grad(jax.grad(root))(4.0):.5f}")
    2.000 0.250 -0.03125
    """
    return _implicit(residual, solve, linear_solver, has_aux, symmetric=False)


@cites(BLONDEL_2022)
def implicit_fixed_point(
    function: Callable[[PyTree[Any], PyTree[Any]], PyTree[Any]],
    solve: Callable[[PyTree[Any]], Any],
    *,
    linear_solver: lx.AbstractLinearSolver | None = None,
    has_aux: bool = False,
) -> Callable[[PyTree[Any]], Any]:
    r"""Return ``solve`` with the derivative of the fixed point :math:`x = f(x, \theta)`.

    Parameters
    ----------
    function
        ``function(x, args)``.
    solve, linear_solver, has_aux
        As in `implicit_root`.

    Returns
    -------
    Callable
        A function of ``args``.

    References
    ----------
    .. [1] M. Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS, 2022.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> def iterate(a):
    ...     return jax.lax.fori_loop(0, 60, lambda _, x: jnp.cos(a * x), 0.5)
    >>> point = implicit_fixed_point(lambda x, a: jnp.cos(a * x), iterate)
    >>> print(f"{point(1.0):.4f} {jax.grad(point)(1.0):.4f}")
    0.7391 -0.2975
    """

    def residual(x, args):
        return jax.tree.map(lambda new, old: new - old, function(x, args), x)

    return _implicit(residual, solve, linear_solver, has_aux, symmetric=False)


@cites(BLONDEL_2022)
def implicit_minimum(
    objective: Callable[[PyTree[Any], PyTree[Any]], Any],
    solve: Callable[[PyTree[Any]], Any],
    *,
    linear_solver: lx.AbstractLinearSolver | None = None,
    has_aux: bool = False,
) -> Callable[[PyTree[Any]], Any]:
    r"""Return ``solve`` with the derivative of the minimiser of :math:`f(x, \theta)`.

    Parameters
    ----------
    objective
        ``objective(x, args)``, a scalar.
    solve, linear_solver, has_aux
        As in `implicit_root`. The matrix is the symmetric second derivative of the objective.

    Returns
    -------
    Callable
        A function of ``args``.

    References
    ----------
    .. [1] M. Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS, 2022.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> mean = implicit_minimum(lambda x, a: jnp.sum((x - a) ** 2), jnp.mean)
    >>> print(jax.grad(mean)(jnp.array([1.0, 2.0, 6.0])))
    [0.33333334 0.33333334 0.33333334]
    """

    def slope(x, args):
        return jax.grad(lambda y: objective(y, args))(x)

    return _implicit(slope, solve, linear_solver, has_aux, symmetric=True)


def _implicit(residual, solve, linear_solver, has_aux, *, symmetric):
    for name, function in (("residual", residual), ("solve", solve)):
        if not callable(function):
            raise TypeError(f"`{name}` must be callable, got {function!r}.")
    if linear_solver is None:
        linear_solver = lx.AutoLinearSolver(well_posed=True)
    elif not isinstance(linear_solver, lx.AbstractLinearSolver):
        raise TypeError(f"`linear_solver` must be a lineax solver, got {linear_solver!r}.")

    @full_precision
    def solution(args):
        args = jax.tree.map(lambda a: jnp.asarray(a) if eqx.is_array_like(a) else a, args)
        # Tracers that the functions close over become leaves. Those of the solver get no
        # derivative: the root does not depend on the way to it.
        find = constant(eqx.filter_closure_convert(solve, args))
        example = eqx.filter_eval_shape(find, args)
        example = example[0] if has_aux else example
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)
        wanted = eqx.filter_eval_shape(residual, blank, args)
        if jax.tree.map(_shape, wanted) != jax.tree.map(_shape, example):
            raise ValueError(
                f"`residual` must return the structure and shapes of the root, {example}; got "
                f"{wanted}."
            )
        zero_at_root = eqx.filter_closure_convert(residual, blank, args)
        x, aux = _find(
            zero_at_root, args, find, linear_solver, has_aux=has_aux, symmetric=symmetric
        )
        return (x, aux) if has_aux else x

    return solution


@eqx.filter_custom_jvp
def _find(residual, args, find, linear_solver, *, has_aux, symmetric):
    del residual, linear_solver, symmetric
    found = find(args)
    return found if has_aux else (found, None)


@_find.def_jvp
@full_precision
def _find_jvp(primals, tangents, *, has_aux, symmetric):
    residual, args, find, linear_solver = primals
    residual_dot, args_dot, _, _ = tangents
    x, aux = _find(residual, args, find, linear_solver, has_aux=has_aux, symmetric=symmetric)
    no_tangent = jax.tree.map(lambda _: None, aux)
    if not jax.tree.leaves((residual_dot, args_dot)):
        return (x, aux), (jax.tree.map(lambda _: None, x), no_tangent)
    _, change = eqx.filter_jvp(lambda f, a: f(x, a), (residual, args), (residual_dot, args_dot))

    def matvec(v):
        product = jax.jvp(lambda y: residual(y, args), (x,), (v,))[1]
        # Second derivatives of jax.lax.custom_linear_solve end with an error where the matrix
        # depends on nothing that changes. So it depends on the root, if only to be multiplied by 1.
        return jax.tree.map(lambda p, leaf: p * jnp.where(False, leaf, 1), product, x)

    def linear_solve(mv, b):
        tags = lx.symmetric_tag if symmetric else ()
        operator = lx.FunctionLinearOperator(mv, jax.eval_shape(lambda: b), tags)
        if _is_direct(linear_solver):
            flat, unravel = ravel_pytree(b)
            return unravel(_direct_solve(operator.as_matrix(), flat, linear_solver, tags))
        found = lx.linear_solve(operator, b, linear_solver, throw=False)
        good = found.result == lx.RESULTS.successful
        return jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan), found.value)

    x_dot = jax.lax.custom_linear_solve(
        matvec,
        jax.tree.map(jnp.negative, change),
        linear_solve,
        None if symmetric else linear_solve,
        symmetric=symmetric,
    )
    return (x, aux), (x_dot, no_tangent)


def _is_direct(solver):
    if isinstance(solver, lx.AutoLinearSolver):
        return solver.well_posed is True
    return isinstance(solver, lx.LU | lx.QR)


def _direct_solve(matrix, b, solver, tags):
    """Return the solution, or NaN where the matrix is singular to rounding.

    A factorisation says nothing of that, and the residual may vanish all the same: many vectors
    solve such a system. So it is solved for a known vector, too, which must come back.
    """
    operator = lx.MatrixLinearOperator(matrix, tags)
    state = solver.init(operator, {})
    found = lx.linear_solve(operator, b, solver, state=state, throw=False)
    # In the units of unknowns and equations.
    size = _nonzero(jnp.max(jnp.abs(matrix), axis=0))
    row_size = _nonzero(jnp.max(jnp.abs(matrix), axis=1))
    # Multiples of the golden ratio: no vector that rounding could favour.
    fraction = jnp.mod(0.6180339887498949 * jnp.arange(1, b.size + 1, dtype=size.dtype), 1)
    known = ((1 + fraction) / size).astype(b.dtype)
    back = lx.linear_solve(operator, matrix @ known, solver, state=state, throw=False)
    enough = float(jnp.finfo(b.dtype).eps) ** 0.25
    error = jnp.max(jnp.abs(back.value - known) * size, initial=0.0)
    residual = jnp.max(jnp.abs(matrix @ found.value - b) / row_size, initial=0.0)
    good = (found.result == lx.RESULTS.successful) & (error <= enough)
    good = good & (residual <= enough * jnp.max(jnp.abs(b) / row_size, initial=0.0))
    return jnp.where(good, found.value, jnp.nan)


def _nonzero(size):
    return jnp.where(size > 0, size, 1)


def _shape(leaf):
    return tuple(leaf.shape)
