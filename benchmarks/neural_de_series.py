"""Where the equation is needed: latent ODE, stochastic spiral, a stiff reaction; wrapper overhead.

    python benchmarks/neural_de_series.py            # some ten minutes on one core
    python benchmarks/neural_de_series.py --quick    # a smoke run; nothing is written

Each set trains with and without the error estimate, all seeds at once. The baseline without any
equation is linear interpolation between the observed entries (latent ODE), the mean over time
(stochastic spiral), and a perceptron from initial state and time to the state (reaction). States of
a stiff relaxation oscillation from any start are what a perceptron learns badly from 32
trajectories and an equation learns well: that set needs the equation. Training time is CPU time.
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
import numpy as np
import optax
import tyro

from sciml.core import Target, format_table, write_report
from sciml.neural_de import (
    ErrorEstimate,
    LatentField,
    LatentODE,
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


def evaluations(stats):
    """Return the function evaluations of a solve by Tsit5."""
    return nfe(diffrax.Tsit5(), stats)


def latent_case(weight):
    """Return init, loss and evaluation: damped oscillations seen at random times."""
    rng = np.random.default_rng(8)
    ts = jnp.linspace(0.0, 4.0, 25)
    n, n_train = 1088, 1024
    rate = rng.uniform(2.0, 3.0, (n, 1))
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    values = np.exp(-0.2 * ts) * np.sin(rate * np.asarray(ts) + phase)
    values = values + 0.03 * rng.normal(size=values.shape)
    mask = rng.uniform(size=values.shape) < 0.3
    mask[:, 0] = True
    values, mask = jnp.asarray(values[..., None], jnp.float32), jnp.asarray(mask[..., None])

    def init(seed):
        return LatentODE(
            1, n_latent=4, hidden_channels=24, regularization=ERROR, rtol=1e-5, atol=1e-5,
            key=jax.random.key(seed),
        )  # fmt: skip

    def loss(model, key):
        some = jax.random.choice(key, n_train, (64,), replace=False)
        value, penalty, figures = model.elbo(
            values[some], mask[some], ts, key=key, kl_weight=0.01, weights={"error": weight}
        )
        return value + penalty.total, figures["mse"]

    def evaluate(model, key):
        # The encoder must not see what it is asked for.
        mean, _ = jax.vmap(model.encode, in_axes=(0, 0, None))(values[n_train:], mask[n_train:], ts)
        states, _, stats = model.ode.as_one_state(mean, ts=ts, inference=True)
        predicted = jnp.swapaxes(model.decode(states), 0, 1)
        hidden = ~mask[n_train:]
        squares = jnp.where(hidden, (predicted - values[n_train:]) ** 2, 0)
        return jnp.sum(squares) / jnp.sum(hidden), evaluations(stats)

    baseline = []
    for v, m in zip(
        np.asarray(values[n_train:, :, 0]), np.asarray(mask[n_train:, :, 0]), strict=True
    ):
        guess = np.interp(np.asarray(ts), np.asarray(ts)[m], v[m])
        baseline.extend((guess - v)[~m] ** 2)
    return init, loss, evaluate, float(np.mean(baseline))


def reaction_case(weight):
    """Return the same for a stiff oscillating reaction (van der Pol, mu = 5), 32 trajectories."""

    def reaction(t, y, args):
        a, b = y[..., 0], y[..., 1]
        return jnp.stack([b, 5 * (1 - a**2) * b - a], -1)

    term = diffrax.ODETerm(reaction)
    y0 = jax.random.uniform(jax.random.key(4), (40, 2), minval=-2.0, maxval=2.0)
    ts = jnp.linspace(0.0, 3.0, 31)
    truth = diffrax.diffeqsolve(
        term, diffrax.Tsit5(), 0.0, 3.0, 1e-3, y0, saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
    ).ys  # fmt: skip
    scale = jnp.std(truth, axis=(0, 1))
    truth, y0 = truth / scale, y0 / scale

    def init(seed):
        field = LatentField(2, 48, key=jax.random.key(seed))
        return NeuralODE(field, rtol=1e-5, atol=1e-5, regularization=ERROR, max_steps=1024)

    def run(model, part, inference):
        y, penalty, stats = model.as_one_state(
            y0[part], ts=ts, weights={"error": weight}, inference=inference
        )
        return jnp.mean((y - truth[:, part]) ** 2), penalty, stats

    def loss(model, key):
        mse, penalty, _ = run(model, slice(0, 32), False)
        return mse + penalty.total, mse

    def evaluate(model, key):
        mse, _, stats = run(model, slice(32, 40), True)
        return mse, evaluations(stats)

    return init, loss, evaluate, without_equation(y0, ts, truth)


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
        return error(arrays, slice(32, 40))

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


def spiral_case(weight):
    """Return the same for the stochastic spiral, fitted by moments at 20 times."""
    ts = jnp.linspace(0.0, 1.0, 20)
    start = jnp.array([2.0, 0.0])

    def drift(t, y, args):
        a, b = y[0] ** 3, y[1] ** 3
        return jnp.stack([-0.1 * a + 2.0 * b, -0.1 * b - 2.0 * a])

    truth = NeuralSDE(drift, lambda t, y, args: 0.2 * y, rtol=1e-2, atol=1e-2)
    paths, _, _ = truth(start, key=jax.random.key(1), ts=ts, n_paths=256)
    mean, spread = jnp.mean(paths, 1), jnp.std(paths, 1)

    def init(seed):
        return NeuralSDE(
            CubicDrift(jax.random.key(seed)), LinearNoise(jnp.full(2, 0.1)),
            rtol=1e-2, atol=1e-2, regularization=ERROR, max_steps=256,
        )  # fmt: skip

    def run(model, key, inference):
        paths, penalty, stats = model(
            start, key=key, ts=ts, n_paths=32, weights={"error": weight}, inference=inference
        )
        spread_found = jnp.sqrt(jnp.var(paths, 1) + 1e-6)
        error = jnp.mean((jnp.mean(paths, 1) - mean) ** 2 + (spread_found - spread) ** 2)
        return error, penalty, stats

    def loss(model, key):
        error, penalty, _ = run(model, key, False)
        return error + penalty.total, error

    def evaluate(model, key):
        error, _, stats = run(model, jax.random.key(99), True)
        return error, 3 * stats["num_steps"]  # stages of SPaRK

    constant = float(jnp.mean((mean - jnp.mean(mean, 0)) ** 2 + spread**2))
    return init, loss, evaluate, constant


# Init, loss, evaluation and baseline; weights of the penalty; training steps.
CASES = {
    "latent ODE": (latent_case, (0.0, 0.01, 0.03, 0.1, 0.3), 1200),
    "reaction": (reaction_case, (0.0, 1e-3, 3e-3, 1e-2), 600),
    "stochastic spiral": (spiral_case, (0.0, 0.1, 0.2, 0.3), 500),
}


def train(case, weight, n_steps, settings):
    """Train all seeds at once; return curves of loss, test error and steps, and seconds."""
    init, loss, evaluate, baseline = case(weight)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(RATE))
    seeds = jnp.asarray(settings.seeds)
    arrays, static = eqx.partition(eqx.filter_vmap(init)(seeds), eqx.is_inexact_array)
    state = jax.vmap(optimizer.init)(arrays)

    def one_step(carry, key):
        a, s = carry
        grads, task = jax.grad(lambda a: loss(eqx.combine(a, static), key), has_aux=True)(a)
        updates, s = optimizer.update(grads, s)
        return (optax.apply_updates(a, updates), s), task

    @jax.jit
    def chunk(arrays, state, number):
        def of_seed(a, s, seed):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), EVERY)
            (a, s), tasks = jax.lax.scan(one_step, (a, s), keys)
            return a, s, jnp.mean(tasks[-5:]), evaluate(eqx.combine(a, static), keys[0])

        return jax.vmap(of_seed)(arrays, state, seeds)

    compiled = chunk.lower(arrays, state, 0).compile()
    begin, curves = time.process_time(), []
    for number in range(max(1, n_steps // EVERY)):
        arrays, state, task, figures = compiled(arrays, state, number)
        curves.append([jax.device_get(f).tolist() for f in (task, *figures)])
    return curves, time.process_time() - begin, baseline


def at_equal_loss(curves, reference, n_seeds):
    """Return ratios of steps at the lowest training loss that both runs of a seed reach."""
    ratios = []
    for i in range(n_seeds):
        level = max(min(c[0][i] for c in curves), min(c[0][i] for c in reference))
        ours = next(c[2][i] for c in curves if c[0][i] <= level)
        theirs = next(c[2][i] for c in reference if c[0][i] <= level)
        ratios.append(ours / theirs)
    return ratios


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
        case, weights, n_steps = CASES[name]
        n_steps = round(n_steps * settings.share_of_steps)
        reference, found = None, []
        for weight in weights:
            curves, seconds, baseline = train(case, weight, n_steps, settings)
            reference = reference or (curves, seconds)
            # Equation-free error and ours stand side by side.
            row = {
                "set": name,
                "weight": weight,
                "baseline_error": baseline,
                **spread("test_error", curves[-1][1]),
                **spread("train_loss", curves[-1][0]),
                **spread("nfe", curves[-1][2]),
                **spread(
                    "nfe_ratio",
                    [a / b for a, b in zip(curves[-1][2], reference[0][-1][2], strict=True)],
                ),
                **spread("nfe_ratio_at_equal_loss", at_equal_loss(curves, reference[0], n)),
                "training_time_ratio": seconds / reference[1],
                "training_cpu_seconds_of_all_seeds": seconds,
            }
            rows.append(row)
            found.append(row)
            print(row, flush=True)
        # A run that learns nothing is cheap, and reaches the losses that the other begins with.
        sound = [r for r in found[1:] if r["test_error"] <= 1.5 * found[0]["test_error"]]
        best = min(sound, key=lambda row: row["nfe_ratio_at_equal_loss"]) if sound else {}
        fair = [r for r in found[1:] if r["test_error"] <= 1.05 * found[0]["test_error"]]
        cheapest = min(fair, key=lambda row: row["nfe_ratio"]) if fair else {}
        for words, value, bound in (
            ("NFE ratio at equal training loss", best.get("nfe_ratio_at_equal_loss"), 0.7),
            ("NFE ratio at equal test error (within 5 %)", cheapest.get("nfe_ratio"), 0.7),
            ("training time ratio of that run", cheapest.get("training_time_ratio"), 1.0),
            ("test error over that without an equation",
             found[0]["test_error"] / found[0]["baseline_error"], 1.0),
        ):  # fmt: skip
            targets.append(Target(f"{name}: {words} (median)", value, at_most=bound))
        if not settings.quick:
            write(settings, rows, targets)
    shown = ("set", "weight", "baseline_error", "test_error", "train_loss", "nfe", "nfe_ratio",
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
    rows = [row for row in found["rows"] if row["set"] in others]
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
