"""What the models share: a solve with the regulariser that a model holds, of one state or many."""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
from jaxtyping import PyTree

from ..core import KeyArray
from ._checks import error_scale, first_step, with_tolerances
from ._counted_solve import counted_solve
from ._forwarding_solver import innermost
from ._local_regularization import LocalRegularization
from ._local_regularized_solve import local_regularized_solve
from ._regularization import Regularization, combine
from ._regularized_solve import regularized_solve
from ._regularized_solver import RegularizedSolver
from ._step_regularizer import AbstractStepRegularizer, state_dtype

# Figures of all steps by name, one of a random step, or nothing.
Penalty = Mapping[str, AbstractStepRegularizer] | LocalRegularization | None


def check_penalty(penalty: Any) -> None:
    """Raise unless this is what a model takes as its ``regularization``."""
    is_named = isinstance(penalty, Mapping) and all(
        isinstance(regularizer, AbstractStepRegularizer) for regularizer in penalty.values()
    )
    if not (penalty is None or is_named or isinstance(penalty, LocalRegularization)):
        raise TypeError(
            "`regularization` must be a dictionary of step regularisers, such as "
            f"{{'error': ErrorEstimate()}}, a `LocalRegularization`, or None; got {penalty!r}."
        )


def solve_with(
    penalty: Penalty,
    key: KeyArray | None,
    weights: Mapping[str, Any] | None,
    problem: tuple,
    options: dict[str, Any],
) -> tuple[diffrax.Solution, Regularization]:
    """Solve ``problem``, the positional arguments of ``diffeqsolve``, with the ``penalty``."""
    if isinstance(penalty, LocalRegularization):
        if key is None:
            raise ValueError("local regularisation draws a step: pass `key`.")
        return local_regularized_solve(*problem, key=key, local=penalty, weights=weights, **options)
    if penalty:
        return regularized_solve(*problem, regularizers=penalty, weights=weights, **options)
    # Nothing is regularised, so any adjoint will do.
    terms, solver, t0, t1, dt0, y0, args = problem
    scale = error_scale(options["stepsize_controller"])
    if innermost(solver) is not solver:
        # diffrax's own wrappers hide an implicit solver's root finder.
        solver = RegularizedSolver(with_tolerances(solver, scale), {})
    dt0 = first_step(dt0, terms, solver, t0, t1, y0, args, scale)
    others: Any = dict(options)
    adjoint = others.pop("adjoint", None) or diffrax.RecursiveCheckpointAdjoint()
    if isinstance(adjoint, diffrax.BacksolveAdjoint):
        own = {"stepsize_controller": options["stepsize_controller"]}
        adjoint = diffrax.BacksolveAdjoint(**(own | adjoint.kwargs))
    solution, evaluations = counted_solve(
        *((terms, solver, t0, t1, dt0, y0, args), solver), adjoint=adjoint, **others
    )
    return solution, combine({}, None, state_dtype(y0), solution, evaluations)


class OnBatch(eqx.Module):
    """A field on each member of a batch; a module, so that adjoints see its parameters."""

    field: Any

    def __call__(self, t, y, args):
        return jax.vmap(self.field, in_axes=(None, 0, None))(t, y, args)


def values_of(saved: PyTree, ts: Any) -> PyTree:
    """Return the last of what a solve saved, or all of it where ``ts`` asks for times."""
    return saved if ts is not None else jax.tree.map(lambda leaf: leaf[-1], saved)
