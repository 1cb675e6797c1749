r"""The damped Gauss-Newton direction, factorised once and applied often.

With weighted rows :math:`J` and its column norms :math:`D`, none below a hundredth of the largest,
the direction for a residual :math:`r`
is :math:`D^{-1} (A^T A + \rho^2 I)^{-1} A^T r`, :math:`A = J D^{-1}`; or, if there are fewer rows
than parameters, the same by :math:`D^{-1} A^T (A A^T + \rho^2 I)^{-1} r`. A solver for least
squares takes the rows of :math:`A` with :math:`\rho I` below them instead.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float

from ..numerics import full_precision
from ._column_scales import column_scales
from ._energy_natural_gradient import GramForm

# No parameter is scaled by less than this part of the largest norm.
_LEAST_SCALE = 1e-2
# Solvers of least squares: they need no Gram matrix, whose condition is squared.
_LEAST_SQUARES = (lx.QR, lx.SVD, lx.LSMR, lx.Normal)


class AbstractFactor(eqx.Module):
    """A Jacobian that was made ready for damped least-squares solutions."""

    columns: eqx.AbstractVar[Float[Array, "parameters rows"]]

    @abc.abstractmethod
    def direction(self, r: Float[Array, " rows"]) -> Float[Array, " parameters"]:
        """Return the damped least-squares solution for a weighted residual.

        Parameters
        ----------
        r
            Target minus value.
        """


class CholeskyFactor(AbstractFactor):
    """The Cholesky factor of a damped Gram matrix.

    Attributes
    ----------
    columns
        Transposed Jacobian.
    norms
        Norms of its rows.
    cholesky
        Lower triangular factor, of the form's size.
    form
        ``GramForm.parameters`` or ``GramForm.kernel``.
    """

    columns: Float[Array, "parameters rows"]
    norms: Float[Array, " parameters"]
    cholesky: Float[Array, "size size"]
    form: GramForm = eqx.field(static=True)

    @full_precision
    def direction(self, r: Float[Array, " rows"]) -> Float[Array, " parameters"]:
        """Return the damped least-squares solution for a weighted residual.

        Parameters
        ----------
        r
            Target minus value.
        """
        if self.form is GramForm.kernel:
            return self.columns @ cho_solve((self.cholesky, True), r) / self.norms**2
        scaled = (self.columns @ r) / self.norms
        return cho_solve((self.cholesky, True), scaled) / self.norms


class LineaxFactor(AbstractFactor):
    """The state of a lineax solver.

    Attributes
    ----------
    columns
        Transposed Jacobian.
    norms
        Norms of its rows.
    operator
        What is solved.
    state
        Made once by ``solver``.
    solver
        Of lineax.
    """

    columns: Float[Array, "parameters rows"]
    norms: Float[Array, " parameters"]
    operator: lx.AbstractLinearOperator
    state: Any
    solver: lx.AbstractLinearSolver

    @full_precision
    def direction(self, r: Float[Array, " rows"]) -> Float[Array, " parameters"]:
        """Return the damped least-squares solution for a weighted residual.

        Parameters
        ----------
        r
            Target minus value.
        """
        if isinstance(self.solver, _LEAST_SQUARES):
            right = jnp.concatenate([r, jnp.zeros_like(self.norms)])
        else:
            right = (self.columns @ r) / self.norms
        # Iterative solvers trip over a right-hand side of zeros.
        is_zero = jnp.all(right == 0)
        right = jnp.where(is_zero, jnp.ones_like(right), right)
        found = lx.linear_solve(self.operator, right, self.solver, state=self.state, throw=False)
        return jnp.where(is_zero, jnp.zeros_like(found.value), found.value) / self.norms


@full_precision
def damped_factor(
    columns: Float[Array, "parameters rows"],
    rho: Float[Array, ""],
    form: GramForm,
    linear_solver: lx.AbstractLinearSolver | None = None,
) -> AbstractFactor:
    """Return the factorisation of a transposed Jacobian.

    Parameters
    ----------
    columns
        Transposed weighted Jacobian.
    rho
        Damping, relative to unit columns.
    form
        Which Gram matrix; ``GramForm.smaller`` takes the smaller one. Solvers of lineax know
        only that of the parameters, or none.
    linear_solver
        Of lineax; None is the Cholesky factorisation of a Gram matrix.
    """
    n_parameters, n_rows = columns.shape
    if form is GramForm.smaller:
        form = GramForm.kernel if n_rows < n_parameters else GramForm.parameters
    if linear_solver is None and form is GramForm.kernel:
        norms = column_scales(jnp.linalg.norm(columns, axis=1), _LEAST_SCALE)
        unit = columns / norms[:, None]
        lower = jnp.linalg.cholesky(_damped(unit.T @ unit, rho))
        return CholeskyFactor(columns, norms, lower, form)
    if isinstance(linear_solver, _LEAST_SQUARES):
        norms = column_scales(jnp.linalg.norm(columns, axis=1), _LEAST_SCALE)
        ridge = rho * jnp.eye(n_parameters, dtype=columns.dtype)
        rows = jnp.concatenate([(columns / norms[:, None]).T, ridge])
        operator = lx.MatrixLinearOperator(rows)
        return LineaxFactor(
            columns, norms, operator, linear_solver.init(operator, {}), linear_solver
        )
    # The diagonal holds the norms: over several devices one sum makes both.
    gram = columns @ columns.T
    norms = column_scales(jnp.sqrt(jnp.diagonal(gram)), _LEAST_SCALE)
    gram = _damped(gram / norms[:, None] / norms[None], rho)
    if linear_solver is None:
        return CholeskyFactor(columns, norms, jnp.linalg.cholesky(gram), form)
    operator = lx.MatrixLinearOperator(gram, lx.positive_semidefinite_tag)
    return LineaxFactor(columns, norms, operator, linear_solver.init(operator, {}), linear_solver)


def _damped(gram: Array, rho: Array) -> Array:
    return gram + rho**2 * jnp.eye(len(gram), dtype=gram.dtype)
