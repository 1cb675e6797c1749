"""The residual of a time stepper: what one of its steps misses the next snapshot by."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ...core import check_count
from ...numerics._fourier import scale
from ...problems import ETDRK4, AbstractSemilinearPDE, AbstractStepper
from ._snapshot_map import SnapshotMap
from ._snapshot_residual import AbstractSnapshotResidual
from ._time_residual import Coefficients

_DEFAULT_STEPPER = ETDRK4()


class SolverDefectResidual(AbstractSnapshotResidual):
    r"""The defect of a solver: :math:`R_m = (u_m - \Phi_{\Delta t}(u_{m-1})) / \Delta t`.

    :math:`\Phi` takes a few steps of a classical stepper from each snapshot to the next, all
    intervals at once; driving the defects to zero is multiple shooting. It needs one known
    snapshot and, unlike differences, does not lose its accuracy where snapshots lie far apart:
    more substeps mend that.

    Parameters
    ----------
    stepper
        The stepper; `sciml.problems.ETDRK4` by default.
    substeps
        Steps between snapshots. Each must be within the stability of the stepper; otherwise
        the residual is huge or not finite.

    Examples
    --------
    >>> from sciml.neural_operators import SolverDefectResidual
    >>> SolverDefectResidual(substeps=2).substeps
    2
    """

    stepper: AbstractStepper[Any]
    substeps: int = eqx.field(static=True)

    def __init__(self, stepper: AbstractStepper[Any] = _DEFAULT_STEPPER, *, substeps: int = 1):
        if not isinstance(stepper, AbstractStepper):
            raise TypeError(
                "`stepper` must be an object of a class that derives from AbstractStepper, such "
                f"as ETDRK4(); got {stepper!r}."
            )
        self.stepper = stepper
        self.substeps = check_count("substeps", substeps)

    def check(self, n_history: int, n_steps: int) -> None:
        """Accept anything: one known snapshot is enough."""

    def evaluate(
        self,
        problem: AbstractSemilinearPDE,
        history_hat: Coefficients,
        unknowns: Coefficients,
        n_steps: int,
        dt: ArrayLike,
        over_snapshots: SnapshotMap = jax.vmap,
    ) -> Coefficients:
        """Return the defect of each interval."""
        dtype = unknowns.real.dtype
        h = jnp.asarray(dt, dtype)
        coefficients = self.stepper.prepare(problem, h / self.substeps, dtype)
        starts = jnp.concatenate([history_hat[-1:], unknowns[:-1]])

        def march(u_hat):
            step = lambda _, u: self.stepper.step(problem, coefficients, u)  # noqa: E731
            return jax.lax.fori_loop(0, self.substeps, step, u_hat)

        return scale(1 / h, unknowns - over_snapshots(march)(starts))

    def solve_linear_part(
        self,
        problem: AbstractSemilinearPDE,
        residual_hat: Coefficients,
        n_history: int,
        n_steps: int,
        dt: ArrayLike,
    ) -> Coefficients:
        r"""Solve :math:`x_m - e^{L \Delta t} x_{m-1} = \Delta t R_m` from left to right."""
        dtype = residual_hat.real.dtype
        h = jnp.asarray(dt, dtype)
        decay = jnp.exp(h * problem.linear_symbol(dtype))

        def advance(x, r):
            x = scale(decay, x) + scale(h, r)
            return x, x

        return jax.lax.scan(advance, jnp.zeros_like(residual_hat[0]), residual_hat)[1]
