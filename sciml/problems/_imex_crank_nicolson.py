"""Explicit Euler for the nonlinear term, Crank-Nicolson for the linear one."""

from typing import ClassVar, NamedTuple

from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Inexact

from ..core import RealScalar, cites
from ..core._bibliography import LI_2021
from ..numerics._fourier import scale
from ._semilinear import AbstractSemilinearPDE
from ._stepper import AbstractStepper, as_weight, symbol_and_step


class _Coefficients(NamedTuple):
    linear: Inexact[Array, "..."]
    nonlinear: Inexact[Array, "..."]


@cites(LI_2021)
class IMEXCrankNicolson(AbstractStepper[_Coefficients]):
    r"""First-order stepper of the Fourier neural operator's data sets.

    .. math:: \frac{u^+ - u}{h} = N(u) + \tfrac{1}{2} L (u^+ + u)

    One evaluation of the nonlinear term a step. The explicit part amplifies pure convection, so
    the step must be small against the viscous time of the energetic scales: it is here to
    reproduce published data, and as the cheap baseline. Prefer `ETDRK4` for new data.

    References
    ----------
    .. [1] Z. Li et al., "Fourier neural operator for parametric partial differential equations",
       ICLR 2021, appendix A.3.

    Examples
    --------
    A flow that only decays, with a step of a hundredth:

    >>> import jax.numpy as jnp
    >>> from sciml.problems import IMEXCrankNicolson, NavierStokes2D, solve, taylor_green_vorticity
    >>> problem = NavierStokes2D((16, 16), viscosity=1e-3)
    >>> start = taylor_green_vorticity((16, 16), 1.0, viscosity=1e-3)
    >>> exact = taylor_green_vorticity((16, 16), 1.0, viscosity=1e-3, time=1.0)
    >>> stepper = IMEXCrankNicolson()
    >>> end = solve(problem, start, dt=0.01, n_steps=100, save_every=100, stepper=stepper).value[-1]
    >>> bool(jnp.allclose(end, exact, rtol=1e-4, atol=1e-3))
    True
    """

    order: ClassVar[int] = 1
    n_evaluations: ClassVar[int] = 1

    def prepare(
        self, problem: AbstractSemilinearPDE, dt: RealScalar, dtype: DTypeLike
    ) -> _Coefficients:
        """Return the weights of ``u`` and ``N(u)`` in the change of a step."""
        symbol, h = symbol_and_step(problem, dt, dtype)
        implicit = 1 / (1 - h / 2 * symbol)
        weights = (h * symbol * implicit, h * implicit)
        return _Coefficients(*(as_weight(weight, dtype) for weight in weights))

    def step(
        self,
        problem: AbstractSemilinearPDE,
        coefficients: _Coefficients,
        u_hat: Complex[Array, "channels *modes"],
    ) -> Complex[Array, "channels *modes"]:
        """Advance the Fourier coefficients by one step."""
        linear, nonlinear = coefficients
        # The change is added to the state; a factor near 1, rounded, would err in every step.
        return u_hat + (scale(linear, u_hat) + scale(nonlinear, problem.nonlinear_term(u_hat)))
