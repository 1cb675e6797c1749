"""Training with the penalty: its gradient lowers it, and reaches every parameter.

That fewer evaluations follow at about the same accuracy is measured in
benchmarks/neural_de_spirals.py and neural_de_series.py.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml.neural_de import (
    ErrorEstimate,
    LatentField,
    LatentODE,
    LocalRegularization,
    NeuralSDE,
)

ERROR = {"error": ErrorEstimate()}


class Noise(eqx.Module):
    factor: jax.Array

    def __call__(self, t, y, args):
        return self.factor * y


def test_a_stochastic_spiral_trains_with_global_and_local_penalties():
    target, y0 = jnp.asarray([0.5, -1.0]), jnp.asarray([1.0, 0.0])
    model = NeuralSDE(
        LatentField(2, 8, key=jax.random.key(13)), Noise(jnp.full(2, 0.1)),
        rtol=3e-2, atol=3e-2, regularization=ERROR, max_steps=64,
    )  # fmt: skip

    # A few steps of one program: without the penalty, and with it.
    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def loss(model, weight):
        paths, penalty, _ = model(y0, key=jax.random.key(3), n_paths=8, weights={"error": weight})
        task = jnp.mean((jnp.mean(paths, 0) - target) ** 2)
        return task + penalty.total, (task, penalty.values["error"], paths)

    def train(weight):
        trained, losses = model, []
        for _ in range(4):
            (value, (task, penalty, _)), slope = loss(trained, jnp.asarray(weight))
            losses.append((float(value), float(task), float(penalty)))
            trained = eqx.apply_updates(trained, jax.tree.map(lambda g: -0.02 * g, slope))
        return np.asarray(losses), slope

    with jax.numpy_dtype_promotion("standard"):
        _, _, paths = loss(model, jnp.asarray(0.0))[0][1]
        plain, _ = train(0.0)
        penalised, slope = train(5.0)
    assert plain[-1, 1] < plain[0, 1]
    np.testing.assert_array_equal(plain[:, 0], plain[:, 1])
    assert penalised[-1, 0] < penalised[0, 0]
    # It is the penalty's own gradient that lowers it.
    assert penalised[-1, 2] < 0.9 * min(penalised[0, 2], plain[-1, 2])
    for leaf in jax.tree.leaves(slope):
        assert np.isfinite(leaf).all()
        assert np.any(leaf != 0)
    local = eqx.tree_at(lambda m: m.regularization, model, LocalRegularization())
    drawn, penalty, _ = eqx.filter_jit(local)(y0, key=jax.random.key(3), n_paths=8)
    # Of the same noise the same paths, up to a rounding of another program.
    np.testing.assert_allclose(drawn, paths, rtol=1e-5)
    assert penalty.total > 0
    _, nothing, _ = eqx.filter_eval_shape(model, y0, key=jax.random.key(3), inference=True)
    assert nothing.values == {}


def test_every_parameter_of_the_latent_model_gets_a_gradient_though_missing_values_are_nan():
    """Neither the loss nor its derivative sees what was not observed, nor times without any."""
    model = LatentODE(1, n_latent=2, hidden_channels=4, regularization=ERROR, key=jax.random.key(3))
    ts = jnp.linspace(0.0, 1.0, 4)
    mask = jnp.asarray([True, False, False, True])[None, :, None]
    values = jnp.where(mask, jnp.sin(3 * ts)[None, :, None], jnp.nan)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def bound(model):
        loss, penalty, _ = model.elbo(values, mask, ts, key=jax.random.key(5))
        return loss + penalty.total

    with jax.numpy_dtype_promotion("standard"):
        loss, slope = bound(model)
    assert np.isfinite(loss)
    for leaf in jax.tree.leaves(slope):
        assert np.isfinite(leaf).all()
        assert np.any(leaf != 0)
    kept = np.array([0, 3])
    encode = eqx.filter_jit(model.encode)
    few = encode(values[0, kept], mask[0, kept], ts[kept])
    for a, b in zip(few, encode(values[0], mask[0], ts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
