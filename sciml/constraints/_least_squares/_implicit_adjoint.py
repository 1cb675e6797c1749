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
from ...numerics import full_precision
from .._bibliography import BLONDEL_2022, GOLUB_1973
from ._pseudo_inverse import symmetric_pseudo_inverse
from ._rows import RowProblem, gradient, hessian
from ._solver import AbstractLeastSquaresSolver, Outcome


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

    The system is solved by an eigen-decomposition that leaves out eigenvalues at round-off (the
    pseudo-inverse): a singular system gives the derivative of least norm, and nothing is raised
    in the backward pass. The derivative with respect to the start ``w0`` is zero.

    Parameters
    ----------
    hessian
        `HessianForm.full` or `HessianForm.gauss_newton`.
    on_failure
        What the derivative is where the solve did not converge.
    rcond
        Eigenvalues below ``rcond`` times the largest, after scaling to a unit diagonal, count as
        zero. By default ``10 N`` rounding units.

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

    failed = jnp.nan if adjoint.on_failure is OnFailure.nan else 0.0
    factor = jnp.where(usable, 1.0, failed)

    def gate(leaf):
        # Selected on the way in and out: what a failed problem makes of it reaches nothing.
        return jnp.where(usable, leaf, 0)

    def mark(leaf):
        # The outermost operation in both directions.
        return leaf * factor.astype(leaf.dtype)

    _, change = eqx.filter_jvp(
        lambda p: gradient(p, w),
        (problem,),
        (jax.tree.map(lambda leaf: gate(mark(leaf)), problem_dot),),
    )
    second = hessian(problem, w, gauss_newton=adjoint.hessian is HessianForm.gauss_newton)
    second = jnp.where(usable, second, jnp.eye(w.shape[0], dtype=w.dtype))
    inverse = symmetric_pseudo_inverse(jax.lax.stop_gradient(second), adjoint.rcond)
    # Not lineax: its transposed solves raise, here the status says it.
    w_dot = jax.lax.custom_linear_solve(
        lambda v: second @ v, -gate(change), lambda _, b: inverse(b), symmetric=True
    )
    return (w, outcome), (mark(gate(w_dot)), no_tangent)
