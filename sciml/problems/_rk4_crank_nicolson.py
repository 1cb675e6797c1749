"""A five-stage, fourth-order low-storage Runge-Kutta scheme with Crank-Nicolson in each stage."""

from fractions import Fraction
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Inexact

from ..core import RealScalar, cites
from ..core._bibliography import CANUTO_2007, CARPENTER_1994
from ..numerics._fourier import scale
from ._semilinear import AbstractSemilinearPDE
from ._stepper import AbstractStepper, as_weight, symbol_and_step

# Solution 3 of Carpenter and Kennedy's (5, 4) schemes in two-register form: a stage computes
# k <- A k + N(u), u <- u + h B k. The times of the stages follow from A and B.
_A = (
    Fraction(0),
    Fraction(-567301805773, 1357537059087),
    Fraction(-2404267990393, 2016746695238),
    Fraction(-3550918686646, 2091501179385),
    Fraction(-1275806237668, 842570457699),
)
_B = (
    Fraction(1432997174477, 9575080441755),
    Fraction(5161836677717, 13612068292357),
    Fraction(1720146321549, 2090206949498),
    Fraction(3134564353537, 4481467310338),
    Fraction(2277821191437, 14882151754819),
)


def _stage_times() -> tuple[Fraction, ...]:
    """Where on the unit step each stage starts, and the end: what N = 1 integrates to."""
    times, k, u = [Fraction(0)], Fraction(0), Fraction(0)
    for a, b in zip(_A, _B, strict=True):
        k = a * k + 1
        u = u + b * k
        times.append(u)
    # The published numbers are rounded to 1e-25; a step ends at 1.
    return (*times[:-1], Fraction(1))


_TIMES = _stage_times()


class _Coefficients(NamedTuple):
    linear: tuple[Inexact[Array, "..."], ...]
    nonlinear: tuple[Inexact[Array, "..."], ...]


@cites(CARPENTER_1994, CANUTO_2007)
class RK4CrankNicolson(AbstractStepper[_Coefficients]):
    r"""Low-storage Runge-Kutta for the nonlinear term, Crank-Nicolson for the linear one.

    Stage :math:`i`, which leads from time :math:`c_i h` to :math:`c_{i+1} h`, is

    .. math::
        k &\leftarrow A_i k + N(u), \\
        u^+ &= u + h B_i k + \tfrac{1}{2} (c_{i+1} - c_i) h\, L (u^+ + u).

    It is fourth-order in the convection and second-order in the linear part, so formally of order
    2; where convection dominates the error, the measured order is near 4. Known as
    ``crank_nicolson_rk4`` in JAX-CFD and torch-cfd, whose published data it made.

    References
    ----------
    .. [1] M. H. Carpenter and C. A. Kennedy, "Fourth-order 2N-storage Runge-Kutta schemes", NASA
       Technical Memorandum 109112 (1994).
    .. [2] C. Canuto, M. Y. Hussaini, A. Quarteroni and T. A. Zang, "Spectral methods: evolution
       to complex geometries and applications to fluid dynamics", Springer (2007), appendix D.3.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import NavierStokes2D, RK4CrankNicolson, solve, taylor_green_vorticity
    >>> problem = NavierStokes2D((16, 16), viscosity=1e-3)
    >>> start = taylor_green_vorticity((16, 16), 1.0, viscosity=1e-3)
    >>> solution = solve(problem, start, dt=0.1, n_steps=10, stepper=RK4CrankNicolson())
    >>> solution.stats["n_evaluations"]
    50
    """

    order: ClassVar[int] = 2
    n_evaluations: ClassVar[int] = 5

    def prepare(
        self, problem: AbstractSemilinearPDE, dt: RealScalar, dtype: DTypeLike
    ) -> _Coefficients:
        """Return, for each stage, the weights of ``u`` and ``k`` in its change."""
        symbol, h = symbol_and_step(problem, dt, dtype)
        linear, nonlinear = [], []
        for start, end, b in zip(_TIMES[:-1], _TIMES[1:], _B, strict=True):
            z = float(end - start) * h * symbol
            implicit = 1 / (1 - z / 2)
            linear.append(as_weight(z * implicit, dtype))
            nonlinear.append(as_weight(float(b) * h * implicit, dtype))
        return _Coefficients(tuple(linear), tuple(nonlinear))

    def step(
        self,
        problem: AbstractSemilinearPDE,
        coefficients: _Coefficients,
        u_hat: Complex[Array, "channels *modes"],
    ) -> Complex[Array, "channels *modes"]:
        """Advance the Fourier coefficients by one step."""
        k = jnp.zeros_like(u_hat)
        for a, linear, nonlinear in zip(_A, *coefficients, strict=True):
            k = float(a) * k + problem.nonlinear_term(u_hat)
            u_hat = u_hat + (scale(linear, u_hat) + scale(nonlinear, k))
        return u_hat
