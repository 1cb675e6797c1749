"""SFNO on Navier-Stokes data, beside persistence, FNO3d at equal CPU time and classical solvers.

    python benchmarks/sfno_navier_stokes.py            # three seeds, half an hour or more
    python benchmarks/sfno_navier_stokes.py --quick    # one seed, a few minutes; no targets

With 4,000 full steps it took 34 minutes on 2 busy cores.

Data: two-dimensional Navier-Stokes, forcing of the FNO benchmark, 128 training, 16 validation and
16 test trajectories of 64 snapshots, generated here in float64. Task: 10 snapshots in, 40 out.
All models see the same windows, symmetries and normalisation. FNO3d's learning rate is the best of
four on the validation set, chosen in every run; SFNO's was tuned on the validation trajectories of
another set. Errors are relative L2 in space and time on the 16 test
trajectories, from three start times each. ``cpu_seconds`` is process time of training,
compilation included.
"""

import dataclasses
import time
from pathlib import Path

import jax
import numpy as np
import tyro

from sciml.core import Target, write_report
from sciml.data import (
    DatasetSplits,
    GaussianNormaliser,
    NavierStokesRecipe,
    VorticitySymmetries,
    generate_navier_stokes,
)
from sciml.neural_operators import (
    AbstractForecaster,
    Persistence,
    SolverForecaster,
    SpaceTimeFNO,
    SpatiotemporalFNO,
    evaluate,
)
from sciml.problems import ETDRK4, IMEXCrankNicolson, NavierStokes2D, RK4CrankNicolson
from sciml.train import fit, one_cycle_adam

N_IN, N_OUT = 10, 40
STARTS = (0, 7, 14)
RESULT = Path(__file__).parent / "results" / "sfno_navier_stokes.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seeds: tuple[int, ...] = (11, 12, 13)
    """One training run for each; the data do not change."""
    data_seed: int = 2026
    quick: bool = False
    """A few minutes: one seed, short runs, no fine truth, nothing is written."""
    out: Path = RESULT


@dataclasses.dataclass(frozen=True)
class Budget:
    """Steps and sizes of the runs."""

    counts: tuple[int, int, int]
    short_steps: int
    full_steps: int
    hard_steps: int
    learning_rates: tuple[float, ...]


FULL = Budget((128, 16, 16), 1800, 4800, 600, (1e-2, 2e-2, 4e-2, 8e-2))
QUICK = Budget((16, 4, 4), 60, 120, 20, (1e-2,))


def main(settings: Settings) -> None:
    """Run everything, print a table, write the result file."""
    budget = QUICK if settings.quick else FULL
    seeds = settings.seeds[:1] if settings.quick else settings.seeds
    recipe = NavierStokesRecipe()
    splits = generate(recipe, budget.counts, settings.data_seed)
    rows = classical_rows(splits, recipe)

    short, full, fno3d = [], [], []
    rates = choose_learning_rate(splits, budget, seeds[0])
    for seed in seeds:
        run = train_sfno(splits, budget.short_steps, seed)
        short.append(score("SFNO, short", run, splits, seed))
        run = train_fno3d(splits, short[-1]["cpu_seconds"], rates["chosen"], seed)
        fno3d.append(score("FNO3d, equal CPU time", run, splits, seed))
        full_run = train_sfno(splits, budget.full_steps, seed)
        full.append(score("SFNO, full", full_run, splits, seed))
    rows += [*fno3d, *short, *full]

    model = full_run[0]
    zero_shot = finer_grids(model, recipe, settings) if not settings.quick else {}
    rows += list(zero_shot.values())
    drift = amplitude_drift(model, splits)
    rows += hard_rows(budget, seeds[0], settings.data_seed)

    print_rows(rows)
    print(f"change of amplitude when the horizon is cut into 10, 20, 40 steps: {drift:.2e}")
    targets = [
        Target(
            "SFNO, short: relative L2 at 64x64, mean of seeds",
            mean(short, "relative_l2"),
            at_most=0.01,
        ),
        Target("SFNO, short: CPU seconds of training, largest", worst(short), at_most=180),
        Target(
            "SFNO, full: relative L2 at 64x64, mean of seeds",
            mean(full, "relative_l2"),
            at_most=0.006,
        ),
        *(
            Target(
                f"error at {n}x{n} over error at 64x64, same trajectories",
                row["relative_l2"] / zero_shot[64]["relative_l2"],
                at_most=1.1,
            )
            for n, row in zero_shot.items()
            if n != 64
        ),
        Target("relative change of amplitude with the number of steps", drift, at_most=0.01),
    ]
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/sfno_navier_stokes.py",
            rows=rows,
            targets=targets,
            settings={
                "seeds": list(seeds),
                "data_seed": settings.data_seed,
                "training_grid": "16x16",
                **dataclasses.asdict(budget),
                "fno3d_validation_error_by_learning_rate": rates,
            },
        )
        print(f"written: {settings.out}")


def generate(recipe: NavierStokesRecipe, counts: tuple[int, int, int], seed: int) -> DatasetSplits:
    """Return trajectories solved in float64 and stored in float32."""
    n_train, n_validation, n_test = counts
    with jax.enable_x64(True):
        return generate_navier_stokes(
            None,
            n_train=n_train,
            n_validation=n_validation,
            n_test=n_test,
            seed=seed,
            recipe=recipe,
        )


def equation(recipe: NavierStokesRecipe) -> NavierStokes2D:
    """Return the equation that the recipe solves."""
    n_points = (recipe.n_points, recipe.n_points)
    return NavierStokes2D(
        n_points,
        viscosity=recipe.viscosity,
        domain_extent=recipe.domain_extent,
        forcing=recipe.forcing.field(n_points, recipe.domain_extent),
    )


def train(model, splits: DatasetSplits, n_steps: int, learning_rate: float, seed: int):
    """Train on the windows that all models share; return the model and its CPU seconds."""
    batches = splits.train.windows(
        N_IN,
        N_OUT,
        batch_size=4,
        seed=seed,
        transform=VorticitySymmetries.for_fno_forcing(),
    )
    begin = time.process_time()
    solution = fit(
        model,
        batches,
        optimizer=one_cycle_adam(learning_rate, n_steps),
        n_steps=n_steps,
        key=jax.random.key(seed),
    )
    return solution.value, time.process_time() - begin


def train_sfno(splits, n_steps, seed, *, n_points=16, n_modes=(6, 6, 6), learning_rate=1e-2):
    """Train SFNO for a number of steps."""
    coarse = splits.resample(n_points)
    model = SpatiotemporalFNO(
        1,
        dt=coarse.train.dt,
        horizon=N_OUT * coarse.train.dt,
        n_modes=n_modes,
        hidden_channels=12,
        context_channels=1,
        normaliser=GaussianNormaliser.fit(coarse.train),
        key=jax.random.key(seed),
    )
    return train(model, coarse, n_steps, learning_rate, seed)


def make_fno3d(splits, seed):
    """Return FNO3d with the width and the space modes of SFNO."""
    return SpaceTimeFNO(
        1,
        N_IN,
        (8, 6, 6),
        hidden_channels=12,
        context_channels=1,
        normaliser=GaussianNormaliser.fit(splits.train),
        key=jax.random.key(seed),
    )


def train_fno3d(splits, cpu_seconds, learning_rate, seed):
    """Train FNO3d for as many steps as fit into the CPU seconds."""
    coarse = splits.resample(16)
    n_probe = 20
    _, with_compilation = train(make_fno3d(coarse, seed), coarse, 2, learning_rate, seed)
    _, probe = train(make_fno3d(coarse, seed), coarse, 2 + n_probe, learning_rate, seed)
    per_step = max(probe - with_compilation, 1e-3) / n_probe
    n_steps = max(10, int((cpu_seconds - with_compilation) / per_step))
    return train(make_fno3d(coarse, seed), coarse, n_steps, learning_rate, seed)


def choose_learning_rate(splits, budget, seed):
    """Return FNO3d's validation error for each rate, in a run of a third of the length."""
    coarse = splits.resample(16)
    errors = {}
    for rate in budget.learning_rates:
        model, _ = train(make_fno3d(coarse, seed), coarse, budget.short_steps // 9, rate, seed)
        (result,) = evaluate({"": model}, coarse.validation, N_IN, N_OUT, starts=STARTS)
        errors[rate] = result.relative_l2
    return {"chosen": min(errors, key=errors.__getitem__)} | {
        f"{r:g}": e for r, e in errors.items()
    }


def score(method, run, splits, seed):
    """Evaluate a trained model at 64x64 on the test trajectories."""
    model, cpu_seconds = run
    (result,) = evaluate({method: model}, splits.test, N_IN, N_OUT, starts=STARTS)
    curve = result.error_curve.mean(axis=0)
    leads = {f"error_at_step_{k}": float(curve[k - 1]) for k in (1, 5, 10, 20, 30, 40)}
    return result.row() | {"seed": seed, "cpu_seconds": cpu_seconds} | leads


def classical_rows(splits, recipe):
    """Score persistence and the solvers; a dash marks a step that is too long to be stable."""
    problem = equation(recipe)
    models: dict[str, AbstractForecaster] = {"persistence": Persistence()}
    for name, stepper, substeps in (
        ("IMEX-CN", IMEXCrankNicolson(), 20),
        ("RK4-CN", RK4CrankNicolson(), 1),
        ("RK4-CN", RK4CrankNicolson(), 2),
        ("ETDRK4", ETDRK4(), 1),
        ("ETDRK4", ETDRK4(), 2),
    ):
        label = f"{name}, {substeps} step{'s' if substeps > 1 else ''} a snapshot"
        models[label] = SolverForecaster(problem, stepper, recipe.dt, substeps=substeps)
    scores = evaluate(models, splits.test, N_IN, N_OUT, starts=STARTS)
    return [result.row() for result in scores]


def finer_grids(model, recipe, settings):
    """Score at 64, 128 and 256 points, on four test trajectories solved at 256 points."""
    fine_recipe = dataclasses.replace(recipe, n_points=256)
    truth = generate(fine_recipe, (1, 0, 4), settings.data_seed).test
    rows = {}
    for n_points in (64, 128, 256):
        dataset = truth if n_points == 256 else truth.stride(256 // n_points)
        (result,) = evaluate({"": model}, dataset, N_IN, N_OUT, starts=STARTS)
        rows[n_points] = result.row() | {
            "method": f"SFNO, full, zero-shot at {n_points}x{n_points}"
        }
    return rows


def amplitude_drift(model, splits):
    """Return the largest relative change of the last snapshot when the horizon is cut finer."""
    inputs = splits.test.values[0, :N_IN]
    context = splits.test.context[0]
    horizon = model.horizon
    ends = [
        np.asarray(model(inputs, n, context=context, dt_out=horizon / n))[-1] for n in (10, 20, 40)
    ]
    return max(float(np.linalg.norm(e - ends[-1]) / np.linalg.norm(ends[-1])) for e in ends)


def hard_rows(budget, seed, data_seed):
    """Report a harder set: viscosity 1e-4 and no warm-up, trained at 32x32."""
    recipe = NavierStokesRecipe(viscosity=1e-4, warm_up=0.0, solver_dt=0.02)
    splits = generate(recipe, budget.counts, data_seed + 1)
    run = train_sfno(splits, budget.hard_steps, seed, n_points=32, n_modes=(6, 12, 12))
    label = "viscosity 1e-4, no warm-up: "
    problem = equation(recipe)
    models = {
        label + "persistence": Persistence(),
        label + "ETDRK4, 5 steps a snapshot": SolverForecaster(
            problem, ETDRK4(), recipe.dt, substeps=5
        ),
    }
    scores = evaluate(models, splits.test, N_IN, N_OUT, starts=STARTS)
    return [s.row() for s in scores] + [score(label + "SFNO", run, splits, seed)]


def mean(rows, name):
    """Return the mean of a column."""
    return float(np.mean([row[name] for row in rows]))


def worst(rows):
    """Return the largest CPU time."""
    return max(row["cpu_seconds"] for row in rows)


def print_rows(rows):
    """Print the table."""
    print(f"{'method':48} {'seed':>4} {'rel. L2':>9} {'rel. H1':>9} {'seconds':>9} {'CPU s':>7}")
    for row in rows:
        figures = [
            "-" if row[name] is None else f"{row[name]:.2e}"
            for name in ("relative_l2", "relative_h1", "seconds")
        ]
        cpu = f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else ""
        print(f"{row['method']:48} {row.get('seed', ''):>4} " + " ".join(f"{f:>9}" for f in figures)
              + f" {cpu:>7}")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
