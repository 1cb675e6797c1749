"""Exponential time differencing with a fourth-order Runge-Kutta scheme (Cox and Matthews)."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Inexact

from ..core import RealScalar, cites
from ..core._bibliography import COX_2002, KASSAM_2005
from ..numerics._fourier import scale
from ._phi_functions import phi_functions
from ._semilinear import AbstractSemilinearPDE
from ._stepper import AbstractStepper, as_weight, symbol_and_step


class _Coefficients(NamedTuple):
    """Weights of the stages, broadcastable to the coefficients of the state.

    ``full`` and ``half`` are ``expm1``, not ``exp``: rounding ``exp(z)`` near 1 to float32 would
    damp slow modes by a wrong rate in every step, which costs a digit over a hundred steps.
    """

    full: Inexact[Array, "..."]
    half: Inexact[Array, "..."]
    stage: Inexact[Array, "..."]
    first: Inexact[Array, "..."]
    middle: Inexact[Array, "..."]
    last: Inexact[Array, "..."]


@cites(COX_2002, KASSAM_2005)
class ETDRK4(AbstractStepper[_Coefficients]):
    r"""Fourth-order exponential stepper: the linear part is exact, the rest explicit.

    With :math:`E = e^{hL}`, :math:`E_2 = e^{hL/2}`, :math:`Q = \tfrac{h}{2} \varphi_1(hL/2)`:

    .. math::
        a &= E_2 u + Q N(u), \quad b = E_2 u + Q N(a), \quad c = E_2 a + Q (2 N(b) - N(u)), \\
        u^+ &= E u + h (\varphi_1 - 3 \varphi_2 + 4 \varphi_3) N(u)
             + 2 h (\varphi_2 - 2 \varphi_3) (N(a) + N(b)) + h (4 \varphi_3 - \varphi_2) N(c)

    It has no stability limit from diffusion or drag; convection limits the step to a Courant
    number of about 2. The weights are computed in float64 on the host whenever the problem and
    the step size are known numbers, otherwise (under ``jax.grad`` in the viscosity, say) in the
    precision of the state.

    References
    ----------
    .. [1] S. M. Cox and P. C. Matthews, "Exponential time differencing for stiff systems",
       Journal of Computational Physics 176 (2002), 430-455.
    .. [2] A.-K. Kassam and L. N. Trefethen, "Fourth-order time-stepping for stiff PDEs", SIAM
       Journal on Scientific Computing 26 (2005), 1214-1233.

    Examples
    --------
    Diffusion is exact at any step, so is a flow without convection:

    >>> import jax.numpy as jnp
    >>> from sciml.problems import ETDRK4, NavierStokes2D, solve, taylor_green_vorticity
    >>> problem = NavierStokes2D((16, 16), viscosity=0.01)
    >>> start = taylor_green_vorticity((16, 16), 1.0, viscosity=0.01)
    >>> exact = taylor_green_vorticity((16, 16), 1.0, viscosity=0.01, time=1.0)
    >>> end = solve(problem, start, dt=0.5, n_steps=2, stepper=ETDRK4()).value[-1]
    >>> bool(jnp.allclose(end, exact, atol=1e-5))
    True
    """

    order: ClassVar[int] = 4
    n_evaluations: ClassVar[int] = 4

    def prepare(
        self, problem: AbstractSemilinearPDE, dt: RealScalar, dtype: DTypeLike
    ) -> _Coefficients:
        """Return the six weights, each of the shape of the linear symbol."""
        symbol, h = symbol_and_step(problem, dt, dtype)
        xp = jnp if isinstance(symbol, jax.Array) else np
        z = h * symbol
        phi_1, phi_2, phi_3 = phi_functions(z)
        phi_1_half, _, _ = phi_functions(z / 2)
        weights = (
            xp.expm1(z),
            xp.expm1(z / 2),
            h / 2 * phi_1_half,
            h * (phi_1 - 3 * phi_2 + 4 * phi_3),
            2 * h * (phi_2 - 2 * phi_3),
            h * (4 * phi_3 - phi_2),
        )
        return _Coefficients(*(as_weight(weight, dtype) for weight in weights))

    def step(
        self,
        problem: AbstractSemilinearPDE,
        coefficients: _Coefficients,
        u_hat: Complex[Array, "channels *modes"],
    ) -> Complex[Array, "channels *modes"]:
        """Advance the Fourier coefficients by one step."""
        c = coefficients
        decayed = u_hat + scale(c.half, u_hat)
        n_u = problem.nonlinear_term(u_hat)
        a = decayed + scale(c.stage, n_u)
        n_a = problem.nonlinear_term(a)
        b = decayed + scale(c.stage, n_a)
        n_b = problem.nonlinear_term(b)
        d = a + (scale(c.half, a) + scale(c.stage, 2 * n_b - n_u))
        n_d = problem.nonlinear_term(d)
        change = scale(c.full, u_hat) + scale(c.first, n_u)
        return u_hat + (change + scale(c.middle, n_a + n_b) + scale(c.last, n_d))
