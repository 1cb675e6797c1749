"""Solvers of optimistix in our interface: their steps, our judgement and our derivative."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float

from ...core import check_count
from ._levenberg_marquardt import LevenbergMarquardt
from ._rows import NormalForm, RowProblem, all_rows
from ._solver import MAX_STEPS, NONFINITE, AbstractLeastSquaresSolver, Outcome


class OptimistixLeastSquares(AbstractLeastSquaresSolver):
    """A least-squares solver of optimistix; not inside `jax.shard_map`, where those do not run.

    Whether it converged is judged as for `LevenbergMarquardt`, by the stationarity of its last
    point, not by the size of its last step.

    Parameters
    ----------
    solver
        For instance ``optimistix.Dogleg(rtol=1e-10, atol=1e-10)``.
    max_steps
        Steps at most.
    judge
        Whose tolerances decide.

    Examples
    --------
    >>> import optimistix as optx
    >>> from sciml.constraints import OptimistixLeastSquares
    >>> OptimistixLeastSquares(optx.Dogleg(rtol=1e-8, atol=1e-8)).max_steps
    256
    """

    solver: optx.AbstractLeastSquaresSolver
    max_steps: int = eqx.field(static=True)
    judge: LevenbergMarquardt

    def __init__(
        self,
        solver: optx.AbstractLeastSquaresSolver,
        *,
        max_steps: int = 256,
        judge: LevenbergMarquardt | None = None,
    ):
        self.solver = solver
        self.max_steps = check_count("max_steps", max_steps)
        self.judge = LevenbergMarquardt(max_steps=1, newton_steps=0) if judge is None else judge

    @property
    def form(self) -> NormalForm:
        """Return the judge's."""
        return self.judge.form

    def run(self, problem: RowProblem, w0: Float[Array, " n"]) -> tuple[Any, Outcome]:
        """Return the minimiser and how it was found."""
        if problem.axis_name is not None:
            raise ValueError(
                "solvers of optimistix cannot split points over a mesh axis; take "
                "LevenbergMarquardt."
            )

        def rows(w, problem):
            if problem.free is not None:
                w = jnp.where(problem.free, w, w0)
            return all_rows(problem, w)

        found = optx.least_squares(
            rows,
            self.solver,
            w0,
            args=problem,
            max_steps=self.max_steps,
            adjoint=optx.ImplicitAdjoint(),
            throw=False,
        )
        w = jnp.where(jnp.all(jnp.isfinite(found.value)), found.value, w0)
        if problem.free is not None:
            w = jnp.where(problem.free, w, w0)
        w, outcome = self.judge.run(problem, w)
        known = outcome.converged | (outcome.status == NONFINITE)
        status = jnp.where(known, outcome.status, MAX_STEPS)
        steps = jnp.asarray(found.stats["num_steps"])
        return w, eqx.tree_at(lambda o: (o.status, o.n_steps), outcome, (status, steps))
