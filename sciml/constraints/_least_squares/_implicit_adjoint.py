r"""The derivative of a least-squares solution by the implicit function theorem.

At a solution :math:`G(w, \theta) = J^T r = 0`. Hence :math:`H\,dw = -\partial_\theta G\,d\theta`
with :math:`H = \partial_w G = J^T J + \sum_i r_i \nabla^2 r_i`, one symmetric system of the size
of :math:`w`, whatever the number of rows and of steps.
"""

import enum
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import check_positive, cites
from ...core._constant import constant
from ...numerics import full_precision
from .._bibliography import BLONDEL_2022, GOLUB_1973
from ._pseudo_inverse import symmetric_pseudo_inverse, triangle_pseudo_inverse
from ._rows import (
    NormalForm,
    RowProblem,
    curvature,
    gradient,
    hessian,
    replicated,
    varying_axes,
)
from ._solver import RANK_DEFICIENT, AbstractLeastSquaresSolver, Outcome


class HessianForm(enum.Enum):
    """The matrix of the implicit system.

    Attributes
    ----------
    full
        The second derivative of the objective: right.
    gauss_newton
        ``J^T J``: cheaper, and wrong unless the rows vanish at the solution or are linear.
    """

    full = "full"
    gauss_newton = "gauss_newton"


class OnFailure(enum.Enum):
    """The derivative of a solution that was not found.

    Attributes
    ----------
    nan
        Not a number: nobody takes it for a derivative.
    zero
        Zero: the problem takes no part in a sum of losses. The status still tells.
    """

    nan = "nan"
    zero = "zero"


@cites(BLONDEL_2022, GOLUB_1973)
class ImplicitAdjoint(eqx.Module):
    r"""How a least-squares solution is differentiated, forwards and backwards.

    With `NormalForm.qr` the system is factored without squaring the Jacobian, so that derivatives
    are right up to the condition numbers at which a solution is called rank deficient. That one
    gets the derivative of least norm (the pseudo-inverse), and nothing is raised in the backward
    pass. Where the solution is known and a derivative is not (``J^T J`` is lost in the rounding
    of the second derivatives of rows that remain), it is that of a failure, `on_failure`. The
    derivative with respect to the start ``w0`` is zero.

    Parameters
    ----------
    hessian
        `HessianForm.full` or `HessianForm.gauss_newton`.
    on_failure
        What the derivative is where the solve did not converge.
    rcond
        Eigenvalues of the system below ``rcond`` times the largest, after scaling of the
        unknowns, count as zero, and the derivative is that of least norm. By default only what
        is below round-off.

    Notes
    -----
    Second derivatives are right where no eigenvalue was left out.

    References
    ----------
    .. [1] M. Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS, 2022.
    .. [2] G. H. Golub and V. Pereyra, "The Differentiation of Pseudo-Inverses and Nonlinear Least
       Squares Problems Whose Variables Separate", SIAM J. Numer. Anal. 10, 1973.

    Examples
    --------
    >>> from sciml.constraints import ImplicitAdjoint, OnFailure
    >>> ImplicitAdjoint(on_failure=OnFailure.zero).hessian
    <HessianForm.full: 'full'>
    """

    hessian: HessianForm = eqx.field(static=True)
    on_failure: OnFailure = eqx.field(static=True)
    rcond: float | None = eqx.field(static=True)

    def __init__(
        self,
        *,
        hessian: HessianForm = HessianForm.full,
        on_failure: OnFailure = OnFailure.nan,
        rcond: float | None = None,
    ):
        for name, value, kind in (
            ("hessian", hessian, HessianForm),
            ("on_failure", on_failure, OnFailure),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"`{name}` must be a member of {kind.__name__}, got {value!r}.")
        if rcond is not None:
            check_positive("rcond", rcond)
        self.hessian = hessian
        self.on_failure = on_failure
        self.rcond = None if rcond is None else float(rcond)


@eqx.filter_custom_jvp
def minimise(
    problem: RowProblem,
    w0: Float[Array, " n"],
    *,
    solver: AbstractLeastSquaresSolver,
    adjoint: ImplicitAdjoint,
) -> tuple[Any, Outcome]:
    """Solve; differentiable with respect to everything in ``problem``."""
    del adjoint
    return solver.run(problem, w0)


@minimise.def_jvp
@full_precision
def _minimise_jvp(primals, tangents, *, solver, adjoint):
    problem, w0 = primals
    problem_dot, _ = tangents
    w, outcome = minimise(problem, w0, solver=solver, adjoint=adjoint)
    no_tangent = jax.tree.map(lambda _: None, outcome)
    if not jax.tree.leaves(problem_dot):
        return (w, outcome), (None, no_tangent)
    usable = outcome.converged
    inverse = _inverse(problem, w, outcome, solver.form, adjoint)
    # What was called of full rank and cannot be inverted has no derivative that is known.
    if adjoint.rcond is None:
        usable = usable & ((outcome.status == RANK_DEFICIENT) | ~inverse.is_singular)

    failed = jnp.nan if adjoint.on_failure is OnFailure.nan else 0.0
    factor = jnp.where(usable, 1.0, failed)

    def gate(leaf):
        # Selected on the way in and out: what a failed problem makes of it reaches nothing.
        return jnp.where(usable, leaf, 0)

    def mark(leaf):
        # The outermost operation in both directions.
        return leaf * factor.astype(leaf.dtype)

    def entering(leaf, primal):
        if leaf is None:
            return None
        shared = tuple(varying_axes(usable) - varying_axes(primal))
        if not shared:
            return gate(mark(leaf))
        # What a residual inside `jax.shard_map` closes over and the problems of all devices share:
        # one that failed makes its derivative no number; in a sum without it it has none to gate.
        failures = jax.lax.psum(jnp.where(usable, 0, 1), shared)
        return leaf * jnp.where(failures == 0, 1.0, 1.0 if failed == 0 else failed)

    problem_dot = jax.tree.map(entering, problem_dot, problem, is_leaf=lambda leaf: leaf is None)
    gauss_newton = adjoint.hessian is HessianForm.gauss_newton

    def matvec(v):
        if gauss_newton:
            return hessian(problem, w, gauss_newton=True) @ v
        return jax.jvp(lambda y: gradient(problem, y), (w,), (v,))[1]

    def improve(w_dot, _):
        # The change of the gradient is summed row by row. Where rows change with the problem and
        # with w against each other, it is small before it is multiplied by J^T, and its rounding
        # is, too: the second pass gains what the square of the condition number cost the first.
        _, change = eqx.filter_jvp(gradient, (problem, w), (problem_dot, w_dot))
        # Not lineax: its transposed solves raise, here the status says it.
        step = jax.lax.custom_linear_solve(
            matvec, gate(change), lambda _, b: inverse.solve(b), symmetric=True
        )
        # `matvec` sees the points of one device, which marks the result as that device's own.
        step = replicated(step, problem.axis_name)
        return w_dot - step, None

    passes = 1 if gauss_newton else 2
    w_dot, _ = jax.lax.scan(improve, jnp.zeros_like(w), None, length=passes)
    return (w, outcome), (mark(gate(w_dot)), no_tangent)


def _inverse(problem, w, outcome, form, adjoint):
    """Return the pseudo-inverse of the implicit system."""
    problem, w, outcome = constant((problem, w, outcome))
    gauss_newton = adjoint.hessian is HessianForm.gauss_newton
    n, usable = w.shape[0], outcome.converged
    if form is NormalForm.gram:
        second = hessian(problem, w, gauss_newton=gauss_newton)
        second = jnp.where(usable, second, jnp.eye(n, dtype=w.dtype))
        return symmetric_pseudo_inverse(second, adjoint.rcond)
    triangle = outcome.total[:n, :n]
    bent = jnp.zeros_like(triangle) if gauss_newton else curvature(problem, w)
    triangle = jnp.where(usable, triangle, jnp.eye(n, dtype=w.dtype))
    return triangle_pseudo_inverse(triangle, jnp.where(usable, bent, 0), adjoint.rcond)
