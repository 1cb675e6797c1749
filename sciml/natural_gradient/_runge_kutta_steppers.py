"""Steppers with stages: explicit, diagonally implicit, and both together."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx

from ._runge_kutta_step import Split, runge_kutta_step
from ._tableau import (
    ARS_EXPLICIT,
    ARS_IMPLICIT,
    EULER,
    MIDPOINT,
    RK4,
    SDIRK2,
    Tableau,
    from_diffrax,
)
from ._time_stepper import AbstractStepper, Carry, Report, StepContext


class AbstractOneStep(AbstractStepper):
    """A stepper that needs no earlier state, and so none that starts it."""

    @property
    def n_past(self) -> int:
        """Zero: a step needs no earlier state."""
        return 0

    @property
    def starter(self) -> AbstractStepper:
        """Itself."""
        return self


class Explicit(AbstractOneStep):
    """An explicit Runge-Kutta method; each stage's function is fitted by the network.

    Parameters
    ----------
    tableau
        One of diffrax, for instance ``diffrax.Tsit5.tableau``; None is the classical RK4.

    Raises
    ------
    ValueError
        If the tableau is implicit.

    Examples
    --------
    >>> len(Explicit().tableau.b)
    4
    """

    tableau: Any = eqx.field(static=True)

    def __init__(self, tableau: Any = None):
        tableau = _tableau(tableau, RK4)
        if not tableau.is_explicit:
            raise ValueError(
                "`tableau` is implicit; `Explicit` takes explicit ones, `DiagonallyImplicit` this."
            )
        self.tableau = tableau

    @property
    def error_order(self) -> int:
        """The power of the step with which the estimated error falls."""
        return self.tableau.error_order

    def step(self, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
        """Make one step."""
        return runge_kutta_step(ctx, carry, Split((ctx.rhs, self.tableau), None))


class ForwardEuler(AbstractOneStep):
    """Euler's method: one fit a step.

    Examples
    --------
    >>> ForwardEuler().error_order
    2
    """

    @property
    def error_order(self) -> int:
        """The power of the step with which the estimated error falls."""
        return 2

    def step(self, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
        """Make one step."""
        return runge_kutta_step(ctx, carry, Split((ctx.rhs, EULER), None))


class DiagonallyImplicit(AbstractOneStep):
    r"""A diagonally implicit method: stages are fitted so that ``u - gamma dt rhs`` has its value.

    One factorisation a step, of the Jacobian of that map (plus one of the values, if the last
    stage is not the solution).

    Parameters
    ----------
    tableau
        One of diffrax, for instance ``diffrax.Kvaerno3.tableau``; None is Alexander's method of
        order 2, L-stable.

    Raises
    ------
    ValueError
        If the tableau is explicit.

    Examples
    --------
    >>> DiagonallyImplicit().error_order
    3
    """

    tableau: Any = eqx.field(static=True)

    def __init__(self, tableau: Any = None):
        tableau = _tableau(tableau, SDIRK2)
        if tableau.is_explicit:
            raise ValueError("`tableau` is explicit; give it to `Explicit`.")
        self.tableau = tableau

    @property
    def error_order(self) -> int:
        """The power of the step with which the estimated error falls."""
        return self.tableau.error_order

    def step(self, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
        """Make one step."""
        return runge_kutta_step(ctx, carry, Split(None, (ctx.rhs, self.tableau)))


class ImplicitMidpoint(AbstractOneStep):
    """The implicit midpoint rule: order 2, conserves quadratic invariants.

    Examples
    --------
    >>> ImplicitMidpoint().error_order
    3
    """

    @property
    def error_order(self) -> int:
        """The power of the step with which the estimated error falls."""
        return 3

    def step(self, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
        """Make one step."""
        return runge_kutta_step(ctx, carry, Split(None, (ctx.rhs, MIDPOINT)))


class ImplicitExplicit(AbstractOneStep):
    r"""Stiff terms implicit, the others explicit: large steps where diffusion is fast.

    Parameters
    ----------
    stiff
        ``stiff(t, x, u)``, the part of the right-hand side that is taken implicitly, for instance
        ``lambda t, x, u: nu * laplacian(u)(x)``; the march is given the whole.
    tableau
        A pair of diffrax (``diffrax.KenCarp3.tableau``); None is that of Ascher, Ruuth and
        Spiteri of order 2, L-stable, two fits a step.

    Raises
    ------
    ValueError
        If the tableau is no pair of an explicit and an implicit one.

    Examples
    --------
    >>> ImplicitExplicit(lambda t, x, u: -u(x)).error_order
    3
    """

    stiff: Callable[..., Any]
    tableau: Any = eqx.field(static=True)

    def __init__(self, stiff: Callable[..., Any], tableau: Any = None):
        if tableau is None:
            tableau = (ARS_EXPLICIT, ARS_IMPLICIT)
        elif isinstance(tableau, diffrax.MultiButcherTableau):
            tableau = tuple(from_diffrax(t) for t in tableau.tableaus)
        if len(tableau) != 2 or not tableau[0].is_explicit or tableau[1].is_explicit:
            raise ValueError(
                "`tableau` must be a pair, explicit and diagonally implicit, such as "
                "`diffrax.KenCarp3.tableau`."
            )
        self.stiff, self.tableau = stiff, tuple(tableau)

    @property
    def error_order(self) -> int:
        """The power of the step with which the estimated error falls."""
        return self.tableau[1].error_order

    def step(self, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
        """Make one step."""

        def rest(t: Any, x: Any, u: Any) -> Any:
            return ctx.rhs(t, x, u) - self.stiff(t, x, u)

        explicit, implicit = self.tableau
        return runge_kutta_step(ctx, carry, Split((rest, explicit), (self.stiff, implicit)))


def _tableau(given: Any, default: Tableau) -> Tableau:
    if given is None:
        return default
    if isinstance(given, Tableau):
        return given
    if not isinstance(given, diffrax.ButcherTableau):
        raise ValueError(
            f"`tableau` must be a Butcher tableau of diffrax, got {type(given).__name__}."
        )
    return from_diffrax(given)
