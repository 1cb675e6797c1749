"""Convergent graph solvers beside a deep graph network, IGNN and trivial answers.

    python benchmarks/graph_solvers.py                  # everything, an hour and a half on one core
    python benchmarks/graph_solvers.py --only pores     # runs whose name has this word
    python benchmarks/graph_solvers.py --quick          # a smoke run; nothing is written

Each training (case, method, seed) is kept under ``runs/graph_solvers`` and not done again, so that
the script can be stopped at any time. The result file is made of all runs found there.

Pores: pressure without coordinates, trained on 40-110 pores, tested on more. MDP: optimal values,
trained on 20-50 states with 5-10 actions. Chains: the class is told at one end only.
"""

import dataclasses
import functools
import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import sciml
from sciml.core import Target, format_table, write_report
from sciml.graph_solvers import (
    Aggregation,
    AndersonSolver,
    ConvergentGraphSolver,
    DeepGraphNetwork,
    FactorKind,
    GraphMapOptions,
    ImplicitGraphNetwork,
    MessageDirection,
    RowNormaliser,
)
from sciml.numerics import batch_graphs
from sciml.problems import chain, pore_network, random_mdp

RESULT = Path(__file__).parent / "results" / "graph_solvers.json"
RUNS = Path(__file__).parent.parent / "runs" / "graph_solvers"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    only: str = ""
    seeds: tuple[int, ...] = (11, 23, 37)
    n_steps: int = 2000
    pore_steps: int = 6000
    chain_steps: int = 400
    learning_rate: float = 3e-3
    quick: bool = False
    out: Path = RESULT


PUBLISHED = GraphMapOptions(
    gamma=0.5,
    factor=FactorKind.FIXED,
    rows=RowNormaliser.CLIP_DEGREE,
    direction=MessageDirection.TO_SENDER,
)
MAXIMUM = GraphMapOptions(gamma=0.95, aggregation=Aggregation.MAXIMUM)
SENDER = MessageDirection.TO_SENDER
OURS = GraphMapOptions(gamma=0.99999, factor=FactorKind.ABSORBING)


COARSE = AndersonSolver(rtol=1e-3)


def fixed(gamma, solver=None):
    """Return softmax rows with one factor."""
    options = GraphMapOptions(gamma=gamma, factor=FactorKind.FIXED)
    if solver is None:
        return options
    return dataclasses.replace(options, solver=solver, adjoint_solver=solver)


cgs, gnn, ignn = ConvergentGraphSolver, DeepGraphNetwork, ImplicitGraphNetwork
# case: method: (constructor without channels and key, does it train with several seeds)
METHODS = {
    "pores": {
        "CGS, softmax rows, absorbing": (functools.partial(cgs, heads=8, options=OURS), True),
        "CGS, softmax rows, node-wise factor": (
            functools.partial(cgs, heads=8, options=GraphMapOptions(gamma=0.9999)), False),
        "CGS, softmax rows, factor 0.95": (
            functools.partial(cgs, heads=8, options=fixed(0.95)), False),
        "CGS, published: clip/degree, factor 0.5": (
            functools.partial(cgs, heads=16, options=PUBLISHED), False),
        "graph network, 2 layers": (functools.partial(gnn, n_layers=2, hidden_channels=20), True),
        "graph network, 6 layers, 9 x the size": (functools.partial(gnn, n_layers=6), False),
        "IGNN": (functools.partial(ignn, hidden_channels=27), False),
    },
    "mdp": {
        "CGS, maximum over edges": (functools.partial(cgs, options=MAXIMUM), True),
        "CGS, 3 solves": (functools.partial(cgs, n_solves=3), False),
        "CGS, 1 solve": (functools.partial(cgs), False),
        "CGS, 1 solve, against the values": (
            functools.partial(cgs, options=GraphMapOptions(direction=SENDER)), False),
        "CGS, published: 4 layers, clip/degree, factor 0.5": (
            functools.partial(cgs, n_layers=4, options=PUBLISHED), False),
        "graph network, 4 layers": (functools.partial(gnn, n_layers=4, hidden_channels=28), True),
    },
    "chains": {
        f"CGS, factor {g}": (functools.partial(cgs, heads=8, options=fixed(g, COARSE)), False)
        for g in (0.5, 0.9, 0.99)
    }
    | {"graph network, 4 layers": (functools.partial(gnn, n_layers=4), False)},
}  # fmt: skip
CHANNELS = {"pores": (2, 1, 1), "mdp": (1, 1, 1), "chains": (4, 1, 2)}
PADDING = {"pores": (448, 6144), "mdp": (412, 4000), "chains": (900, 1800)}
PER_BATCH = {"pores": 4, "mdp": 8, "chains": 8}


def problem(case, size, seed):
    """Return one problem of a case; ``size`` is a number, or states and actions."""
    key = jax.random.key(seed)
    if case == "pores":
        return pore_network(size, key=key)
    if case == "mdp":
        return random_mdp(*size, key=key)
    return chain(size, 2, seed % 2, key=key)


def targets_of_nodes(case, p):
    """Return the values to be predicted and the nodes that count."""
    if case == "pores":
        return p.pressure, ~p.is_boundary
    if case == "mdp":
        return p.values * (1 - p.discount), np.ones(len(p.values), bool)
    n = len(p.graph.nodes)
    return np.full(n, p.label), np.ones(n, bool)


def as_batch(case, problems, padding=(None, None)):
    """Return one graph, targets and mask."""
    graph = batch_graphs([p.graph for p in problems], pad_nodes=padding[0], pad_edges=padding[1])
    parts = [targets_of_nodes(case, p) for p in problems]
    y, mask = (np.concatenate(column) for column in zip(*parts, strict=True))
    rest = len(graph.nodes) - len(y)
    y = np.pad(y, (0, rest)).astype(np.int32 if case == "chains" else np.float32)
    return graph, jax.device_put(y), jax.device_put(np.pad(mask, (0, rest)))


def training_batches(case, seed, n_batches=48):
    """Return batches of random problems of the training sizes."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n_batches):
        problems = []
        for j in range(PER_BATCH[case]):
            size = {
                "pores": lambda: int(rng.integers(40, 111)),
                "mdp": lambda: (int(rng.integers(20, 51)), int(rng.integers(5, 11))),
                "chains": lambda: int(rng.integers(10, 101)),
            }[case]()
            problems.append(problem(case, size, 100_000 * seed + 100 * i + j))
        found.append(as_batch(case, problems, PADDING[case]))
    return found


def predict(model, graph):
    """Return predictions and the steps of the fixed point, if there is one."""
    if isinstance(model, DeepGraphNetwork):
        return model(graph), jnp.zeros(())
    solution = model.solve(graph)
    return solution.value, solution.stats["n_steps"].astype(jnp.float32)


def loss_of(case):
    """Return the loss for `sciml.train.fit`."""

    def loss(model, batch, key):
        graph, y, mask = batch
        out, n_steps = predict(model, graph)
        if case == "chains":
            each = optax.softmax_cross_entropy_with_integer_labels(out, y)
        else:
            each = (out[:, 0] - y) ** 2
        mean = jnp.sum(jnp.where(mask, each, 0)) / jnp.sum(mask)
        return mean, {"solver_steps": n_steps}

    return loss


SIZES = {"pores": (75, 300, 1200), "mdp": ((35, 7), (100, 15), (300, 10)), "chains": (10, 50, 100)}


@functools.cache
def test_problems(case, size):
    """Return test problems, which share no seed with training."""
    count = {75: 16, 300: 8, 1200: 4, (35, 7): 16, (100, 15): 6, (300, 10): 3}.get(size, 16)
    return [problem(case, size, 9_000_000 + i) for i in range(count)]


def figures(case, size, outputs):
    """Return the figures of one test size from the predictions for each of its problems."""
    problems = test_problems(case, size)
    label = "x".join(str(s) for s in np.atleast_1d(size))
    if case == "pores":
        inside = [~p.is_boundary for p in problems]
        held = [
            np.where(m, out, p.pressure)
            for m, out, p in zip(inside, outputs, problems, strict=True)
        ]
        errors = [np.mean((u - p.pressure)[m] ** 2)
                  for u, p, m in zip(held, problems, inside, strict=True)]  # fmt: skip
        return {
            f"mse_{label}": float(np.mean(errors)),
            f"imbalance_{label}": float(
                np.mean([p.imbalance(u) for u, p in zip(held, problems, strict=True)])
            ),
        }
    if case == "mdp":
        values = [out / (1 - p.discount) for out, p in zip(outputs, problems, strict=True)]
        pairs = list(zip(values, problems, strict=True))
        return {
            f"mape_{label}": float(np.mean([np.mean(np.abs(v / p.values - 1)) for v, p in pairs])),
            f"policy_{label}": float(np.mean([p.policy_accuracy(v) for v, p in pairs])),
        }
    right = [np.mean(out == p.label) for out, p in zip(outputs, problems, strict=True)]
    return {f"accuracy_{label}": float(np.mean(right))}


def evaluate(case, model):
    """Return all test figures of a model."""
    found = {}
    run = eqx.filter_jit(predict)
    for size in SIZES[case]:
        graph, _, _ = as_batch(case, test_problems(case, size))
        out, n_steps = run(model, graph)
        out = np.asarray(out, np.float64)
        out = out.argmax(axis=1) if case == "chains" else out[:, 0]
        sizes = [len(p.graph.nodes) for p in test_problems(case, size)]
        outputs = np.split(out[: sum(sizes)], np.cumsum(sizes)[:-1])
        found |= figures(case, size, outputs)
        label = "x".join(str(s) for s in np.atleast_1d(size))
        if not isinstance(model, DeepGraphNetwork):
            found[f"solver_steps_{label}"] = int(n_steps)
    return found


def trivial_rows(case):
    """Return the figures of answers that need no training; kept like the runs."""
    path = RUNS / f"trivial_{case}.json"
    if path.is_file():
        return json.loads(path.read_text())
    rules = {
        "pores": {
            "straight line": lambda p: p.straight_line(),
            "1 - x": lambda p: 1 - p.positions[:, 0],
            "one half": lambda p: np.full(len(p.pressure), 0.5),
        },
        "mdp": {
            "mean of the values": lambda p: np.full(len(p.values), p.values.mean() * 0.1),
            "best immediate reward": lambda p: p.rewards.max(axis=1),
        },
        "chains": {"always class 0": lambda p: np.zeros(len(p.graph.nodes))},
    }[case]
    rows = []
    for name, rule in rules.items():
        found = {}
        for size in SIZES[case]:
            problems = test_problems(case, size)
            new = figures(case, size, [rule(p) for p in problems])
            if case == "mdp":
                accuracy = np.mean([p.immediate_accuracy() for p in problems])
                label = "x".join(str(s) for s in size)
                if name == "best immediate reward":
                    new = {f"policy_{label}": float(accuracy)}
                else:
                    new.pop(f"policy_{label}")
            found |= new
        rows.append({"case": case, "method": f"trivial: {name}", **found})
    RUNS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return rows


def n_parameters(model):
    """Return the number of trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def train(case, method, seed, settings):
    """Train one model and return its row."""
    n_steps = {"chains": settings.chain_steps, "pores": settings.pore_steps}.get(
        case, settings.n_steps
    )
    n_steps = 6 if settings.quick else n_steps
    model = METHODS[case][method][0](*CHANNELS[case], key=jax.random.key(seed))
    batches = training_batches(case, seed, 2 if settings.quick else 48)
    schedule = optax.cosine_decay_schedule(settings.learning_rate, n_steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    begin = time.process_time()
    solution = sciml.train.fit(
        model, batches, loss=loss_of(case), optimizer=optimizer, n_steps=n_steps,
        key=jax.random.key(seed), progress=False,
    )  # fmt: skip
    seconds = time.process_time() - begin
    history = solution.stats["history"]
    return {
        "case": case,
        "method": method,
        "seed": seed,
        "n_parameters": n_parameters(model),
        "n_steps": n_steps,
        "cpu_seconds": seconds,
        "train_loss": float(np.mean(history["loss"][1][-10:])),
        "solver_steps_in_training": float(np.mean(history["solver_steps"][1])),
        **evaluate(case, solution.value),
    }


def median(rows, case, method, figure):
    """Return the median over the seeds of a method, or None."""
    values = [r[figure] for r in rows if (r["case"], r["method"]) == (case, method)]
    return float(np.median(values)) if values else None


def targets_of(rows):
    """Return the promises; a run that is missing does not hold."""

    def ratio(a, b):
        return None if a is None or b is None else a / b

    ours = "CGS, softmax rows, absorbing"
    pores = functools.partial(median, rows, "pores")
    mdp = functools.partial(median, rows, "mdp", "CGS, maximum over edges")
    trivial = [pores(f"trivial: {name}", "mse_300") for name in ("straight line", "1 - x")]
    line = min((t for t in trivial if t is not None), default=None)
    mse = {n: pores(ours, f"mse_{n}") for n in SIZES["pores"]}
    network = pores("graph network, 2 layers", "mse_300")
    growth = [
        r["mse_1200"] / r["mse_75"] for r in rows if (r["case"], r["method"]) == ("pores", ours)
    ]
    seeds = [
        sum((r["case"], r["method"]) == pair for r in rows)
        for pair in (("pores", ours), ("mdp", "CGS, maximum over edges"))
    ]
    return [
        Target("seeds of our method, the fewer of pores and mdp", min(seeds), at_least=3),
        Target("pores, 300 nodes: MSE of the better straight line over ours (median of seeds)",
               ratio(line, mse[300]), at_least=3.0),
        Target("pores, 300 nodes: MSE of the equal-size graph network over ours",
               ratio(network, mse[300]), at_least=3.0),
        Target("pores: our MSE at 1200 over that at 75, medians of the seeds",
               ratio(mse[1200], mse[75]), at_most=5.0),
        Target("pores: our MSE at 1200 over that at 75, median of the seeds' ratios",
               float(np.median(growth)) if growth else None, at_most=5.0),
        Target("mdp, 35 states: mean relative error", mdp("mape_35x7"), at_most=0.02),
        Target("mdp, 35 states: policy accuracy", mdp("policy_35x7"), at_least=0.9),
        Target("mdp, 100 states: policy accuracy", mdp("policy_100x15"), at_least=0.85),
        Target("mdp, 300 states: policy accuracy", mdp("policy_300x10"), at_least=0.85),
    ]  # fmt: skip


def main(settings: Settings) -> None:
    """Train what is missing, print a table, write the result file."""
    rows = []
    for case, methods in METHODS.items():
        for method, (_, several) in methods.items():
            for seed in settings.seeds if several else settings.seeds[:1]:
                name = f"{case}, {method}, seed {seed}"
                slug = "".join(c if c.isalnum() else "_" for c in name)
                path = RUNS / f"{slug}.json"
                if path.is_file():
                    rows.append(json.loads(path.read_text()))
                elif settings.only in name:
                    row = train(case, method, seed, settings)
                    rows.append(row)
                    print(json.dumps(row), flush=True)
                    if not settings.quick:
                        RUNS.mkdir(parents=True, exist_ok=True)
                        path.write_text(json.dumps(row))
        rows += trivial_rows(case)
        table = [r for r in rows if r["case"] == case]
        shown = {k: k for r in table for k in r if k not in ("case", "train_loss", "n_steps")}
        cells = [{k: r.get(k, "") for k in shown} for r in table]
        print(format_table(cells, shown), flush=True)
    targets = targets_of(rows)
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        kept = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("out", "only")}
        write_report(
            settings.out,
            command="python benchmarks/graph_solvers.py",
            rows=rows,
            targets=targets,
            settings=kept,
        )


if __name__ == "__main__":
    main(tyro.cli(Settings))
