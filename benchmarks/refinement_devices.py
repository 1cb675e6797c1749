"""Parallel in time: refinement with the snapshots spread over 1, 2 and 4 devices.

    python benchmarks/refinement_devices.py            # a few minutes; uses all cores
    python benchmarks/refinement_devices.py --quick    # small grid; nothing is written

On a CPU the devices are virtual, each with one thread; on a machine of two cores more than two
cannot help. Each number of devices is a process of its own; they take turns, and medians are
compared. Beside it marching with ETDRK4, which is sequential in time and needs far less work.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import tyro

RESULT = Path(__file__).parent / "results" / "refinement_devices.json"
DEVICES = (1, 2, 4)

WORKER = """
import json, sys, time
import jax, jax.numpy as jnp
from sciml.neural_operators import FiniteDifferenceResidual, NewtonGMRES
from sciml.neural_operators import SolverDefectResidual, refine
from sciml.numerics import relative_l2
from sciml.problems import NavierStokes2D, fno_forcing, gaussian_random_field, solve

n_points, n_steps, repeats = map(int, sys.argv[1:])
jax.config.update("jax_enable_x64", True)
n_devices = jax.device_count()
mesh = None
if n_devices > 1:
    mesh = jax.make_mesh((n_devices,), ("time",), axis_types=(jax.sharding.AxisType.Auto,))
grid = (n_points, n_points)
problem = NavierStokes2D(grid, viscosity=1e-3, forcing=fno_forcing(grid))
start = gaussian_random_field(grid, key=jax.random.key(5))
start = solve(problem, start, dt=0.05, n_steps=200, save_every=200).value[-1]
u = solve(problem, start, dt=0.05, n_steps=4 * (9 + n_steps), save_every=4).value
inputs, truth = u[:10], u[10:]
guess = jnp.broadcast_to(inputs[-1], truth.shape)
record = {"devices": n_devices}
residuals = {"FD6": FiniteDifferenceResidual(6), "defect x2": SolverDefectResidual(substeps=2)}
for name, residual in residuals.items():
    def run():
        return refine(
            guess, inputs, problem, dt=0.2, residual=residual, mesh=mesh, throw=False,
            method=NewtonGMRES(max_matvecs=40), adapt_windows=False,
        )
    solution = run()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        solution = run()
        seconds.append(time.perf_counter() - begin)
    record[name] = {
        "seconds": seconds,
        "matvecs": solution.stats["n_matvecs"],
        "relative_l2": float(relative_l2(solution.value, truth)),
    }
march = jax.jit(lambda u0: solve(
    problem, u0, dt=0.1, n_steps=2 * n_steps, save_every=2, throw=False).value[1:])
march(inputs[-1]).block_until_ready()
seconds = []
for _ in range(repeats):
    begin = time.perf_counter()
    found = march(inputs[-1]).block_until_ready()
    seconds.append(time.perf_counter() - begin)
record["marching, ETDRK4, 2 steps a snapshot"] = {
    "seconds": seconds, "matvecs": 0, "relative_l2": float(relative_l2(found, truth)),
}
print(json.dumps(record))
"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    n_points: int = 128
    n_steps: int = 16
    repeats: int = 3
    rounds: int = 2
    """How often each number of devices has its turn."""
    quick: bool = False
    out: Path = RESULT


def main(settings: Settings) -> None:
    """Run the processes in turn, print a table, write the result file."""
    if settings.quick:
        settings = dataclasses.replace(settings, n_points=32, rounds=1, repeats=1)
    records = [run(n, settings) for _ in range(settings.rounds) for n in DEVICES]
    # Only now, since a parent that holds devices of its own would take threads from the workers.
    from sciml.core import Target, format_table, write_report

    rows = []
    for method in [name for name in records[0] if name != "devices"]:
        for n in DEVICES:
            mine = [r[method] for r in records if r["devices"] == n]
            seconds = statistics.median(s for m in mine for s in m["seconds"])
            rows.append(
                {
                    "method": method,
                    "devices": n,
                    "seconds": seconds,
                    "matvecs": mine[0]["matvecs"],
                    "relative_l2": mine[0]["relative_l2"],
                }
            )
        for row in rows[-len(DEVICES) :]:
            row["speed_up"] = rows[-len(DEVICES)]["seconds"] / row["seconds"]
    print(format_table(rows, {key: key for key in rows[0]}))
    targets = [
        Target(
            f"{row['method']}: speed-up on 2 devices, as many as there are cores",
            row["speed_up"],
            at_least=1.3,
        )
        for row in rows
        if row["devices"] == 2 and not row["method"].startswith("marching")
    ]
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/refinement_devices.py",
            rows=rows,
            targets=targets,
            settings={"n_points": settings.n_points, "n_steps": settings.n_steps},
        )
        print(f"written: {settings.out}")


def run(n_devices: int, settings: Settings) -> dict:
    """Measure in a process with so many virtual devices, each of one thread."""
    flags = (
        f"--xla_force_host_platform_device_count={n_devices} "
        "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )
    numbers = (settings.n_points, settings.n_steps, settings.repeats)
    done = subprocess.run(
        [sys.executable, "-c", WORKER, *map(str, numbers)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
