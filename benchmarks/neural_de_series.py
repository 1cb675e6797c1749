"""Where the equation is needed: latent ODE, stochastic spiral, a stiff reaction; wrapper overhead.

    python benchmarks/neural_de_series.py            # some ten minutes on one core
    python benchmarks/neural_de_series.py --quick    # a smoke run; nothing is written

Each set trains with and without the error estimate, all seeds at once. The baseline without any
equation is linear interpolation between the observed entries (latent ODE), the mean over time
(stochastic spiral), and a perceptron from initial state and time to the state (reaction). States of
a stiff relaxation oscillation from any start are what a perceptron learns badly from 32
trajectories and an equation learns well: that set needs the equation. Training time is CPU time.

Penalty and weight of each set are chosen on validation data: the cheapest of those whose error
there stays within 5 % of that without a penalty. Test data are used once, for the figures of the
chosen one.
"The equation itself" is the same solve of the equation that made the data: where a learned field is
as cheap as that, there is nothing left to save without a loss of accuracy.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import tyro
from neural_de_cases import CASES, ERROR, RATE

from sciml.core import Target, format_table, write_report
from sciml.neural_de import initial_step, regularized_solve

RESULT = Path(__file__).parent / "results" / "neural_de_series.json"
EVERY = 25


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seeds: tuple[int, ...] = (11, 23, 37, 53, 71)
    share_of_steps: float = 1.0
    """Of the training steps of each set."""
    sets: tuple[str, ...] = ("latent ODE", "reaction", "stochastic spiral")
    """What to train; the others keep what the result file has of them."""
    quick: bool = False
    out: Path = RESULT


def train(case, n_steps, settings):
    """Train all seeds at once; return curves of loss, errors and steps, and seconds."""
    rate = optax.cosine_decay_schedule(RATE, max(1, n_steps), alpha=0.03)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    seeds = jnp.asarray(settings.seeds)
    arrays, static = eqx.partition(eqx.filter_vmap(case.init)(seeds), eqx.is_inexact_array)
    state = jax.vmap(optimizer.init)(arrays)

    def one_step(carry, key):
        a, s = carry
        grads, task = jax.grad(lambda a: case.loss(eqx.combine(a, static), key), has_aux=True)(a)
        updates, s = optimizer.update(grads, s)
        return (optax.apply_updates(a, updates), s), task

    @jax.jit
    def chunk(arrays, state, number):
        def of_seed(a, s, seed):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), EVERY)
            (a, s), tasks = jax.lax.scan(one_step, (a, s), keys)
            return a, s, jnp.mean(tasks[-5:]), case.evaluate(eqx.combine(a, static), keys[0])

        return jax.vmap(of_seed)(arrays, state, seeds)

    compiled = chunk.lower(arrays, state, 0).compile()
    begin, curves = time.process_time(), []
    for number in range(max(1, n_steps // EVERY)):
        arrays, state, task, figures = compiled(arrays, state, number)
        curves.append([jax.device_get(f).tolist() for f in (task, *figures)])
    return curves, time.process_time() - begin


# Columns of a curve.
LOSS, VALIDATION, TEST, NFE = range(4)


def at_equal_loss(curves, reference, n_seeds):
    """Return ratios of steps at the lowest training loss that both runs of a seed reach."""
    ratios = []
    for i in range(n_seeds):
        level = max(min(c[LOSS][i] for c in curves), min(c[LOSS][i] for c in reference))
        ours = next(c[NFE][i] for c in curves if c[LOSS][i] <= level)
        theirs = next(c[NFE][i] for c in reference if c[LOSS][i] <= level)
        ratios.append(ours / theirs)
    return ratios


def ratios(curve, reference, column):
    """Return the ratios of a column, seed by seed."""
    return [a / b for a, b in zip(curve[column], reference[column], strict=True)]


def cheapest(rows, key, most):
    """Return the cheapest row by validation error at most so many times that of the first row."""
    fair = [r for r in rows[1:] if r["validation_error"] <= most * rows[0]["validation_error"]]
    return min(fair, key=lambda row: row[key]) if fair else {}


def spread(name, values):
    """Return median and range as entries of a row."""
    return {
        name: statistics.median(values),
        f"{name}_lowest": min(values),
        f"{name}_highest": max(values),
    }


def overhead():
    """Return the median ratio of a solve with and without the wrapper, alternating."""
    field = eqx.nn.MLP(32, 32, 128, 2, jnp.tanh, key=jax.random.key(3))
    arrays, static = eqx.partition(field, eqx.is_inexact_array)
    y0 = jax.random.normal(jax.random.key(4), (64, 32))
    controller = diffrax.PIDController(rtol=1e-5, atol=1e-5)

    def term(a):
        f = eqx.combine(a, static)
        return diffrax.ODETerm(lambda t, y, args: jax.vmap(lambda y: 6 * f(y))(y))

    def dt0(a):
        return initial_step(term(a), diffrax.Tsit5(), 0.0, 2.0, y0, rtol=1e-5, atol=1e-5)

    @jax.jit
    def wrapped(a):
        solution, penalty = regularized_solve(
            term(a), diffrax.Tsit5(), 0.0, 2.0, dt0(a), y0, regularizers=ERROR,
            stepsize_controller=controller,
        )  # fmt: skip
        return solution.ys, penalty.total

    @jax.jit
    def plain(a):
        return diffrax.diffeqsolve(
            term(a), diffrax.Tsit5(), 0.0, 2.0, dt0(a), y0, stepsize_controller=controller
        ).ys

    def seconds(f):
        begin = time.perf_counter()
        jax.block_until_ready(f(arrays))
        return time.perf_counter() - begin

    seconds(wrapped), seconds(plain)
    ratios = [seconds(wrapped) / seconds(plain) for _ in range(101)]
    return statistics.median(ratios)


def main(settings: Settings) -> None:
    """Train every set, print a table, write the result file."""
    if settings.quick:
        settings = dataclasses.replace(settings, share_of_steps=0.0, seeds=settings.seeds[:2])
    n = len(settings.seeds)
    rows, targets = kept(settings)
    ratio = overhead()
    targets.append(Target("time of a solve with the wrapper over one without", ratio, at_most=1.03))
    print("overhead", ratio, flush=True)
    for name in settings.sets:
        make, penalties, n_steps = CASES[name]
        n_steps = round(n_steps * settings.share_of_steps)
        reference, found = None, []
        for penalty, weight in penalties[:2] if settings.quick else penalties:
            case = make(penalty, weight)
            curves, seconds = train(case, n_steps, settings)
            reference = reference or (curves, seconds)
            last, first = curves[-1], reference[0][-1]
            # Equation-free error and ours stand side by side.
            row = {
                "set": name,
                "penalty": penalty,
                "weight": weight,
                "baseline_error": case.baseline_error,
                "nfe_of_the_equation_itself": case.evaluations_of_truth,
                **spread("validation_error", last[VALIDATION]),
                **spread("test_error", last[TEST]),
                **spread("test_error_ratio", ratios(last, first, TEST)),
                **spread("train_loss", last[LOSS]),
                **spread("nfe", last[NFE]),
                **spread("nfe_ratio", ratios(last, first, NFE)),
                **spread("nfe_ratio_at_equal_loss", at_equal_loss(curves, reference[0], n)),
                "training_time_ratio": seconds / reference[1],
                "training_cpu_seconds_of_all_seeds": seconds,
            }
            rows.append(row)
            found.append(row)
            print(row, flush=True)
        # A run that learns nothing is cheap, and reaches the losses that the other begins with.
        best = cheapest(found, "nfe_ratio_at_equal_loss", 1.5)
        fair = cheapest(found, "nfe_ratio", 1.05)
        error_ratio = fair["test_error"] / found[0]["test_error"] if fair else None
        for words, value, bound in (
            ("NFE ratio at equal training loss", best.get("nfe_ratio_at_equal_loss"), 0.7),
            ("NFE ratio at equal error (validation, within 5 %)", fair.get("nfe_ratio"), 0.7),
            ("test error of that run over the one without penalty", error_ratio, 1.05),
            ("training time ratio of that run", fair.get("training_time_ratio"), 1.0),
            ("test error over that without an equation",
             found[0]["test_error"] / found[0]["baseline_error"], 1.0),
        ):  # fmt: skip
            targets.append(Target(f"{name}: {words} (median)", value, at_most=bound))
        if not settings.quick:
            write(settings, rows, targets)
    shown = ("set", "penalty", "weight", "baseline_error", "validation_error", "test_error",
             "train_loss", "nfe", "nfe_of_the_equation_itself", "nfe_ratio",
             "nfe_ratio_at_equal_loss", "training_time_ratio")  # fmt: skip
    print(format_table([{k: row[k] for k in shown} for row in rows], {k: k for k in shown}))
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")


def kept(settings):
    """Return rows and targets of the sets that are not run, from the result file."""
    if settings.quick or not settings.out.exists():
        return [], []
    found = json.loads(settings.out.read_text())
    others = set(CASES) - set(settings.sets)
    rows = [{"penalty": "error"} | row for row in found["rows"] if row["set"] in others]
    targets = []
    for record in found["targets"]:
        if record["name"].partition(":")[0] in others:
            bound = float(record["goal"].removeprefix("<="))
            targets.append(Target(record["name"], record["value"], at_most=bound))
    return rows, targets


def write(settings, rows, targets):
    """Write what is there so far."""
    write_report(
        settings.out,
        command="python benchmarks/neural_de_series.py",
        rows=rows,
        targets=targets,
        settings={"seeds": list(settings.seeds), "share_of_steps": settings.share_of_steps},
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
