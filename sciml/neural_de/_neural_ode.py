"""A neural ordinary differential equation with its regulariser."""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
from jaxtyping import PyTree

from ..core import KeyArray, check_count, check_positive, check_real, cites
from ..numerics import full_precision
from ._bibliography import KIDGER_2021, PAL_2021, PAL_2023
from ._checks import save_times
from ._regularization import Regularization
from ._solve_with import OnBatch, Penalty, check_penalty, solve_with, values_of


@cites(PAL_2021, PAL_2023, KIDGER_2021)
class NeuralODE(eqx.Module):
    """The flow of a learned vector field, ``y(t1)`` or ``y(ts)`` from ``y(t0)``.

    Parameters
    ----------
    field
        ``field(t, y, args) -> dy/dt`` for one state.
    t0, t1
        Begin, and end where a call does not say otherwise.
    rtol, atol
        Tolerances of the adaptive steps.
    solver
        A diffrax solver; Tsit5 by default.
    regularization
        Step regularisers by name (global), a `LocalRegularization`, or None.
    adjoint
        A diffrax adjoint; ``RecursiveCheckpointAdjoint`` by default.
    max_steps
        The most steps.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sciml.neural_de import ErrorEstimate, NeuralODE
    >>> model = NeuralODE(lambda t, y, args: -y, regularization={"error": ErrorEstimate()})
    >>> y, penalty, stats = model(jnp.ones(2))
    >>> bool(jnp.allclose(y, jnp.exp(-1.0), atol=1e-4))
    True
    """

    field: Any
    t0: float
    t1: float
    rtol: float
    atol: float
    solver: diffrax.AbstractSolver | None
    regularization: Any
    adjoint: diffrax.AbstractAdjoint | None
    max_steps: int

    def __init__(
        self,
        field: Any,
        *,
        t0: float = 0.0,
        t1: float = 1.0,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        solver: diffrax.AbstractSolver | None = None,
        regularization: Penalty = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
        max_steps: int = 4096,
    ):
        check_positive("rtol", rtol)
        check_positive("atol", atol)
        check_real("t0", t0)
        check_real("t1", t1)
        self.field = field
        self.t0 = t0
        self.t1 = t1
        self.rtol = rtol
        self.atol = atol
        self.solver = solver
        check_penalty(regularization)
        self.regularization = regularization
        self.adjoint = adjoint
        self.max_steps = check_count("max_steps", max_steps)

    @full_precision
    def __call__(
        self,
        y0: PyTree,
        *,
        ts: Any = None,
        t1: Any = None,
        args: PyTree = None,
        key: KeyArray | None = None,
        weights: Mapping[str, Any] | None = None,
        inference: bool = False,
        dt0: Any = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        event: diffrax.Event | None = None,
        max_steps: int | None = None,
    ) -> tuple[PyTree, Regularization, dict[str, Any]]:
        """Solve for one state; use `jax.vmap` for a batch whose members step by themselves.

        Parameters
        ----------
        y0
            Initial state.
        ts
            Times to return, in order from ``t0`` on, where the solve begins; the last one is the
            end unless ``t1`` is given. The end alone by default.
        t1
            Another end, for instance by `steer_end_time`.
        args
            Passed on to the field.
        key
            For local regularisation.
        weights
            A factor for each regulariser.
        inference
            Leave regularisation out.
        dt0
            The first step; None takes `initial_step`. Fixed steps need it.
        stepsize_controller
            In place of a ``PIDController`` with the model's tolerances: another norm or other
            coefficients, jumps, fixed steps. Its tolerances are those that errors are scaled by.
        event
            Ends the solve early: what is returned in place of the end is the state at the event,
            and states at later ``ts`` are infinite. The times go into the statistics, as ``"ts"``.
        max_steps
            In place of the model's.

        Returns
        -------
        tuple
            The state at the end, or at ``ts`` along a first axis; the regularisers; statistics.

        Raises
        ------
        ValueError
            If local regularisation has no ``key``; if ``ts`` is empty, out of order or begins
            before ``t0``; and as `regularized_solve`, for instance if an
            `ErrorEstimate` meets fixed steps without tolerances of its own.
        """
        others = (dt0, stepsize_controller, event, max_steps)
        return self._solve(self.field, y0, ts, t1, args, key, weights, inference, *others)

    def as_one_state(
        self,
        y0: PyTree,
        *,
        ts: Any = None,
        t1: Any = None,
        args: PyTree = None,
        key: KeyArray | None = None,
        weights: Mapping[str, Any] | None = None,
        inference: bool = False,
        dt0: Any = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        event: diffrax.Event | None = None,
        max_steps: int | None = None,
    ) -> tuple[PyTree, Regularization, dict[str, Any]]:
        """Solve a whole batch, along the first axis of ``y0``, with one sequence of steps.

        Parameters and results are those of a call; at ``ts`` the axis of time comes first. An
        event sees the whole batch, and ends it as a whole.
        """
        others = (dt0, stepsize_controller, event, max_steps)
        field = OnBatch(self.field)
        return self._solve(field, y0, ts, t1, args, key, weights, inference, *others)

    def _solve(
        self, field, y0, ts, t1, args, key, weights, inference, dt0, controller, event, max_steps
    ):
        solver = diffrax.Tsit5() if self.solver is None else self.solver
        end = self.t1 if t1 is None else t1
        begin: Any = self.t0
        if ts is not None:
            begin, ts = save_times(ts, self.t0)
            end = ts[-1] if t1 is None else t1
        check_real("t1", end)
        max_steps = self.max_steps if max_steps is None else check_count("max_steps", max_steps)
        if controller is None:
            controller = diffrax.PIDController(rtol=self.rtol, atol=self.atol)
        common = {
            "saveat": diffrax.SaveAt(t1=True) if ts is None else diffrax.SaveAt(ts=ts),
            "stepsize_controller": controller,
            "adjoint": self.adjoint,
            "event": event,
            "max_steps": max_steps,
        }
        penalty = None if inference else self.regularization
        solution, result = solve_with(
            *(penalty, key, weights),
            (diffrax.ODETerm(field), solver, begin, end, dt0, y0, args),
            common,
        )
        stats: dict[str, Any] = dict(solution.stats)
        if event is not None:
            stats["ts"] = values_of(solution.ts, ts)
        return values_of(solution.ys, ts), result, stats
