"""
A stochastic spiral
===================

A neural stochastic equation learns a spiral from the mean and the spread of its paths. All paths
are one state, so that they share their steps; the solver, SPaRK, has an embedded error estimate,
which is also what is penalised.
"""

# %%
# The data: mean and spread of 256 paths at 20 times.
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import sciml
from sciml.neural_de import ErrorEstimate, NeuralSDE

ts = jnp.linspace(0.0, 1.0, 20)
start = jnp.array([2.0, 0.0])


def true_drift(t, y, args):
    a, b = y[0] ** 3, y[1] ** 3
    return jnp.stack([-0.1 * a + 2.0 * b, -0.1 * b - 2.0 * a])


truth = NeuralSDE(true_drift, lambda t, y, args: 0.2 * y)
true_paths, _, _ = eqx.filter_jit(truth)(start, key=jax.random.key(1), ts=ts, n_paths=256)
mean, spread = jnp.mean(true_paths, 1), jnp.std(true_paths, 1)

# %%
# The model: a perceptron of the cubes of the state, and noise linear in it.


class CubicDrift(eqx.Module):
    network: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.network(y**3)


class LinearNoise(eqx.Module):
    factor: jax.Array

    def __call__(self, t, y, args):
        return self.factor * y


def loss_with(weight):
    def loss(model, batch, key):
        mean, spread = batch
        paths, penalty, _ = model(start, key=key, ts=ts, n_paths=32, weights={"error": weight})
        found = jnp.sqrt(jnp.var(paths, 1) + 1e-6)
        moments = jnp.mean((jnp.mean(paths, 1) - mean) ** 2 + (found - spread) ** 2)
        return moments + penalty.total

    return loss


def train(weight):
    drift = CubicDrift(eqx.nn.MLP(2, 2, 32, 1, jnp.tanh, key=jax.random.key(11)))
    model = NeuralSDE(
        drift, LinearNoise(jnp.full(2, 0.1)), regularization={"error": ErrorEstimate()},
        max_steps=256,
    )  # fmt: skip
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
    return sciml.train.fit(
        model, [(mean, spread)], loss=loss_with(weight), optimizer=optimizer, n_steps=200,
        key=jax.random.key(5), progress=False,
    ).value  # fmt: skip


# %%
# Paths of both models from fresh noise, and the steps they take.
figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharex=True, sharey=True, layout="constrained")
panels = [("data", true_paths, None)]
for weight in (0.0, 0.1):
    paths, _, stats = eqx.filter_jit(train(weight))(
        start, key=jax.random.key(99), ts=ts, n_paths=64, inference=True
    )
    n_steps = int(stats["num_steps"])
    error = float(jnp.sqrt(jnp.mean((jnp.mean(paths, 1) - mean) ** 2)))
    print(f"weight {weight:g}: {n_steps} steps, error of the mean {error:.3f}")
    panels.append((f"weight {weight:g}: {n_steps} steps, error of the mean {error:.2f}", paths, 1))
for panel, (title, paths, _) in zip(axes, panels, strict=True):
    panel.plot(paths[:, :40, 0], paths[:, :40, 1], color="tab:blue", lw=0.5, alpha=0.5)
    panel.plot(*mean.T, "k--", label="mean of the data")
    panel.plot(*jnp.mean(paths, 1).T, color="tab:orange", label="mean of these paths")
    panel.set_title(title, fontsize=9)
    panel.set_xlabel("first coordinate")
    panel.set_aspect("equal")
axes[0].set_ylabel("second coordinate")
axes[0].legend(fontsize=8)
plt.show()
