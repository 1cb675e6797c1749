"""How local regularisation draws, takes and weighs its extra step."""

import enum

import diffrax
import equinox as eqx

from ..core import check_count, cites
from ._bibliography import PAL_2023
from ._error_estimate import ErrorEstimate
from ._reservoir import Sampling
from ._step_regularizer import AbstractStepRegularizer, Reduction, check_enum


class Weighting(enum.Enum):
    """What a drawn step's figure is multiplied with.

    ``UNBIASED`` makes the expectation that of the regulariser over all steps: the length of the
    solve times ``E`` if steps are drawn by time, their number times ``E h`` if drawn evenly. That
    takes the solver's own step: it is refused with ``LocalStep.HEURISTIC`` and a ``step_solver``.
    ``PAPER`` is Pal et al.'s ``E h``, whose expectation shrinks with the number of steps.
    """

    UNBIASED = "unbiased"
    PAPER = "paper"


class LocalStep(enum.Enum):
    """Size of the extra step: the solver's own there, or a fresh `initial_step`, as published.

    A fresh step is none that the solve took, so that ``HEURISTIC`` goes with ``Weighting.PAPER``.
    """

    SOLVER = "solver"
    HEURISTIC = "heuristic"


@cites(PAL_2023)
class LocalRegularization(eqx.Module):
    """How `local_regularized_solve` draws and weighs its extra step.

    Parameters
    ----------
    regularizer
        What is measured there; `ErrorEstimate` by default.
    sampling, weighting, step
        See `Sampling`, `Weighting`, `LocalStep`.
    step_solver
        The solver of the extra step; that of the solve by default. Another one has other errors:
        it goes with ``Weighting.PAPER``.
    n_samples
        How many independent steps are drawn; their mean is returned.
    through_state
        Let the gradient go on through the state where the step begins. Then the adjoint must be
        one that differentiates the steps (``RecursiveCheckpointAdjoint``).

    Raises
    ------
    ValueError
        For a maximum over steps, and where ``Weighting.UNBIASED`` could not be had.

    Examples
    --------
    >>> LocalRegularization(sampling=Sampling.STEP).weighting
    <Weighting.UNBIASED: 'unbiased'>
    """

    regularizer: AbstractStepRegularizer
    sampling: Sampling
    weighting: Weighting
    step: LocalStep
    step_solver: diffrax.AbstractSolver | None
    n_samples: int
    through_state: bool

    def __init__(
        self,
        regularizer: AbstractStepRegularizer | None = None,
        *,
        sampling: Sampling = Sampling.TIME,
        weighting: Weighting = Weighting.UNBIASED,
        step: LocalStep = LocalStep.SOLVER,
        step_solver: diffrax.AbstractSolver | None = None,
        n_samples: int = 1,
        through_state: bool = False,
    ):
        check_enum("sampling", sampling, Sampling)
        check_enum("weighting", weighting, Weighting)
        check_enum("step", step, LocalStep)
        self.regularizer = ErrorEstimate() if regularizer is None else regularizer
        if self.regularizer.reduction is Reduction.MAX:
            raise ValueError(
                "a maximum over steps cannot be estimated from single steps: take "
                "`Reduction.SUM` or `Reduction.MEAN`."
            )
        is_own = step is LocalStep.SOLVER and step_solver is None
        if weighting is Weighting.UNBIASED and not is_own:
            raise ValueError(
                "a step of another size, or by another solver, is none of the solve's: no weight "
                "gives it the expectation of the regulariser over the solve. Say "
                "`weighting=Weighting.PAPER`, or leave `step` and `step_solver` out."
            )
        self.sampling = sampling
        self.weighting = weighting
        self.step = step
        self.step_solver = step_solver
        self.n_samples = check_count("n_samples", n_samples)
        self.through_state = through_state
