"""Bandits that learn to relax: the parameter of SOR and of SSOR over a sequence of systems.

    python benchmarks/learning_to_relax.py [--quick] [--seeds 0 1 2]

Two studies; what learning costs is in the figures. For whole solver configurations see
tuned_solver.py.

1. SOR on 5000 Laplacians with 100 unknowns, each shifted by a random multiple of the identity, with
   a random right-hand side, to a relative residual of 1e-8. Cost: mean iterations. Every ``omega``
   is tried on every system first (a table), so that each run is a look-up.
2. A heat equation with diffusion that changes in time, by Crank-Nicolson and SSOR-preconditioned
   conjugate gradients. Cost: mean iterations, from a table too; the seconds are those of the
   solves and of the bandit.
"""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

# One thread for all; set before NumPy and jax start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
import scipy.sparse
import tyro

from sciml.core import Target, format_table, write_report
from sciml.linear_solvers import (
    AbstractBandit,
    AbstractSolverArm,
    BinnedBandit,
    ChebyshevBandit,
    ConjugateGradientArm,
    SSORArm,
    TsallisINF,
    young_omega,
)

RESULT = Path(__file__).parent / "results" / "learning_to_relax.json"
GRID = tuple(np.linspace(1.0, 1.95, 20).tolist())
# Shifts of the diagonal: a + (b - a) Beta(p, q), as published.
SHIFTS = (-0.15, 0.45)
VARIANCES = {"low variance": (2.0, 6.0), "high variance": (0.5, 1.5)}
N_SIDE = 10
TOLERANCE = 1e-8


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seeds: tuple[int, ...] = (0, 1, 2)
    n_systems: int = 5000
    heat_points: tuple[int, ...] = (50, 100)
    heat_steps: int = 500
    quick: bool = False
    """One seed, few systems; nothing is written."""


def main(settings: Settings) -> None:
    """Run both studies, print their tables and write them."""
    if settings.quick:
        settings = dataclasses.replace(
            settings, seeds=settings.seeds[:1], n_systems=400, heat_points=(24,), heat_steps=60,
        )  # fmt: skip
    rows = []
    for name, shape in VARIANCES.items():
        for seed in settings.seeds:
            rows += study_sor(name, shape, seed, settings.n_systems)
    for n_points in settings.heat_points:
        rows += study_heat(n_points, settings.heat_steps, settings.seeds)
    columns = ("study", "method", "seed", "cost", "over_best_fixed", "ms_per_step")
    print(format_table(rows, {key: key for key in columns}))
    if not settings.quick:
        write_report(
            RESULT,
            rows=rows,
            targets=targets(rows),
            settings=dataclasses.asdict(settings) | {"threads": 1},
        )


def targets(rows: Sequence[dict[str, object]]) -> list[Target]:
    """Return what was promised; each is judged by its worst seed."""

    def worst(method: str, study: str, column: str) -> float:
        found = [r[column] for r in rows if r["method"] == method and str(r["study"]) == study]
        return max(float(str(value)) for value in found)

    promised = []
    for name in VARIANCES:
        study = f"SOR, {name}"
        for method, bound in (("Tsallis-INF", 1.2), ("Chebyshev", 0.8)):
            promised.append(
                Target(
                    f"{study}: iterations of {method} over those of the best fixed omega, worst",
                    worst(method, study, "over_best_fixed"),
                    at_most=bound,
                )
            )
    for study in dict.fromkeys(str(r["study"]) for r in rows if "heat" in str(r["study"])):
        promised.append(
            Target(
                f"{study}: iterations of Chebyshev over those of the best fixed omega, worst seed",
                worst("Chebyshev", study, "over_best_fixed"),
                at_most=1.0,
            )
        )
    return promised


def laplacian(n_side: int) -> scipy.sparse.csr_array:
    """Return the five-point matrix with 4 on its diagonal."""
    second = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n_side, n_side))
    eye = scipy.sparse.eye_array(n_side)
    return (scipy.sparse.kron(eye, second) + scipy.sparse.kron(second, eye)).tocsr()


def bandits(low: float, high: float) -> dict[str, AbstractBandit]:
    """Return the three learners."""
    return {
        "Tsallis-INF": TsallisINF(GRID),
        "binned Tsallis-INF": BinnedBandit(TsallisINF(GRID), n_bins=5, low=low, high=high),
        "Chebyshev": ChebyshevBandit(GRID, low=low, high=high),
    }


def play(bandit: AbstractBandit, contexts, costs, seed: int) -> tuple[float, float]:
    """Return the mean cost, and the milliseconds that the bandit itself takes a step."""
    state, total = bandit.init(key=jax.random.key(seed)), 0.0
    begin = time.perf_counter()
    for context, row in zip(contexts.tolist(), costs.tolist(), strict=True):
        state, index, _ = bandit.ask(state, context)
        total += row[index]
        state = bandit.tell(state, row[index])
    return total / len(costs), 1e3 * (time.perf_counter() - begin) / len(costs)


def table_rows(study: str, seed: int, contexts, costs, low: float, high: float) -> list[dict]:
    """Return one row a fixed ``omega``, one for the optimum and one a bandit."""
    best = costs.mean(axis=0).min()
    chosen = GRID[int(costs.mean(axis=0).argmin())]
    fixed = {
        "omega = 1": costs[:, 0].mean(),
        "omega = 1.4": costs[:, np.abs(np.array(GRID) - 1.4).argmin()].mean(),
        f"best fixed omega ({chosen:.2f})": best,
        "best omega of each system": costs.min(axis=1).mean(),
    }
    rows = [{"method": name, "cost": float(value)} for name, value in fixed.items()]
    for name, bandit in bandits(low, high).items():
        cost, milliseconds = play(bandit, contexts, costs, seed)
        rows.append({"method": name, "cost": cost, "ms_per_step": milliseconds})
    return [
        {"study": study, "seed": seed, **row, "over_best_fixed": float(row["cost"] / best)}
        for row in rows
    ]


def study_sor(name: str, shape: tuple[float, float], seed: int, n_systems: int) -> list[dict]:
    """Run the published setup of shifted Laplacians."""
    rng = np.random.default_rng(seed)
    low, high = SHIFTS
    shifts = low + (high - low) * rng.beta(*shape, size=n_systems)
    b = rng.normal(size=(n_systems, N_SIDE, N_SIDE))
    costs = np.stack([sor_iterations(shifts, b, np.float64(omega)) for omega in GRID], axis=1)
    rows = table_rows(f"SOR, {name}", seed, shifts, costs, low, high)
    beta = 4 * np.cos(np.pi / (N_SIDE + 1)) / (4 + shifts)
    young = np.array([young_omega(value) for value in beta.tolist()])
    mean = float(sor_iterations(shifts, b, young).mean())
    best = costs.mean(axis=0).min()
    rows.append(
        {"study": f"SOR, {name}", "seed": seed, "method": "Young's formula, spectrum known",
         "cost": mean, "over_best_fixed": float(mean / best)}
    )  # fmt: skip
    return rows


def sor_iterations(shifts, b, omega) -> np.ndarray:
    """Return the iterations of SOR for many systems at once.

    The same sweep as `sciml.linear_solvers.sor`, over all systems in step: the points of an
    antidiagonal depend on earlier ones only.
    """
    n_systems, n = len(shifts), N_SIDE
    omega = np.broadcast_to(omega, (n_systems,))
    diagonal = 4.0 + shifts
    # The last axis runs over the systems; a frame of zeros holds the walls.
    right = np.zeros((n + 2, n + 2, n_systems))
    right[1:-1, 1:-1] = np.moveaxis(b, 0, -1)
    x = np.zeros_like(right)
    tolerance = TOLERANCE * np.sqrt((right**2).sum(axis=(0, 1)))
    count, alive, steps = np.zeros(n_systems, int), np.arange(n_systems), 0
    fronts = [np.array([(i, k - i) for i in range(1, n + 1) if 1 <= k - i <= n]).T
              for k in range(2, 2 * n + 1)]  # fmt: skip
    while alive.size:
        for i, j in fronts:
            around = x[i - 1, j] + x[i + 1, j] + x[i, j - 1] + x[i, j + 1]
            x[i, j] += omega * ((right[i, j] + around) / diagonal - x[i, j])
        steps += 1
        inner = x[1:-1, 1:-1]
        around = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]
        residual = right[1:-1, 1:-1] + around - diagonal * inner
        open_ = np.sqrt(np.einsum("ijs,ijs->s", residual, residual)) > tolerance
        count[alive[~open_]] = steps
        if steps >= 10_000:
            count[alive] = steps
            break
        if not open_.all():
            alive, diagonal, omega = alive[open_], diagonal[open_], omega[open_]
            tolerance, x, right = tolerance[open_], x[..., open_], right[..., open_]
    return count


def study_heat(n_points: int, n_steps: int, seeds: Sequence[int]) -> list[dict]:
    """Run Crank-Nicolson for ``u_t = kappa(t) laplace(u) + f``, ``kappa`` between 0.1 and 10."""
    n, dt = n_points - 1, 5.0 / n_steps / 2.5
    matrix = laplacian(n) * float(n_points) ** 2
    eye = scipy.sparse.eye_array(n * n).tocsr()
    axis = np.arange(1, n_points) / n_points
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"))

    def bump(centre, radius):
        distance = ((points - np.reshape(centre, (2, 1, 1))) ** 2).sum(axis=0) / radius**2
        inside = np.minimum(distance, 1 - 1e-9)
        return np.where(distance < 1, np.exp(1 - 1 / (1 - inside)), 0.0).reshape(-1)

    arms = [SSORArm(omega) for omega in GRID]
    u, contexts = bump((0.5, 0.5), 0.25), np.zeros(n_steps)
    costs, seconds = np.zeros((n_steps, len(arms))), np.zeros((n_steps, len(arms)))
    plain_steps, plain_seconds = np.zeros(n_steps), np.zeros(n_steps)
    for step in range(n_steps):
        half = (step + 0.5) * dt
        wave = np.sin(2 * np.pi * half)
        contexts[step] = max(0.1 * wave, -10 * wave)
        change = 0.5 * dt * contexts[step] * matrix
        A = (eye + change).tocsr()
        centre = 0.5 + 0.25 * np.array([np.cos(16 * np.pi * half), np.sin(16 * np.pi * half)])
        b = u - change @ u + dt * 32 * bump(centre, 0.125)
        for k, arm in enumerate(arms):
            costs[step, k], seconds[step, k], _ = timed(arm, A, b, u)
        plain_steps[step], plain_seconds[step], u = timed(ConjugateGradientArm(), A, b, u)
    study = f"heat equation, {n_points} x {n_points}"
    per_step = 1e3 * seconds.mean(axis=0)
    rows = [
        {"study": study, "method": "CG", "cost": float(plain_steps.mean()),
         "ms_per_solve": float(1e3 * plain_seconds.mean())}
    ]  # fmt: skip
    low, high = float(contexts.min()), float(contexts.max())
    best = int(costs.mean(axis=0).argmin())
    for seed in seeds:
        for row in table_rows(study, seed, contexts, costs, low, high):
            name = str(row["method"])
            if name.startswith("best fixed"):
                row["ms_per_solve"] = float(per_step[best])
            elif name in ("omega = 1", "omega = 1.4"):
                row["ms_per_solve"] = float(per_step[0 if name == "omega = 1" else 8])
            rows.append(row)
    return rows


def timed(arm: AbstractSolverArm, A, b, x0) -> tuple[int, float, np.ndarray]:
    """Return steps, seconds and answer of one arm on one system, setup included."""
    begin = time.perf_counter()
    tried = arm.solve(A, b, x0, rtol=TOLERANCE, atol=0.0, max_steps=10 * len(b))
    seconds = time.perf_counter() - begin
    norm = np.linalg.norm(b - A @ tried.x)
    if norm > TOLERANCE * np.linalg.norm(b):
        raise RuntimeError(f"{arm} left a relative residual of {norm / np.linalg.norm(b):g}.")
    return tried.num_steps or 0, seconds, tried.x


if __name__ == "__main__":
    main(tyro.cli(Settings))
