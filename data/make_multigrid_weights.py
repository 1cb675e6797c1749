"""Train the weights of the multigrid preconditioner that ship with sciml.

Run it with ``python data/make_multigrid_weights.py [multigrid_2d] [multigrid_3d]`` from the root of
the repository: half a minute of CPU time in two dimensions, two and a half in three. Training data
are random obstacles at 64 x 64 and 32 x 32 x 32, the smallest sizes of the benchmark; nothing
larger, and no other family, is seen.

In two dimensions all levels share their numbers. With numbers of its own for the finest level the
training does as well at 64 x 64, but what it finds for the others serves only the two levels that
are there: at 512 x 512, which has five, it needed more iterations than the untrained cycle.
"""

import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import sciml
from sciml.core import Target, write_report
from sciml.linear_solvers import MultigridWeights, fit_preconditioner
from sciml.problems import obstacle_problem

FOLDER = Path(sciml.linear_solvers.__file__).parent / "weights"
RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "multigrid_weights.json"
SIZES = {"multigrid_2d": (64, 64), "multigrid_3d": (32, 32, 32)}
SEED = 20262
N_PROBLEMS = {"multigrid_2d": 48, "multigrid_3d": 20}
N_VALIDATION = 12
N_LEVELS = {"multigrid_2d": 1, "multigrid_3d": 2}
N_CG_STEPS = {"multigrid_2d": 8, "multigrid_3d": 5}


def main() -> None:
    """Train, count iterations, save."""
    rows: list[dict] = []
    for name in sys.argv[1:] or SIZES:
        n_points = SIZES[name]
        begin = time.process_time()
        keys = jax.random.split(jax.random.key(SEED), N_PROBLEMS[name] + N_VALIDATION)
        problems = [obstacle_problem(n_points, key=key) for key in keys]
        solution = fit_preconditioner(
            problems[:-N_VALIDATION],
            validation=problems[-N_VALIDATION:],
            weights=MultigridWeights(N_LEVELS[name]),
            n_cg_steps=N_CG_STEPS[name],
            key=jax.random.key(SEED),
            progress=False,
        )
        sciml.save(FOLDER / name, solution.value)
        stats = solution.stats
        rows.append(
            {
                "weights": name,
                "iterations_untrained": stats["iterations_before"],
                "iterations_trained": stats["iterations_after"],
                "training_cpu_s": time.process_time() - begin,
            }
        )
        print(
            f"{name}: {stats['iterations_before']:.2f} -> {stats['iterations_after']:.2f} "
            f"iterations, {time.process_time() - begin:.0f} CPU seconds"
        )
        for level in range(solution.value.n_levels):
            lower, upper, scale = solution.value.at(level, jax.numpy.float32)
            print(f"  level {level}: interval [{lower:.3f}, {upper:.3f}], scale {scale:.3f}")
    flat = [row["training_cpu_s"] for row in rows if row["weights"] == "multigrid_2d"]
    write_report(
        RESULT,
        rows=rows,
        targets=[Target("training in 2-D, CPU seconds", value, at_most=60) for value in flat],
        settings={"seed": SEED},
    )


if __name__ == "__main__":
    main()
