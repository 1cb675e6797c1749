"""Linear systems on grids: our solvers against CG, IC(0), PyAMG and AMGCL, setup and solve apart.

All methods run in this process and take turns; medians are compared. Everybody is held to the same
true relative residual, recomputed here in float64: where a method's own stop test leaves more, its
tolerance is tightened until it does not. The clock is CPU time with one thread, which other
processes do not disturb, and wall time with more. Compilation of ours is reported apart. The
peers get an assembled matrix; in the sequences ours also pay for the assembly in every step.

    python benchmarks/linear_solvers.py [--threads N] [--quick] [--cases NAME ...] [--seed N]

The result file is written after each case, and pieces add up: a run with ``--cases`` or
``--methods`` replaces its own rows in the file and leaves the others, ``--resume`` leaves out the
methods of a case that the file already has, and the targets are computed from all rows in it.
Each row tells its date and command: rows of one command took turns.

Peers: pip install pyamg ilupp pyamgcl (the last from source, with boost). A peer that is missing
leaves a row that says so, and its targets do not hold.
"""

# ruff: noqa: E402  (the threads are fixed before numpy and jax start)
import argparse
import os
import sys

# Before numpy, jax and OpenMP start. The affinity binds XLA's thread pool too.
_EARLY = argparse.ArgumentParser(add_help=False)
_EARLY.add_argument("--threads", type=int, default=1)
THREADS = _EARLY.parse_known_args()[0].threads
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = str(THREADS)
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-THREADS:])
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import dataclasses
import datetime
import functools
import json
import math
import shlex
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from linear_solver_methods import System, all_methods

from sciml.core import Target, write_report
from sciml.problems import (
    anisotropic_problem,
    baffle_problem,
    checkerboard_problem,
    inclusion_problem,
    moving_ball_problems,
    obstacle_problem,
    pressure_operator,
    rotating_bar_problems,
)
from sciml.problems._linear_gallery import open_at_start

TOLERANCES = (1e-6, 1e-10)
RESULTS_FOLDER = Path(__file__).parent / "results"
PYAMG = ("PyAMG SA-CG", "PyAMG RS-CG")
AMGCL = tuple(
    f"AMGCL {name}"
    for name in (
        *("SA/ilu0", "SA/spai0", "RS/Gauss-Seidel"),
        *("SA/ilu0, 1000", "SA/spai0, 1000", "SA/spai0, 300", "RS/Gauss-Seidel, 1000"),
    )
)
DOOR = "cg with aspreconditioner"
SCIPY = "SciPy door: "
MOST_SECONDS_TO_TIGHTEN = 30.0
# Seconds between the turns of several threads: those of the method before, which wait for more work
# by spinning, go to sleep.
_REST = 0.1
LEARNED, UNTRAINED = "V-cycle learned", "V-cycle untrained"


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of problems: how to make it, and what it is called."""

    family: str
    shape: tuple[int, ...]
    make: Callable
    n_steps: int = 1

    @property
    def name(self):
        """Family and size."""
        return f"{self.family} {'x'.join(str(n) for n in self.shape)}"

    def systems(self, key):
        """Return the systems, one a step; a single one unless it is a sequence."""
        if self.n_steps == 1:
            return [System(self.make(self.shape, key=key))]
        problems = self.make(self.shape, n_steps=self.n_steps, key=key)
        systems = []
        for problem in problems:
            boundary = open_at_start(len(self.shape))
            mask = problem.operator.active
            assemble = functools.partial(pressure_operator, mask, boundary=boundary)
            systems.append(System(problem, assemble))
        return systems


def all_cases(quick):
    """Return the cases of the issue, or one small case of each kind."""
    flat, solid = ((64,), (16,)) if quick else ((64, 128, 256, 512), (32, 64, 96))
    flat_some, solid_some = ((64,), (16,)) if quick else ((128, 256), (32, 64))
    n_flat, n_solid = (3, 3) if quick else (8, 4)
    cases = [Case("obstacles", (n,) * 2, obstacle_problem) for n in flat]
    cases += [Case("obstacles", (n,) * 3, obstacle_problem) for n in solid]
    for family, make in (
        ("baffles", baffle_problem),
        ("checkerboard 1e4", checkerboard_problem),
        ("inclusions 1e4", inclusion_problem),
        ("anisotropy 1:100", anisotropic_problem),
    ):
        cases += [Case(family, (n,) * 2, make) for n in flat_some]
        cases += [Case(family, (n,) * 3, make) for n in solid_some]
    cases.append(Case("rotating bar", (flat_some[-1],) * 2, rotating_bar_problems, n_flat))
    cases.append(Case("moving balls", (solid_some[-1],) * 3, moving_ball_problems, n_solid))
    return cases


def clock():
    """Return seconds: of the processor with one thread, of the wall with more."""
    return time.process_time() if THREADS == 1 else time.perf_counter()


def run_once(method, systems, tolerances):
    """Run a method on all systems; return seconds of setup and solves per step, and the rest."""
    seconds = {"setup": 0.0, **dict.fromkeys(TOLERANCES, 0.0)}
    iterations = dict.fromkeys(TOLERANCES, 0.0)
    residuals = dict.fromkeys(TOLERANCES, 0.0)
    for system in systems:
        start = clock()
        state = method.setup(system)
        seconds["setup"] += (clock() - start) / len(systems)
        for goal in TOLERANCES:
            start = clock()
            x, n_iterations = method.solve(state, system, tolerances[goal])
            seconds[goal] += (clock() - start) / len(systems)
            iterations[goal] += int(n_iterations) / len(systems)
            residuals[goal] = max(residuals[goal], system.relative_residual(x))
    return seconds, iterations, residuals


def warm_up(method, systems):
    """Compile, and tighten the tolerances until the true residual is what was asked for.

    Where rounding keeps a method above the goal, the tolerance that comes closest is kept.
    """
    tolerances = {goal: goal for goal in TOLERANCES}
    cold, _, residuals = run_once(method, systems, tolerances)
    best = {goal: (residuals[goal], goal) for goal in TOLERANCES}
    slow = len(systems) * sum(cold.values()) > MOST_SECONDS_TO_TIGHTEN
    for _ in range(0 if slow else 4):
        worse = [goal for goal in TOLERANCES if best[goal][0] > goal]
        if not worse or not getattr(method, "tightens", True):
            break
        for goal in worse:
            tolerances[goal] *= max(0.6 * goal / best[goal][0], 0.1)
        _, _, residuals = run_once(method, systems, tolerances)
        improved = [goal for goal in worse if residuals[goal] < 0.9 * best[goal][0]]
        for goal in improved:
            best[goal] = residuals[goal], tolerances[goal]
        if not improved:
            break
    return {goal: tolerance for goal, (_, tolerance) in best.items()}, cold


def reason_missing(method, n_axes):
    """Return why a method cannot be measured here, or None."""
    if method.missing is not None:
        return method.missing
    missing_for = getattr(method, "missing_for", None)
    return None if missing_for is None else missing_for(n_axes)


def time_case(case, methods, key, repeats, budget):
    """Return one row a method and tolerance."""
    systems = case.systems(key)
    common = {"case": case.name, "family": case.family, "n_axes": len(case.shape)}
    common["unknowns"] = systems[0].vector.size
    rows, samples, warm = [], {}, {}
    for name, method in methods.items():
        reason = reason_missing(method, len(case.shape))
        try:
            if reason is None:
                warm[name] = warm_up(method, systems)
        except Exception as error:  # a peer that breaks down is a result too
            reason = f"failed: {type(error).__name__}: {error}"
        if reason is not None:
            rows += [
                {**common, "method": name, "rtol": goal, "not_measured": reason}
                for goal in TOLERANCES
            ]
            continue
        samples[name] = []
    spent = dict.fromkeys(samples, 0.0)
    for _ in range(repeats):
        for name in samples:
            if samples[name] and spent[name] > budget:
                continue
            if THREADS > 1:
                time.sleep(_REST)
            start = clock()
            samples[name].append(run_once(methods[name], systems, warm[name][0]))
            spent[name] += clock() - start
    for name, runs in samples.items():
        tolerances, cold = warm[name]
        setup = statistics.median(run[0]["setup"] for run in runs)
        for goal in TOLERANCES:
            solve = statistics.median(run[0][goal] for run in runs)
            row = {**common, "method": name, "rtol": goal}
            row["iterations"] = runs[-1][1][goal]
            row["setup_ms"], row["solve_ms"] = 1e3 * setup, 1e3 * solve
            row["total_ms"] = row["setup_ms"] + row["solve_ms"]
            row["relative_residual"] = runs[-1][2][goal]
            row["reached"] = bool(row["relative_residual"] <= goal)
            row["own_tolerance"] = tolerances[goal]
            row["repeats"] = len(runs)
            # With a persistent cache nothing may have been compiled: no figure then.
            if methods[name].ours and jax.config.jax_compilation_cache_dir is None:
                warm_seconds = setup + sum(
                    statistics.median(run[0][g] for run in runs) for g in TOLERANCES
                )
                row["compile_s"] = max(0.0, len(systems) * (sum(cold.values()) - warm_seconds))
            rows.append(row)
    return rows


def mean_iterations(case, methods, key, n_masks):
    """Return iterations of both V-cycles averaged over masks that the timing did not see."""
    counts = {(name, goal): [] for name in (UNTRAINED, LEARNED) for goal in TOLERANCES}
    for index in range(n_masks):
        (system,) = case.systems(jax.random.fold_in(key, 1000 + index))
        for name in (UNTRAINED, LEARNED):
            if reason_missing(methods[name], len(case.shape)) is None:
                _, iterations, _ = run_once(methods[name], [system], {g: g for g in TOLERANCES})
                for goal in TOLERANCES:
                    counts[name, goal].append(iterations[goal])
    return {key: statistics.mean(values) for key, values in counts.items() if values}


def print_rows(rows):
    """Print the rows of one case."""
    print(f"\n{rows[0]['case']}, {rows[0]['unknowns']} unknowns, ms")
    header = f"  {'method':24s}{'rtol':>7s}{'iter':>8s}{'setup':>10s}{'solve':>10s}{'total':>10s}"
    print(header + f"{'residual':>10s}{'compile s':>10s}")
    for row in sorted(rows, key=lambda row: -row["rtol"]):
        line = f"  {row['method']:24s}{row['rtol']:7.0e}"
        if "not_measured" in row:
            print(line + f"  {row['not_measured']}")
            continue
        line += f"{row['iterations']:8.1f}{row['setup_ms']:10.1f}{row['solve_ms']:10.1f}"
        line += f"{row['total_ms']:10.1f}{row['relative_residual']:10.1e}"
        line += f"{row['compile_s']:10.1f}" if "compile_s" in row else ""
        print(line + ("" if row["reached"] else "  NOT REACHED"), flush=True)


def best_total(rows, case, names, rtol):
    """Return the least setup + solve among some methods, or None if none was measured."""
    totals = [
        row["total_ms"]
        for row in rows
        if row["case"] == case
        and row["method"] in names
        and row["rtol"] == rtol
        # Rivals that rounding stops just short of the goal still count.
        and row.get("relative_residual", math.inf)
        <= (1 if row["method"] in (LEARNED, DOOR) else 10) * rtol
    ]
    return min(totals) if totals else None


def ratio(ours, theirs):
    """Return ours / theirs, or None if either was not measured."""
    return None if ours is None or theirs is None else ours / theirs


def time_targets(rows, case):
    """Return what the issue promises about the time of one case."""
    targets = []
    size, n_axes = case.shape[0], len(case.shape)
    flat = n_axes == 2
    for rtol in TOLERANCES:
        ours = best_total(rows, case.name, (LEARNED,), rtol)
        by_door = best_total(rows, case.name, (DOOR,), rtol)
        rival = best_total(rows, case.name, AMGCL, rtol)
        pyamg = ratio(ours, best_total(rows, case.name, PYAMG, rtol))
        amgcl, door = ratio(ours, rival), ratio(by_door, rival)
        scipy = ratio(best_total(rows, case.name, ("SciPy CG",), rtol), ours)
        note = f"{case.name}, {rtol:.0e}, {THREADS} thread(s)"
        each = "time per step" if case.n_steps > 1 else "setup + solve"
        large = size >= (128 if flat else 32)
        if case.n_steps > 1:
            targets.append(Target(f"{each} over the better PyAMG, {note}", pyamg, at_most=0.5))
            targets.append(Target(f"{each} over the best AMGCL, {note}", amgcl, at_most=0.5))
            targets.append(Target(f"{SCIPY}{each} over the best AMGCL, {note}", door, at_most=0.5))
        elif large and case.family == "obstacles":
            targets.append(Target(f"{each} over the better PyAMG, {note}", pyamg, at_most=0.5))
            bound, aim = (0.8, 0.5) if flat else (0.4, 0.25)
            targets.append(Target(f"{each} over the best AMGCL, {note}", amgcl, at_most=bound))
            targets.append(Target(f"aim: {each} over the best AMGCL, {note}", amgcl, at_most=aim))
            targets.append(
                Target(f"{SCIPY}{each} over the best AMGCL, {note}", door, at_most=bound)
            )
            if (flat and size == 256) or (not flat and size == 64):
                targets.append(Target(f"SciPy CG over {each}, {note}", scipy, at_least=10))
        elif large and case.family == "baffles":
            targets.append(Target(f"{each} over the best AMGCL, {note}", amgcl, at_most=1.2))
            targets.append(Target(f"{SCIPY}{each} over the best AMGCL, {note}", door, at_most=1.2))
    return targets


def iteration_targets(rows):
    """Return what the issue promises about iterations to 1e-6, and learning's own share."""
    targets = []

    def average(name, families, n_axes, pick):
        values = [
            row["mean_iterations"]
            for row in rows
            if (row["method"], row["rtol"], row["n_axes"]) == (name, 1e-6, n_axes)
            and row["family"] in families
            and "mean_iterations" in row
        ]
        return pick(values) if values else None

    for n_axes in (2, 3):
        label = f"{n_axes}-D, 1e-6"
        mean, worst = statistics.mean, max
        learned = average(LEARNED, ("obstacles",), n_axes, mean)
        untrained = average(UNTRAINED, ("obstacles",), n_axes, mean)
        largest = average(LEARNED, ("obstacles",), n_axes, worst)
        targets.append(
            Target(f"iterations among obstacles, all sizes, {label}", learned, at_most=8)
        )
        targets.append(
            Target(f"iterations among obstacles, worst size, {label}", largest, at_most=8)
        )
        targets.append(
            Target(
                f"learning's share: iterations over the untrained cycle's, obstacles, {label}",
                ratio(learned, untrained),
                at_most=0.99,
            )
        )
        for family, bound, word in (
            ("baffles", 12, ""),
            ("checkerboard 1e4", 15, "aim: "),
            ("inclusions 1e4", 15, "aim: "),
            ("anisotropy 1:100", 15, "aim: "),
        ):
            value = average(LEARNED, (family,), n_axes, worst)
            name = f"{word}iterations, {family}, worst size, {label}"
            targets.append(Target(name, value, at_most=bound))
    return targets


def main():
    """Run everything, print it and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], parents=[_EARLY])
    parser.add_argument("--quick", action="store_true", help="one small case of each kind")
    parser.add_argument("--cases", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument(
        "--methods", nargs="*", help="only methods whose name contains one of these"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--budget", type=float, default=6.0, help="seconds a method and case")
    parser.add_argument("--masks", type=int, default=5, help="for the mean iterations")
    parser.add_argument("--seed", type=int, default=7411)
    parser.add_argument("--directions", help="folder with direction_2d and direction_3d")
    parser.add_argument("--resume", action="store_true", help="leave out what the file has")
    parser.add_argument("--output", help="file; by default results/linear_solvers_threadsN.json")
    arguments = parser.parse_args()
    # PyAMG and SciPy talk about formats and conversions that do not matter here.
    warnings.simplefilter("ignore")
    key = jax.random.key(arguments.seed)
    methods = all_methods(arguments.directions)
    if arguments.methods:
        methods = {n: m for n, m in methods.items() if any(a in n for a in arguments.methods)}
    every_case = all_cases(arguments.quick)
    repeats = 3 if arguments.quick else arguments.repeats
    n_masks = 2 if arguments.quick else arguments.masks
    path = Path(arguments.output or RESULTS_FOLDER / f"linear_solvers_threads{THREADS}.json")
    writes = arguments.output is not None or not arguments.quick
    rows = json.loads(path.read_text())["rows"] if writes and path.exists() else []
    settings = {
        "threads": THREADS,
        "clock": "CPU time" if THREADS == 1 else "wall time",
        "seed": arguments.seed,
        "repeats": repeats,
        "masks": n_masks,
        "numpy": np.__version__,
    }
    command = shlex.join(["python", "benchmarks/linear_solvers.py", *sys.argv[1:]])
    for case in every_case:
        if arguments.cases and not any(a in case.name for a in arguments.cases):
            continue
        chosen = methods
        if arguments.resume:
            there = {row["method"] for row in rows if row["case"] == case.name}
            chosen = {name: method for name, method in methods.items() if name not in there}
        if not chosen:
            continue
        case_rows = measured_rows(case, chosen, key, repeats, arguments.budget, n_masks)
        case_rows = [row | {"command": command} for row in case_rows]
        print_rows(case_rows)
        rows = merged(rows, case_rows, every_case)
        if writes:
            targets = all_targets(rows, every_case)
            write_report(path, command=command, rows=rows, targets=targets, settings=settings)
    print()
    for target in all_targets(rows, every_case):
        value = "not measured" if target.value is None else f"{target.value:.3g}"
        goal = target.as_record()["goal"]
        print("holds" if target.holds else "FAILS", f"{target.name}: {value} (goal {goal})")
    if writes:
        print(f"wrote {path}")


def measured_rows(case, methods, key, repeats, budget, n_masks):
    """Return the rows of one case, with the mean iterations over further masks."""
    rows = time_case(case, methods, key, repeats, budget)
    today = datetime.date.today().isoformat()
    means = {}
    if case.n_steps == 1 and UNTRAINED in methods and LEARNED in methods:
        means = mean_iterations(case, methods, key, n_masks)
    for row in rows:
        row["date"] = today
        if (row["method"], row["rtol"]) in means:
            row["mean_iterations"] = means[row["method"], row["rtol"]]
    shown = {f"{n} {g:.0e}": round(v, 2) for (n, g), v in means.items()}
    print(f"\n{case.name}: iterations, mean of {n_masks} more masks: {shown}", flush=True)
    return rows


def merged(rows, case_rows, cases):
    """Return the stored rows with those of one case put in their place."""
    fresh = {(row["case"], row["method"], row["rtol"]) for row in case_rows}
    kept = [row for row in rows if (row["case"], row["method"], row["rtol"]) not in fresh]
    order = {case.name: number for number, case in enumerate(cases)}
    return sorted([*kept, *case_rows], key=lambda row: order.get(row["case"], len(order)))


def all_targets(rows, cases):
    """Return every target, from whatever rows there are."""
    times = [target for case in cases for target in time_targets(rows, case)]
    return iteration_targets(rows) + times


if __name__ == "__main__":
    main()
