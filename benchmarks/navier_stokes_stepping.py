"""Time and agreement of a Navier-Stokes step: sciml's ETDRK4 against exponax's, in one process.

Both march the same field from the same state by the same method and step size, compiled into one
loop, alternating, and the medians are compared. Agreement is measured with one cut of the
two-thirds rule on both sides (exponax by default keeps one mode less).

    python benchmarks/navier_stokes_stepping.py [--quick] [--repeats N] [--seed N]
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from pathlib import Path

# Comparable only with one thread on both sides; set before jax starts.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import equinox as eqx
import exponax
import jax
import jax.numpy as jnp

from sciml.numerics import relative_l2
from sciml.problems import (
    ETDRK4,
    ConvectionForm,
    IMEXCrankNicolson,
    NavierStokes2D,
    RK4CrankNicolson,
    gaussian_random_field,
    solve,
)

VISCOSITY = 1e-3
DT = 0.01
RESULTS_PATH = Path(__file__).parent / "results" / "navier_stokes_stepping.json"


def exponax_step(n_points, dtype, dealiasing_fraction=2 / 3):
    """Make exponax's fourth-order stepper, its constants cast to the precision of the state."""
    stepper = exponax.stepper.NavierStokesVorticity(
        2,
        1.0,
        n_points,
        DT,
        diffusivity=VISCOSITY,
        order=4,
        dealiasing_fraction=dealiasing_fraction,
    )
    to_complex = jnp.complex64 if dtype == jnp.float32 else jnp.complex128

    def cast(leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        return leaf.astype(to_complex if jnp.iscomplexobj(leaf) else dtype)

    step = jax.tree.map(cast, stepper).step_fourier
    # exponax's coefficients are larger by the number of points: its transforms scale backwards.
    return step, float(n_points**2)


def our_step(n_points, dtype, stepper, form=ConvectionForm.BASDEVANT):
    """Make one of our steppers with its weights."""
    problem = NavierStokes2D((n_points, n_points), viscosity=VISCOSITY, form=form)
    weights = stepper.prepare(problem, DT, dtype)
    return lambda u_hat: stepper.step(problem, weights, u_hat), 1.0


def marcher(step_and_scale, n_steps, batched):
    """Compile a loop of steps on spectral states, forward-normalised at both ends."""
    step, scale = step_and_scale
    if batched:
        step = jax.vmap(step)

    @jax.jit
    def march(u_hat):
        return jax.lax.fori_loop(0, n_steps, lambda _, u: step(u), scale * u_hat) / scale

    return march


def time_alternating(functions, argument, repeats):
    """Seconds of each function: medians over repeats that take turns."""
    for function in functions.values():
        jax.block_until_ready(function(argument))
    seconds = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function(argument))
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def timing_rows(n_points, dtype, batch, repeats, key):
    """Time all steppers on one grid; ours comes first."""
    n_steps = max(4, round(400 * (64 / n_points) ** 2 / batch))
    draw = jax.vmap(lambda k: gaussian_random_field((n_points, n_points), dtype=dtype, key=k))
    u_hat = jnp.fft.rfft2(draw(jax.random.split(key, batch)), norm="forward")
    functions = {
        "sciml ETDRK4": our_step(n_points, dtype, ETDRK4()),
        "exponax ETDRK4": exponax_step(n_points, dtype),
        "sciml ETDRK4, convective form": our_step(
            n_points, dtype, ETDRK4(), ConvectionForm.CONVECTIVE
        ),
        "sciml RK4-CN": our_step(n_points, dtype, RK4CrankNicolson()),
        "sciml IMEX-CN": our_step(n_points, dtype, IMEXCrankNicolson()),
    }
    batched = batch > 1
    argument = u_hat if batched else u_hat[0]
    functions = {name: marcher(step, n_steps, batched) for name, step in functions.items()}
    seconds = time_alternating(functions, argument, repeats)
    peer = seconds["exponax ETDRK4"]
    return [
        {
            "method": name,
            "n_points": n_points,
            "dtype": jnp.dtype(dtype).name,
            "batch": batch,
            "milliseconds_per_step_and_field": 1e3 * value / n_steps / batch,
            "ratio_to_exponax": value / peer,
        }
        for name, value in seconds.items()
    ]


def agreement_row(n_points, dtype, key):
    """Relative L2 difference after one time unit, with the same modes kept on both sides."""
    n_steps = round(1 / DT)
    u0 = gaussian_random_field((n_points, n_points), dtype=dtype, key=key)
    problem = NavierStokes2D((n_points, n_points), viscosity=VISCOSITY)
    ours = solve(problem, u0, dt=DT, n_steps=n_steps, save_every=n_steps).value[-1]
    row = {"method": "agreement", "n_points": n_points, "dtype": jnp.dtype(dtype).name}
    kept = (n_points - 1) // 3
    for name, fraction in (
        ("relative_l2_same_cut", (kept + 1.5) / (n_points // 2)),
        ("relative_l2_default_cut", 2 / 3),
    ):
        march = marcher(exponax_step(n_points, dtype, fraction), n_steps, False)
        # exponax's vorticity has the opposite sign.
        theirs = problem.to_physical(-march(problem.to_spectral(-u0)))
        row[name] = float(relative_l2(ours, theirs))
    row["relative_change_of_the_flow"] = float(relative_l2(ours, u0))
    return row


def main():
    """Run everything, print it and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="64 points only, few repeats")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=6143)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    sizes = (64,) if arguments.quick else (64, 128, 256)
    repeats = 3 if arguments.quick else arguments.repeats
    key = jax.random.key(arguments.seed)

    rows, targets = [], []
    for dtype in (jnp.float32, jnp.float64):
        for n_points in sizes:
            for batch in (1, 8):
                timed = timing_rows(n_points, dtype, batch, repeats, key)
                rows += timed
                for row in timed:
                    print(
                        f"{row['dtype']} {n_points:4d} batch {batch}  {row['method']:32s}"
                        f"{row['milliseconds_per_step_and_field']:9.3f} ms"
                        f"  {row['ratio_to_exponax']:5.2f} of exponax",
                        flush=True,
                    )
                targets.append(
                    target(
                        f"time of a step over exponax's, {row['dtype']}, {n_points}, batch {batch}",
                        1.0,
                        timed[0]["ratio_to_exponax"],
                    )
                )
    for n_points in sizes:
        row = agreement_row(n_points, jnp.float64, key)
        rows.append(row)
        print(row)
        targets.append(
            target(
                f"relative L2 difference from exponax, float64, {n_points}",
                1e-6,
                row["relative_l2_same_cut"],
            )
        )
    for entry in targets:
        print("holds " if entry["holds"] else "FAILS ", entry["name"], f"{entry['value']:.3g}")
    if not arguments.quick:
        write(rows, targets)


def target(name, goal, value):
    """Return a target that holds if the value is at most the goal."""
    return {"name": name, "goal": goal, "value": value, "holds": value <= goal}


def write(rows, targets):
    """Write the results file."""
    RESULTS_PATH.parent.mkdir(exist_ok=True)
    result = {
        "command": "python benchmarks/navier_stokes_stepping.py",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread used",
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "exponax": exponax.__version__,
        },
        "rows": rows,
        "targets": targets,
    }
    RESULTS_PATH.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULTS_PATH}")


if __name__ == "__main__":
    main()
