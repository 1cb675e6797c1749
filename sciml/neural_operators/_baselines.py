"""Forecasters without parameters: persistence, and a classical solver."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import check_count, check_floating, check_positive
from ..problems import AbstractSemilinearPDE, AbstractStepper, solve
from ._forecaster import AbstractForecaster


class Persistence(AbstractForecaster):
    """The trivial forecast: tomorrow is as today.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> Persistence()(jnp.ones((2, 1, 4, 4)), 3).shape
    (3, 1, 4, 4)
    """

    def __call__(
        self,
        inputs: Float[Array, "n_in channels *space"],
        n_steps: int,
        *,
        context: Float[Array, "context_channels ..."] | None = None,
    ) -> Float[Array, "n_steps channels *space"]:
        """Repeat the last snapshot."""
        n_steps = check_count("n_steps", n_steps)
        return jnp.broadcast_to(_last_snapshot(inputs), (n_steps, *inputs.shape[1:]))


class SolverForecaster(AbstractForecaster):
    """A classical solver as a forecaster: it marches from the last snapshot.

    Parameters
    ----------
    problem
        The equation, with its forcing, on the grid of the data; ``context`` is not looked at.
    stepper
        The time stepper.
    dt
        Physical time between snapshots.
    substeps
        Steps of the stepper between snapshots.

    Notes
    -----
    A solution that blows up gives non-finite snapshots; the caller sees them in the error.

    Examples
    --------
    >>> from sciml.problems import ETDRK4, NavierStokes2D, taylor_green_vorticity
    >>> problem = NavierStokes2D((16, 16), viscosity=1e-3)
    >>> model = SolverForecaster(problem, ETDRK4(), 0.2, substeps=2)
    >>> model(taylor_green_vorticity((16, 16), 1.0)[None], 3).shape
    (3, 1, 16, 16)
    """

    problem: AbstractSemilinearPDE
    stepper: AbstractStepper[Any]
    dt: float = eqx.field(static=True)
    substeps: int = eqx.field(static=True)

    def __init__(
        self,
        problem: AbstractSemilinearPDE,
        stepper: AbstractStepper[Any],
        dt: float,
        *,
        substeps: int = 1,
    ):
        check_positive("dt", dt)
        self.problem = problem
        self.stepper = stepper
        self.dt = float(dt)
        self.substeps = check_count("substeps", substeps)

    def __call__(
        self,
        inputs: Float[Array, "n_in channels *space"],
        n_steps: int,
        *,
        context: Float[Array, "context_channels ..."] | None = None,
    ) -> Float[Array, "n_steps channels *space"]:
        """March ``n_steps`` snapshots from the last one of ``inputs``."""
        solution = solve(
            self.problem,
            _last_snapshot(inputs),
            dt=self.dt / self.substeps,
            n_steps=check_count("n_steps", n_steps) * self.substeps,
            save_every=self.substeps,
            stepper=self.stepper,
            throw=False,
        )
        return solution.value[1:]


def _last_snapshot(
    inputs: Float[Array, "n_in channels *space"],
) -> Float[Array, "channels *space"]:
    check_floating("inputs", inputs)
    if not len(inputs):
        raise ValueError("`inputs` must hold at least one snapshot, got none.")
    return inputs[-1]
