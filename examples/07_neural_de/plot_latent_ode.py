"""
A latent equation for irregular series
======================================

Seven in ten entries of damped oscillations are missing. A recurrent network encodes what is there,
a neural differential equation carries it through time, and the gaps are filled from its solution.
Beside it: straight lines between the observations, which need no training.
"""

# %%
# Synthetic series: random frequencies and phases, 512 to train on and 64 to look at.
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import sciml
from sciml.neural_de import ErrorEstimate, LatentODE

rng = np.random.default_rng(8)
ts = jnp.linspace(0.0, 4.0, 25)
n, n_train = 576, 512
rate, phase = rng.uniform(2.0, 3.0, (n, 1)), rng.uniform(0, 2 * np.pi, (n, 1))
clean = np.exp(-0.2 * np.asarray(ts)) * np.sin(rate * np.asarray(ts) + phase)
values = jnp.asarray(clean + 0.03 * rng.normal(size=clean.shape), jnp.float32)[..., None]
mask = jnp.asarray(rng.uniform(size=values.shape) < 0.3).at[:, 0].set(True)

# %%
# Train with a small penalty on the solver's error estimate.


def loss(model, batch, key):
    values, mask = batch
    bound, penalty, _ = model.elbo(
        values, mask, ts, key=key, kl_weight=0.01, weights={"error": 0.3}
    )
    return bound + penalty.total


model = LatentODE(
    1, n_latent=4, hidden_channels=24, regularization={"error": ErrorEstimate()},
    key=jax.random.key(5),
)  # fmt: skip
batches = [(values[i : i + 64], mask[i : i + 64]) for i in range(0, n_train, 64)]
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
model = sciml.train.fit(
    model, batches, loss=loss, optimizer=optimizer, n_steps=800,
    key=jax.random.key(6), progress=False,
).value  # fmt: skip

# %%
# Series that it never saw: the error at hidden entries, and three of them.
seen, asked = np.asarray(mask[n_train:, :, 0]), np.asarray(values[n_train:, :, 0])
start, _ = jax.vmap(model.encode, in_axes=(0, 0, None))(values[n_train:], mask[n_train:], ts)
fine = jnp.linspace(0.0, 4.0, 97)
states, _, stats = model.ode.as_one_state(start, ts=fine, inference=True)
predicted = np.swapaxes(model.decode(states), 0, 1)[..., 0]
lines = np.stack([np.interp(ts, ts[s], v[s]) for s, v in zip(seen, asked, strict=True)])
ours, theirs = (np.mean((g - asked)[~seen] ** 2) for g in (predicted[:, ::4], lines))
print(f"mean square at hidden entries: equation {ours:.4f}, straight lines {theirs:.4f}")
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True)
for i, panel in enumerate(axes):
    panel.plot(fine, predicted[i], label="latent equation")
    panel.plot(ts, lines[i], ":", color="grey", label="straight lines")
    panel.plot(ts[seen[i]], asked[i, seen[i]], "ko", label="observed")
    panel.plot(ts[~seen[i]], asked[i, ~seen[i]], "o", mfc="none", color="grey", label="hidden")
    panel.set_xlabel("time")
axes[0].set_ylabel("value")
axes[0].legend(loc="upper right", fontsize=8)
figure.suptitle(
    f"Held-out series, {int(stats['num_steps'])} solver steps for all; mean square at hidden "
    f"entries {ours:.3f}, by straight lines {theirs:.3f}"
)
figure.tight_layout()
plt.show()
