"""Which loss has the rougher landscape: deep Ritz or deep Galerkin? At minima and on the way down.

    python benchmarks/loss_roughness.py            # some minutes on one core
    python benchmarks/loss_roughness.py --quick    # one seed, short descents; nothing is written

Poisson's equation on the unit square with the solution sin(pi x) sin(pi y); both losses on the same
fixed quadrature with the same penalty, minimised by the same method (L-BFGS) from the same start.
The claim of the paper is that the minima of deep Galerkin are less rough, and that the roughness
rises and then falls on the way down. Lengths and scalings of directions are varied, since the
index depends on them.
"""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from sciml.core import Target, format_table, write_report
from sciml.natural_gradient import (
    DeepGalerkinLoss,
    DeepRitzLoss,
    DirectionScale,
    PoissonData,
    box_boundary_quadrature,
    box_quadrature,
    roughness_index,
)

RESULT = Path(__file__).parent / "results" / "loss_roughness.json"
MAIN = ("unit", 1.0)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    snapshots: tuple[int, ...] = (0, 30, 300, 2000)
    """Steps of L-BFGS after which the landscape is looked at; the last is called the minimum."""
    n_directions: int = 50
    n_points: int = 101
    penalty: float = 100.0
    quick: bool = False
    """One seed, 100 steps; nothing is written."""
    out: Path = RESULT


def solution(x):
    """Return the exact solution at a point."""
    return jnp.prod(jnp.sin(jnp.pi * x))


def poisson(n_points=12):
    """Return the data of the problem."""
    x, w = box_quadrature(n_points, 2)
    y, v = box_boundary_quadrature(n_points, 2)
    source = 2 * jnp.pi**2 * jax.vmap(solution)(x)
    return PoissonData(x, w, y, v, source, jnp.zeros(len(y)))


def descend(loss, network, snapshots):
    """Yield the network after each of these numbers of L-BFGS steps."""
    optimizer = optax.lbfgs()
    moving, still = eqx.partition(network, eqx.is_inexact_array)

    def value(moving):
        return loss(eqx.combine(moving, still))

    def step(carry, _):
        moving, state = carry
        at, slope = optax.value_and_grad_from_state(value)(moving, state=state)
        change, state = optimizer.update(slope, state, moving, value=at, grad=slope, value_fn=value)
        return (optax.apply_updates(moving, change), state), None

    @jax.jit
    def run(carry, n):
        return jax.lax.fori_loop(0, n, lambda _, c: step(c, None)[0], carry)

    carry, done = (moving, optimizer.init(moving)), 0
    for wanted in snapshots:
        carry, done = run(carry, wanted - done), wanted
        yield wanted, eqx.combine(carry[0], still)


def gradient_norm(loss, network):
    """Return how far from a minimum the network is."""
    slope = eqx.filter_grad(loss)(network)
    return float(optax.global_norm(eqx.filter(slope, eqx.is_inexact_array)))


def main(settings: Settings) -> None:
    """Descend, measure, print a table, write the result file."""
    jax.config.update("jax_enable_x64", True)
    data = poisson()
    points, weights = box_quadrature(30, 2)
    truth = jax.vmap(solution)(points)
    losses = {
        "deep Ritz": DeepRitzLoss(data, settings.penalty),
        "deep Galerkin": DeepGalerkinLoss(data, settings.penalty),
    }
    seeds = settings.seeds[:1] if settings.quick else settings.seeds
    snapshots = tuple(s for s in settings.snapshots if s <= 100 or not settings.quick)
    measure = eqx.filter_jit(roughness_index)
    rows = []
    for seed in seeds:
        for name, loss in losses.items():
            start = eqx.nn.MLP(2, "scalar", 32, 1, activation=jnp.tanh, key=jax.random.key(seed))
            for n_steps, network in descend(loss, start, snapshots):
                error = jax.vmap(network)(points) - truth
                slope = gradient_norm(loss, network)
                relative = float(jnp.sqrt(weights @ error**2 / (weights @ truth**2)))
                for scale, length in (MAIN, ("unit", 0.1), ("filter_wise", 1.0)):
                    found = measure(
                        loss,
                        network,
                        key=jax.random.key(1000 + seed),
                        n_directions=settings.n_directions,
                        n_points=settings.n_points,
                        length=length,
                        scale=DirectionScale[scale],
                    )
                    rows.append(
                        {
                            "loss": name,
                            "seed": seed,
                            "steps": n_steps,
                            "directions": scale,
                            "length": length,
                            "index": float(found.index),
                            "mean_variation": float(found.mean),
                            "value": float(loss(network)),
                            "gradient_norm": slope,
                            "relative_l2": relative,
                        }
                    )
            print(rows[-3], flush=True)
    table, targets = summary(rows, seeds, snapshots)
    print(format_table(table, {key: key for key in table[0]}))
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/loss_roughness.py",
            rows=table + rows,
            targets=targets,
            settings={k: v for k, v in dataclasses.asdict(settings).items() if k != "out"},
        )
        print(f"written: {settings.out}")


def summary(rows, seeds, snapshots):
    """Return medians over the seeds, and what was claimed."""

    def at(name, scale, length, n_steps, what="index"):
        wanted = (name, scale, length, n_steps)
        found = {
            r["seed"]: r[what]
            for r in rows
            if (r["loss"], r["directions"], r["length"], r["steps"]) == wanted
        }
        return np.array([found[seed] for seed in seeds])

    table, wins, names = [], {}, ("deep Ritz", "deep Galerkin")
    for scale, length in (MAIN, ("unit", 0.1), ("filter_wise", 1.0)):
        for n_steps in snapshots:
            row = {"directions": scale, "length": length, "steps": n_steps}
            for name in names:
                row[f"{name}: median index"] = float(np.median(at(name, scale, length, n_steps)))
                row[f"{name}: median mean variation"] = float(
                    np.median(at(name, scale, length, n_steps, "mean_variation"))
                )
            table.append(row)
        ritz, galerkin = (at(name, scale, length, snapshots[-1]) for name in names)
        wins[(scale, length)] = float(np.mean(galerkin < ritz))
    targets = [
        Target(
            f"share of seeds with deep Galerkin less rough than deep Ritz at the minimum "
            f"({scale} directions, length {length})",
            share,
            at_least=0.8,
        )
        for (scale, length), share in wins.items()
    ]
    for name in names:
        path = np.array([np.median(at(name, *MAIN, n)) for n in snapshots])
        inside = float(path[1:-1].max() - max(path[0], path[-1])) if len(path) > 2 else 0.0
        targets.append(
            Target(
                f"{name}: highest median index on the way down above both ends",
                inside,
                at_least=1e-12,
            )
        )
    return table, targets


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
