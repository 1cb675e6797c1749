r"""The damped Gauss-Newton direction, factorised once and applied often.

With weighted rows :math:`J` and its column norms :math:`D` the direction for a residual :math:`r`
is :math:`D^{-1} (A^T A + \rho^2 I)^{-1} A^T r`, :math:`A = J D^{-1}`; or, if there are fewer rows
than parameters, the same by :math:`D^{-1} A^T (A A^T + \rho^2 I)^{-1} r`.
"""

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Float

from ._energy_natural_gradient import GramForm


class DampedFactor(eqx.Module):
    """A Cholesky factor of the damped Gram matrix, and what it was made of.

    Attributes
    ----------
    unit
        Transposed Jacobian with unit rows, ``(parameters, rows)``.
    norms
        Norms of its rows before.
    cholesky
        Lower triangular factor, of the form's size.
    form
        ``GramForm.parameters`` or ``GramForm.kernel``.
    """

    unit: Float[Array, "parameters rows"]
    norms: Float[Array, " parameters"]
    cholesky: Float[Array, "size size"]
    form: GramForm = eqx.field(static=True)

    def direction(self, r: Float[Array, " rows"]) -> Float[Array, " parameters"]:
        """Return the damped least-squares solution for the residual ``r``.

        Parameters
        ----------
        r
            Weighted residual, target minus value.
        """
        if self.form is GramForm.kernel:
            return (self.unit @ cho_solve((self.cholesky, True), r)) / self.norms
        return cho_solve((self.cholesky, True), self.unit @ r) / self.norms


def damped_factor(
    columns: Float[Array, "parameters rows"], rho: Float[Array, ""], form: GramForm
) -> DampedFactor:
    """Return the factorisation of a transposed Jacobian.

    Parameters
    ----------
    columns
        Transposed weighted Jacobian.
    rho
        Damping, relative to unit columns.
    form
        Which Gram matrix; ``GramForm.smaller`` takes the smaller one.
    """
    norms = jnp.linalg.norm(columns, axis=1)
    norms = jnp.where(norms > 0, norms, jnp.ones_like(norms))
    unit = columns / norms[:, None]
    n_parameters, n_rows = columns.shape
    if form is GramForm.smaller:
        form = GramForm.kernel if n_rows < n_parameters else GramForm.parameters
    gram = unit.T @ unit if form is GramForm.kernel else unit @ unit.T
    gram = gram + rho**2 * jnp.eye(len(gram), dtype=gram.dtype)
    return DampedFactor(unit, norms, jnp.linalg.cholesky(gram), form)
