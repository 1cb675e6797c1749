"""The main jobs on one GPU: an FNO training step, refinement, linear systems, TENG and experts.

    python benchmarks/gpu.py                           # seven minutes on one H200
    python benchmarks/gpu.py --only step systems       # some pieces; the file keeps the others
    python benchmarks/gpu.py --quick                   # small sizes on any device; nothing written

Pieces: `step` is `fno_training_step.py` on the device, beside neuraloperator on the same device,
in turn, each with float32 and with TensorFloat-32 products, ours in bfloat16 too. `refinement`
refines a window of snapshots (parallel in time) beside marching it (sequential). `systems` solves
pressure problems by conjugate gradients with the learned cycle, beside CuPy's. `march` is TENG at
the published size, about 8,400 parameters and 65,536 points. `experts` solves K constrained
problems at once. Peers: ``torch`` and ``neuraloperator==2.0.0``, without which `step` does not run,
and ``cupy``, whose rows are empty without it. Outputs are compared with the peer's on the CPU: on a
GPU the peer gives another function, probably by its inverse transform.
Times are medians of whole calls, waited for, without compilation.
"""

import dataclasses
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from constraints import burgers_layer
from fno_training_step import CASES as FNO_CASES
from fno_training_step import FORMS, Case, our_step, ours, peer_network, predict
from fno_training_step import QUICK as QUICK_FNO_CASES
from linear_solver_methods import System, trained_weights
from teng_cases import CASES as EQUATIONS
from teng_cases import initial, on_grid, reference

from sciml.constraints import BoxRouter, Experts, LevenbergMarquardt
from sciml.core import Target, format_table, write_report
from sciml.linear_solvers import MultigridPreconditioner, conjugate_gradient
from sciml.natural_gradient import CollocationPoints, PeriodicMLP, fit_initial, march
from sciml.neural_operators import (
    FiniteDifferenceResidual,
    NewtonGMRES,
    SolverDefectResidual,
    refine,
)
from sciml.numerics import relative_l2
from sciml.problems import (
    NavierStokes2D,
    fno_forcing,
    gaussian_random_field,
    obstacle_problem,
    solve,
)

RESULT = Path(__file__).parent / "results" / "gpu.json"
# One that fills the card beside those of the CPU.
LARGE = {"2-d 512 x 512, wide": Case(16, (512, 512), 64, (32, 32))}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    only: tuple[str, ...] = ("step", "refinement", "systems", "march", "experts")
    seed: int = 6287
    repeats: int = 20
    march_seconds: float = 70.0
    """Wall time of one equation of `march`, compilation apart."""
    quick: bool = False
    out: Path = RESULT


def seconds_of(call: Callable[[], Any], repeats: int) -> float:
    """Return the median time of a call whose result is waited for."""
    return seconds_in_turn({"": call}, repeats)[""]


def seconds_in_turn(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median time of each of several calls that take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(2):
            jax.block_until_ready(call())
    for _ in range(repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            taken[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in taken.items()}


# --- an FNO training step ---


def step(settings: Settings) -> list[dict[str, Any]]:
    """Time a training step of our FNO and of the peer's."""
    cases = QUICK_FNO_CASES if settings.quick else FNO_CASES | LARGE
    rows = []
    for name in cases:
        for form in FORMS if name not in LARGE else ("default",):
            rows.append(step_row(settings, name, cases[name], form))
            print(rows[-1], flush=True)
    return rows


def step_row(settings: Settings, name: str, case: Case, form: str) -> dict[str, Any]:
    """Time one case: steps of both sides in turn."""
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(settings.seed)
    network = peer_network(case, form)
    model = ours(case, form, network)
    rng = np.random.default_rng(settings.seed)
    x, y = (rng.normal(size=(case.batch, 1, *case.space)).astype(np.float32) for _ in range(2))
    outputs = {"ours": np.asarray(eqx.filter_jit(predict)(model, jnp.asarray(x[:1])))}
    with torch.no_grad():
        on_cpu = network(torch.from_numpy(x[:1])).numpy()
        # A new one: it keeps what it made for its first device.
        weights, network = network.state_dict(), peer_network(case, form).to(device)
        network.load_state_dict(weights)
        torch.backends.cudnn.allow_tf32 = False
        inputs, targets = (torch.from_numpy(a).to(device) for a in (x, y))
        outputs["peer"] = network(inputs[:1]).cpu().numpy()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)

    def peer(tensor_float: bool) -> float:
        torch.backends.cuda.matmul.allow_tf32 = tensor_float
        torch.backends.cudnn.allow_tf32 = tensor_float
        optimiser.zero_grad()
        loss = torch.mean((network(inputs) - targets) ** 2)
        loss.backward()
        optimiser.step()
        return loss.item()

    calls: dict[str, Callable[[], Any]] = {
        "ours_ms": our_step(model, x, y),
        "peer_ms": lambda: peer(False),
    }
    if case.width > 32:  # the others are too small for the tensor cores to matter
        calls |= {
            "ours_tf32_ms": our_step(model, x, y, products="tensorfloat32"),
            "ours_bf16_ms": our_step(model, x, y, dtype=jnp.bfloat16),
            "peer_tf32_ms": lambda: peer(True),
        }
    seconds = seconds_in_turn(calls, settings.repeats)
    row = {"piece": "step", "case": name, "form": form, "parameters": sum(
        p.numel() for p in network.parameters())}  # fmt: skip
    row |= {side: 1e3 * value for side, value in seconds.items()}
    row["ratio"] = seconds["ours_ms"] / seconds["peer_ms"]
    for side, output in outputs.items():
        miss = np.linalg.norm(output - on_cpu) / np.linalg.norm(on_cpu)
        row[f"{side}_from_peer_on_cpu"] = float(miss)
    return row


# --- refinement beside marching ---


def refinement(settings: Settings) -> list[dict[str, Any]]:
    """Refine persistence, all snapshots at once, and march the same window."""
    sizes = ((32, 4),) if settings.quick else ((128, 16), (256, 16), (256, 40))
    return [row for n_points, n_steps in sizes for row in window_rows(n_points, n_steps)]


def window_rows(n_points: int, n_steps: int) -> list[dict[str, Any]]:
    """Compare on one window."""
    grid = (n_points, n_points)
    problem = NavierStokes2D(grid, viscosity=1e-3, forcing=fno_forcing(grid))
    start = gaussian_random_field(grid, key=jax.random.key(5))
    start = solve(problem, start, dt=0.05, n_steps=200, save_every=200).value[-1]
    u = solve(problem, start, dt=0.05, n_steps=4 * (9 + n_steps), save_every=4).value
    inputs, truth = u[:10], u[10:]
    guess = jnp.broadcast_to(inputs[-1], truth.shape)
    shared = {"piece": "refinement", "case": f"{n_steps} snapshots of {n_points} x {n_points}"}

    @jax.jit
    def marching(u0):
        n = 2 * n_steps
        return solve(problem, u0, dt=0.1, n_steps=n, save_every=2, throw=False).value[1:]

    def refined(residual):
        return refine(
            guess, inputs, problem, dt=0.2, residual=residual, throw=False,
            method=NewtonGMRES(max_matvecs=40), adapt_windows=False,
        )  # fmt: skip

    seconds = seconds_of(lambda: marching(inputs[-1]), 5)
    error = float(relative_l2(marching(inputs[-1]), truth))
    rows = [shared | {"method": "marching, ETDRK4", "seconds": seconds, "relative_l2": error}]
    residuals = {
        "FD6": FiniteDifferenceResidual(6),
        "defect x2": SolverDefectResidual(substeps=2),
    }
    for name, residual in residuals.items():
        found = refined(residual)
        taken = seconds_of(lambda residual=residual: refined(residual).value, 3)
        rows.append(
            shared
            | {
                "method": f"refine, {name}",
                "seconds": taken,
                "relative_l2": float(relative_l2(found.value, truth)),
                "matvecs": found.stats["n_matvecs"],
                "over_marching": taken / seconds,
            }
        )
    return rows


# --- linear systems ---


def systems(settings: Settings) -> list[dict[str, Any]]:
    """Solve pressure problems to 1e-8 of the right-hand side."""
    shapes = [(256, 256), (512, 512), (1024, 1024), (64,) * 3, (128,) * 3]
    rows = []
    for shape in [(32, 32)] if settings.quick else shapes:
        system = System(obstacle_problem(shape, key=jax.random.key(settings.seed)))
        operator, b = system.operator, system.b
        weights = trained_weights(len(shape))
        cycle = MultigridPreconditioner(operator, weights)

        def our_solve(M, operator=operator, b=b):
            return conjugate_gradient(operator, b, preconditioner=M, rtol=1e-8, max_steps=20000)

        def setup(operator=operator, weights=weights):
            return MultigridPreconditioner(operator, weights)

        case = " x ".join(map(str, shape))
        for name, M in (("ours, learned cycle", cycle), ("ours, no preconditioner", None)):
            found = our_solve(M)
            row = {"piece": "systems", "case": case, "method": name}
            row["seconds"] = seconds_of(lambda M=M: our_solve(M).value, 5)
            row["setup_seconds"] = seconds_of(setup, 3) if M is not None else 0.0
            row["iterations"] = int(found.stats["num_steps"])
            row["relative_residual"] = float(system.relative_residual(found.value))
            rows.append(row)
        rows.append({"piece": "systems", "case": case} | cupy_row(system))
        print(rows[-3:], flush=True)
    return rows


def cupy_row(system: System) -> dict[str, Any]:
    """Solve with CuPy's conjugate gradients and Jacobi's preconditioner."""
    name = "CuPy, CG with Jacobi's preconditioner"
    if importlib.util.find_spec("cupy") is None:
        return {"method": name, "seconds": None, "note": "CuPy is not installed"}
    import cupy  # pyright: ignore[reportMissingImports]
    import cupyx.scipy.sparse as sparse  # pyright: ignore[reportMissingImports]
    from cupyx.scipy.sparse.linalg import cg  # pyright: ignore[reportMissingImports]

    matrix, b = sparse.csr_matrix(system.matrix), cupy.asarray(system.vector)
    M = sparse.diags(1 / matrix.diagonal()).tocsr()
    count = [0]

    def counted(_):
        count[0] += 1

    def run(callback=None):
        x, _ = cg(matrix, b, rtol=1e-8, maxiter=20000, M=M, callback=callback)
        return x.get()

    x = run(counted)
    return {
        "method": name,
        "seconds": seconds_of(run, 3),
        "setup_seconds": 0.0,
        "iterations": count[0],
        "relative_residual": float(system.relative_residual(x)),
    }


# --- TENG at the published size ---


def march_piece(settings: Settings) -> list[dict[str, Any]]:
    """Fit the initial value and march it, as far as the time goes."""
    width, depth, n = (8, 2, 16) if settings.quick else (40, 6, 256)
    network = PeriodicMLP(2, width=width, depth=depth, key=jax.random.key(0))
    n_parameters = sum(a.size for a in jax.tree.leaves(eqx.filter(network, eqx.is_array)))
    points = CollocationPoints.grid(n, 2)
    begin = time.perf_counter()
    fit = fit_initial(
        network, initial, points, key=jax.random.key(1), rtol=1e-9, max_steps=60, throw=False
    )
    fit_seconds = time.perf_counter() - begin
    fine = CollocationPoints.grid(3 * n // 2, 2)
    u0 = np.asarray(on_grid(initial, fine.x))
    miss = float(np.linalg.norm(on_grid(fit.value, fine.x) - u0))
    fit_error = miss * 2 * np.pi / (3 * n // 2)
    shared = {"piece": "march", "parameters": n_parameters, "points": n * n}
    error = miss / float(np.linalg.norm(u0))
    fitted = {"case": "initial value", "method": "damped Gauss-Newton", "seconds": fit_seconds}
    rows = [shared | fitted | {"relative_l2": error}]
    for name, t1, dt in (("Allen-Cahn", 1.0, 0.02), ("heat", 4.0, 0.04)):
        case = EQUATIONS[name]
        truth = reference(case, t1)
        growth = truth.growth_rate
        known = {"initial_error": fit_error, "growth_rate": growth, "throw": False}
        march(case.rhs, fit.value, points, t1=dt, dt=dt, **known)  # compiles
        begin = time.perf_counter()
        run = march(
            case.rhs, fit.value, points, t1=t1, dt=dt, max_seconds=settings.march_seconds, **known
        )
        seconds = time.perf_counter() - begin
        if run.stats["t"] < t1:
            truth = reference(case, run.stats["t"])
        bound = float(run.stats["error_bound"] / truth.norm)
        rows.append(shared | {
            "case": f"{name} to T = {t1:g}", "method": f"TENG-RK4, dt = {dt:g}", "seconds": seconds,
            "t": run.stats["t"], "steps": run.stats["n_steps"],
            "relative_l2": truth.error(run.value), "certificate": bound,
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


# --- experts ---


def experts(settings: Settings) -> list[dict[str, Any]]:
    """Solve K constrained problems at once, each of the same size."""
    rows = []
    for k in (1, 2) if settings.quick else (1, 8, 64):
        layer, points, p = burgers_layer(
            points=500 * k, solver=LevenbergMarquardt(newton_steps=0, max_steps=20)
        )
        model = Experts(layer, BoxRouter((0.0, -1.0), (1.0, 1.0), (1, k), overlap=0.1))
        routed = model.route(points)
        run = jax.jit(lambda p, model=model, routed=routed: model(p, routed).w)
        seconds = seconds_of(lambda run=run, p=p: run(p), 5)
        rows.append({"piece": "experts", "case": f"{k} experts", "seconds": seconds})
        rows[-1]["speed_up"] = k * rows[0]["seconds"] / seconds
    return rows


PIECES = {"step": step, "refinement": refinement, "systems": systems, "march": march_piece,
          "experts": experts}  # fmt: skip


def targets(rows: list[dict[str, Any]]) -> list[Target]:
    """Return what was promised of the pieces that are there."""
    found = []
    for row in rows:
        if row["piece"] == "step":
            case = f"{row['case']}, {row['form']} form"
            found.append(
                Target(f"our step over the peer's, float32: {case}", row["ratio"], at_most=0.6)
            )
        if row["piece"] == "refinement" and "over_marching" in row:
            name = f"{row['method']} over marching, {row['case']}"
            found.append(Target(f"{name}: time", row["over_marching"], at_most=1.0))
        if row.get("certificate"):
            found += [
                Target(f"TENG, {row['case']}: relative L2 error", row["relative_l2"], at_most=1e-6),
                Target(f"TENG, {row['case']}: error over certificate",
                       row["relative_l2"] / row["certificate"], at_most=1),
                Target(f"TENG, {row['case']}: time reached", row["t"],
                       at_least=float(row["case"].rpartition(" ")[2])),
            ]  # fmt: skip
        if row["piece"] == "experts" and row["case"] == "8 experts":
            found.append(Target("speed-up of 8 experts at once", row["speed_up"], at_least=6.4))
    for row in rows:
        if row["piece"] == "systems" and row["method"] == "ours, learned cycle":
            peer = next(r for r in rows if r["case"] == row["case"] and "CuPy" in r["method"])
            ratio = row["seconds"] / peer["seconds"] if peer["seconds"] else None
            found.append(Target(f"solve, {row['case']}: over CuPy's time", ratio, at_most=0.5))
    return found


def main(settings: Settings) -> None:
    """Run the pieces, print tables, write the result file after each."""
    rows = []
    if settings.out.exists() and not settings.quick:
        stored = json.loads(settings.out.read_text())["rows"]
        rows = [row for row in stored if row["piece"] not in settings.only]
    if settings.quick:
        settings = dataclasses.replace(settings, repeats=2)
    for piece in settings.only:
        begin = time.perf_counter()
        # Training is in float32; the solvers are for float64.
        with jax.enable_x64(piece != "step"):
            found = PIECES[piece](settings)
        rows += found
        columns = dict.fromkeys(key for row in found for key in row if key != "piece")
        print(
            format_table(
                [{k: row.get(k) for k in columns} for row in found], {k: k for k in columns}
            )
        )
        print(f"{piece}: {time.perf_counter() - begin:.0f} s with compilation", flush=True)
        if not settings.quick:
            write_report(
                settings.out, command="python benchmarks/gpu.py", rows=rows,
                targets=targets(rows), settings={"seed": settings.seed},
            )  # fmt: skip
    for target in targets(rows):
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
