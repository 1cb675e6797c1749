"""Networks marched by natural gradients, beside other steppers and the spectral solver.

    python benchmarks/teng.py                  # all pieces that are missing, two hours of CPU
    python benchmarks/teng.py --only heat      # one piece; the result file holds all that are done
    python benchmarks/teng.py --quick          # small networks, short times; nothing is written

Pieces: `fit` (the initial condition, shared), `heat` (1/10, to T = 4), `Allen-Cahn` (1/200, T = 1),
`Burgers` (1/100, T = 0.6), `gram` (rate of the Gram matrix), `table:<equation>` (all methods from
the same network to T = 0.1, none in much less time than RK4), and by a wider network and shorter
steps `long:fit` and `long:<equation>` (to T = 1, then to T = 4). Finished pieces are kept under
runs/teng and not run again; a march that was cut short goes on from its checkpoint. Errors are
relative L2 against ETDRK4 in Fourier space. Everything runs on one thread: CPU seconds are what an
idle core would take.
"""

import os

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from teng_cases import CASES, initial, on_grid, reference

import sciml
from sciml.core import Target, atomic_write_text, format_table, write_report
from sciml.natural_gradient import (
    CollocationPoints,
    Explicit,
    ForwardEuler,
    GradientMethod,
    PeriodicMLP,
    RandomSubsets,
    fit_initial,
    march,
    march_by_optimisation,
    march_tdvp,
    minimise_residuals,
    space_time_terms,
)

RESULT = Path(__file__).parent / "results" / "teng.json"
T_TABLE = 0.1
LONG = (1.0, 4.0)
# A method is compared with RK4 if it takes at most this many times as long.
_AS_LONG = 1.5
PIECES = (
    "fit", "gram", *CASES, *(f"table:{name}" for name in CASES),
    "long:fit", *(f"long:{name}" for name in CASES),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, its points, and its fit to the initial condition."""

    name: str
    width: int
    n: int
    fit_steps: int

    @property
    def points(self) -> CollocationPoints:
        """A grid."""
        return CollocationPoints.grid(self.n, 2)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seed: int = 0
    width: int = 24
    n: int = 44
    dt: float = 0.02
    """The step of Allen-Cahn; heat and Burgers take half of it."""
    fit_steps: int = 60
    long_width: int = 32
    long_n: int = 52
    long_dt: float = 0.005
    """The step of the long marches; heat takes twice as much."""
    only: tuple[str, ...] = PIECES
    quick: bool = False
    folder: Path = Path("runs/teng")
    out: Path = RESULT
    march_seconds: float = 3600.0
    """Wall time of one call for a march; it can go on in another."""


def network_of(settings: Settings, *, is_long: bool) -> Network:
    """Return the network of the short marches or that of the long ones."""
    if is_long:
        return Network("initial-long", settings.long_width, settings.long_n, settings.fit_steps)
    return Network("initial", settings.width, settings.n, settings.fit_steps)


def fit_piece(settings: Settings, network: Network) -> dict[str, Any]:
    """Fit the initial condition."""
    start = PeriodicMLP(2, width=network.width, key=jax.random.key(settings.seed))
    began, wall = time.process_time(), time.perf_counter()
    fit = fit_initial(
        start, initial, network.points, key=jax.random.key(settings.seed + 1), rtol=1e-8,
        max_steps=network.fit_steps,
        progress=lambda i, r: print(f"fit {i} {r:.2e}", flush=True) if i % 10 == 0 else None,
    )  # fmt: skip
    cpu = time.process_time() - began
    sciml.save(settings.folder / network.name, fit.value)
    fine = CollocationPoints.grid(128, 2)
    u0 = np.asarray(on_grid(initial, fine.x))
    error = float(np.linalg.norm(on_grid(fit.value, fine.x) - u0))
    facts = {
        "error": error * 2 * np.pi / 128,
        "relative_error": error / float(np.linalg.norm(u0)),
        "cpu_seconds": cpu,
        "wall_seconds": time.perf_counter() - wall,
    }
    return {"facts": facts, "rows": []}


def march_piece(settings: Settings, name: str, *, is_long: bool) -> dict[str, Any] | None:
    """March one equation as far as is promised; None if the time of this call ran out."""
    case, network = CASES[name], network_of(settings, is_long=is_long)
    fit = load_piece(settings, "long:fit" if is_long else "fit")["facts"]
    if is_long:
        ends, dt = LONG, settings.long_dt * (2 if name == "heat" else 1)
    else:
        ends, dt = (case.t1,), settings.dt / (1 if name == "Allen-Cahn" else 2)
    if settings.quick:
        ends = (0.02, 0.04) if is_long else (min(case.t1, 0.06),)
    state = sciml.load(settings.folder / network.name)
    t0, cpu, error, rows = 0.0, fit["cpu_seconds"], fit["error"], []
    for t1 in ends:
        truth = reference(case, t1, modes=case.long_modes if is_long else case.modes)
        folder = settings.folder / f"march-{'long-' if is_long else ''}{name}-{t1:g}"
        leg = march_leg(settings, case, state, network, (t0, t1), dt, error, truth, folder)
        if leg is None:
            return None
        run, spent = leg
        cpu += spent["cpu"]
        row = describe(name, t1, f"TENG-RK4 dt={dt:g}", run, truth, cpu)
        row["parameters"] = n_parameters(state)
        row["compile_cpu_seconds"] = spent["first"]
        row["overfitted_steps"] = run.stats["overfitted"]
        spectral = {"equation": name, "T": t1, "method": "spectral ETDRK4", "error": None,
                    "cpu_seconds": truth.cpu_seconds, "steps": round(t1 / 0.005)}  # fmt: skip
        rows += [row, spectral]
        print(format_table([row], {k: k for k in row}), flush=True)
        if run.stats["t"] < t1:
            break  # it gave up
        state, t0, error = run.value, t1, run.stats["error_bound"]
    return {"facts": {"goal": case.long_goal if is_long else case.goal}, "rows": rows}


def march_leg(settings, case, state, network, span, dt, error, truth, folder):
    """March between two times, from a checkpoint if there is one; None if the time ran out."""
    spent = folder.with_name(folder.name + ".json")
    before = json.loads(spent.read_text()) if spent.exists() else {"cpu": 0.0, "first": None}
    began, seen = time.process_time(), []

    def show(status):
        seen.append(time.process_time() - began)
        if status.steps % 10 == 0:
            print(f"{case.name} t = {status.t:.2f} residual {status.fit_residual:.1e} bound "
                  f"{status.error_bound:.1e}, {seen[-1]:.0f} CPU s", flush=True)  # fmt: skip

    run = march(
        case.rhs, state, network.points, t0=span[0], t1=span[1], dt=dt, initial_error=error,
        growth_rate=truth.growth_rate, progress=show, checkpoint=folder, resume=True,
        max_seconds=settings.march_seconds, throw=False,
    )  # fmt: skip
    # The first step compiles; the later ones tell what a step costs.
    first = before["first"]
    if first is None and len(seen) > 2:
        first = seen[0] - float(np.median(np.diff(seen)))
    after = {"cpu": before["cpu"] + time.process_time() - began, "first": first}
    atomic_write_text(spent, json.dumps(after))
    if bool(run.result == sciml.core.RESULTS.march_budget_spent):
        print(f"{case.name}: at t = {run.stats['t']:.3f}; run again to go on", flush=True)
        return None
    return run, after


def n_parameters(network) -> int:
    """Return the number of trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)))


def gram_piece(settings: Settings) -> dict[str, Any]:
    """Compare the rate of the Gram matrix with that of a square product, in turn."""
    n = n_parameters(PeriodicMLP(2, width=settings.width, key=jax.random.key(0)))
    columns = jax.random.normal(jax.random.key(0), (n, settings.n**2))
    square = jax.random.normal(jax.random.key(1), (n, n))
    gram, product = jax.jit(lambda a: a @ a.T), jax.jit(lambda a: a @ a)
    cpu = {"gram": [], "square": []}
    for _ in range(6):
        for label, f, a in (("gram", gram, columns), ("square", product, square)):
            began = time.process_time()
            f(a).block_until_ready()
            cpu[label].append(time.process_time() - began)
    rates = {"gram": 2e-9 * n**2 * settings.n**2 / min(cpu["gram"][1:]),
             "square": 2e-9 * n**3 / min(cpu["square"][1:])}  # fmt: skip
    row = {"equation": "Gram matrix", "method": f"{n} x {settings.n**2}",
           "gflops": rates["gram"], "matmul_gflops": rates["square"]}  # fmt: skip
    return {"facts": {"ratio": rates["gram"] / rates["square"]}, "rows": [row]}


class _SpaceTime(eqx.Module):
    """A network of (t, x), periodic in x: the shared initial network plus t times another."""

    start: PeriodicMLP
    change: PeriodicMLP
    later: PeriodicMLP

    def __call__(self, p):
        t, x = p[0], p[1:]
        return self.start(x) + t * self.change(x) + t**2 * self.later(x)


def table_piece(settings: Settings, name: str) -> dict[str, Any]:
    """March the same network by each method to a short time, none in much less time than RK4."""
    case, fit = CASES[name], load_piece(settings, "fit")["facts"]
    t1 = 0.04 if settings.quick else T_TABLE
    truth = reference(case, t1)
    network = sciml.load(settings.folder / "initial")
    points = CollocationPoints.grid(settings.n, 2)
    known = {"initial_error": fit["error"], "growth_rate": truth.growth_rate, "throw": False}

    def teng(dt, stepper, **more):
        return lambda end, n: march(
            case.rhs, network, points, t1=end, dt=min(dt, end), stepper=stepper, max_steps=n,
            **more, **known,
        )  # fmt: skip

    def obti(method, steps):
        return lambda end, n: march_by_optimisation(
            case.rhs, network, points.x, points.w, method, t1=end, dt=end / 2 if n > 1 else end,
            steps_per_fit=steps, throw=False,
        )  # fmt: skip

    def pinn(end, n):
        zero = jax.tree.map(lambda a: a * 0.5 if eqx.is_inexact_array(a) else a, network)
        start = _SpaceTime(network, zero, zero)
        few = CollocationPoints.grid(24, 2)
        terms = space_time_terms(case.rhs, network, few.x, few.w, jnp.linspace(0.0, end, 4))
        return minimise_residuals(
            start, terms, GradientMethod(optax.lbfgs()), max_steps=40 if n > 1 else 1,
            steps_per_check=1, throw=False,
        )  # fmt: skip

    subset = min(300, n_parameters(network) // 3)
    methods: dict[str, Callable[[float, int], Any]] = {
        "TENG-Euler dt=1/160": teng(1 / 160, ForwardEuler()),
        "TENG-Heun dt=1/120": teng(1 / 120, Explicit(diffrax.Heun.tableau)),
        "TENG-RK4 dt=1/100": teng(1 / 100, None),
        "TENG-Bosh3 adaptive": teng(1 / 100, Explicit(diffrax.Bosh3.tableau), atol=1e-6),
        "TENG-Heun, random subsets of 300, undamped": teng(
            1 / 60, Explicit(diffrax.Heun.tableau), inner=RandomSubsets(subset)
        ),
        "TDVP-Bosh3 dt=1/60": lambda end, n: march_tdvp(
            case.rhs, network, points, t1=end, dt=min(1 / 60, end), solver=diffrax.Bosh3(),
            controller=diffrax.ConstantStepSize(), throw=False,
        ),
        "TDVP-Tsit5 dt=1/40": lambda end, n: march_tdvp(
            case.rhs, network, points, t1=end, dt=min(1 / 40, end), solver=diffrax.Tsit5(),
            controller=diffrax.ConstantStepSize(), throw=False,
        ),
        "OBTI-Adam": obti(GradientMethod(optax.adam(1e-5)), 1600),
        "OBTI-L-BFGS": obti(GradientMethod(optax.lbfgs()), 600),
        "PINN, L-BFGS": pinn,
    }  # fmt: skip
    rows = []
    for method, call in methods.items():
        call(t1, 1)  # compiles
        began = time.process_time()
        run = call(t1, 200)
        rows.append(describe(name, t1, method, run, truth, time.process_time() - began))
        if method.startswith("PINN"):
            final = run.value
            rows[-1]["error"] = truth.error(lambda x, u=final: u(jnp.concatenate([
                jnp.full((1,), t1), x])))  # fmt: skip
        print(format_table(rows[-1:], {k: k for k in rows[-1]}), flush=True)
    budget = _AS_LONG * next(r["cpu_seconds"] for r in rows if "RK4" in r["method"])
    in_time = [r for r in rows if r["error"] is not None and r["cpu_seconds"] <= budget]
    winner = min(in_time, key=lambda r: r["error"], default={"method": None})["method"]
    print(
        f"{name}: {winner} has the smallest error of the networks within {_AS_LONG} of RK4's time"
    )
    return {"facts": {"winner": winner}, "rows": [
        *rows,
        {"equation": name, "T": t1, "method": "no change (baseline)",
         "error": truth.error(network)},
        {"equation": name, "T": t1, "method": "spectral ETDRK4", "error": None,
         "cpu_seconds": truth.cpu_seconds, "steps": round(t1 / 0.005)},
    ]}  # fmt: skip


def describe(name, t1, method, run, truth, cpu) -> dict[str, Any]:
    """Return a row of the tables."""
    bound = run.stats.get("error_bound")
    is_field = "error_bound" in run.stats or "ts" in run.stats or "fit_residuals" in run.stats
    if run.stats.get("t", t1) < t1:
        is_field = False  # it gave up: there is nothing to compare at the end
    return {
        "equation": name,
        "T": t1,
        "method": method,
        "error": truth.error(run.value) if is_field else None,
        "certificate": None if bound is None else float(bound / truth.norm),
        "cpu_seconds": cpu,
        "steps": run.stats.get("n_steps"),
        "t": run.stats.get("t"),
    }


def load_piece(settings: Settings, piece: str) -> dict[str, Any]:
    """Return a piece that was run before."""
    path = settings.folder / f"{piece.replace(':', '-')}.json"
    if not path.exists():
        raise SystemExit(f"run the piece {piece!r} first")
    return json.loads(path.read_text())


def run_piece(settings: Settings, piece: str) -> None:
    """Run one piece and keep it, unless it was."""
    path = settings.folder / f"{piece.replace(':', '-')}.json"
    if path.exists():
        return
    settings.folder.mkdir(parents=True, exist_ok=True)
    kind, _, name = piece.rpartition(":")
    if name == "fit":
        found = fit_piece(settings, network_of(settings, is_long=kind == "long"))
    elif name == "gram":
        found = gram_piece(settings)
    elif kind == "table":
        found = table_piece(settings, name)
    else:
        found = march_piece(settings, name, is_long=kind == "long")
    if found is not None:
        atomic_write_text(path, json.dumps(found))


def targets(pieces: dict[str, Any]) -> list[Target]:
    """Return what was promised of the pieces that are there."""
    found = []
    if "gram" in pieces:
        ratio = pieces["gram"]["facts"]["ratio"]
        found.append(Target("Gram rate over that of a square product", ratio, at_least=0.6))
    for piece in (*CASES, *(f"long:{name}" for name in CASES)):
        if piece not in pieces:
            continue
        row, goal = pieces[piece]["rows"][0], pieces[piece]["facts"]["goal"]
        is_long = piece.startswith("long")
        found += [
            Target(f"{piece}: relative L2 error at T = {row['T']:g}", row["error"], at_most=goal),
            Target(f"{piece}: CPU seconds of one thread, fit included", row["cpu_seconds"],
                   at_most=1800 if is_long else 300),
            Target(f"{piece}: compilation, CPU seconds", row["compile_cpu_seconds"], at_most=20),
        ]  # fmt: skip
        for row in pieces[piece]["rows"][::2]:
            if row["error"] is not None:
                ratio = row["error"] / row["certificate"]
                name = f"{piece}: error over certificate at T = {row['T']:g}"
                found.append(Target(name, ratio, at_most=2))
    for name in CASES:
        rows = pieces.get(f"table:{name}", {"rows": []})["rows"]
        ratios = [
            r["error"] / r["certificate"] for r in rows if r.get("certificate") and r["error"]
        ]
        if ratios:
            found.append(
                Target(f"{name}, table: largest error over certificate", max(ratios), at_most=2)
            )
    return found


def main(settings: Settings) -> None:
    """Run what is missing, print the tables, write the result file."""
    jax.config.update("jax_enable_x64", True)
    if settings.quick:
        settings = dataclasses.replace(
            settings,
            width=18,
            n=34,
            long_width=18,
            long_n=34,
            fit_steps=60,
            folder=settings.folder.with_name("teng-quick"),
        )
    for piece in settings.only:
        run_piece(settings, piece)
    pieces = {}
    for piece in PIECES:
        path = settings.folder / f"{piece.replace(':', '-')}.json"
        if path.exists():
            pieces[piece] = json.loads(path.read_text())
    rows = [row for piece in pieces.values() for row in piece["rows"]]
    promised = targets(pieces)
    keys = ("equation", "T", "method", "error", "certificate", "cpu_seconds", "steps")
    if rows:
        print(format_table([{k: row.get(k) for k in keys} for row in rows], {k: k for k in keys}))
    for target in promised:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out, command="python benchmarks/teng.py", rows=rows, targets=promised,
            settings={
                "seed": settings.seed, "width": settings.width, "n": settings.n,
                "dt": settings.dt, "fit_steps": settings.fit_steps,
                "fit": pieces.get("fit", {}).get("facts"), "threads": 1,
                "long": {
                    "width": settings.long_width, "n": settings.long_n, "dt": settings.long_dt,
                    "fit": pieces.get("long:fit", {}).get("facts"),
                },
                "smallest error in the time of RK4": {
                    name: pieces[f"table:{name}"]["facts"]["winner"]
                    for name in CASES if f"table:{name}" in pieces
                },
                "missing_pieces": [piece for piece in PIECES if piece not in pieces],
            },
        )  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Settings))
