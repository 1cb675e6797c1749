"""Two spirals: the function evaluations that regularisation saves at equal accuracy.

    python benchmarks/neural_de_spirals.py            # some ten minutes on one core
    python benchmarks/neural_de_spirals.py --quick    # a smoke run; nothing is written

Points of two spirals, three zero dimensions beside them, flow from t = 0 to 1; a linear layer reads
the class. All seeds of a variant train at once (``vmap``), so training time is that of all.
Beside it: a linear classifier and a perceptron of the field's size without any ODE.
"""

import dataclasses
import statistics
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import tyro

from sciml.core import Target, format_table, write_report
from sciml.neural_de import (
    ErrorEstimate,
    LocalRegularization,
    NeuralODE,
    StiffnessEstimate,
    TaylorEnergy,
    augment,
    nfe,
    steer_end_time,
)

RESULT = Path(__file__).parent / "results" / "neural_de_spirals.json"
EVERY = 25


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seeds: tuple[int, ...] = (11, 23, 37, 53, 71)
    n_steps: int = 400
    tolerance: float = 1e-5
    learning_rate: float = 1e-2
    quick: bool = False
    out: Path = RESULT


class Field(eqx.Module):
    """The field: a perceptron of state and time."""

    network: eqx.nn.MLP

    def __init__(self, key):
        self.network = eqx.nn.MLP(6, 5, 32, 2, jnp.tanh, key=key)

    def __call__(self, t, y, args):
        """Return the rate of change."""
        return self.network(jnp.concatenate([y, jnp.asarray(t, y.dtype)[None]]))


class Classifier(eqx.Module):
    """Flow, then a linear layer."""

    ode: NeuralODE
    readout: eqx.nn.Linear


# name: (regularisers or local, weight, adjoint, extra)
VARIANTS = {
    "vanilla": (None, 0.0, None),
    "error, weight 0.01": ({"error": ErrorEstimate()}, 0.01, None),
    "error, weight 0.03": ({"error": ErrorEstimate()}, 0.03, None),
    "stiffness, weight 0.03": ({"stiffness": StiffnessEstimate()}, 0.03, None),
    "local + Backsolve, weight 0.01": (
        LocalRegularization(), 0.01, diffrax.BacksolveAdjoint(),
    ),
    "local + Backsolve, weight 0.03": (
        LocalRegularization(), 0.03, diffrax.BacksolveAdjoint(),
    ),
    "STEER b = 0.5": (None, 0.0, None),
    "TayNODE order 2, weight 0.01": (None, 0.01, None),
}  # fmt: skip


def spirals(key, n):
    """Return points ``(n, 5)`` and classes."""
    keys = jax.random.split(key, 2)
    angle = 0.5 + 2.6 * jnp.pi * jnp.sqrt(jax.random.uniform(keys[0], (n,)))
    label = jnp.arange(n) % 2
    sign = jnp.where(label == 1, 1.0, -1.0)
    xy = sign[:, None] * jnp.stack([angle * jnp.cos(angle), angle * jnp.sin(angle)], 1) / 5.0
    xy = xy + 0.03 * jax.random.normal(keys[1], xy.shape)
    return jnp.concatenate([xy, jnp.zeros((n, 3))], axis=1), label


def cross_entropy(logits, label):
    """Return the mean cross entropy."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, label))


def build(name, settings):
    """Return init, training of EVERY steps, and evaluation, each for one seed."""
    regularization, weight, adjoint = VARIANTS[name]
    tolerance = settings.tolerance

    def init(seed):
        keys = jax.random.split(jax.random.key(seed), 2)
        ode = NeuralODE(
            Field(keys[0]), rtol=tolerance, atol=tolerance, regularization=regularization,
            adjoint=adjoint, max_steps=256,
        )  # fmt: skip
        return Classifier(ode, eqx.nn.Linear(5, 2, key=keys[1]))

    def solve(model, x, key):
        if name.startswith("TayNODE"):
            field = jax.vmap(model.ode.field, in_axes=(None, 0, None))
            term, y0, norm = augment(diffrax.ODETerm(field), x, {"t": TaylorEnergy(2)})
            solution = diffrax.diffeqsolve(
                term, diffrax.Tsit5(), 0.0, 1.0, 0.05, y0, max_steps=256,
                stepsize_controller=diffrax.PIDController(
                    rtol=tolerance, atol=tolerance, norm=norm),
            )  # fmt: skip
            return solution.ys[0][-1], solution.ys[1]["t"][-1]
        t1 = steer_end_time(key, 1.0, 0.5) if name.startswith("STEER") else None
        y, penalty, _ = model.ode.as_one_state(x, t1=t1, key=key)
        return y, penalty.total

    def loss(model, x, label, key):
        y, penalty = solve(model, x, key)
        task = cross_entropy(jax.vmap(model.readout)(y), label)
        return task + weight * penalty, task

    return init, loss


def evaluate(model, x, label):
    """Return accuracy, loss and function evaluations."""
    y, _, stats = model.ode.as_one_state(x, inference=True)
    logits = jax.vmap(model.readout)(y)
    accuracy = jnp.mean(jnp.argmax(logits, 1) == label)
    evaluations = nfe(diffrax.Tsit5(), stats)
    return accuracy, cross_entropy(logits, label), evaluations


def train(name, settings, data):
    """Train all seeds at once; return accuracies, losses and evaluations over training."""
    init, loss = build(name, settings)
    optimizer = optax.adam(settings.learning_rate)
    seeds = jnp.asarray(settings.seeds)
    models = eqx.filter_vmap(init)(seeds)
    arrays, static = eqx.partition(models, eqx.is_inexact_array)
    state = jax.vmap(optimizer.init)(arrays)
    (x, label), (x_test, label_test) = data

    def one_step(carry, key):
        arrays, state = carry

        def value(a):
            return loss(eqx.combine(a, static), x, label, key)

        grads, task = jax.grad(value, has_aux=True)(arrays)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(arrays, updates), state), task

    @jax.jit
    def chunk(arrays, state, number):
        def of_seed(a, s, seed):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), EVERY)
            (a, s), tasks = jax.lax.scan(one_step, (a, s), keys)
            model = eqx.combine(a, static)
            return a, s, tasks[-1], evaluate(model, x_test, label_test)

        return jax.vmap(of_seed)(arrays, state, seeds)

    compiled = chunk.lower(arrays, state, 0).compile()
    begin = time.perf_counter()
    curves = []
    for number in range(settings.n_steps // EVERY):
        arrays, state, task, figures = compiled(arrays, state, number)
        curves.append([jax.device_get(f).tolist() for f in (task, figures[0], figures[2])])
    seconds = time.perf_counter() - begin
    return eqx.combine(arrays, static), curves, seconds


def prediction_seconds(models, x, n_seeds):
    """Return the median time of a forward solve for each seed."""
    arrays, static = eqx.partition(models, eqx.is_inexact_array)
    predict = jax.jit(lambda a, x: eqx.combine(a, static).ode.as_one_state(x, inference=True)[0])
    found = []
    for i in range(n_seeds):
        a = jax.tree.map(lambda leaf, i=i: leaf[i], arrays)
        predict(a, x).block_until_ready()
        times = []
        for _ in range(15):
            begin = time.perf_counter()
            predict(a, x).block_until_ready()
            times.append(time.perf_counter() - begin)
        found.append(statistics.median(times))
    return found


def without_ode(settings, data):
    """Return the test accuracies of a linear classifier and of a perceptron."""
    (x, label), (x_test, label_test) = data
    rows = []
    for name, depth in (("no ODE: linear", 0), ("no ODE: perceptron of the field's size", 2)):

        def run(seed, depth=depth):
            model = eqx.nn.MLP(5, 2, 32, depth, jnp.tanh, key=jax.random.key(seed))
            arrays, static = eqx.partition(model, eqx.is_inexact_array)
            optimizer = optax.adam(settings.learning_rate)

            def step(carry, _):
                a, s = carry
                g = jax.grad(lambda a: cross_entropy(jax.vmap(eqx.combine(a, static))(x), label))(a)
                u, s = optimizer.update(g, s)
                return (optax.apply_updates(a, u), s), None

            (arrays, _), _ = jax.lax.scan(
                step, (arrays, optimizer.init(arrays)), None, settings.n_steps
            )
            logits = jax.vmap(eqx.combine(arrays, static))(x_test)
            return jnp.mean(jnp.argmax(logits, 1) == label_test)

        accuracy = jax.jit(jax.vmap(run))(jnp.asarray(settings.seeds))
        rows.append({"variant": name, **spread("accuracy", accuracy.tolist())})
    return rows


def spread(name, values):
    """Return median and range as entries of a row."""
    return {
        name: statistics.median(values),
        f"{name}_lowest": min(values),
        f"{name}_highest": max(values),
    }


def at_equal_loss(curves, reference, n_seeds):
    """Return ratios of evaluations at the lowest loss that both runs of a seed reach."""
    ratios = []
    for i in range(n_seeds):
        level = max(min(c[0][i] for c in curves), min(c[0][i] for c in reference))
        ours = next(c[2][i] for c in curves if c[0][i] <= level)
        theirs = next(c[2][i] for c in reference if c[0][i] <= level)
        ratios.append(ours / theirs)
    return ratios


def main(settings: Settings) -> None:
    """Train every variant, print a table, write the result file."""
    if settings.quick:
        settings = dataclasses.replace(settings, n_steps=EVERY, seeds=settings.seeds[:2])
    data = (spirals(jax.random.key(5), 256), spirals(jax.random.key(6), 512))
    n = len(settings.seeds)
    rows, reference = [], None
    for name in VARIANTS:
        models, curves, seconds = train(name, settings, data)
        final = curves[-1]
        predicted = prediction_seconds(models, data[1][0], n)
        if reference is None:
            reference = (curves, predicted, seconds)
        ratio = [a / b for a, b in zip(final[2], reference[0][-1][2], strict=True)]
        speed = [a / b for a, b in zip(predicted, reference[1], strict=True)]
        rows.append(
            {
                "variant": name,
                **spread("accuracy", final[1]),
                **spread("train_loss", final[0]),
                **spread("nfe", final[2]),
                **spread("nfe_ratio", ratio),
                **spread("nfe_ratio_at_equal_loss", at_equal_loss(curves, reference[0], n)),
                **spread("prediction_time_ratio", speed),
                "training_seconds_of_all_seeds": seconds,
                "training_time_ratio": seconds / reference[2],
                "accuracy_by_seed": final[1],
                "nfe_by_seed": final[2],
            }
        )
        print(rows[-1], flush=True)
    rows += without_ode(settings, data)
    shown = ("variant", "accuracy", "train_loss", "nfe", "nfe_ratio", "nfe_ratio_at_equal_loss",
             "prediction_time_ratio", "training_time_ratio")  # fmt: skip
    table = [{k: row.get(k, "") for k in shown} for row in rows]
    print(format_table(table, {k: k for k in shown}))
    targets = targets_of(rows)
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/neural_de_spirals.py",
            rows=rows,
            targets=targets,
            settings={k: v for k, v in dataclasses.asdict(settings).items() if k != "out"},
        )


def targets_of(rows):
    """Return the promises: the best weight whose median accuracy is within 0.5 points."""
    vanilla = rows[0]
    targets = []
    for kind in ("error", "local"):
        fair = [
            row
            for row in rows
            if row["variant"].startswith(kind) and row["accuracy"] >= vanilla["accuracy"] - 0.005
        ]
        best = min(fair, key=lambda row: row["nfe_ratio"]) if fair else {}
        for figure, bound in (
            ("nfe_ratio", 0.65),
            ("nfe_ratio_at_equal_loss", 0.65),
            ("prediction_time_ratio", 1.0),
            ("training_time_ratio", 1.0),
        ):
            words = f"{kind}, accuracy within 0.5 points of vanilla: {figure} (median)"
            targets.append(Target(words, best.get(figure), at_most=bound))
    return targets


if __name__ == "__main__":
    main(tyro.cli(Settings))
