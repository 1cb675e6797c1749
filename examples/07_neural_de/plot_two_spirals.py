"""
Two spirals with fewer function evaluations
===========================================

A neural ordinary differential equation separates two spirals. Penalising the solver's own error
estimate in training leaves a field that the solver crosses in fewer steps, at about the same
accuracy.
"""

# %%
# The data: two spirals, and a third dimension to move in.
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import sciml
from sciml.neural_de import ErrorEstimate, NeuralODE, nfe

key = jax.random.key(12)
n = 256
angle = 0.5 + 2.6 * jnp.pi * jnp.sqrt(jax.random.uniform(key, (n,)))
label = jnp.arange(n) % 2
sign = jnp.where(label == 1, 1.0, -1.0)
spiral = sign[:, None] * jnp.stack([angle * jnp.cos(angle), angle * jnp.sin(angle)], 1) / 5
points = jnp.concatenate([spiral, jnp.zeros((n, 1))], axis=1)

# %%
# The model: a field, its flow from 0 to 1, and a linear layer that reads the class.


class Field(eqx.Module):
    network: eqx.nn.MLP

    def __init__(self, key):
        self.network = eqx.nn.MLP(4, 3, 32, 2, jnp.tanh, key=key)

    def __call__(self, t, y, args):
        return self.network(jnp.concatenate([y, jnp.asarray(t, y.dtype)[None]]))


class Classifier(eqx.Module):
    ode: NeuralODE
    readout: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        penalty = {"error": ErrorEstimate()}
        self.ode = NeuralODE(Field(keys[0]), regularization=penalty, max_steps=256)
        self.readout = eqx.nn.Linear(3, 2, key=keys[1])


def loss_with(weight):
    def loss(model, batch, key):
        points, label = batch
        y, penalty, _ = model.ode.as_one_state(points, weights={"error": weight})
        logits = jax.vmap(model.readout)(y)
        task = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
        return task + penalty.total

    return loss


def train(weight):
    return sciml.train.fit(
        Classifier(jax.random.key(3)), [(points, label)], loss=loss_with(weight),
        optimizer=optax.adam(1e-2), n_steps=300, key=key, progress=False,
    ).value  # fmt: skip


models = {"without penalty": train(0.0), "error estimate, weight 0.03": train(0.03)}

# %%
# The field at half time, and what a solve costs.
figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), sharex=True, sharey=True)
grid = jnp.linspace(-3.2, 3.2, 18)
x, y = jnp.meshgrid(grid, grid)
for panel, (name, model) in zip(axes, models.items(), strict=True):
    states, _, stats = model.ode.as_one_state(points, inference=True)
    accuracy = jnp.mean(jnp.argmax(jax.vmap(model.readout)(states), 1) == label)
    count = int(nfe(diffrax.Tsit5(), stats))
    at = jnp.stack([x.ravel(), y.ravel(), jnp.zeros(x.size)], 1)
    arrows = jax.vmap(model.ode.field, in_axes=(None, 0, None))(0.5, at, None)
    speed = jnp.linalg.norm(arrows, axis=1)
    image = panel.quiver(at[:, 0], at[:, 1], arrows[:, 0], arrows[:, 1], speed, cmap="viridis")
    for value, colour in ((0, "tab:blue"), (1, "tab:orange")):
        panel.plot(*points[label == value, :2].T, ".", color=colour, label=f"class {value}")
    panel.set_title(f"{name}\n{count} evaluations, training accuracy {100 * accuracy:.1f} %")
    panel.set_xlabel("first coordinate")
    panel.set_aspect("equal")
    figure.colorbar(image, ax=panel, label="speed at t = 0.5", shrink=0.8)
    print(f"{name}: {count} evaluations, accuracy {accuracy:.3f}")
axes[0].set_ylabel("second coordinate")
axes[0].legend(loc="lower left")
figure.tight_layout()
plt.show()
