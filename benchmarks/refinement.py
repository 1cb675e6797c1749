"""Refinement of SFNO's forecasts, always beside the same refinement of persistence, and marching.

    python benchmarks/refinement.py            # about 20 minutes on one core, training included
    python benchmarks/refinement.py --quick    # two minutes; nothing is written

Errors are true relative L2 errors in space and time against solutions in float64 with finer steps,
means over trajectories that no training saw. ``matvecs`` are derivatives of the residual in one
direction; ``transforms`` counts two-dimensional FFTs a snapshot, evaluations and gradients
included (a gradient counts three evaluations). ``estimated_error_defect_x4`` is what `estimate`
says with four substeps of ETDRK4 between snapshots; where the refinement used those it only says
that their equations are solved. Seconds are medians over the trajectories of wall
time on this machine, without compilation.
"""

import dataclasses
import os
import statistics
import time
from pathlib import Path

# One thread, so that seconds compare.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from refinement_cases import HARD, N_IN, OUT_OF_DISTRIBUTION, SMOOTH, trained_sfno, truth_of

from sciml.core import Target, format_table, is_successful, write_report
from sciml.neural_operators import (
    LBFGS,
    CollocationResidual,
    FiniteDifferenceResidual,
    NewtonGMRES,
    OutputLayerLBFGS,
    SolverDefectResidual,
    SolverForecaster,
    estimate,
    refine,
)
from sciml.numerics import relative_l2
from sciml.problems import ETDRK4, RK4CrankNicolson

RESULT = Path(__file__).parent / "results" / "refinement.json"
RESIDUALS = {
    "FD4": FiniteDifferenceResidual(4),
    "FD6": FiniteDifferenceResidual(6),
    "defect x1": SolverDefectResidual(),
    "defect x2": SolverDefectResidual(substeps=2),
    "collocation": CollocationResidual(),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seed: int = 41
    n_samples: int = 4
    """Test trajectories of a flow."""
    quick: bool = False
    """One trajectory, hardly trained models, the smooth flow and one hard one."""
    out: Path = RESULT


def main(settings: Settings) -> None:
    """Run everything, print a table, write the result file."""
    jax.config.update("jax_enable_x64", True)
    n_samples = 1 if settings.quick else settings.n_samples
    rows = smooth_rows(settings, n_samples)
    for case in HARD[:1] if settings.quick else (*HARD, OUT_OF_DISTRIBUTION):
        rows += hard_rows(case, settings, min(n_samples, 2))
    names = ("case", "start", "residual", "method", "n_steps", "error_of_start", "relative_l2",
             "matvecs", "gradients", "transforms", "seconds", "solved")  # fmt: skip
    print(format_table([{name: row.get(name) for name in names} for row in rows],
                       {name: name for name in names}))  # fmt: skip
    targets = targets_of(rows)
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/refinement.py",
            rows=rows,
            targets=targets,
            settings={"seed": settings.seed, "n_samples": n_samples},
        )
        print(f"written: {settings.out}")


def smooth_rows(settings, n_samples):
    """Rows of the flow of the targets: every residual and method, windows of 10 and 40."""
    case = SMOOTH
    model, cpu_seconds = trained_sfno(case, settings.seed, quick=settings.quick)
    u = truth_of(case, n_samples, N_IN + 40, settings.seed + 1000)
    rows = []
    for n_steps in (10, 40):
        starts = starting_points(case, model, u, n_steps)
        for start, guesses in starts.items():
            for name, residual in RESIDUALS.items():
                method = NewtonGMRES(max_matvecs=200)
                # The longer a trajectory, the larger the error that the same residual leaves.
                rtol = 1e-9 if n_steps == 10 else 5e-10
                rows.append(
                    row_of(case, u, guesses, start, name, residual, "Newton-GMRES", method, n_steps,
                           rtol=rtol)
                )  # fmt: skip
        for name in ("FD4", "defect x1") if n_steps == 10 else ():
            rows.append(
                row_of(case, u, starts["SFNO"], "SFNO", name, RESIDUALS[name], "L-BFGS, 200",
                       LBFGS(200), n_steps)
            )  # fmt: skip
        rows += marching_rows(case, u, n_steps)
    layer = OutputLayerLBFGS(n_iterations=100)
    context = jnp.asarray(case.recipe.context()[0])
    rows.append(
        row_of(case, u[:2], [model] * len(u[:2]), "SFNO", "FD4", RESIDUALS["FD4"],
               "output layer, L-BFGS, 100", layer, 10, context=context)
    )  # fmt: skip
    rows.append({"case": case.name, "method": "training of SFNO", "cpu_seconds": cpu_seconds})
    return rows


def hard_rows(case, settings, n_samples):
    """Rows of a harder flow, where the learned start may save work or converge alone.

    Windows are fixed first, so that a start that fails is seen to fail, and then adapted.
    """
    trained_on = HARD[2] if case is OUT_OF_DISTRIBUTION else case
    model, cpu_seconds = trained_sfno(trained_on, settings.seed, quick=settings.quick)
    u = truth_of(case, n_samples, N_IN + 20, settings.seed + 2000)
    residual = SolverDefectResidual(substeps=case.substeps)
    name = f"defect x{case.substeps}"
    method = NewtonGMRES(max_matvecs=150)
    rows = []
    for n_steps, adapt in ((5, False), (10, False), (20, False), (20, True)):
        if case is OUT_OF_DISTRIBUTION and n_steps == 20:
            continue
        starts = starting_points(case, model, u, n_steps)
        for start, guesses in starts.items():
            label = "Newton-GMRES"
            if adapt:
                label += ", windows of 10 and less"
                guesses = [start_model(start, case, model)] * len(u)
            rows.append(
                row_of(case, u, guesses, start, name, residual, label, method, n_steps,
                       window=10 if adapt else None, adapt=adapt, rtol=1e-8)
            )  # fmt: skip
        rows += [] if adapt else marching_rows(case, u, n_steps)
    rows.append({"case": case.name, "method": "training of SFNO", "cpu_seconds": cpu_seconds})
    return rows


class Forecast(eqx.Module):
    """The trained model with its forcing, or persistence, as a function of the inputs."""

    model: eqx.Module | None
    context: jax.Array | None

    def __call__(self, inputs, n_steps):
        """Return the forecast."""
        if self.model is None:
            return jnp.broadcast_to(inputs[-1], (n_steps, *inputs.shape[1:]))
        return self.model(inputs, n_steps, context=self.context)


def start_model(start, case, model):
    """Return the forecaster of a start."""
    context = case.recipe.context()
    context = None if context is None else jnp.asarray(context[0])
    return Forecast(model if start == "SFNO" else None, context)


def starting_points(case, model, u, n_steps):
    """Return the forecasts to refine, by name."""
    forecasts = {}
    for start in ("SFNO", "persistence"):
        call = eqx.filter_jit(start_model(start, case, model))
        forecasts[start] = [call(inputs[:N_IN], n_steps) for inputs in u]
    return forecasts


def row_of(case, u, guesses, start, name, residual, label, method, n_steps, *, window=None,
           adapt=False, rtol=1e-9, context=None):  # fmt: skip
    """Refine every trajectory and average what came out."""
    problem, dt = case.recipe.problem(), case.recipe.dt
    records = []
    for i, (values, guess) in enumerate(zip(u, guesses, strict=True)):
        inputs, truth = values[:N_IN], values[N_IN : N_IN + n_steps]

        def call(guess=guess, inputs=inputs):
            return refine(
                guess, inputs, problem, dt=dt, residual=residual, method=method, rtol=rtol,
                window=window, adapt_windows=adapt, throw=False, context=context,
                n_steps=n_steps if callable(guess) else None,
            )  # fmt: skip

        if i == 0:
            call()  # compile
        begin = time.perf_counter()
        solution = call()
        seconds = time.perf_counter() - begin
        before = guess
        if callable(guess):
            known = {} if context is None else {"context": context}
            before = guess(inputs, n_steps, **known)
        stats = solution.stats
        work = stats["n_matvecs"] + stats["n_evaluations"] + 3 * stats["n_gradients"]
        records.append(
            {
                "error_of_start": float(relative_l2(before, truth)),
                "relative_l2": float(relative_l2(solution.value, truth)),
                "matvecs": stats["n_matvecs"],
                "gradients": stats["n_gradients"],
                "transforms": transforms_of(residual) * work,
                "newton_steps": stats["n_steps"],
                "relative_eta": stats["relative_eta"],
                "estimated_error_defect_x4": float(
                    estimate(solution.value, inputs, problem, dt=dt,
                             residual=SolverDefectResidual(substeps=4)).relative_error
                ),
                "seconds": seconds,
                "solved": bool(is_successful(solution.result)),
            }
        )  # fmt: skip
    row = {"case": case.name, "start": start, "residual": name, "method": label, "n_steps": n_steps}
    for key in records[0]:
        column = [record[key] for record in records]
        if key == "solved":
            row[key] = f"{sum(column)} of {len(column)}"
        elif key == "seconds":
            row[key] = statistics.median(column)
        else:
            row[key] = float(np.mean(column))
    row["largest_matvecs"] = max(record["matvecs"] for record in records)
    row["largest_relative_l2"] = max(record["relative_l2"] for record in records)
    print({k: v for k, v in row.items() if k in ("case", "start", "residual", "method", "n_steps",
           "relative_l2", "matvecs", "seconds", "solved")}, flush=True)  # fmt: skip
    return row


def transforms_of(residual):
    """Two-dimensional FFTs of one evaluation, a snapshot: four for each convective term."""
    if isinstance(residual, SolverDefectResidual):
        return 4 * residual.stepper.n_evaluations * residual.substeps
    # Collocation has half as many nodes again as a window of ten has snapshots.
    return 6 if isinstance(residual, CollocationResidual) else 4


def marching_rows(case, u, n_steps):
    """Rows of classical marching from the last known snapshot."""
    problem, rows = case.recipe.problem(), []
    for name, stepper, evaluations in (("ETDRK4", ETDRK4(), 4), ("RK4-CN", RK4CrankNicolson(), 5)):
        for substeps in sorted({1, 2, 5, case.substeps}):
            model = SolverForecaster(problem, stepper, case.recipe.dt, substeps=substeps)
            call = jax.jit(lambda inputs, model=model: model(inputs, n_steps))
            jax.block_until_ready(call(u[0][:N_IN]))
            errors, seconds = [], []
            for values in u:
                begin = time.perf_counter()
                found = jax.block_until_ready(call(values[:N_IN]))
                seconds.append(time.perf_counter() - begin)
                errors.append(float(relative_l2(found, values[N_IN : N_IN + n_steps])))
            rows.append(
                {
                    "case": case.name,
                    "method": f"marching, {name}, {substeps} step{'s' * (substeps > 1)} a snapshot",
                    "n_steps": n_steps,
                    "relative_l2": float(np.mean(errors)),
                    "transforms": 4 * evaluations * substeps,
                    "seconds": statistics.median(seconds),
                }
            )
    return rows


def targets_of(rows):
    """Return the figures that were promised."""
    table = {
        (row["residual"], row["method"], row["n_steps"]): row
        for row in rows
        if row["case"] == SMOOTH.name and row.get("start") == "SFNO"
    }
    targets = []
    for name, error, matvecs in (
        ("FD4", 3e-7, 70),
        ("defect x1", 2e-7, 20),
        ("FD6", 1e-8, 60),
        ("defect x2", 1e-8, 20),
    ):
        row = table[name, "Newton-GMRES", 10]
        targets += [
            Target(f"{name}, 10 snapshots: relative L2", row["relative_l2"], at_most=error),
            Target(f"{name}, 10 snapshots: matvecs", row["matvecs"], at_most=matvecs),
        ]
    for name in ("FD4", "FD6", "defect x1", "defect x2"):
        row = table[name, "Newton-GMRES", 40]
        targets.append(
            Target(f"{name}, 40 snapshots: relative L2", row["relative_l2"], at_most=5e-7)
        )
    row = table["FD4", "L-BFGS, 200", 10]
    targets.append(
        Target(
            "FD4, L-BFGS, 10 snapshots: error of the forecast over that of the refined one",
            row["error_of_start"] / row["relative_l2"],
            at_least=10,
        )
    )
    return targets


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
