"""TunedSolver on 500 diffusion problems: what it takes against each of its arms alone.

    python benchmarks/tuned_solver.py [--quick] [--seeds 0 1]

The cost is the processor's time for setup and solve to a relative residual of 1e-8, one thread.
Beside each solve of `TunedSolver` the arms solve the same system, so that all meet the same load of
the machine; those that took more than twice the best one's time over the first twenty systems do so
on each twentieth system only, and their mean stands for the rest. What is learned is paid for in
the figures. The first looks at the arms are taken in their order, and are cut off where a cheaper
arm is known: `TunedSolver` is run with what sciml recommends first, and once more with it last.
"""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

# One thread for all; set before NumPy and jax start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import numpy as np
import scipy.sparse
import tyro

from sciml.core import Target, format_table, write_report
from sciml.linear_solvers import (
    AbstractSolverArm,
    ConjugateGradientArm,
    DirectArm,
    FunctionArm,
    IncompleteCholeskyArm,
    JacobiArm,
    SmoothedAggregationArm,
    SolveCost,
    SSORArm,
    TunedSolver,
    aspreconditioner,
    cg,
)

RESULT = Path(__file__).parent / "results" / "tuned_solver.json"
TOLERANCE = 1e-8
# Until here all arms solve all systems; then slow ones solve each twentieth.
N_ALL, EVERY = 20, 20
FIRST, LAST = "TunedSolver", "TunedSolver, cheapest arm last"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seeds: tuple[int, ...] = (0, 1)
    n_solves: int = 500
    n_side: int = 80
    quick: bool = False
    """One seed, 40 small systems; nothing is written."""


def main(settings: Settings) -> None:
    """Solve all systems by all arms, print a table and write it."""
    if settings.quick:
        settings = dataclasses.replace(settings, seeds=settings.seeds[:1], n_solves=40, n_side=32)
    rows = study(settings.n_solves, settings.seeds, settings.n_side)
    columns = ("method", "seed", "ms_per_solve", "over_best_arm", "late_over_best_arm")
    print(format_table(rows, {key: key for key in columns}))
    if not settings.quick:
        worst = {
            name: max(r["over_best_arm"] for r in rows if r["method"] == name)
            for name in (FIRST, LAST)
        }
        write_report(
            RESULT,
            rows=rows,
            targets=[
                Target(
                    f"CPU seconds of {name}, learning included, over those of the best arm in "
                    "hindsight, worst seed",
                    value,
                    at_most=1.1,
                )
                for name, value in worst.items()
            ],
            settings=dataclasses.asdict(settings) | {"threads": 1},
        )


def timed(arm: AbstractSolverArm, A, b) -> float:
    """Return the seconds that one arm takes for one system, setup included."""
    begin = time.process_time()
    tried = arm.solve(A, b, None, rtol=TOLERANCE, atol=0.0, max_steps=10 * len(b))
    seconds = time.process_time() - begin
    relative = np.linalg.norm(b - A @ tried.x) / np.linalg.norm(b)
    if relative > TOLERANCE:
        raise RuntimeError(f"{arm} left a relative residual of {relative:g}.")
    return seconds


def diffusion_system(rng: np.random.Generator, n_side: int):
    """Return a five-point matrix with random layers of high and low diffusion, and a source."""
    layers = rng.integers(2, 9, size=2)
    waves = [np.sin(np.pi * k * np.arange(n_side + 1) / n_side) for k in layers]
    jump = 10.0 ** rng.uniform(0, 2)
    kappa = np.where(np.add.outer(*waves) > 0.3, jump, 1.0)
    east = np.zeros((n_side, n_side))
    south = np.zeros((n_side, n_side))
    cell = kappa[:-1, :-1]
    east[:, :-1] = 2 * cell[:, :-1] * cell[:, 1:] / (cell[:, :-1] + cell[:, 1:])
    south[:-1] = 2 * cell[:-1] * cell[1:] / (cell[:-1] + cell[1:])
    total = east + south
    total[:, 1:] += east[:, :-1]
    total[1:] += south[:-1]
    total[0] += 2 * cell[0]  # one wall is held at zero
    e, s = east.reshape(-1)[:-1], south.reshape(-1)[:-n_side]
    diagonals = [total.reshape(-1), -e, -e, -s, -s]
    A = scipy.sparse.diags_array(diagonals, offsets=[0, 1, -1, n_side, -n_side]).tocsr()
    return A, rng.normal(size=n_side * n_side)


def solve_by_ours(A, b, rtol):
    """Solve by the SciPy door, with the preconditioner that it finds for the matrix."""
    return cg(A, b, rtol=rtol, M=aspreconditioner(A))


def study(n_solves: int, seeds: Sequence[int], n_side: int) -> list[dict]:
    """Let `TunedSolver` choose; beside each of its solves every arm solves the same system."""
    # What we expect to be cheap comes first.
    arms = {
        "cg with aspreconditioner": FunctionArm(solve_by_ours, "ours"),
        "sparse LU": DirectArm(),
        "SA-AMG-CG": SmoothedAggregationArm(),
        "IC(0)-CG": IncompleteCholeskyArm(),
        "SSOR(1.8)-CG": SSORArm(1.8),
        "SSOR(1.5)-CG": SSORArm(1.5),
        "SSOR(1.0)-CG": SSORArm(1.0),
        "Jacobi-CG": JacobiArm(),
        "CG": ConjugateGradientArm(),
    }
    in_order, reversed_ = tuple(arms.values()), tuple(arms.values())[::-1]
    direct = list(arms).index("sparse LU")
    solvers = {
        FIRST: TunedSolver(in_order, backstop=direct, cost=SolveCost.CPU_SECONDS),
        LAST: TunedSolver(reversed_, backstop=len(arms) - 1 - direct, cost=SolveCost.CPU_SECONDS),
    }
    rows = []
    for seed in seeds:
        rng = np.random.default_rng(1000 + seed)
        states = {name: solver.init(key=jax.random.key(seed)) for name, solver in solvers.items()}
        alone = np.full((n_solves, len(arms)), np.nan)
        learned = {name: np.zeros(n_solves) for name in solvers}
        for arm in arms.values():  # imports and first calls are nobody's cost
            timed(arm, *diffusion_system(np.random.default_rng(7), n_side))
        for step in range(n_solves):
            A, b = diffusion_system(rng, n_side)
            means = alone[:N_ALL].mean(axis=0)
            for k, arm in enumerate(arms.values()):
                if step < N_ALL or step % EVERY == 0 or means[k] <= 2 * means.min():
                    alone[step, k] = timed(arm, A, b)
            for name, solver in solvers.items():
                begin = time.process_time()
                states[name], solution = solver.solve(states[name], A, b, rtol=TOLERANCE)
                learned[name][step] = time.process_time() - begin
                if solution.stats["residual_norm"] > TOLERANCE * np.linalg.norm(b):
                    raise RuntimeError("TunedSolver left too large a residual.")
        totals = n_solves * np.nanmean(alone, axis=0)
        best = totals.min()
        entries = dict(zip(arms, totals, strict=True))
        entries["best arm of each"] = np.nanmin(alone, axis=1).sum()
        entries |= {name: seconds.sum() for name, seconds in learned.items()}
        late = slice(-n_solves // 5, None)
        for name, total in entries.items():
            row = {"seed": seed, "method": name, "ms_per_solve": float(1e3 * total / n_solves)}
            row["over_best_arm"] = float(total / best)
            if name in solvers:
                tries = states[name]["tries"]
                row["tries"] = dict(zip(arms, tries if name == FIRST else tries[::-1], strict=True))
                row["late_over_best_arm"] = float(
                    learned[name][late].mean() / np.nanmean(alone[late], axis=0).min()
                )
            rows.append(row)
    return rows


if __name__ == "__main__":
    main(tyro.cli(Settings))
