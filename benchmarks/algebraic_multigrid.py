"""Smoothed aggregation for unstructured matrices: PyAMG's cycle, ours untrained and learned.

    python benchmarks/algebraic_multigrid.py [--quick] [--seeds 3] [--ship]

Each method preconditions SciPy's own conjugate gradients to a relative residual of 1e-8 (random
right-hand side, one thread, CPU seconds of this process, best of two). "PyAMG" is
``smoothed_aggregation_solver`` as it comes; "PyAMG 0.08" has the threshold of strength that ours
has by default. "ours" is the classical cycle, "ours family" has numbers trained on small members of
the same family, "ours general" numbers trained on small members of five families at once: those
that `aspreconditioner` takes. ``--ship`` writes them into the package.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

# Comparable only with one thread; set before NumPy starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import jax
import numpy as np
import pyamg
import scipy.sparse
import scipy.spatial
import tyro
from scipy.sparse.linalg import cg

import sciml
from sciml.core import Target, format_table, write_report
from sciml.linear_solvers._algebraic_multigrid import AlgebraicMultigridPreconditioner
from sciml.linear_solvers._fit_algebraic import fit_algebraic_preconditioner
from sciml.linear_solvers._multigrid_weights import MultigridWeights

RESULT = Path(__file__).parent / "results" / "algebraic_multigrid.json"
SHIPPED = Path(sciml.__file__).parent / "linear_solvers" / "weights" / "algebraic_multigrid"
EXAMPLES = ("airfoil", "bar", "knot", "local_disc_galerkin_diffusion", "unit_cube", "unit_square")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seeds: int = 3
    n: int = 20000
    n_train: int = 1200
    quick: bool = False
    """Small matrices, one seed; nothing is written."""
    ship: bool = False
    """Write the general weights into the package."""


def triangulation(n: int, rng: np.random.Generator, spread: float = 0.0) -> scipy.sparse.csr_array:
    """Linear finite elements on random points, Dirichlet; coefficient exp(spread * waves)."""
    t = np.linspace(0, 1, int(np.sqrt(n)))[:-1]
    o = np.zeros_like(t)
    edge = np.concatenate([np.c_[t, o], np.c_[1 + o, t], np.c_[1 - t, 1 + o], np.c_[o, 1 - t]])
    points = np.concatenate([rng.random((n, 2)), edge])
    elements = scipy.spatial.Delaunay(points).simplices
    p = points[elements]
    a, b = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2
    used = area > 1e-14
    elements, p, area = elements[used], p[used], area[used]
    waves = sum(
        np.cos(2 * np.pi * (p.mean(1) @ rng.integers(1, 5, 2) + rng.random())) for _ in range(4)
    )
    sides = np.stack([p[:, 2] - p[:, 1], p[:, 0] - p[:, 2], p[:, 1] - p[:, 0]], 1)
    local = np.einsum("tid,tjd->tij", sides, sides)
    local *= (np.exp(spread * waves) / (4 * area))[:, None, None]
    rows, columns = np.repeat(elements, 3, 1).ravel(), np.tile(elements, (1, 3)).ravel()
    matrix = scipy.sparse.csr_array((local.ravel(), (rows, columns)), shape=(len(points),) * 2)
    matrix = matrix[:n][:, :n]
    return ((matrix + matrix.T) / 2).tocsr()


def neighbour_graph(n: int, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """Laplacian of the graph of six nearest neighbours, random weights, plus 1e-4."""
    _, near = scipy.spatial.cKDTree(points := rng.random((n, 2))).query(points, 7)
    weights = rng.lognormal(0, 1, 6 * n)
    entries = (weights, (np.repeat(np.arange(n), 6), near[:, 1:].ravel()))
    return laplacian(scipy.sparse.csr_array(entries, shape=(n, n)), 1e-4)


def grown_graph(n: int, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """Laplacian of a graph grown by preferential attachment (hubs), plus 1e-3."""
    ends, edges = [0, 1, 2], []
    for new in range(3, n):
        for old in {ends[k] for k in rng.integers(0, len(ends), 3)}:
            edges.append((new, old))
            ends += [new, old]
    rows, columns = np.array(edges).T
    entries = (np.ones(len(edges)), (rows, columns))
    return laplacian(scipy.sparse.csr_array(entries, shape=(n, n)), 1e-3)


def laplacian(graph: scipy.sparse.csr_array, shift: float) -> scipy.sparse.csr_array:
    """Return the Laplacian of the undirected graph, plus a multiple of the identity."""
    graph = graph.maximum(graph.T)
    size = scipy.sparse.eye_array(graph.shape[0])
    return (scipy.sparse.diags_array(graph.sum(axis=1)) - graph + shift * size).tocsr()


def anisotropic(n: int, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """Diffusion 1:100 at a random angle to the grid (pyamg's stencil)."""
    stencil = pyamg.gallery.diffusion_stencil_2d(0.01, rng.random() * np.pi, type="FE")
    m = int(np.sqrt(n))
    return scipy.sparse.csr_array(pyamg.gallery.stencil_grid(stencil, (m, m), format="csr"))


def elasticity(n: int, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """Plane elasticity, with Poisson's ratio between 0.2 and 0.4 (pyamg's elements)."""
    m = int(np.sqrt(n / 2))
    matrix, _ = pyamg.gallery.linear_elasticity((m, m), nu=float(rng.uniform(0.2, 0.4)))
    return scipy.sparse.csr_array(matrix)


def cubes(n: int, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """Poisson's equation in three dimensions (pyamg's stencil)."""
    m = round(n ** (1 / 3))
    return scipy.sparse.csr_array(pyamg.gallery.poisson((m, m, m), format="csr"))


# The first five train the general numbers; the others are new to them.
FAMILIES: dict[str, Callable] = {
    "triangulation": triangulation,
    "variable coefficient": lambda n, rng: triangulation(n, rng, 1.0),
    "neighbour graph": neighbour_graph,
    "anisotropic": anisotropic,
    "elasticity": elasticity,
    "grown graph": grown_graph,
    "3-D Poisson": cubes,
}
N_SEEN = 5


def main(settings: Settings) -> None:
    """Train, solve, print a table and write it."""
    n, seeds = (2500, 1) if settings.quick else (settings.n, settings.seeds)
    begin = time.process_time()
    family = {name: train([name], settings.n_train) for name in FAMILIES}
    training = (time.process_time() - begin) / len(FAMILIES)
    general = train(list(FAMILIES)[:N_SEEN], settings.n_train)
    if settings.ship:
        sciml.save(SHIPPED, general)
    rows = []
    for name, make in FAMILIES.items():
        for seed in range(seeds):
            matrix = make(n, np.random.default_rng([seed, 7001]))
            rows += measure(name, seed, matrix, family[name], general)
    for name in EXAMPLES:
        matrix = scipy.sparse.csr_array(pyamg.gallery.load_example(name)["A"])
        rows += measure(name, 0, matrix, None, general)
    print(format_table(rows, {key: key for key in rows[0]}))

    def ratio(mine, other, key, names=tuple(FAMILIES)):
        values = {m: {} for m in (mine, other)}
        for row in rows:
            if row["method"] in values and row["matrix"] in names:
                values[row["method"]][row["matrix"], row["seed"]] = row[key]
        logs = [np.log(values[mine][k] / values[other][k]) for k in values[mine]]
        return float(np.exp(np.mean(logs))), float(np.exp(np.max(logs)))

    def entry(label, pair, at_most):
        return [Target(f"{label}, geometric mean", pair[0], at_most=at_most)]

    targets = [
        *entry("seconds, ours general over PyAMG", ratio("ours general", "PyAMG", "total_s"), 0.8),
        *entry(
            "seconds, ours general over PyAMG 0.08",
            ratio("ours general", "PyAMG 0.08", "total_s"),
            0.8,
        ),
        Target(
            "seconds, ours general over PyAMG, worst case",
            ratio("ours general", "PyAMG", "total_s")[1],
            at_most=1.0,
        ),
        *entry("iterations, general over untrained", ratio("ours general", "ours", "steps"), 0.95),
        *entry("iterations, family over untrained", ratio("ours family", "ours", "steps"), 0.9),
        *entry(
            "iterations, general over untrained, families not trained on",
            ratio("ours general", "ours", "steps", tuple(FAMILIES)[N_SEEN:]),
            1.0,
        ),
        Target("training seconds of a family", training, at_most=60),
    ]
    for target in targets:
        print(target)
    if not settings.quick:
        write_report(
            RESULT,
            rows=rows,
            targets=targets,
            settings=dataclasses.asdict(settings) | {"threads": 1, "rtol": 1e-8},
        )


def train(names, n):
    """Return weights trained on four small members of each family; a fifth validates."""
    members = [
        [FAMILIES[name](n, np.random.default_rng([k, 40])) for name in names] for k in range(5)
    ]
    run = fit_algebraic_preconditioner(
        [matrix for k in range(4) for matrix in members[k]],
        validation=members[4],
        key=jax.random.key(40),
        max_evaluations=160,
    )
    print(names, {k: round(float(v), 2) for k, v in run.stats.items()}, flush=True)
    return run.value


def measure(name, seed, matrix, family, general):
    """Return a row for each method."""
    old = scipy.sparse.csr_matrix(matrix)
    ours = AlgebraicMultigridPreconditioner
    plain = pyamg.smoothed_aggregation_solver
    theta = ("symmetric", {"theta": 0.08})
    methods = {
        "PyAMG": lambda: plain(old).aspreconditioner(cycle="V"),
        "PyAMG 0.08": lambda: plain(old, strength=theta).aspreconditioner(cycle="V"),
        "ours": lambda: ours(matrix, MultigridWeights()),
        "ours family": lambda: ours(matrix, family),
        "ours general": lambda: ours(matrix, general),
    }
    if family is None:
        del methods["ours family"]
    b = matrix @ np.random.default_rng([seed, 15]).normal(size=matrix.shape[0])
    rows = []
    for method, make in methods.items():
        setups, solves = [], []
        for _ in range(2):
            steps = []
            begin = time.process_time()
            M = make()
            middle = time.process_time()
            x, _ = cg(matrix, b, M=M, rtol=1e-8, atol=0, maxiter=1000, callback=steps.append)
            solves.append(time.process_time() - middle)
            setups.append(middle - begin)
        rows.append(
            {
                "matrix": name,
                "seed": seed,
                "n": matrix.shape[0],
                "method": method,
                "steps": len(steps),
                "setup_s": min(setups),
                "solve_s": min(solves),
                "total_s": min(a + b for a, b in zip(setups, solves, strict=True)),
                "residual": float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b)),
            }
        )
    return rows


if __name__ == "__main__":
    main(tyro.cli(Settings))
