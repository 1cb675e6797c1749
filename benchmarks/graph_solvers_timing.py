"""Fixed points of contractions: Picard, Anderson, GMRES and dense elimination beside SciPy.

    python benchmarks/graph_solvers_timing.py            # some ten minutes on one core
    python benchmarks/graph_solvers_timing.py --quick    # a smoke run; nothing is written

Rows of random networks of pores (log-normal conductances) times one factor, 16 heads, float32,
tolerance 1e-5. All in CPU seconds, the best of a few repetitions. Then: gradients beside unrolling
and a dense inverse (one training step of a model), and oracles in float64.
"""

import dataclasses
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import tyro

from sciml.core import Target, format_table, write_report
from sciml.graph_solvers import (
    AndersonSolver,
    AutoSolver,
    ConvergentGraphSolver,
    DenseSolver,
    GraphMapOptions,
    KrylovSolver,
    PicardSolver,
    diffusion_solve,
    solve_contraction,
)
from sciml.numerics import batch_graphs
from sciml.problems import pore_network, random_mdp

RESULT = Path(__file__).parent / "results" / "graph_solvers_timing.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    sizes: tuple[int, ...] = (75, 300, 1500, 6500)
    gammas: tuple[float, ...] = (0.5, 0.9, 0.99)
    heads: int = 16
    rtol: float = 1e-5
    repeats: int = 2
    quick: bool = False
    out: Path = RESULT


def cpu_seconds(run, repeats):
    """Return the least CPU time of ``run``, which has run once before."""
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        jax.block_until_ready(run())
        found.append(time.process_time() - begin)
    return min(found)


def rows_of(network):
    """Return entries (float64), rows and columns of the network's averaging matrix."""
    i, j = network.ends.T
    rows, columns, k = np.r_[i, j], np.r_[j, i], np.tile(network.conductance, 2)
    return k / np.bincount(rows, k, len(network.pressure))[rows], rows, columns


def solver_rows(settings):
    """Return times of every solver at every size and factor."""
    found = []
    solvers = {
        "Picard": PicardSolver(rtol=settings.rtol),
        "Anderson": AndersonSolver(rtol=settings.rtol),
        "GMRES": KrylovSolver(rtol=settings.rtol),
        "dense": DenseSolver(rtol=settings.rtol),
        "chosen": AutoSolver(rtol=settings.rtol),
    }
    for n in settings.sizes:
        network = pore_network(n, key=jax.random.key(7))
        entries, rows, columns = rows_of(network)
        a = jnp.asarray(np.repeat(entries[:, None], settings.heads, 1), jnp.float32)
        b = jax.random.normal(jax.random.key(3), (n, settings.heads), jnp.float32)
        index = (jnp.asarray(rows, jnp.int32), jnp.asarray(columns, jnp.int32))
        for name, solver in solvers.items():
            if name == "dense" and n > 400:
                continue

            @jax.jit
            def run(a, b, gamma, solver=solver, index=index):
                s = solve_contraction(a, b, *index, gamma=gamma, solver=solver, throw=False)
                return s.value, s.stats, s.result

            for gamma in settings.gammas:
                g = jnp.asarray(gamma, jnp.float32)
                value, stats, _ = run(a, b, g)
                exact, _ = scipy_solve(entries, rows, columns, np.asarray(b), gamma)
                found.append(
                    {
                        "part": "solvers",
                        "method": name,
                        "n_nodes": n,
                        "n_edges": len(rows),
                        "gamma": gamma,
                        "milliseconds": 1e3
                        * cpu_seconds(lambda: run(a, b, g)[0], 1 if n > 1000 else settings.repeats),  # noqa: B023
                        "n_steps": int(stats["n_steps"]),
                        "relative_error": float(
                            np.abs(value - exact).max() / np.abs(exact).max()
                        ),
                        "error_bound": float(stats["error_bound"]),
                    }
                )  # fmt: skip
                print(found[-1], flush=True)
        for gamma in settings.gammas:
            seconds = min(
                scipy_solve(entries, rows, columns, np.asarray(b), gamma)[1]
                for _ in range(settings.repeats)
            )
            found.append(
                {"part": "solvers", "method": "SciPy sparse LU, float64, one matrix for all heads",
                 "n_nodes": n, "n_edges": len(rows), "gamma": gamma,
                 "milliseconds": 1e3 * seconds}
            )  # fmt: skip
            print(found[-1], flush=True)
    return found


def scipy_solve(entries, rows, columns, b, gamma):
    """Return the exact solution and the CPU time of the sparse factorisation and solves."""
    n = len(b)
    matrix = scipy.sparse.coo_array((gamma * entries, (rows, columns)), (n, n))
    matrix = (scipy.sparse.eye_array(n) - matrix).tocsc()
    begin = time.process_time()
    value = scipy.sparse.linalg.splu(matrix).solve(b.astype(np.float64))
    return value, time.process_time() - begin


def gradient_rows(settings):
    """Return time and memory of a gradient: implicit, unrolled, and by a dense inverse."""
    n = 75 if settings.quick else 300
    network = pore_network(n, key=jax.random.key(7))
    entries, rows, columns = rows_of(network)
    rows, columns = jnp.asarray(rows, jnp.int32), jnp.asarray(columns, jnp.int32)
    a = jnp.asarray(np.repeat(entries[:, None], settings.heads, 1), jnp.float32)
    b = jax.random.normal(jax.random.key(3), (n, settings.heads), jnp.float32)
    found, gamma = [], 0.9

    def implicit(a, b):
        solver = AutoSolver(rtol=settings.rtol)
        s = solve_contraction(
            a, b, rows, columns, gamma=gamma, solver=solver, adjoint_solver=solver, throw=False
        )
        return jnp.sum(jnp.sin(s.value))

    def unrolled(a, b):
        def step(h, _):
            return jax.ops.segment_sum(gamma * a * h[columns], rows, n) + b, None

        return jnp.sum(jnp.sin(jax.lax.scan(step, jnp.zeros_like(b), None, 110)[0]))

    def dense(a, b):
        matrix = jnp.zeros((a.shape[1], n, n)).at[:, rows, columns].add(gamma * a.T)
        h = jnp.linalg.inv(jnp.eye(n)[None] - matrix) @ b.T[..., None]
        return jnp.sum(jnp.sin(h))

    reference = None
    for name, function in (("dense inverse", dense), ("implicit", implicit),
                           ("unrolled, 110 steps", unrolled)):  # fmt: skip
        run = jax.jit(jax.grad(function, argnums=(0, 1)))
        memory = run.lower(a, b).compile().memory_analysis()
        gradient = run(a, b)
        reference = gradient if reference is None else reference
        scale = max(float(jnp.abs(g).max()) for g in reference)
        difference = max(
            float(jnp.abs(g - r).max()) for g, r in zip(gradient, reference, strict=True)
        )
        found.append(
            {
                "part": "gradient", "method": name, "n_nodes": n, "n_edges": len(rows),
                "gamma": gamma,
                "milliseconds": 1e3 * cpu_seconds(lambda: run(a, b), settings.repeats),  # noqa: B023
                "temporary_megabytes": memory.temp_size_in_bytes / 1e6,
                "relative_difference": difference / scale,
            }
        )  # fmt: skip
        print(found[-1], flush=True)
    return found


def training_rows(settings):
    """Return the time of a training step of a model with sparse and with dense solves."""
    count = 1 if settings.quick else 4
    graph = batch_graphs([pore_network(75, key=jax.random.key(i)).graph for i in range(count)])
    found = []
    for name, solver in (("sparse", AutoSolver(rtol=1e-5)), ("dense", DenseSolver(rtol=1e-5))):
        options = GraphMapOptions(gamma=0.99, solver=solver, adjoint_solver=solver)
        model = ConvergentGraphSolver(2, 1, 1, heads=8, options=options, key=jax.random.key(5))

        @eqx.filter_jit
        def step(model, graph):
            def loss(model):
                return jnp.mean(model.solve(graph, throw=False).value ** 2)

            return eqx.filter_value_and_grad(loss)(model)

        jax.block_until_ready(step(model, graph))
        seconds = cpu_seconds(lambda: step(model, graph), settings.repeats)  # noqa: B023
        found.append({"part": "training step", "method": name, "n_nodes": len(graph.nodes),
                      "n_edges": len(graph.edges), "milliseconds": 1e3 * seconds})  # fmt: skip
        print(found[-1], flush=True)
    return found


def oracle_rows(settings):
    """Return the errors with true coefficients, in float64, and how a global factor screens."""
    found = []
    with jax.enable_x64(True):
        solver = KrylovSolver(rtol=1e-13, atol=1e-14, max_steps=20_000)
        for n in (100,) if settings.quick else (100, 1200):
            network = pore_network(n, key=jax.random.key(11))
            entries, rows, columns = rows_of(network)
            held = np.where(network.is_boundary, network.pressure, 0.0)
            for gamma in (1.0, 0.9999, 0.999, 0.99, 0.5):
                factor = np.where(network.is_boundary, 0.0, gamma)
                s = solve_contraction(
                    jnp.asarray(entries)[:, None], jnp.asarray(held)[:, None], jnp.asarray(rows),
                    jnp.asarray(columns), gamma=jnp.asarray(factor), absorbing=True, solver=solver,
                )  # fmt: skip
                error = np.asarray(s.value[:, 0]) - network.pressure
                found.append({"part": "oracle", "method": "pressure, true coefficients",
                              "n_nodes": n, "gamma": gamma, "largest_error": np.abs(error).max(),
                              "mse": np.mean(error**2)})  # fmt: skip
                print(found[-1], flush=True)
            s = diffusion_solve(
                jnp.asarray(network.conductance), jnp.asarray(network.ends),
                jnp.asarray(network.is_boundary), jnp.asarray(network.pressure),
            )  # fmt: skip
            found.append({"part": "oracle", "method": "diffusion_solve", "n_nodes": n,
                          "largest_error": float(np.abs(s.value - network.pressure).max()),
                          "imbalance": float(s.stats["imbalance"])})  # fmt: skip
            print(found[-1], flush=True)
        mdp = random_mdp(100, 10, key=jax.random.key(11))
        states, best = np.arange(100), mdp.action_values(mdp.values).argmax(axis=1)
        s = solve_contraction(
            jnp.ones((100, 1)), jnp.asarray(mdp.rewards[states, best])[:, None],
            jnp.asarray(states), jnp.asarray(mdp.successors[states, best]), gamma=0.9,
            solver=solver,
        )  # fmt: skip
        found.append({"part": "oracle", "method": "values of the optimal policy",
                      "n_nodes": 100, "gamma": 0.9,
                      "largest_error": float(np.abs(s.value[:, 0] - mdp.values).max()),
                      })  # fmt: skip
    return found


def targets_of(rows):
    """Return the promises."""
    oracle = [r for r in rows if r["part"] == "oracle"]
    pressure = [r["largest_error"] for r in oracle if r["method"] == "diffusion_solve"]
    exact = [r["largest_error"] for r in oracle if r.get("gamma") == 1.0]
    values = [r["largest_error"] for r in oracle if r["method"].startswith("values")]
    gradient = {r["method"]: r for r in rows if r["part"] == "gradient"}
    step = {r["method"]: r["milliseconds"] for r in rows if r["part"] == "training step"}
    implicit, dense = gradient["implicit"], gradient["dense inverse"]
    unrolled = gradient["unrolled, 110 steps"]
    errors = [r["relative_error"] for r in rows if r.get("method") == "chosen"]
    return [
        Target("pressure with true coefficients: largest error", max(exact), at_most=1e-10),
        Target("diffusion_solve: largest error", max(pressure), at_most=1e-10),
        Target("values of a decision process: largest error", max(values), at_most=1e-8),
        Target("chosen solver: largest relative error, float32, to 1e5 edges", max(errors),
               at_most=1e-3),
        Target("gradient: time of unrolling over implicit",
               unrolled["milliseconds"] / implicit["milliseconds"], at_least=1.0),
        Target("gradient: memory of unrolling over implicit",
               unrolled["temporary_megabytes"] / implicit["temporary_megabytes"], at_least=1.0),
        Target("gradient: time of a dense inverse over implicit",
               dense["milliseconds"] / implicit["milliseconds"], at_least=1.0),
        Target("training step: dense over sparse", step["dense"] / step["sparse"], at_least=1.0),
    ]  # fmt: skip


def main(settings: Settings) -> None:
    """Run all parts, print tables, write the result file."""
    if settings.quick:
        settings = dataclasses.replace(settings, sizes=(75,), repeats=1)
    rows = []
    for part in (oracle_rows, gradient_rows, training_rows, solver_rows):
        rows += part(settings)
    shown = ("part", "method", "n_nodes", "n_edges", "gamma", "milliseconds", "n_steps",
             "relative_error")  # fmt: skip
    print(format_table([{k: r.get(k, "") for k in shown} for r in rows], {k: k for k in shown}))
    targets = targets_of(rows)
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/graph_solvers_timing.py",
            rows=rows,
            targets=targets,
            settings={k: v for k, v in dataclasses.asdict(settings).items() if k != "out"},
        )


if __name__ == "__main__":
    main(tyro.cli(Settings))
