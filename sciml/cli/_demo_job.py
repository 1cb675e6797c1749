"""The work of ``sciml demo``: train two operators, compare six methods, write, draw, explain."""

import dataclasses
import shlex
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..core import machine, write_report
from ..data import DatasetSplits, FieldDataset, GaussianNormaliser, VorticitySymmetries, load
from ..neural_operators import (
    AbstractForecaster,
    Persistence,
    SolverForecaster,
    SpaceTimeFNO,
    SpatiotemporalFNO,
    evaluate,
)
from ..plot import plot_summary, plot_training
from ..problems import ETDRK4, IMEXCrankNicolson, NavierStokes2D, RK4CrankNicolson, fno_forcing
from ..train import fit, one_cycle_adam, one_cycle_schedule
from ._demo import Demo
from ._demo_report import DemoScores, demo_rows, demo_table, demo_targets, demo_title, findings
from ._figures import draw_if_possible
from ._load_data import SAMPLE
from ._terminal import say, shows_progress

N_IN, N_OUT = 10, 40
_TRAINING_GRID, _GRID, _FINE_GRID = 16, 64, 128
_WIDTH = 8
_BATCH_SIZE = 4
# Peak learning rates, the best on the validation trajectories: FNO3d was tried with 3e-3, 1e-2 and
# 2e-2, SFNO with 1e-2 and 2e-2, which made no difference to an earlier form of it.
_SFNO_RATE, _FNO3D_RATE = 1e-2, 2e-2


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How much work: on two free cores the steps of both models take about the same time.

    The steps are fixed numbers and not a time limit, so that equal seeds give equal models.
    """

    sfno_steps: int
    fno3d_steps: int
    n_test: int
    starts: tuple[int, ...]


_FULL = _Plan(sfno_steps=1300, fno3d_steps=300, n_test=8, starts=(0, 7, 14))
_QUICK = _Plan(sfno_steps=80, fno3d_steps=20, n_test=2, starts=(0,))


def run_demo(options: Demo) -> None:
    """Train, compare, print the table, and leave results, figures and the model."""
    plan = _QUICK if options.quick else _FULL
    began = time.perf_counter()
    coarse = load(SAMPLE, n_points=_TRAINING_GRID)
    test = _part(load(SAMPLE, n_points=_GRID), "test").select(slice(0, plan.n_test))
    horizon = N_OUT * test.dt
    say(
        f"Forecasting two-dimensional Navier-Stokes: {N_IN} snapshots given, the next {N_OUT} "
        f"({horizon:g} time units) predicted,\nfrom {coarse.train.n_samples} trajectories "
        f"to learn from, judged on {test.n_samples} others. "
        f"Machine: {machine()['processor']}, {machine()['cores']} cores."
    )
    keys = jax.random.split(jax.random.key(options.seed), 4)
    normaliser = GaussianNormaliser.fit(coarse.train)
    common: dict[str, Any] = {
        "hidden_channels": _WIDTH,
        "context_channels": len(coarse.train.context_names),
        "normaliser": normaliser,
    }
    sfno = SpatiotemporalFNO(
        1, dt=test.dt, horizon=horizon, n_modes=(6, 6, 6), latent_steps=12, key=keys[0], **common
    )
    fno3d = SpaceTimeFNO(1, N_IN, (8, 6, 6), key=keys[1], **common)

    say(f"\n[1/3] Training SFNO on {_TRAINING_GRID} x {_TRAINING_GRID} points")
    sfno, sfno_seconds = _train(
        sfno, coarse, options, options.run_dir, plan.sfno_steps, _SFNO_RATE, "SFNO", keys[2]
    )
    say(f"[2/3] Training FNO3d, the space-time FNO of 2021, about as long ({sfno_seconds:.0f} s)")
    folder = options.run_dir / "fno3d"
    fno3d, fno3d_seconds = _train(
        fno3d, coarse, options, folder, plan.fno3d_steps, _FNO3D_RATE, "FNO3d", keys[3]
    )

    say(f"[3/3] Forecasting the test trajectories on {_GRID} x {_GRID} points")
    models = {"persistence": Persistence(), "FNO3d": fno3d, "SFNO": sfno, **_solvers(test)}
    scores = evaluate(models, test, N_IN, N_OUT, starts=plan.starts)
    # The sample is band-limited, so that its values on the finer grid are exact.
    finer = test.resample(_FINE_GRID)
    fine_scores = evaluate({"SFNO": sfno}, finer, N_IN, N_OUT, starts=plan.starts)
    result = DemoScores(
        scores,
        fine_scores[0],
        _GRID,
        _FINE_GRID,
        _TRAINING_GRID,
        {"SFNO": sfno_seconds, "FNO3d": fno3d_seconds},
    )
    say(f"\n{demo_table(result)}\n\n{findings(result, quick=options.quick)}\n")

    report = write_report(
        options.run_dir / "results.json",
        command=_command(options),
        rows=demo_rows(result),
        targets=demo_targets(result, quick=options.quick),
        settings={
            "data": SAMPLE,
            "seed": options.seed,
            "n_in": N_IN,
            "n_out": N_OUT,
            "starts": plan.starts,
            "test_trajectories": test.n_samples,
            "training_grid": _TRAINING_GRID,
            "steps": {"SFNO": plan.sfno_steps, "FNO3d": plan.fno3d_steps},
            "peak_learning_rate": {"SFNO": _SFNO_RATE, "FNO3d": _FNO3D_RATE},
            "batch_size": _BATCH_SIZE,
            "hidden_channels": _WIDTH,
        },
    )
    summary = draw_if_possible(
        lambda: _draw(result, test, quick=options.quick),
        options.run_dir / "figures" / "summary.png",
    )
    say(f"Results  {report}")
    say(f"Figure   {summary}")
    say(f"Model    {options.run_dir / 'checkpoint'}")
    folder = shlex.quote(str(options.run_dir))
    say(
        f"\nDone in {time.perf_counter() - began:.0f} s. What to do next:\n"
        f"  sciml predict {folder} {SAMPLE} --out forecast.npz --figure forecast.png\n"
        f"  sciml train sfno --steps 3000 --width 16\n"
        f"  sciml data generate {SAMPLE} --out mine.h5 --viscosity 1e-4 --n-train 64"
    )


def _part(splits: DatasetSplits, name: str) -> FieldDataset:
    return dict(splits.items())[name]


def _train(
    model: Any,
    splits: DatasetSplits,
    options: Demo,
    folder: Path,
    n_steps: int,
    rate: float,
    name: str,
    key: Any,
) -> tuple[AbstractForecaster, float]:
    """Return the trained model and the wall time of its training, compilation included."""
    solution = fit(
        model,
        splits.train.windows(
            N_IN,
            N_OUT,
            batch_size=_BATCH_SIZE,
            seed=options.seed,
            transform=VorticitySymmetries.for_fno_forcing(),
        ),
        optimizer=one_cycle_adam(rate, n_steps),
        n_steps=n_steps,
        key=key,
        run_dir=folder,
        overwrite=True,
        validation=_part(splits, "validation").windows(
            N_IN, N_OUT, batch_size=_BATCH_SIZE, seed=options.seed, shuffle=False
        ),
        validate_every=max(1, n_steps // 6),
        checkpoint_every=n_steps,
        config={
            "model": name,
            "data": SAMPLE,
            "n_in": N_IN,
            "n_out": N_OUT,
            "n_points": list(splits.train.n_points),
            "channels": list(splits.train.channels),
            "dt": splits.train.dt,
            "domain_extent": list(splits.train.domain_extent),
            "seed": options.seed,
            "batch_size": _BATCH_SIZE,
            "learning_rate": rate,
            "steps": n_steps,
        },
        progress=shows_progress(),
    )
    draw_if_possible(
        lambda: plot_training(
            solution.stats["history"],
            learning_rate=one_cycle_schedule(rate, n_steps),
            title=f"{name}: relative L2 error while training",
        ),
        folder / "figures" / "training.png",
    )
    return solution.value, float(solution.stats["seconds"])


def _solvers(test: FieldDataset) -> dict[str, AbstractForecaster]:
    """Return the classical solvers, each with the largest step that divides ``dt`` and is stable.

    Found by trying 1, 2 and 4 steps a snapshot; with fewer each of them blows up.
    """
    problem = NavierStokes2D(
        test.n_points,
        viscosity=float(test.attributes["viscosity"]),
        domain_extent=test.domain_extent,
        forcing=fno_forcing(test.n_points, test.domain_extent),
    )
    choices = (("IMEX-CN", IMEXCrankNicolson(), 4), ("RK4-CN", RK4CrankNicolson(), 2))
    choices = (*choices, ("ETDRK4", ETDRK4(), 2))
    return {
        f"{name}, {substeps} steps/snapshot": SolverForecaster(
            problem, stepper, test.dt, substeps=substeps
        )
        for name, stepper, substeps in choices
    }


def _command(options: Demo) -> str:
    words = ["sciml", "demo", "--seed", str(options.seed)]
    return shlex.join([*words, "--quick"] if options.quick else words)


def _draw(result: DemoScores, test: FieldDataset, *, quick: bool) -> Any:
    # The steps of the solvers stand in the table; here the names would squeeze the curves.
    by_name = {score.method.partition(",")[0]: score for score in result.scores}
    rows = [
        {"method": name, "relative_l2": score.relative_l2, "seconds": score.seconds}
        for name, score in by_name.items()
    ]
    # A forecast that is not finite anywhere has no curve.
    curves = {
        name: score.error_curve
        for name, score in by_name.items()
        if np.any(np.isfinite(score.error_curve) & (score.error_curve > 0))
    }
    return plot_summary(
        test.values[0, N_IN : N_IN + N_OUT],
        by_name["SFNO"].example,
        errors=curves,
        rows=rows,
        times=test.dt * np.arange(1, N_OUT + 1),
        domain_extent=test.domain_extent,
        method="SFNO",
        title=demo_title(result, quick=quick),
    )
