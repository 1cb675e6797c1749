"""The published DCDM network, trained on this machine, and the same network under our safeguard.

    python benchmarks/dcdm_training.py [--quick] [--seed 5519] [--n-steps 1500] [--save FOLDER]

The 2-D network of the published layout (32 657 parameters) is trained on the Poisson problem of an
empty box at the smaller size: once as published (Ritz mixtures, no skip) and once in our form
(identity skip, half of the time on residuals met during solves). Then fresh right-hand sides are
solved at both sizes, without obstacles and with random solid discs. Iterations to a relative
residual of 1e-6 (the true one; float64, with the network in float32) are counted for CG, each
network alone (memory 2, as published) and each network under the safeguard. Nothing is claimed
beyond these rows: the paper trained on 20 000 right-hand sides at 64^3.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import tyro

import sciml
from sciml.core import format_table, write_report
from sciml.linear_solvers._conjugate_directions import conjugate_directions
from sciml.linear_solvers._direction_network import DirectionNetwork, n_parameters
from sciml.linear_solvers._direction_training import (
    DirectionBatch,
    direction_loss,
    fit_direction,
)
from sciml.linear_solvers._multigrid import MultigridPreconditioner
from sciml.linear_solvers._nullspace import ConstantNullspace
from sciml.linear_solvers._ritz import ritz_rhs
from sciml.numerics import StencilOperator

RESULT = Path(__file__).parent / "results" / "dcdm_training.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seed: int = 5519
    n_steps: int = 1500
    n_vectors: int = 500
    n_rhs: int = 400
    max_iterations: int = 300
    n_solves: int = 3
    save: Path | None = None
    """Where the published network goes, for ``linear_solvers.py --directions``."""
    quick: bool = False
    """Sizes 16 and 32, 40 training steps; nothing is written."""


def main(settings: Settings) -> None:
    """Train both forms, solve, print a table and write it."""
    sizes = (16, 32) if settings.quick else (32, 64)
    if settings.quick:
        settings = dataclasses.replace(
            settings, n_steps=40, n_vectors=60, n_rhs=60, max_iterations=200, n_solves=1
        )
    key = jax.random.key(settings.seed)
    train_key, *solve_keys = jax.random.split(key, 3)
    training_operator = box_with_discs(sizes[0], 0, np.random.default_rng(settings.seed))
    networks, facts = {}, []
    for name, skip, n_rounds in (("published", False, 1), ("ours", True, 2)):
        network = DirectionNetwork(2, identity_skip=skip, key=train_key)
        start = time.process_time()
        fitted = fit_direction(
            network,
            [training_operator],
            key=train_key,
            n_vectors=settings.n_vectors,
            n_rhs=settings.n_rhs,
            n_steps=settings.n_steps,
            n_rounds=n_rounds,
            progress=False,
        )
        networks[name] = fitted.value
        facts.append(
            {
                "network": name,
                "n_parameters": n_parameters(network),
                "n_steps": settings.n_steps,
                "trained_at": sizes[0],
                "cpu_seconds": time.process_time() - start,
                "last_loss": float(fitted.stats["loss"][-1]),
                "mean_loss_before": mean_loss(network, training_operator, settings, train_key),
                "mean_loss_after": mean_loss(fitted.value, training_operator, settings, train_key),
            }
        )
    print(format_table(facts, {k: k for k in facts[0]}))
    if settings.save is not None:
        sciml.save(settings.save / "direction_2d", networks["published"])
    rows = []
    for size, solve_key in zip(sizes, solve_keys, strict=True):
        for n_discs in (0, 6):
            rows += solve_rows(size, n_discs, networks, settings, solve_key)
    print(format_table(rows, {k: k for k in rows[0]}))
    if not settings.quick:
        write_report(
            RESULT,
            rows=rows,
            targets=[],
            settings=dataclasses.asdict(settings) | {"save": None, "training": facts},
        )


def solve_rows(
    size: int, n_discs: int, networks: dict[str, Any], settings: Settings, key: Any
) -> list[dict[str, Any]]:
    """Return the iterations of each method on fresh right-hand sides."""
    methods: dict[str, dict[str, Any]] = {"CG": {}, "learned V-cycle": {}}
    for name, network in networks.items():
        methods[f"{name}, alone"] = {"direction": network, "safeguard": False}
        methods[f"{name}, safeguarded"] = {"direction": network}
    rows = []
    with jax.enable_x64(True):
        rng = np.random.default_rng((settings.seed, size, n_discs))
        operator = box_with_discs(size, n_discs, rng, np.float64)
        # A network does not know where the solid is: its values there are projected out.
        numbers = np.arange(size * size).reshape(size, size)
        solid = ConstantNullspace(np.where(np.asarray(operator.active), -1, numbers))
        methods["learned V-cycle"] = {"preconditioner": MultigridPreconditioner(operator)}
        keys = jax.random.split(key, settings.n_solves)
        rows.append(incomplete_cholesky_row(operator, size, n_discs, keys))
        for method, how in methods.items():
            solutions, norms = [], []
            for k in keys:
                b = fresh_rhs(operator, k)
                solutions.append(
                    conjugate_directions(
                        operator,
                        b,
                        rtol=1e-6,
                        max_steps=settings.max_iterations,
                        nullspace=solid,
                        **how,
                    )
                )
                residual = solutions[-1].stats["residual_norm"]
                norms.append(float(residual / jnp.linalg.norm(b)))
            stats = [s.stats for s in solutions]
            rows.append(
                {
                    "method": method,
                    "size": size,
                    "discs": n_discs,
                    "iterations": float(np.mean([int(s["num_steps"]) for s in stats])),
                    "relative_residual": max(norms),
                    "matvecs": float(np.mean([int(s["matvecs"]) for s in stats])),
                    "network_calls": float(np.mean([int(s["direction_calls"]) for s in stats])),
                }
            )
    return rows


def fresh_rhs(operator: StencilOperator, key: Any) -> jax.Array:
    """Return a right-hand side that weighs towards the low modes, as pressure problems do."""
    b = operator.mv(jax.random.normal(key, operator.n_points, jnp.float64))
    return jnp.where(
        operator.active, b + 5 * jnp.max(jnp.abs(b)) / operator.n_points[0], jnp.zeros_like(b)
    )


def mean_loss(network: Any, operator: StencilOperator, settings: Settings, key: Any) -> float:
    """Return the loss over Ritz mixtures that training did not see."""
    rhs = ritz_rhs(operator, settings.n_vectors, 64, key=jax.random.fold_in(key, 77))
    return float(eqx.filter_jit(direction_loss)(network, DirectionBatch(operator, rhs), key))


def incomplete_cholesky_row(
    operator: StencilOperator, size: int, n_discs: int, keys: Any
) -> dict[str, Any]:
    """Return the iterations of SciPy's CG with ilupp's IC(0); needs the extra ``ilu``."""
    row = {"method": "IC(0)-CG", "size": size, "discs": n_discs}
    try:
        import ilupp
    except ImportError as error:
        return row | {"not_measured": f"not installed ({error})"}
    matrix = scipy.sparse.csr_matrix(operator.to_scipy(active_only=True))
    # It knows indices of 32 bits only.
    matrix.indices, matrix.indptr = (v.astype(np.int32) for v in (matrix.indices, matrix.indptr))
    active = np.asarray(operator.active)
    M = ilupp.IChol0Preconditioner(matrix)
    counts, norms = [], []
    for k in keys:
        b = np.asarray(fresh_rhs(operator, k))[active]
        steps: list[int] = []
        x, _ = scipy.sparse.linalg.cg(
            matrix, b, rtol=1e-6, M=M, callback=lambda _, steps=steps: steps.append(1)
        )
        counts.append(len(steps))
        norms.append(float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b)))
    mean = float(np.mean(counts))
    return row | {
        "iterations": mean,
        "relative_residual": max(norms),
        "matvecs": mean,
        "network_calls": 0.0,
    }


def box_with_discs(
    size: int, n_discs: int, rng: np.random.Generator, dtype: Any = np.float32
) -> StencilOperator:
    """Return the Laplacian: zero at the lower wall, Neumann at the others and at the discs."""
    x, y = np.meshgrid(*(np.arange(size) + 0.5,) * 2, indexing="ij")
    fluid = np.ones((size, size), bool)
    for centre, radius in zip(
        rng.uniform(0.15 * size, 0.85 * size, (n_discs, 2)),
        rng.uniform(0.05 * size, 0.12 * size, n_discs),
        strict=True,
    ):
        fluid &= (x - centre[0]) ** 2 + (y - centre[1]) ** 2 > radius**2
    couplings = np.zeros((2, size, size), dtype)
    couplings[0, :-1] = -(fluid[:-1] & fluid[1:]).astype(dtype)
    couplings[1, :, :-1] = -(fluid[:, :-1] & fluid[:, 1:]).astype(dtype)
    diagonal = -couplings.sum(axis=0)
    diagonal[1:] -= couplings[0, :-1]
    diagonal[:, 1:] -= couplings[1, :, :-1]
    diagonal[0] += 2 * fluid[0]  # the wall is half a cell away
    return StencilOperator(jnp.asarray(diagonal), jnp.asarray(couplings), ((1, 0), (0, 1)))


if __name__ == "__main__":
    main(tyro.cli(Settings))
