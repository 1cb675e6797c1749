"""
Reduced dynamics of Burgers' equation, cheap to call
====================================================

A surrogate of a PDE: solutions are written in their six leading modes (proper orthogonal
decomposition), and a neural differential equation learns how the coefficients move. Such surrogates
are called thousands of times in design and control, so evaluations of the learned field are what
counts. With the solver's error estimate in the loss it needs fewer of them.
"""

# %%
# The data: Burgers' equation on a circle from random smooth states, by the spectral solver.
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import sciml
from sciml.neural_de import ErrorEstimate, LatentField, NeuralODE, nfe
from sciml.problems import Burgers1D, solve

n_points, n_train, n_modes = 128, 40, 6
x = jnp.arange(n_points) / n_points
ts = jnp.linspace(0.0, 1.0, 11)
amplitude, phase = jax.random.uniform(jax.random.key(4), (2, 48, 1, 1))
start = (0.6 + 0.8 * amplitude) * jnp.sin(2 * jnp.pi * (x + 0.1 * phase))
problem = Burgers1D((n_points,), viscosity=0.02)
march = jax.jit(jax.vmap(lambda u0: solve(problem, u0, dt=0.005, n_steps=200, save_every=20).value))
truth = march(start)[:, :, 0]  # (48, 11, 128)

# %%
# Modes of the training solutions. What they leave out is the floor of any surrogate that uses them.
modes = jnp.linalg.svd(truth[:n_train].reshape(-1, n_points), full_matrices=False)[2][:n_modes]
scale = jnp.std(truth[:n_train] @ modes.T)
coefficients = jnp.swapaxes(truth @ modes.T / scale, 0, 1)  # (11, 48, 6)


def relative_error(coefficients):
    fields = jnp.swapaxes(coefficients * scale @ modes, 0, 1)
    held_out = truth[n_train:]
    return float(jnp.linalg.norm(fields - held_out) / jnp.linalg.norm(held_out))


# %%
# One network from two seeds, without and with the penalty, trained equally long.


def loss_with(weight):
    def loss(model, batch, key):
        found, penalty, _ = model.as_one_state(batch[0], ts=ts, weights={"error": weight})
        return jnp.mean((found - batch) ** 2) + penalty.total

    return loss


def train(seed, weight):
    field = LatentField(n_modes, 48, key=jax.random.key(seed))
    model = NeuralODE(
        field, rtol=1e-4, atol=1e-4, regularization={"error": ErrorEstimate()}, max_steps=128
    )
    return sciml.train.fit(
        model, [coefficients[:, :n_train]], loss=loss_with(weight),
        optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, 400)), n_steps=400,
        key=jax.random.key(seed), progress=False,
    ).value  # fmt: skip


@eqx.filter_jit
def forecast(model):
    found, _, stats = model.as_one_state(coefficients[0, n_train:], ts=ts, inference=True)
    return found, nfe(diffrax.Tsit5(), stats)


weights = (0.0, 0.003)
runs = {}
for weight in weights:
    for seed in (3, 17):
        found, count = forecast(train(seed, weight))
        runs[weight, seed] = (int(count), relative_error(found), found)
        print(f"weight {weight:g}, seed {seed}: {int(count)} evaluations, "
              f"held-out error {runs[weight, seed][1]:.4f}")  # fmt: skip
floor = relative_error(coefficients[:, n_train:])
held = relative_error(jnp.broadcast_to(coefficients[0, n_train:], coefficients[:, n_train:].shape))
print(f"modes alone {floor:.4f}, initial state held {held:.4f}, spectral solver: 800 evaluations")

# %%
# A held-out solution, and evaluations against error for all runs.
figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.8), layout="constrained")
case = 0
surrogate = runs[weights[-1], 3][2][:, case] * scale @ modes
limit = float(jnp.abs(truth[n_train + case]).max())
for panel, field, title in (
    (axes[0], truth[n_train + case], "spectral solver"),
    (axes[1], surrogate, f"surrogate, weight {weights[-1]:g}"),
):
    image = panel.imshow(
        field, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    panel.set(title=title, xlabel="x", ylabel="time")
figure.colorbar(image, ax=axes[:2], label="u", shrink=0.8)
colours = ("tab:gray", "tab:orange")
for weight, colour in zip(weights, colours, strict=True):
    some = np.array([run[:2] for (w, _), run in runs.items() if w == weight])
    axes[2].plot(*some.T, "o", color=colour, label=f"weight {weight:g}")
axes[2].axhline(floor, color="black", lw=0.8, ls="--", label="modes alone")
axes[2].set(xlabel="evaluations of the field", ylabel="held-out relative error")
axes[2].set_title("two seeds each")
axes[2].legend(fontsize=8)
plt.show()
