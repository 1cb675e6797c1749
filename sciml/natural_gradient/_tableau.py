"""Butcher tableaus as hashable numbers, and the order of their error estimates."""

from typing import NamedTuple

import diffrax
import numpy as np

Rows = tuple[tuple[float, ...], ...]


class Tableau(NamedTuple):
    """A Runge-Kutta method with a lower triangular matrix.

    Attributes
    ----------
    a
        Rows of the matrix below the diagonal, the empty first one included.
    diagonal
        Its diagonal.
    b
        Weights of the solution.
    b_error
        Weights of the error estimate; all zero if there is none.
    c
        Abscissas.
    """

    a: Rows
    diagonal: tuple[float, ...]
    b: tuple[float, ...]
    b_error: tuple[float, ...]
    c: tuple[float, ...]

    @property
    def is_explicit(self) -> bool:
        """Whether no stage is implicit."""
        return not any(self.diagonal)

    @property
    def ends_with_its_last_stage(self) -> bool:
        """Whether the last stage is the solution."""
        last = (*self.a[-1], self.diagonal[-1])
        return self.c[-1] == 1.0 and len(self.b) > 1 and np.allclose(last, self.b, atol=1e-14)

    def order(self, weights: tuple[float, ...]) -> int:
        """Return the order of the method with these weights, at most 4."""
        n = len(self.b)
        a = np.zeros((n, n))
        for i, row in enumerate(self.a):
            a[i, :i] = row
            a[i, i] = self.diagonal[i]
        b, c = np.asarray(weights), np.asarray(self.c)
        conditions = (
            ((b.sum(), 1),),
            ((b @ c, 1 / 2),),
            ((b @ c**2, 1 / 3), (b @ a @ c, 1 / 6)),
            (
                (b @ c**3, 1 / 4),
                ((b * c) @ a @ c, 1 / 8),
                (b @ a @ c**2, 1 / 12),
                (b @ a @ a @ c, 1 / 24),
            ),
        )
        order = 0
        for group in conditions:
            if any(abs(found - wanted) > 1e-8 for found, wanted in group):
                break
            order += 1
        return order

    @property
    def error_order(self) -> int:
        """The power of the step with which the error estimate falls."""
        if any(self.b_error):
            other = tuple(np.subtract(self.b, self.b_error))
            return 1 + min(self.order(other), self.order(self.b))
        return 1 + self.order(self.b)


def from_diffrax(t: diffrax.ButcherTableau) -> Tableau:
    """Return the numbers of a tableau of diffrax."""

    def row(values):
        return tuple(float(v) for v in np.atleast_1d(values))

    n = len(t.b_sol)
    diagonal = (0.0,) * n if t.a_diagonal is None else row(t.a_diagonal)
    c = (float(getattr(t, "c1", 0.0)), *row(t.c)) if n > 1 else (float(diagonal[0]),)
    return Tableau(((), *(row(r) for r in t.a_lower)), diagonal, row(t.b_sol), row(t.b_error), c)


EULER = Tableau(((),), (0.0,), (1.0,), (0.0,), (0.0,))
# The classical method. diffrax has none; its error estimate is the stepper's own.
RK4 = Tableau(
    ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
    (0.0,) * 4,
    (1 / 6, 1 / 3, 1 / 3, 1 / 6),
    (0.0,) * 4,
    (0.0, 0.5, 0.5, 1.0),
)
MIDPOINT = Tableau(((),), (0.5,), (1.0,), (0.0,), (0.5,))
_G = 1 - 0.5**0.5
# Alexander's method: L-stable, order 2, stiffly accurate.
SDIRK2 = Tableau(((), (1 - _G,)), (_G, _G), (1 - _G, _G), (0.0, 0.0), (_G, 1.0))
_D = 1 - 1 / (2 * _G)
# Ascher, Ruuth and Spiteri's pair (2, 2, 2).
ARS_EXPLICIT = Tableau(
    ((), (_G,), (_D, 1 - _D)), (0.0,) * 3, (_D, 1 - _D, 0.0), (0.0,) * 3, (0.0, _G, 1.0)
)
ARS_IMPLICIT = Tableau(
    ((), (0.0,), (0.0, 1 - _G)), (0.0, _G, _G), (0.0, 1 - _G, _G), (0.0,) * 3, (0.0, _G, 1.0)
)
