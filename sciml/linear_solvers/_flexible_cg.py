"""Flexible conjugate gradients: for preconditioners that are not linear, or vary.

Plain CG takes ``beta = (z.r)_new / (z.r)_old``, which presumes one fixed symmetric preconditioner.
Here the new direction is made A-orthogonal to the last ``memory`` ones explicitly (Notay's
FCG(m)). With ``memory=1`` that is the Polak-Ribiere formula ``beta = z.(r_new - r_old) /
(z.r)_old``, because ``r_new - r_old`` is a multiple of ``A p``.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Inexact, Int

from ..core import RealScalar, Solution, cites
from ._bibliography import NOTAY_2000
from ._conjugate_directions import conjugate_directions
from ._nullspace import ConstantNullspace


@cites(NOTAY_2000)
def flexible_conjugate_gradient(
    operator: Any,
    b: Inexact[Array, "..."],
    x0: Inexact[Array, "..."] | None = None,
    *,
    preconditioner: Callable[[Any], Any],
    memory: int = 1,
    rtol: RealScalar = 1e-5,
    atol: RealScalar = 0.0,
    max_steps: int | Int[Array, ""] | None = None,
    nullspace: ConstantNullspace | None = None,
    recompute_every: int = 10,
    n_history: int = 0,
) -> Solution:
    """Solve ``A x = b`` with any preconditioner: nonlinear, indefinite, an inner iteration.

    A value of the preconditioner that is zero, not finite, or nothing new is replaced by the
    residual. The A-norm of the error never grows. For gradients take `FlexibleCG`.

    Parameters
    ----------
    operator, b, x0, rtol, atol, max_steps, nullspace, recompute_every, n_history
        As in `conjugate_directions`.
    preconditioner
        ``z = preconditioner(r)``, called with ``||r||_2 = 1``.
    memory
        Directions to be A-orthogonal to. 1 is Polak-Ribiere; as many as there are steps is the
        full method.

    Returns
    -------
    Solution
        As from `conjugate_directions`; ``stats["n_replaced"]`` counts the replaced values.

    Raises
    ------
    ValueError
        If shapes do not match or a tolerance is negative.

    References
    ----------
    .. [1] Y. Notay, "Flexible conjugate gradients", SIAM Journal on Scientific Computing 22 (2000),
       1444-1460.

    Examples
    --------
    >>> import jax.numpy as jnp, lineax as lx
    >>> operator = lx.DiagonalLinearOperator(jnp.array([1.0, 10.0, 100.0]))
    >>> solution = flexible_conjugate_gradient(
    ...     operator, jnp.ones(3), preconditioner=lambda r: r / jnp.array([1.0, 9.0, 120.0])
    ... )
    >>> int(solution.stats["num_steps"])
    3
    """
    if not callable(preconditioner):
        raise TypeError(f"`preconditioner` must be callable, got {preconditioner!r}.")
    return conjugate_directions(
        operator,
        b,
        x0,
        preconditioner=preconditioner,
        memory=memory,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        nullspace=nullspace,
        recompute_every=recompute_every,
        n_history=n_history,
    )
