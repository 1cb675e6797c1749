"""What every wrapper of a diffrax solver passes on untouched."""

from typing import Any, NamedTuple

import diffrax
import equinox as eqx
from jaxtyping import PyTree


class WrapperState(NamedTuple):
    """The state of a wrapper: that of the solver inside, and what the wrapper itself keeps."""

    inner: PyTree
    own: PyTree


class AbstractForwardingSolver(diffrax.AbstractWrappedSolver):
    """A wrapper whose step alone differs; all else is the inner solver's.

    diffrax's own wrappers leave out ``root_finder``, ``root_find_max_steps`` and ``scan_kind``,
    without which implicit solvers and forward mode do not run inside them.
    """

    solver: eqx.AbstractVar[diffrax.AbstractSolver]

    @property
    def term_structure(self):
        """What terms the inner solver takes."""
        return self.solver.term_structure

    @property
    def interpolation_cls(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """How the inner solver interpolates."""
        return self.solver.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the inner solver asks of controls."""
        return self.solver.term_compatible_contr_kwargs

    # Properties, so that `tree_at` in diffrax reaches the leaves of the innermost solver.
    @property
    def root_finder(self):
        """The root finder of an implicit inner solver."""
        return innermost(self.solver).root_finder  # pyright: ignore

    @property
    def root_find_max_steps(self):
        """The most steps of that root finder."""
        return innermost(self.solver).root_find_max_steps  # pyright: ignore

    @property
    def scan_kind(self):
        """How the stages are looped over."""
        return innermost(self.solver).scan_kind  # pyright: ignore

    def order(self, terms):
        """Return the inner solver's order."""
        return self.solver.order(terms)

    def strong_order(self, terms):
        """Return the inner solver's strong order."""
        return self.solver.strong_order(terms)

    def error_order(self, terms):
        """Return the order of the inner solver's error estimate."""
        return self.solver.error_order(terms)

    def func(self, terms, t0, y0, args):
        """Evaluate the field."""
        return self.solver.func(terms, t0, y0, args)


def innermost(solver: Any) -> Any:
    """Return the solver inside all wrappers."""
    while isinstance(getattr(solver, "solver", None), diffrax.AbstractSolver):
        solver = solver.solver
    return solver


def inner_state(solver: diffrax.AbstractSolver, state: PyTree) -> PyTree:
    """Return the state of ``solver``, where ``state`` may be that of a wrapper around it."""
    is_around = isinstance(state, WrapperState) and not isinstance(solver, AbstractForwardingSolver)
    return state.inner if is_around else state
