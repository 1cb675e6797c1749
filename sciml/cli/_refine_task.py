"""The refinement of one trajectory, as the options of ``sciml refine`` ask for it."""

import warnings
from typing import Any, NamedTuple

import jax.numpy as jnp

from ..core import Solution
from ..data import FieldDataset
from ..neural_operators import (
    LBFGS,
    AbstractRefinementMethod,
    AbstractTimeResidual,
    CollocationResidual,
    FiniteDifferenceResidual,
    NewtonGMRES,
    OutputLayerLBFGS,
    SolverDefectResidual,
    refine,
)
from ._refine import Refine
from ._refine_forecasts import Forecasts
from ._refine_problem import Flow


class Task(NamedTuple):
    """All that the refinement of one trajectory needs but the trajectory."""

    options: Refine
    dataset: FieldDataset
    flow: Flow
    forecasts: Forecasts
    residual: AbstractTimeResidual
    method: AbstractRefinementMethod


def refine_one(task: Task, sample: int, max_steps: int | None = None) -> Solution:
    """Return the refined forecast of one trajectory, or its state after ``max_steps``."""
    options, dataset, forecasts = task.options, task.dataset, task.forecasts
    start: Any = forecasts.values[sample]
    arguments: dict[str, Any] = {}
    # Beyond its reach a model feeds back what it predicted; that is in the values.
    anew = options.window is not None and options.window <= forecasts.reach
    if forecasts.model is not None and (anew or options.method == "output-layer"):
        start, arguments["n_steps"] = forecasts.model, forecasts.n_steps
        if dataset.context is not None:
            shared = len(dataset.context) == 1
            arguments["context"] = jnp.asarray(dataset.context[0 if shared else sample])
    with warnings.catch_warnings():
        # Of data that do not solve the equation the report speaks, once.
        warnings.filterwarnings("ignore", "the known snapshots do not solve", RuntimeWarning)
        return refine(
            start,
            dataset.values[sample, : forecasts.n_in],
            task.flow.problem(sample),
            dt=dataset.dt,
            residual=task.residual,
            method=task.method,
            rtol=options.rtol,
            max_steps=max_steps,
            window=options.window,
            # A state on the way has missed the tolerance on purpose.
            adapt_windows=max_steps is None,
            throw=False,
            **arguments,
        )


def make_residual(options: Refine) -> AbstractTimeResidual:
    """Return the residual that the options describe."""
    match options.residual:
        case "finite-differences":
            return FiniteDifferenceResidual(options.order or 4)
        case "defect":
            return SolverDefectResidual(substeps=options.substeps or 1)
        case "collocation":
            return CollocationResidual(options.n_nodes)


def make_method(options: Refine) -> AbstractRefinementMethod:
    """Return the method that the options describe."""
    match options.method:
        case "newton":
            return NewtonGMRES(max_matvecs=options.max_matvecs or 200)
        case "lbfgs":
            return LBFGS(options.n_iterations or 200)
        case "output-layer":
            return OutputLayerLBFGS(n_iterations=options.n_iterations or 200)
