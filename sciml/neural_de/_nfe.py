"""Function evaluations of a solve, counted from its statistics."""

from collections.abc import Mapping
from typing import Any

import diffrax
import jax.numpy as jnp
from jaxtyping import Array

from ._forwarding_solver import innermost


def nfe(
    solver: diffrax.AbstractSolver,
    stats: Mapping[str, Any],
    *,
    n_jumps: int = 0,
    n_first_rejections: int = 0,
) -> Array:
    """Return how often an explicit Runge-Kutta solve evaluated its field.

    Methods whose last stage is the first of the next step (Tsit5, Dopri5, ...) take
    ``num_steps (stages - 1) + 1``, and one more for each jump and for each step that is rejected
    where a stage is evaluated anew; others take ``num_steps stages``. Of several terms each is
    evaluated that often, controls too. The two evaluations of `initial_step` are not in here.

    `regularized_solve` and the models count while they solve: ``penalty.nfe`` needs none of what
    the statistics do not tell.

    Parameters
    ----------
    solver
        An explicit Runge-Kutta solver.
    stats
        ``solution.stats``; rejected steps cost as much as accepted ones.
    n_jumps
        How many of the controller's ``jump_ts`` the solve passed: those between its two ends.
    n_first_rejections
        Rejections before the first accepted step, and before the first one after each jump. With
        `initial_step` it is nearly always 0 at the start, after a jump it need not be.

    Raises
    ------
    ValueError
        For implicit, stochastic and wrapped solvers: their evaluations do not follow from steps.

    Examples
    --------
    >>> import diffrax
    >>> int(nfe(diffrax.Tsit5(), {"num_steps": 37}))
    223
    """
    tableau = tableau_of(solver)
    if tableau is None:
        raise ValueError(
            f"the evaluations of {type(solver).__name__} do not follow from its number of steps: "
            "`nfe` counts explicit Runge-Kutta solvers. Count steps instead."
        )
    steps = jnp.asarray(stats["num_steps"])
    if tableau.fsal:
        some = jnp.where(steps > 0, 1 + n_jumps + n_first_rejections, 0)
        return steps * (tableau.num_stages - 1) + some
    return steps * tableau.num_stages


def tableau_of(solver: diffrax.AbstractSolver) -> diffrax.ButcherTableau | None:
    """Return the tableau of an explicit Runge-Kutta solver, None of any other."""
    tableau = getattr(solver, "tableau", None)
    is_explicit = isinstance(solver, diffrax.AbstractERK) and innermost(solver) is solver
    return tableau if is_explicit and isinstance(tableau, diffrax.ButcherTableau) else None
