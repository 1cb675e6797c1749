"""What ways of refining have in common: a system to solve and a record of the progress."""

import abc
import dataclasses
import math
import time
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float

from ...core import RESULTS, Trajectory
from ._space_time_system import SpaceTimeSystem
from ._time_residual import Coefficients

# Steps in a row that hardly lower the residual: it has reached round-off or a dead end.
_PATIENCE = 2
_HARDLY = 0.9


class RefinementStart(eqx.Module):
    """Where the refinement of a window starts.

    Attributes
    ----------
    unknowns
        The unknowns of the predicted trajectory.
    model
        The model that predicted it, or ``None``; called as ``model(inputs, n_steps)``.
    inputs
        The known snapshots.
    context
        Static fields for the model, or ``None``.
    """

    unknowns: Coefficients
    model: Callable[..., Trajectory] | None
    inputs: Trajectory
    context: Float[Array, "context_channels *space"] | None


class AbstractRefinementMethod(eqx.Module):
    """A way of driving the residual of one window to zero."""

    @abc.abstractmethod
    def run(
        self, system: SpaceTimeSystem, start: RefinementStart, progress: "Progress"
    ) -> Coefficients:
        """Return unknowns whose residual is not larger than that of the ones given.

        Call ``progress.record`` after each step, with `SpaceTimeSystem.tendency` at its end, and
        stop when ``progress.done``.
        """


@dataclasses.dataclass
class Progress:
    """How far a refinement is, step by step; it decides when to stop and why.

    Attributes
    ----------
    eta
        The residual's norm now.
    tendency
        The norm of the time derivative now.
    rounding
        What rounding leaves of a difference in time.
    rtol
        The norm that is asked for, relative to that of the time derivative.
    """

    eta: float
    tendency: float
    rounding: float
    rtol: float
    max_steps: int | None
    n_matvecs: int = 0
    n_evaluations: int = 1
    n_gradients: int = 0
    result: RESULTS | None = None
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    _slow_steps: int = 0
    _start: float = dataclasses.field(default_factory=time.perf_counter)

    def __post_init__(self):
        self._remember()
        self._judge(improved=True)

    @property
    def done(self) -> bool:
        """Whether there is a reason to stop."""
        return self.result is not None

    @property
    def tolerance(self) -> float:
        """The norm that is asked for; of a flow that is steady up to rounding, rounding."""
        if self.tendency <= self.rounding:
            return self.rounding
        return self.rtol * self.tendency

    def record(
        self,
        *,
        eta: float,
        tendency: float,
        improved: bool,
        n_matvecs: int = 0,
        n_evaluations: int = 0,
        n_gradients: int = 0,
    ) -> None:
        """Note a step: the norms it ended at and the work it took."""
        slow = not improved or eta > _HARDLY * self.eta
        self._slow_steps = self._slow_steps + 1 if slow else 0
        self.eta, self.tendency = eta, tendency
        self.n_matvecs += n_matvecs
        self.n_evaluations += n_evaluations
        self.n_gradients += n_gradients
        self._remember()
        self._judge(improved)

    def give_up(self) -> None:
        """Note that the method's budget is used up."""
        self.result = RESULTS.refinement_budget_spent

    def _remember(self) -> None:
        self.history.append(
            {
                "eta": self.eta,
                "n_matvecs": self.n_matvecs,
                "n_evaluations": self.n_evaluations,
                "n_gradients": self.n_gradients,
                "seconds": time.perf_counter() - self._start,
            }
        )

    def _judge(self, improved: bool) -> None:
        if not math.isfinite(self.tendency):
            self.result = RESULTS.nonfinite_residual  # what is relative to it says nothing
        elif self.eta <= self.tolerance:
            self.result = RESULTS.successful  # pyright: ignore[reportAttributeAccessIssue]
        elif not math.isfinite(self.eta):
            self.result = RESULTS.nonfinite_residual
        elif not improved or self._slow_steps >= _PATIENCE:
            self.result = RESULTS.refinement_stagnated
        elif self.max_steps is not None and len(self.history) > self.max_steps:
            self.give_up()
