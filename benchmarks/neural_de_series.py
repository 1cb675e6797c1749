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
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from sciml.core import Target, format_table, write_report
from sciml.neural_de import (
    ErrorEstimate,
    LatentField,
    LatentODE,
    LocalRegularization,
    NeuralODE,
    NeuralSDE,
    initial_step,
    nfe,
    regularized_solve,
)

RESULT = Path(__file__).parent / "results" / "neural_de_series.json"
EVERY = 25
RATE = 1e-2


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


ERROR = {"error": ErrorEstimate()}
LOCAL = "error of a drawn step"
PENALTIES = {
    "error": ERROR,
    "its square": {"error": ErrorEstimate(power=2.0)},
    LOCAL: LocalRegularization(),
}


class Case(NamedTuple):
    """A set of data with one weight of the penalty."""

    init: Callable
    """`init(seed) -> model`."""
    loss: Callable
    """`loss(model, key) -> (value to minimise, loss without the penalty)`."""
    evaluate: Callable
    """`evaluate(model, key) -> (validation error, test error, function evaluations)`."""
    baseline_error: float
    """On the test data, without an equation."""
    evaluations_of_truth: int
    """What the test data cost when the true equation is solved in the same way."""


def true_evaluations(vector_field, y0, ts, tolerance=1e-5):
    """Return what a solve of the true equation costs, started and controlled as a model's."""
    term, solver = diffrax.ODETerm(vector_field), diffrax.Tsit5()
    t0, t1 = ts[0], ts[-1]
    dt0 = initial_step(term, solver, t0, t1, y0, rtol=tolerance, atol=tolerance)
    stats = diffrax.diffeqsolve(
        term, solver, t0, t1, dt0, y0, saveat=diffrax.SaveAt(ts=ts), max_steps=1024,
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
    ).stats  # fmt: skip
    return int(evaluations(stats))


def evaluations(stats):
    """Return the function evaluations of a solve by Tsit5."""
    return nfe(diffrax.Tsit5(), stats)


def latent_case(penalty, weight):
    """Return damped oscillations seen at random times."""
    rng = np.random.default_rng(8)
    ts = jnp.linspace(0.0, 4.0, 25)
    n, n_train, n_held = 1536, 1024, 256
    rate = rng.uniform(2.0, 3.0, (n, 1))
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    values = np.exp(-0.2 * ts) * np.sin(rate * np.asarray(ts) + phase)
    values = values + 0.03 * rng.normal(size=values.shape)
    mask = rng.uniform(size=values.shape) < 0.3
    mask[:, 0] = True
    values, mask = jnp.asarray(values[..., None], jnp.float32), jnp.asarray(mask[..., None])

    def init(seed):
        return LatentODE(
            1, n_latent=4, hidden_channels=24, rtol=1e-5, atol=1e-5,
            regularization=PENALTIES[penalty], key=jax.random.key(seed),
        )  # fmt: skip

    def loss(model, key):
        some = jax.random.choice(key, n_train, (64,), replace=False)
        value, penalised, figures = model.elbo(
            values[some], mask[some], ts, key=key, kl_weight=0.01, weights={"error": weight}
        )
        return value + penalised.total, figures["mse"]

    def error(model, part):
        # The encoder must not see what it is asked for.
        seen, given = values[part], mask[part]
        mean, _ = jax.vmap(model.encode, in_axes=(0, 0, None))(seen, given, ts)
        states, _, stats = model.ode.as_one_state(mean, ts=ts, inference=True)
        predicted = jnp.swapaxes(model.decode(states), 0, 1)
        squares = jnp.where(given, 0, (predicted - seen) ** 2)
        return jnp.sum(squares) / jnp.sum(~given), evaluations(stats)

    def evaluate(model, key):
        tested, cost = error(model, slice(n_train + n_held, None))
        return error(model, slice(n_train, n_train + n_held))[0], tested, cost

    baseline = []
    tested = slice(n_train + n_held, None)
    for v, m in zip(np.asarray(values[tested, :, 0]), np.asarray(mask[tested, :, 0]), strict=True):
        guess = np.interp(np.asarray(ts), np.asarray(ts)[m], v[m])
        baseline.extend((guess - v)[~m] ** 2)

    square = jnp.asarray(rate[tested, 0] ** 2 + 0.2**2)

    def oscillator(t, y, args):
        return jnp.stack([y[1], -0.4 * y[1] - square * y[0]])

    angle = jnp.asarray(phase[tested, 0])
    first = jnp.sin(angle)
    start = jnp.stack([first, jnp.asarray(rate[tested, 0]) * jnp.cos(angle) - 0.2 * first])
    truth = true_evaluations(oscillator, start, ts)
    return Case(init, loss, evaluate, float(np.mean(baseline)), truth)


def reaction_case(penalty, weight):
    """Return a stiff oscillating reaction (van der Pol, mu = 5), 32 trajectories to learn from."""

    def reaction(t, y, args):
        a, b = y[..., 0], y[..., 1]
        return jnp.stack([b, 5 * (1 - a**2) * b - a], -1)

    term = diffrax.ODETerm(reaction)
    y0 = jax.random.uniform(jax.random.key(4), (64, 2), minval=-2.0, maxval=2.0)
    ts = jnp.linspace(0.0, 3.0, 31)
    truth = diffrax.diffeqsolve(
        term, diffrax.Tsit5(), 0.0, 3.0, 1e-3, y0, saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
    ).ys  # fmt: skip
    scale = jnp.std(truth, axis=(0, 1))
    truth, y0 = truth / scale, y0 / scale

    def init(seed):
        field = LatentField(2, 48, key=jax.random.key(seed))
        return NeuralODE(
            field, rtol=1e-5, atol=1e-5, regularization=PENALTIES[penalty], max_steps=1024
        )

    def run(model, part, inference):
        y, penalised, stats = model.as_one_state(
            y0[part], ts=ts, weights={"error": weight}, inference=inference
        )
        return jnp.mean((y - truth[:, part]) ** 2), penalised, stats

    def loss(model, key):
        mse, penalised, _ = run(model, slice(0, 32), False)
        return mse + penalised.total, mse

    def evaluate(model, key):
        tested, _, stats = run(model, TESTED, True)
        return run(model, slice(32, 48), True)[0], tested, evaluations(stats)

    def scaled(t, y, args):
        return reaction(t, y * scale, args) / scale

    own = true_evaluations(scaled, y0[TESTED], ts)
    return Case(init, loss, evaluate, without_equation(y0, ts, truth), own)


# Of the trajectories of the reaction; those between are for validation.
TESTED = slice(48, 64)


def without_equation(y0, ts, truth):
    """Return the held-out error of a perceptron that maps initial state and time to the state."""
    model = eqx.nn.MLP(3, 2, 48, 2, jnp.tanh, key=jax.random.key(7))
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    optimizer = optax.adam(RATE)

    def error(arrays, part):
        def at(t, y):
            return eqx.combine(arrays, static)(jnp.concatenate([y, t[None]]))

        found = jax.vmap(jax.vmap(at, (None, 0)), (0, None))(ts, y0[part])
        return jnp.mean((found - truth[:, part]) ** 2)

    def step(carry, _):
        arrays, state = carry
        updates, state = optimizer.update(jax.grad(error)(arrays, slice(0, 32)), state)
        return (optax.apply_updates(arrays, updates), state), None

    @jax.jit
    def run(arrays):
        arrays, _ = jax.lax.scan(step, (arrays, optimizer.init(arrays)), None, 2000)[0]
        return error(arrays, TESTED)

    return float(run(arrays))


class CubicDrift(eqx.Module):
    """A perceptron of the cubes of the state, as in the paper."""

    network: eqx.nn.MLP

    def __init__(self, key):
        self.network = eqx.nn.MLP(2, 2, 32, 1, jnp.tanh, key=key)

    def __call__(self, t, y, args):
        """Return the drift."""
        return self.network(y**3)


class LinearNoise(eqx.Module):
    """Diagonal noise, linear in the state."""

    factor: jax.Array

    def __call__(self, t, y, args):
        """Return the factors."""
        return self.factor * y


def spiral_case(penalty, weight):
    """Return the stochastic spiral, fitted by moments at 20 times."""
    ts = jnp.linspace(0.0, 1.0, 20)
    start = jnp.array([2.0, 0.0])

    def drift(t, y, args):
        a, b = y[0] ** 3, y[1] ** 3
        return jnp.stack([-0.1 * a + 2.0 * b, -0.1 * b - 2.0 * a])

    truth = NeuralSDE(drift, lambda t, y, args: 0.2 * y, rtol=1e-2, atol=1e-2)

    def moments(seed, n_paths):
        paths, _, stats = truth(start, key=jax.random.key(seed), ts=ts, n_paths=n_paths)
        return (jnp.mean(paths, 1), jnp.std(paths, 1)), stats

    # Few paths to learn from; many to judge by, of data and of models: what is left is the model.
    seen, held, tested = (moments(seed, n)[0] for seed, n in ((1, 256), (2, 2048), (3, 2048)))

    def init(seed):
        return NeuralSDE(
            CubicDrift(jax.random.key(seed)), LinearNoise(jnp.full(2, 0.1)),
            rtol=1e-2, atol=1e-2, regularization=PENALTIES[penalty], max_steps=256,
        )  # fmt: skip

    weights = {"local" if penalty == LOCAL else "error": weight}

    def run(model, key, n_paths, inference):
        paths, penalised, stats = model(
            start, key=key, ts=ts, n_paths=n_paths, weights=weights, inference=inference
        )
        return (jnp.mean(paths, 1), jnp.sqrt(jnp.var(paths, 1) + 1e-6)), penalised, stats

    def error(found, wanted):
        return jnp.mean((found[0] - wanted[0]) ** 2 + (found[1] - wanted[1]) ** 2)

    def loss(model, key):
        found, penalised, _ = run(model, key, 64, False)
        value = error(found, seen)
        return value + penalised.total, value

    def evaluate(model, key):
        # Paths of their own for validation and test, the same for every model.
        at_validation, _, _ = run(model, jax.random.key(98), 256, True)
        at_test, _, stats = run(model, jax.random.key(99), 256, True)
        return error(at_validation, held), error(at_test, tested), 3 * stats["num_steps"]

    mean, deviation = tested
    constant = float(jnp.mean((mean - jnp.mean(mean, 0)) ** 2 + deviation**2))
    _, stats = moments(99, 256)
    return Case(init, loss, evaluate, constant, int(3 * stats["num_steps"]))  # stages of SPaRK


LATENT_WEIGHTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.3)
REACTION_WEIGHTS = (0.0, 1e-3, 3e-3, 5e-3, 7e-3, 1e-2)
# Data; penalties with their weights, the first of them 0; training steps.
CASES = {
    "latent ODE": (latent_case, tuple(("error", w) for w in LATENT_WEIGHTS), 1200),
    "reaction": (reaction_case, tuple(("error", w) for w in REACTION_WEIGHTS), 600),
    "stochastic spiral": (
        spiral_case,
        (
            *(("error", w) for w in (0.0, 0.03, 0.1)),
            *(("its square", w) for w in (0.03, 0.06, 0.1)),
            (LOCAL, 0.1),
        ),
        600,
    ),
}


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
        for penalty, weight in penalties:
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
