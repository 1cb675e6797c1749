"""Which time discretisation a march takes: explicit tableaus, implicit midpoint, TDVP."""

import abc
from typing import Any

import diffrax
import equinox as eqx
import numpy as np

# The classical tableau; diffrax has none. Its error estimate is the march's own.
_RK4 = diffrax.ButcherTableau(
    c=np.array([0.5, 0.5, 1.0]),
    b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
    b_error=np.zeros(4),
    a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
)


class AbstractMarch(eqx.Module):
    """How one step of a march is made."""

    @property
    @abc.abstractmethod
    def stages(self) -> tuple[Any, ...]:
        """The tableau's ``(a, b, b_error, c)`` as nested tuples; hashable."""


class Explicit(AbstractMarch):
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
    >>> len(Explicit().stages[1])
    4
    """

    tableau: Any = eqx.field(static=True)

    def __init__(self, tableau: diffrax.ButcherTableau | None = None):
        if tableau is not None and getattr(tableau, "a_diagonal", None) is not None:
            raise ValueError("`tableau` is implicit; `Explicit` takes explicit ones.")
        self.tableau = tableau

    @property
    def stages(self) -> tuple[Any, ...]:
        """The tableau's ``(a, b, b_error, c)`` as nested tuples."""
        t = _RK4 if self.tableau is None else self.tableau
        a = tuple(tuple(float(v) for v in row) for row in t.a_lower)
        return a, *(tuple(float(v) for v in row) for row in (t.b_sol, t.b_error, (0.0, *t.c)))


class ForwardEuler(AbstractMarch):
    """Euler's method: one fit a step.

    Examples
    --------
    >>> ForwardEuler().stages[1]
    (1.0,)
    """

    @property
    def stages(self) -> tuple[Any, ...]:
        """The tableau's ``(a, b, b_error, c)`` as nested tuples."""
        return (), (1.0,), (0.0,), (0.0,)


class ImplicitMidpoint(AbstractMarch):
    """The implicit midpoint rule: the network is fitted so that ``u - dt/2 L(u)`` is the old ``u``.

    Examples
    --------
    >>> ImplicitMidpoint().stages
    ()
    """

    @property
    def stages(self) -> tuple[Any, ...]:
        """Empty: it has no explicit stage."""
        return ()
