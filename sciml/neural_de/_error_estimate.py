"""The solver's own error estimate as a regulariser: R_E = sum_j E_j h_j."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, PyTree

from ..core import RealScalar, check_non_negative, check_positive, cites
from ._bibliography import PAL_2021
from ._step_regularizer import (
    AbstractStepRegularizer,
    Reduction,
    StepInfo,
    StepWeight,
    check_enum,
    finite_or,
)


@cites(PAL_2021)
class ErrorEstimate(AbstractStepRegularizer):
    """The embedded error estimate of each step, scaled as the step size controller sees it.

    ``E_j = norm(e_j / (atol + rtol max(|y_j|, |y_{j+1}|)))``: the figure that the controller
    compares with 1. Its *value* says little, since the controller keeps it near one figure whatever
    the dynamics are; its *gradient* at fixed steps points to dynamics that need fewer steps. Look
    at the number of function evaluations (`nfe`), not at this.

    Parameters
    ----------
    weight
        ``StepWeight.DT`` for ``E_j h_j`` (Pal et al.), ``StepWeight.ONE`` for ``E_j``.
    reduction
        Sum over steps (the papers' text), mean (their code), or maximum.
    power
        ``E_j ** power``.
    rtol, atol, norm
        Scale of the error; by default that of the step size controller. Fixed steps have none:
        then give ``rtol`` and ``atol``; ``norm`` is the root mean square over all entries.

    Examples
    --------
    >>> ErrorEstimate(reduction=Reduction.MEAN).weight
    <StepWeight.DT: 'dt'>
    """

    weight: StepWeight
    reduction: Reduction
    power: float
    rtol: RealScalar | None
    atol: RealScalar | None
    norm: Callable[[PyTree], Any] | None

    def __init__(
        self,
        weight: StepWeight = StepWeight.DT,
        reduction: Reduction = Reduction.SUM,
        *,
        power: float = 1.0,
        rtol: RealScalar | None = None,
        atol: RealScalar | None = None,
        norm: Callable[[PyTree], Any] | None = None,
    ):
        check_enum("weight", weight, StepWeight)
        check_enum("reduction", reduction, Reduction)
        check_positive("power", power)
        if (rtol is None) != (atol is None):
            raise ValueError("give both `rtol` and `atol`, or neither.")
        if rtol is not None:
            check_non_negative("rtol", rtol)
            check_non_negative("atol", atol)
        self.weight = weight
        self.reduction = reduction
        self.power = power
        self.rtol = rtol
        self.atol = atol
        self.norm = norm

    def init(self, y0: PyTree[Array]) -> PyTree[Array]:
        """Return None: nothing is remembered."""
        return None

    def measure(self, step: StepInfo, memory: PyTree[Array]) -> tuple[Any, PyTree[Array]]:
        """Return the scaled error of a step."""
        del memory
        rtol, atol = (step.rtol, step.atol) if self.rtol is None else (self.rtol, self.atol)
        norm = step.norm if self.norm is None else self.norm
        if rtol is None or atol is None:
            raise ValueError(
                "`ErrorEstimate` takes its scale from an adaptive step size controller, and "
                f"{type(step.solver).__name__} runs without one. Pass "
                "`ErrorEstimate(rtol=..., atol=...)`."
            )
        if step.y_error is None:
            raise ValueError(
                f"{type(step.solver).__name__} gives no error estimate. Take a solver with an "
                "embedded one (Tsit5, Dopri5, Kvaerno5, SPaRK, ...), or wrap it: "
                "`diffrax.HalfSolver(solver)`, at three times the cost."
            )
        y1 = finite_or(step.y0, step.y1)
        zeros = jax.tree.map(jnp.zeros_like, step.y_error)
        error = finite_or(zeros, step.y_error)

        def ratio(e, a, b):
            with jax.numpy_dtype_promotion("standard"):
                return e / (atol + jnp.maximum(jnp.abs(a), jnp.abs(b)) * rtol)

        value = (optx.rms_norm if norm is None else norm)(jax.tree.map(ratio, error, step.y0, y1))
        return (value if self.power == 1 else value**self.power), None
