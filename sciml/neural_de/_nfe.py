"""Function evaluations of a solve, counted from its statistics."""

from collections.abc import Mapping
from typing import Any

import diffrax
import jax.numpy as jnp
from jaxtyping import Array

from ._forwarding_solver import innermost


def nfe(
    solver: diffrax.AbstractSolver, stats: Mapping[str, Any], *, n_first_rejections: int = 0
) -> Array:
    """Return how often an explicit Runge-Kutta solve evaluated its field.

    Methods whose last stage is the first of the next step (Tsit5, Dopri5, ...) take
    ``num_steps (stages - 1) + 1``; others ``num_steps stages``. The two evaluations of
    `initial_step` are not in here, nor the one more that each of a controller's ``jump_ts`` costs
    a method of the former kind. It counts ordinary differential equations: with a control term
    diffrax evaluates every stage anew.

    Parameters
    ----------
    solver
        An explicit Runge-Kutta solver.
    stats
        ``solution.stats``; rejected steps cost as much as accepted ones.
    n_first_rejections
        Rejections before the first accepted step, of which each costs one evaluation more where
        stages are shared. The statistics do not tell; with `initial_step` it is nearly always 0.

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
    tableau = getattr(solver, "tableau", None)
    is_explicit = isinstance(solver, diffrax.AbstractERK) and innermost(solver) is solver
    if not is_explicit or not isinstance(tableau, diffrax.ButcherTableau):
        raise ValueError(
            f"the evaluations of {type(solver).__name__} do not follow from its number of steps: "
            "`nfe` counts explicit Runge-Kutta solvers. Count steps instead."
        )
    steps = jnp.asarray(stats["num_steps"])
    if tableau.fsal:
        some = jnp.where(steps > 0, 1 + n_first_rejections, 0)
        return steps * (tableau.num_stages - 1) + some
    return steps * tableau.num_stages
