r"""Newton's method in space and time with GMRES, preconditioned by the linear part.

Each step solves :math:`J \delta = -R` for the change of all snapshots at once. The linear part of
the equation couples them for each wavenumber alone, and its inverse :math:`P^{-1}` is cheap;
GMRES on :math:`P^{-1} J` sees the identity plus the convective term, a compact perturbation.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...core import check_count, check_positive
from ...numerics._fourier import scale
from ._gmres import gmres
from ._refinement_method import AbstractRefinementMethod, Progress, RefinementStart
from ._space_time_system import SpaceTimeSystem
from ._time_residual import Coefficients

_BACKTRACKS = 6


class NewtonGMRES(AbstractRefinementMethod):
    """Newton-GMRES on the space-time coefficients.

    Parameters
    ----------
    max_matvecs
        Matrix-vector products (derivatives of the residual in one direction) in all, of one
        window.
    max_krylov
        Krylov vectors of a Newton step at most, and so the memory: each is a trajectory.
    forcing_term
        By how much each linear solve reduces its residual; the last step asks for no more than
        the tolerance needs.

    Examples
    --------
    >>> from sciml.neural_operators import NewtonGMRES
    >>> NewtonGMRES(max_matvecs=50).max_matvecs
    50
    """

    max_matvecs: int = eqx.field(static=True)
    max_krylov: int = eqx.field(static=True)
    forcing_term: float = eqx.field(static=True)

    def __init__(self, *, max_matvecs: int = 200, max_krylov: int = 40, forcing_term: float = 1e-2):
        self.max_matvecs = check_count("max_matvecs", max_matvecs)
        self.max_krylov = check_count("max_krylov", max_krylov)
        check_positive("forcing_term", forcing_term)
        if forcing_term >= 1:
            raise ValueError(f"`forcing_term` must be below 1, got {forcing_term}.")
        self.forcing_term = float(forcing_term)

    def run(
        self, system: SpaceTimeSystem, start: RefinementStart, progress: Progress
    ) -> Coefficients:
        """Return unknowns with the smallest residual met."""
        unknowns = start.unknowns
        while not progress.done:
            left = min(self.max_matvecs - progress.n_matvecs, self.max_krylov)
            if left < 1:
                progress.give_up()
                break
            needed = 0.5 * progress.tolerance / progress.eta
            step = _newton_step(
                system,
                unknowns,
                jnp.asarray(max(min(self.forcing_term, 0.5), min(needed, 0.1))),
                jnp.asarray(left),
                self.max_krylov,
            )
            unknowns = step.unknowns
            progress.record(
                eta=float(step.eta),
                tendency=float(step.tendency),
                n_matvecs=int(step.n_matvecs),
                n_evaluations=int(step.n_trials),
                improved=bool(step.improved),
            )
        return unknowns


class _Step(NamedTuple):
    unknowns: Coefficients
    eta: Float[Array, ""]
    tendency: Float[Array, ""]
    n_matvecs: Int[Array, ""]
    n_trials: Int[Array, ""]
    improved: Bool[Array, ""]


@eqx.filter_jit
def _newton_step(
    system: SpaceTimeSystem,
    unknowns: Coefficients,
    rtol: Float[Array, ""],
    limit: Int[Array, ""],
    max_krylov: int,
) -> _Step:
    """One Newton step, halved until the residual falls; the old state if it never does."""
    residual, derivative = jax.linearize(system.evaluate, unknowns)
    eta = system.eta(residual)

    def operator(vector):
        tangent = system.from_vector(vector, unknowns)
        return system.to_vector(system.solve_linear_part(derivative(tangent)))

    rhs = system.to_vector(system.solve_linear_part(-residual))
    correction = gmres(operator, rhs, rtol=rtol, limit=limit, max_krylov=max_krylov)
    change = system.from_vector(correction.value, unknowns)

    def unfinished(state):
        n_trials, _, eta_new = state
        # Asked so that NaN goes on halving.
        return (n_trials < _BACKTRACKS) & ~(eta_new < eta)

    def halve(state):
        n_trials, _, _ = state
        length = 0.5**n_trials
        candidate = unknowns + scale(length.astype(change.real.dtype), change)
        return n_trials + 1, candidate, system.eta(system.evaluate(candidate))

    start = (jnp.asarray(0), unknowns, jnp.asarray(jnp.inf, eta.dtype))
    n_trials, candidate, eta_new = jax.lax.while_loop(unfinished, halve, start)
    improved = eta_new < eta
    unknowns = jnp.where(improved, candidate, unknowns)
    return _Step(
        unknowns,
        jnp.where(improved, eta_new, eta),
        system.tendency(unknowns),
        correction.n_matvecs,
        n_trials,
        improved,
    )
