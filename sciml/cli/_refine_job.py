"""The work of ``sciml refine``."""

import time

import jax
import numpy as np
from tqdm import tqdm

from ..core import RESULTS, Solution, is_successful
from ..data import save_dataset
from ..neural_operators import SpatiotemporalFNO
from ..plot import save_figure
from ._errors import UsageError
from ._load_data import check_periodic, load_part
from ._predict_job import check_figure, check_output
from ._refine import Refine
from ._refine_forecasts import Forecasts, forecasts_of_file, forecasts_of_model
from ._refine_problem import read_flow
from ._refine_report import check_equation, draw_first, table
from ._refine_task import Task, make_method, make_residual, refine_one
from ._saved_model import SavedModel, load_saved_model
from ._terminal import say, shows_progress

_OWN_OPTIONS = {
    "residual": {"order": "finite-differences", "substeps": "defect", "n_nodes": "collocation"},
    "method": {"max_matvecs": "newton"},
}
_COUNTS = (
    *("substeps", "n_nodes", "max_matvecs", "n_iterations"),
    *("window", "n_steps", "n_in", "n_points", "n_samples"),
)


def run_refinement(options: Refine) -> None:
    """Forecast, refine, write the file, print the table, and draw.

    Raises
    ------
    UsageError
        If options, data and model do not fit.
    RuntimeError
        If a forecast is not finite, or a trajectory does not reach the tolerance; in the second
        case what was reached is written.
    """
    _check_options(options)
    saved = None if options.model.is_file() else load_saved_model(options.model)
    if options.method == "output-layer" and not (
        saved is not None and isinstance(saved.forecaster, SpatiotemporalFNO)
    ):
        kind = "a file" if saved is None else f"a {type(saved.forecaster).__name__}"
        raise UsageError(
            "--method output-layer tunes the last layer of a SpatiotemporalFNO (`sciml train "
            f"sfno`), and {options.model} is {kind}: take newton."
        )
    with jax.enable_x64(True):
        _run_in_float64(options, saved)


def _run_in_float64(options: Refine, saved: SavedModel | None) -> None:
    dataset = load_part(options.data, options.split, options.n_points)
    check_periodic(options.data, dataset)
    flow = read_flow(dataset, options)
    if saved is None:
        forecasts = forecasts_of_file(dataset, options)
    dataset = dataset.select(slice(0, options.n_samples))
    if saved is not None:
        forecasts = forecasts_of_model(saved, dataset, options)
    task = Task(options, dataset, flow, forecasts, make_residual(options), make_method(options))
    _check_lengths(task)
    _check_forecasts(forecasts)
    n_in, n_steps = forecasts.n_in, forecasts.n_steps
    truth = None
    if dataset.n_times >= n_in + n_steps:
        truth = dataset.values[:, n_in : n_in + n_steps]
    say(
        f"Refining {dataset.n_samples} forecasts of {n_steps} snapshots after {n_in}, viscosity "
        f"{flow.viscosity:g}, drag {flow.drag:g}, {'no ' if flow.forcing is None else ''}forcing"
    )
    check_equation(task, truth)
    solutions = _refine_all(task)
    refined = np.stack([np.asarray(solution.value) for solution in solutions])
    result = dataset.replace(
        values=refined,
        start_time=dataset.start_time + n_in * dataset.dt,
        attributes=dataset.attributes
        | {"forecast_by": forecasts.name, "forecast_from_snapshots": n_in}
        | {"viscosity": flow.viscosity, "drag": flow.drag}
        | {
            "refined_by": type(task.method).__name__,
            "refined_residual": type(task.residual).__name__,
            "refined_rtol": options.rtol,
        },
    )
    save_dataset(options.out, result)
    say(f"Refined    {options.out}: {result}\n")
    say(table(task, refined, truth, solutions))
    if options.figure is not None:
        figure = draw_first(task, solutions[0], truth)
        say(f"\nFigure     {save_figure(figure, options.figure)}")
    _tell_failures(options, solutions)


def _refine_all(task: Task) -> list[Solution]:
    solutions = []
    samples = range(task.dataset.n_samples)
    with tqdm(samples, desc="refining", unit="trajectory", disable=not shows_progress()) as bar:
        try:
            for sample in bar:
                begin = time.perf_counter()
                solution = refine_one(task, sample)
                solution.stats["wall"] = time.perf_counter() - begin
                solutions.append(solution)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Nothing was written.") from None
    return solutions


def _check_options(options: Refine) -> None:
    for name in _COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
    if not 0 < options.rtol < 1:
        raise UsageError(f"--rtol must be between 0 and 1, got {options.rtol}.")
    for choice, owners in _OWN_OPTIONS.items():
        chosen = getattr(options, choice)
        for name, owner in owners.items():
            if getattr(options, name) is not None and chosen != owner:
                raise UsageError(
                    f"--{name.replace('_', '-')} is for --{choice} {owner}, not for {chosen}."
                )
    if options.n_iterations is not None and options.method == "newton":
        raise UsageError(
            "--n-iterations is for --method lbfgs and output-layer; newton has --max-matvecs."
        )
    check_output(options.out, options.overwrite)
    check_figure(options.figure)


def _check_lengths(task: Task) -> None:
    """Raise unless each window has snapshots enough, before the first one is refined."""
    n_in, n_steps = task.forecasts.n_in, task.forecasts.n_steps
    window = min(task.options.window or n_steps, n_steps)
    if task.options.method == "output-layer" and window > task.forecasts.reach:
        raise UsageError(
            f"the model predicts {task.forecasts.reach} snapshots at once: pass --window "
            f"{task.forecasts.reach} with --method output-layer."
        )
    # What remains at the end joins the last window where it is too short.
    task.residual.check(n_in, window)


def _check_forecasts(forecasts: Forecasts) -> None:
    finite = np.isfinite(forecasts.values)
    if not finite.all():
        sample, step = (int(i) for i in np.argwhere(~finite)[0][:2])
        raise RuntimeError(
            f"the forecast of trajectory {sample} is not finite from step {step + 1} on; nothing "
            "was written. Forecast fewer steps."
        )


def _tell_failures(options: Refine, solutions: list[Solution]) -> None:
    """Say which trajectories missed the tolerance and why, and fail if any did."""
    failed = [i for i, s in enumerate(solutions) if not bool(is_successful(s.result))]
    if not failed:
        return
    say()
    for i in failed:
        reached = float(solutions[i].stats["relative_eta"])
        say(f"Trajectory {i}: residual {reached:.2g}. {RESULTS[solutions[i].result]}")
    raise RuntimeError(
        f"{len(failed)} of {len(solutions)} trajectories did not reach --rtol {options.rtol:g} "
        f"(trajectory {', '.join(map(str, failed[:10]))}{', ...' if len(failed) > 10 else ''}); "
        f"what was reached is in {options.out}."
    )
