"""Data, models and penalties of `neural_de_series`: what is learned, and what it is judged by."""

from collections.abc import Callable
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml.neural_de import (
    ErrorEstimate,
    LatentField,
    LatentODE,
    LocalRegularization,
    NeuralODE,
    NeuralSDE,
    initial_step,
    nfe,
)

RATE = 1e-2
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
            *(("error", w) for w in (0.0, 0.03, 0.06, 0.1)),
            ("its square", 0.06),
            (LOCAL, 0.1),
        ),
        1000,
    ),
}
