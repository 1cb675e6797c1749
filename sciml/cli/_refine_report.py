"""What ``sciml refine`` tells: the table, a word on the coefficients, and the figure."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core import Solution, format_table
from ..neural_operators import SolverForecaster, estimate
from ..numerics import relative_h1, relative_l2
from ..plot import plot_refinement
from ..problems import ETDRK4
from ._refine_task import Task, refine_one
from ._terminal import say

_COLUMNS = {
    "method": "method",
    "l2": "relative L2",
    "h1": "relative H1",
    "residual": "relative residual",
    "estimate": "estimated error",
    "seconds": "seconds",
}
# A relative residual of the data themselves that differences in time hardly explain.
_SUSPECT = 0.05


def check_equation(task: Task, truth: np.ndarray | None) -> None:
    """Say so if the snapshots of the file do not solve the equation that they are said to."""
    known = task.dataset.values[0, : task.forecasts.n_in]
    if truth is not None:
        inputs, rest = known, truth[0]
    else:
        half = (len(known) + 1) // 2
        inputs, rest = known[:half], known[half:]
        try:
            task.residual.check(len(inputs), len(rest))
        except ValueError:
            return
        if not len(rest):
            return
    found = estimate(rest, inputs, task.flow.problem(0), dt=task.dataset.dt, residual=task.residual)
    relative = float(found.relative_eta)
    # Asked so that NaN is told, too.
    if not relative < _SUSPECT:
        say(
            f"Note: the file's own snapshots leave a relative residual of {relative:.2g}: "
            "viscosity, drag, forcing or dt are not theirs, they are not resolved, or they lie too "
            "far apart for this --residual."
        )


def table(
    task: Task, refined: np.ndarray, truth: np.ndarray | None, solutions: list[Solution]
) -> str:
    """Return errors, residuals and seconds of all methods, means over the trajectories."""
    dataset, forecasts = task.dataset, task.forecasts
    n_in = forecasts.n_in
    substeps = _substeps(task)
    marched, seconds = _march(task, substeps)
    repeated = np.broadcast_to(dataset.values[:, n_in - 1 : n_in], refined.shape)
    rows = [
        _row("persistence", repeated, task, truth),
        _row(forecasts.name, forecasts.values, task, truth),
        _row("refined", refined, task, truth)
        | {"seconds": statistics.median(s.stats["wall"] for s in solutions)},
        _row(f"ETDRK4, {substeps} steps/snapshot", marched, task, truth) | {"seconds": seconds},
    ]
    if truth is not None:
        rows.append(_row("the file's own snapshots", truth, task, None))
    columns = dict(_COLUMNS)
    if truth is None:
        del columns["l2"], columns["h1"]
    work = sum(s.stats["n_matvecs"] for s in solutions)
    kind = "matrix-vector products"
    if not work:
        work, kind = sum(s.stats["n_gradients"] for s in solutions), "gradients"
    return (
        f"{format_table(rows, columns)}\n\n"
        f"{work / len(solutions):.0f} {kind} a trajectory; seconds are the median of "
        f"{len(solutions)}, that of the refinement with compilation in the first."
    )


def draw_first(task: Task, solution: Solution, truth: np.ndarray | None) -> Any:
    """Return the figure of the first trajectory."""
    dataset, forecasts = task.dataset, task.forecasts
    prediction = jnp.asarray(forecasts.values[0])
    inputs, problem = jnp.asarray(dataset.values[0, : forecasts.n_in]), task.flow.problem(0)
    truth_of_first = None if truth is None else truth[0]
    # The states on the way: the same refinement, stopped earlier.
    n_steps = max(len(window) - 1 for window in solution.stats["history"])
    stops = [k for k in (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48) if k < n_steps]
    start = estimate(prediction, inputs, problem, dt=dataset.dt, residual=task.residual)
    times = dataset.dt * np.arange(1, forecasts.n_steps + 1)
    nearest = np.argmin(np.abs(np.asarray(start.times) - times[:, None]), axis=1)
    states = [(0, float(start.relative_eta), prediction)]
    for stopped in [*(refine_one(task, 0, max_steps=k) for k in stops), solution]:
        stats = stopped.stats
        work = stats["n_matvecs"] + stats["n_gradients"]
        states.append((work, float(stats["relative_eta"]), stopped.value))
    run: dict[str, Any] = {
        "work": [work for work, _, _ in states],
        "residual": [residual for _, residual, _ in states],
    }
    if truth_of_first is not None:
        run["error"] = [float(relative_l2(value, truth_of_first)) for *_, value in states]
    return plot_refinement(
        prediction,
        start.residual[nearest],
        solution.value,
        truth=truth_of_first,
        runs={type(task.method).__name__: run},
        times=times,
        domain_extent=dataset.domain_extent,
        quantity=dataset.channels[0],
        prediction_name=forecasts.name,
    )


def _row(
    name: str, values: np.ndarray, task: Task, truth: np.ndarray | None
) -> dict[str, float | str]:
    dataset, n_in = task.dataset, task.forecasts.n_in
    if not np.isfinite(values).all():
        return {"method": f"{name} (blew up)"}
    found = [
        estimate(
            one,
            dataset.values[i, :n_in],
            task.flow.problem(i),
            dt=dataset.dt,
            residual=task.residual,
        )
        for i, one in enumerate(values)
    ]
    row: dict[str, float | str] = {
        "method": name,
        "residual": float(np.mean([float(f.relative_eta) for f in found])),
        "estimate": float(np.mean([float(f.relative_error) for f in found])),
    }
    if truth is not None:
        pairs = [
            (float(relative_l2(v, t)), float(relative_h1(v, t, dataset.domain_extent)))
            for v, t in zip(values, truth, strict=True)
        ]
        row["l2"], row["h1"] = (float(mean) for mean in np.mean(pairs, axis=0))
    return row


def _substeps(task: Task) -> int:
    """Return the steps between snapshots that the data were made with, or two."""
    solver_dt = task.dataset.attributes.get("solver_dt")
    if not isinstance(solver_dt, int | float) or not 0 < solver_dt < np.inf:
        return 2
    return int(np.clip(round(task.dataset.dt / solver_dt), 1, 1000))


def _march(task: Task, substeps: int) -> tuple[np.ndarray, float]:
    """Return what the classical solver makes of the last known snapshots, and its seconds."""
    dataset, n_in, n_steps = task.dataset, task.forecasts.n_in, task.forecasts.n_steps

    @jax.jit
    def march(problem, inputs):
        solver = SolverForecaster(problem, ETDRK4(), dataset.dt, substeps=substeps)
        return solver(inputs, n_steps)

    values, seconds = [], []
    for i in range(dataset.n_samples):
        problem, inputs = task.flow.problem(i), jnp.asarray(dataset.values[i, :n_in])
        if i == 0:
            march(problem, inputs).block_until_ready()
        begin = time.perf_counter()
        values.append(np.asarray(march(problem, inputs)))
        seconds.append(time.perf_counter() - begin)
    return np.stack(values), statistics.median(seconds)
