"""Training with the penalty: fewer evaluations at about the same accuracy, moments that stay."""

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
    nfe,
)

ERROR = {"error": ErrorEstimate()}


def train(loss, model, n_steps, rate):
    """Train one model with and one without the penalty, as two lanes of one program."""
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    optimizer = optax.adam(rate)

    def of_weight(weight):
        def step(carry, key):
            arrays, state = carry
            gradient = jax.grad(lambda a: loss(eqx.combine(a, static), weight, key))(arrays)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(arrays, updates), state), None

        keys = jax.random.split(jax.random.key(91), n_steps)
        return jax.lax.scan(step, (arrays, optimizer.init(arrays)), keys)[0][0]

    with jax.numpy_dtype_promotion("standard"):
        trained = jax.jit(jax.vmap(of_weight))(jnp.asarray([0.0, 0.03]))
    lanes = [jax.tree.map(lambda leaf, i=i: leaf[i], trained) for i in (0, 1)]
    return [eqx.combine(lane, static) for lane in lanes]


def test_two_spirals_need_fewer_evaluations_at_the_same_accuracy():
    n = 64
    angle = 0.5 + 2 * jnp.pi * jnp.sqrt(jax.random.uniform(jax.random.key(12), (n,)))
    label = jnp.arange(n) % 2
    sign = jnp.where(label == 1, 1.0, -1.0)[:, None]
    spiral = sign * jnp.stack([angle * jnp.cos(angle), angle * jnp.sin(angle)], 1) / 4
    points = jnp.concatenate([spiral, jnp.zeros((n, 1))], 1)
    keys = jax.random.split(jax.random.key(45))
    field = LatentField(3, 24, key=keys[0])
    ode = NeuralODE(field, rtol=1e-4, atol=1e-4, regularization=ERROR, max_steps=64)
    model = (ode, eqx.nn.Linear(3, 2, key=keys[1]))

    def loss(model, weight, key):
        ode, readout = model
        y, penalty, _ = ode.as_one_state(points, weights={"error": weight})
        logits = jax.vmap(readout)(y)
        task = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
        return task + penalty.total

    @jax.jit
    def judge(arrays):
        ode, readout = eqx.combine(arrays, static)
        y, _, stats = ode.as_one_state(points, inference=True)
        accuracy = jnp.mean(jnp.argmax(jax.vmap(readout)(y), 1) == label)
        return accuracy, nfe(diffrax.Tsit5(), stats)

    static = eqx.partition(model, eqx.is_inexact_array)[1]
    plain, cheap = (
        judge(eqx.filter(trained, eqx.is_inexact_array))
        for trained in train(loss, model, 120, 3e-2)
    )
    assert plain[0] > 0.95
    assert cheap[0] > plain[0] - 0.02
    assert cheap[1] < plain[1]


class Noise(eqx.Module):
    factor: jax.Array

    def __call__(self, t, y, args):
        return self.factor * y


def test_a_stochastic_spiral_trains_with_global_and_local_penalties():
    target = jnp.asarray([0.5, -1.0])

    def loss(model, weight, key):
        paths, penalty, _ = model(
            jnp.asarray([1.0, 0.0]), key=key, n_paths=8, weights={"error": weight}
        )
        return jnp.mean((jnp.mean(paths, 0) - target) ** 2) + penalty.total

    model = NeuralSDE(
        LatentField(2, 8, key=jax.random.key(13)), Noise(jnp.full(2, 0.1)),
        rtol=3e-2, atol=3e-2, regularization=ERROR, max_steps=64,
    )  # fmt: skip
    models = train(loss, model, 30, 1e-2)

    @jax.jit
    def judge(arrays):
        model = eqx.combine(arrays, eqx.partition(models[0], eqx.is_inexact_array)[1])
        paths, _, stats = model(
            jnp.asarray([1.0, 0.0]), key=jax.random.key(3), n_paths=8, inference=True
        )
        return paths, stats["num_steps"]

    (plain, steps), (cheap, fewer) = (judge(eqx.filter(m, eqx.is_inexact_array)) for m in models)
    assert np.isfinite(plain).all()
    assert np.isfinite(cheap).all()
    assert fewer <= steps
    local = eqx.tree_at(lambda m: m.regularization, models[0], LocalRegularization())
    paths, penalty, _ = eqx.filter_jit(local)(
        jnp.asarray([1.0, 0.0]), key=jax.random.key(3), n_paths=8
    )
    assert (paths == plain).all()
    assert penalty.total > 0


def test_every_parameter_of_the_latent_model_gets_a_gradient():
    model = LatentODE(1, n_latent=2, hidden_channels=4, regularization=ERROR, key=jax.random.key(3))
    ts = jnp.linspace(0.0, 1.0, 5)
    values = jnp.sin(3 * ts)[None, :, None]
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    @jax.jit
    def gradient(arrays):
        def loss(arrays):
            mask = jnp.ones(values.shape, bool)
            value, penalty, _ = eqx.combine(arrays, static).elbo(
                values, mask, ts, key=jax.random.key(4)
            )
            return value + penalty.total

        return jax.grad(loss)(arrays)

    with jax.numpy_dtype_promotion("standard"):
        leaves = jax.tree.leaves(gradient(arrays))
    leaves = [np.asarray(leaf) for leaf in leaves]
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in leaves)
