"""Time of a Navier-Stokes step: sciml's RK4-CN against torch-cfd's, in one process.

    python benchmarks/torch_cfd_stepping.py [--quick] [--repeats N] [--seed N]

Needs torch-cfd in the environment (``pip install torch==2.13.0 torch-cfd``), which is no dependency
of sciml. Both march the same random field by the same scheme (Carpenter and Kennedy's Runge-Kutta,
Crank-Nicolson in each stage) and step size on one thread, taking turns; medians are compared.
ETDRK4, sciml's default, stands beside them. Agreement is measured after one time unit.
"""

import dataclasses
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import torch
import tyro
from torch_cfd.grids import Grid
from torch_cfd.spectral import NavierStokes2DSpectral, RK4CrankNicolsonStepper

from sciml.core import Target, format_table, write_report
from sciml.numerics import relative_l2
from sciml.problems import ETDRK4, NavierStokes2D, RK4CrankNicolson, gaussian_random_field, solve

VISCOSITY, DT = 1e-3, 0.01
RESULT = Path(__file__).parent / "results" / "torch_cfd_stepping.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    repeats: int = 9
    seed: int = 6143
    quick: bool = False
    """64 points only, few repeats; nothing is written."""


def main(settings: Settings) -> None:
    """Run everything, print a table, write the result file."""
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    rows = []
    for dtype in (np.float32, np.float64):
        for n_points in (64,) if settings.quick else (64, 128, 256):
            for batch in (1, 8):
                rows += rows_of(n_points, dtype, batch, settings)
                for row in rows[-3:]:
                    print(row, flush=True)
    print(format_table(rows, {key: key for key in rows[0]}))
    targets = [
        Target(
            f"time of a step over torch-cfd's, {row['dtype']}, {row['n_points']}, "
            f"batch {row['batch']}",
            row["ratio_to_torch_cfd"],
            at_most=1.0,
        )
        for row in rows
        if row["method"] == "sciml RK4-CN"
    ]
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            RESULT,
            command="python benchmarks/torch_cfd_stepping.py",
            rows=rows,
            targets=targets,
            settings={"torch": torch.__version__, "threads": 1, "dt": DT, "viscosity": VISCOSITY},
        )
        print(f"written: {RESULT}")


def rows_of(n_points, dtype, batch, settings):
    """Time the steppers on one grid."""
    n_steps = max(4, round(200 * (64 / n_points) ** 2 / batch))
    draw = jax.vmap(lambda key: gaussian_random_field((n_points, n_points), dtype=dtype, key=key))
    fields = draw(jax.random.split(jax.random.key(settings.seed), batch))
    u_hat = jnp.fft.rfft2(fields[:, 0], norm="forward")
    functions = {
        "sciml RK4-CN": our_march(n_points, dtype, RK4CrankNicolson(), n_steps, u_hat),
        "torch-cfd RK4-CN": torch_march(n_points, dtype, n_steps, u_hat),
        "sciml ETDRK4": our_march(n_points, dtype, ETDRK4(), n_steps, u_hat),
    }
    seconds = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(3 if settings.quick else settings.repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    difference = agreement(n_points, dtype, fields[0])
    return [
        {
            "method": name,
            "n_points": n_points,
            "dtype": np.dtype(dtype).name,
            "batch": batch,
            "milliseconds_per_step_and_field": 1e3 * value / n_steps / batch,
            "ratio_to_torch_cfd": value / medians["torch-cfd RK4-CN"],
            "relative_l2_difference": difference,
        }
        for name, value in medians.items()
    ]


def our_march(n_points, dtype, stepper, n_steps, u_hat):
    """Return a call of our steps, compiled into one loop."""
    problem = NavierStokes2D((n_points, n_points), viscosity=VISCOSITY)
    weights = stepper.prepare(problem, DT, dtype)
    step = jax.vmap(lambda u: stepper.step(problem, weights, u))
    march = jax.jit(lambda u: jax.lax.fori_loop(0, n_steps, lambda _, u: step(u), u))
    start = u_hat[:, None]
    return lambda: march(start).block_until_ready()


def peer(n_points, dtype):
    """Return torch-cfd's equation with its stepper."""
    kind = torch.float32 if dtype == np.float32 else torch.float64
    grid = Grid(shape=(n_points, n_points), domain=((0, 1), (0, 1)))
    equation = NavierStokes2DSpectral(
        viscosity=VISCOSITY, grid=grid, smooth=True, step_fn=RK4CrankNicolsonStepper()
    )
    return equation.to(kind)


def torch_march(n_points, dtype, n_steps, u_hat):
    """Return a call of torch-cfd's steps."""
    equation = peer(n_points, dtype)
    # Its transforms scale backwards, so its coefficients are larger by the number of points.
    start = torch.from_numpy(np.array(u_hat) * n_points**2)

    def march():
        with torch.no_grad():
            return equation(start, DT, steps=n_steps)[0]

    return march


def agreement(n_points, dtype, field):
    """Return the relative difference of both after one time unit."""
    n_steps = round(1 / DT)
    problem = NavierStokes2D((n_points, n_points), viscosity=VISCOSITY)
    ours = solve(
        problem, field, dt=DT, n_steps=n_steps, save_every=n_steps, stepper=RK4CrankNicolson()
    ).value[-1]
    start = torch.from_numpy(np.fft.rfft2(np.array(field)).astype(np.result_type(dtype, 1j)))
    with torch.no_grad():
        end = peer(n_points, dtype)(start, DT, steps=n_steps)[0]
        theirs = torch.fft.irfft2(end).numpy()
    return float(relative_l2(ours, jnp.asarray(theirs)))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
