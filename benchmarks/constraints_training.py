"""Diffusion-sorption without solution data: mixture of experts, one expert, soft penalty.

    python benchmarks/constraints_training.py            # a quarter of an hour on one core
    python benchmarks/constraints_training.py --quick    # a few steps each; nothing is written

The same network, points, rows, optimiser and CPU time (one minute) for all: four experts in x, the
same with a few rows of the equation from all of the domain for every expert ("background"), one
expert, one expert with four times as many basis functions (as many unknowns as the four), and the
network with an output layer that is trained (a physics-informed operator network, soft penalty).
With similarity variables among the inputs and without ("plain"). The loss is the residual of the
mixed field at fresh points. The time of each run is fixed, so that a method which costs less a
step gets more steps.
"""

import dataclasses
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from diffusion_sorption import (
    LARGEST_START,
    Features,
    basis_of,
    evaluation_grid,
    points,
    reference,
    relative_errors,
    residuals,
)

from sciml.constraints import (
    BoxRouter,
    Experts,
    HardConstraint,
    ImplicitAdjoint,
    LevenbergMarquardt,
    NormalForm,
    OnFailure,
    couple_experts,
)
from sciml.core import Target, format_table, write_report

RESULT = Path(__file__).parent / "results" / "constraints_training.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seed: int = 23
    minutes: float = 1.0
    """Training time of each method, compilation left out."""
    batch: int = 4
    n_points: int = 800
    """Interior points of each solve, of all experts together."""
    steps: int = 0
    """Train for so many steps, not for a time."""
    n_test: int = 64
    quick: bool = False
    out: Path = RESULT


class Soft(eqx.Module):
    """The same network whose last layer is trained: no solve at all."""

    net: Features
    head: jax.Array


def layer(method, net):
    """Return the constraint layer around a network."""
    return HardConstraint(
        basis_of(net),
        residuals(background=method.background),
        # A solve that gives up teaches nothing: coupled experts, which need more than 40 steps in
        # one of 25 solves, end at a multiple of the error if those get no more.
        solver=LevenbergMarquardt(form=NormalForm.gram, max_steps=100, gtol=1e-6, newton_steps=5),
        adjoint=ImplicitAdjoint(on_failure=OnFailure.zero),
        ridge=1e-8,
    )


def boxes(n_experts):
    """Return a router that cuts x into parts."""
    return BoxRouter((0.0, 0.0), (1.0, 1.0), (1, n_experts), overlap=0.15)


def mixture(method, model):
    """Return the experts; coupled ones are a single expert with the unknowns of all."""
    each, router = layer(method, model), boxes(method.n_experts)
    if method.coupled:
        return Experts(couple_experts(each, router), boxes(1))
    return Experts(each, router)


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table."""

    name: str
    n_experts: int
    n_basis: int
    is_soft: bool = False
    plain: bool = False
    background: bool = False
    coupled: bool = False


METHODS = (
    Method("4 experts, 16 functions", 4, 16),
    Method("4 experts, 16 functions, background", 4, 16, background=True),
    Method("1 expert, 16 functions", 1, 16),
    Method("1 expert, 64 functions", 1, 64),
    Method("soft penalty, 64 functions", 1, 64, is_soft=True),
    Method("4 experts, 16 functions, plain", 4, 16, plain=True),
    Method("4 experts, 16 functions, background, plain", 4, 16, plain=True, background=True),
    Method("1 expert, 16 functions, plain", 1, 16, plain=True),
    Method("soft penalty, 64 functions, plain", 1, 64, is_soft=True, plain=True),
)


def points_of(method, n_points, seed):
    """Return points of all blocks."""
    chosen = points(n_points, seed)
    if method.background:
        chosen["background"] = points(100, seed + 1)["pde"]
    return chosen


def route(method, chosen, capacity):
    """Sort points by expert."""
    net = Features(method.n_basis, key=jax.random.key(0))
    return mixture(method, net).route(chosen, capacity=capacity)


def rows_loss(jets_of, starts, fresh):
    """Return the weighted mean squares of all blocks on the field itself."""
    total = 0.0
    for block in residuals():
        rows = jets_of(block, fresh[block.name], starts)
        total = total + block.weight * jnp.mean(rows**2)
    return total


def train(method, settings):
    """Train for the time given; return the model and what it took."""
    key = jax.random.key(settings.seed)
    model = Features(method.n_basis, plain=method.plain, key=key)
    if method.is_soft:
        model = Soft(model, 0.01 * jax.random.normal(key, (method.n_basis,)))
    # The learning rate falls with the share of the time that is used up.
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=2e-3)
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    n_parts = 1 if method.coupled else method.n_experts
    capacity = 2 * settings.n_points // (n_parts + 1)

    def loss(model, starts, routed, fresh):
        if method.is_soft:
            basis = basis_of(model.net)

            def rows(block, where, starts):
                def one(u0):
                    jets = basis.combination(model.head[None], None, where, u0, block.needs)
                    return jax.vmap(lambda j, x: block.item(j, x, None, u0))(jets, where)

                return jax.vmap(one)(starts)

            return rows_loss(rows, starts, fresh), jnp.ones((len(starts), 1), bool)
        fields = mixture(method, model).batch(starts, routed)

        def rows(block, where, starts):
            return eqx.filter_vmap(lambda f: f.residual(block, where))(fields)

        return rows_loss(rows, starts, fresh), fields.stats["converged"]

    @eqx.filter_jit
    def step(model, state, starts, routed, fresh, rate):
        state.hyperparams["learning_rate"] = rate
        (value, converged), slope = eqx.filter_value_and_grad(loss, has_aux=True)(
            model, starts, routed, fresh
        )
        change, state = optimizer.update(slope, state)
        return eqx.apply_updates(model, change), state, value, jnp.mean(converged)

    rng = np.random.default_rng([settings.seed, 1])
    used, n_steps, history = 0.0, 0, []
    budget = 60 * settings.minutes if not settings.quick else 5.0
    while n_steps < settings.steps if settings.steps else used < budget:
        share = n_steps / settings.steps if settings.steps else used / budget
        starts = jnp.asarray(rng.uniform(0, LARGEST_START, settings.batch))
        routed = route(
            method, points_of(method, settings.n_points, int(rng.integers(1 << 30))), capacity
        )
        fresh = points(settings.n_points // 2, int(rng.integers(1 << 30)))
        begin = time.process_time()
        rate = jnp.asarray(2e-3 * max(0.02, 1 - share))
        new, state, value, converged = step(model, state, starts, routed, fresh, rate)
        if not np.isfinite(float(value)):
            raise RuntimeError(f"{method.name}: the loss of step {n_steps} is {float(value)}.")
        model = new
        if n_steps:
            used += time.process_time() - begin
        n_steps += 1
        history.append((float(value), float(converged)))
        if n_steps % 200 == 0:
            print(f"  {n_steps:6d} {used:6.0f} s  {np.mean(history[-200:], axis=0)}", flush=True)
    return model, {
        "n_steps": n_steps,
        "loss": float(np.mean([h[0] for h in history[-50:]])),
        "cpu_ms_per_step": 1e3 * used / max(1, n_steps - 1),
    }


def evaluate(method, model, settings, truth):
    """Return predictions at the reference's points, and how the solves ended."""
    chosen = points_of(method, 4 * settings.n_points, settings.seed + 99)
    routed = route(method, chosen, None)
    grid = evaluation_grid(truth)

    @eqx.filter_jit
    def predict(model, u0, routed, grid):
        if method.is_soft:
            basis = basis_of(model.net)
            return basis.combination(model.head[None], None, grid, u0, ("u",))["u"], None
        field = mixture(method, model)(u0, routed)
        return field.jet(grid, ("u",))["u"], (field.stats, field.ok)

    found, stats, seconds = [], [], []
    for u0 in truth.starts:
        begin = time.perf_counter()
        values, figures = predict(model, jnp.asarray(u0), routed, grid)
        found.append(np.asarray(values).reshape(truth.values.shape[1:]))
        seconds.append(time.perf_counter() - begin)
        stats.append(figures)
    record = {"seconds_per_solve": float(np.median(seconds))}
    if not method.is_soft:
        record["converged"] = float(np.mean([s["converged"] for s, _ in stats]))
        record["lm_steps"] = float(np.median([s["n_steps"] for s, _ in stats]))
        record["condition_number"] = float(np.median([s["condition_number"] for s, _ in stats]))
    return np.array(found), record


def main(settings: Settings) -> None:
    """Train and evaluate every method, print a table, write the result file."""
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng([settings.seed, 2])
    starts = rng.uniform(0, LARGEST_START, 4 if settings.quick else settings.n_test)
    begin = time.perf_counter()
    truth = reference(starts)
    seconds = (time.perf_counter() - begin) / len(starts)
    coarse = reference(starts[:4], n_cells=200)
    fine = truth.values[:4].reshape(4, 50, 200, 2).mean(-1)
    floor = np.linalg.norm(coarse.values - fine) / np.linalg.norm(fine)
    rows = [
        {
            "method": "reference (LSODA, 400 cells)",
            "seconds_per_solve": seconds,
            "median": float(floor),
        }
    ]
    constant = np.broadcast_to(starts[:, None, None], truth.values.shape)
    rows.append({"method": "initial value (trivial)"} | figures(constant, truth))
    for method in METHODS:
        print(method.name, flush=True)
        if not method.is_soft:
            untrained = Features(
                method.n_basis, plain=method.plain, key=jax.random.key(settings.seed)
            )
            found, record = evaluate(method, untrained, settings, truth)
            rows.append({"method": f"{method.name}, untrained"} | figures(found, truth) | record)
        model, took = train(method, settings)
        found, record = evaluate(method, model, settings, truth)
        rows.append({"method": method.name} | figures(found, truth) | record | took)
        print(rows[-1], flush=True)
        report(settings, rows)
    keys = {k: k for k in ("method", "median", "q10", "q90", "n_steps", "seconds_per_solve")}
    print(format_table(rows, keys))
    for target in targets_of(rows):
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")


def figures(found, truth):
    """Return median and quantiles of the relative errors."""
    errors = relative_errors(found, truth)
    low, mid, high = np.quantile(errors, [0.1, 0.5, 0.9])
    return {"median": float(mid), "q10": float(low), "q90": float(high)}


def targets_of(rows):
    """Return the promises of the issue."""
    by_name = {row["method"]: row for row in rows}
    four = by_name.get(METHODS[0].name, {})
    one = by_name.get(METHODS[2].name, {})
    return [
        Target("median relative L2 of 4 experts, t <= 500", four.get("median"), at_most=0.04),
        Target("90 % quantile of 4 experts", four.get("q90"), at_most=0.04),
        Target(
            "median relative L2 of 4 experts, plain inputs",
            by_name.get(METHODS[5].name, {}).get("median"),
            at_most=0.04,
        ),
        Target(
            "error of 1 expert over that of 4",
            one["median"] / four["median"] if four and one else None,
            at_least=1.0,
        ),
    ]


def report(settings, rows) -> None:
    """Write what there is so far."""
    if settings.quick:
        return
    write_report(
        settings.out,
        command="python benchmarks/constraints_training.py",
        rows=rows,
        targets=targets_of(rows),
        settings={
            "seed": settings.seed,
            "minutes": settings.minutes,
            "batch": settings.batch,
            "n_points": settings.n_points,
            "n_test": settings.n_test,
            "right_end": "u = -D u_x",
            "note": "the first row's median is the difference of 200 and 400 cells",
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
