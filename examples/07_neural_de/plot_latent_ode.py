"""
A latent equation for irregular series
======================================

Half of the entries of damped oscillations are missing. A recurrent network encodes what is there, a
neural differential equation carries it through time, and the gaps are filled from its solution.
"""

# %%
# Synthetic series: random frequencies and phases, half of the entries missing.
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import sciml
from sciml.neural_de import ErrorEstimate, LatentODE

rng = np.random.default_rng(8)
ts = jnp.linspace(0.0, 4.0, 25)
rate, phase = rng.uniform(2.0, 4.0, (64, 1)), rng.uniform(0, 2 * np.pi, (64, 1))
clean = np.exp(-0.2 * np.asarray(ts)) * np.sin(rate * np.asarray(ts) + phase)
values = jnp.asarray(clean + 0.03 * rng.normal(size=clean.shape), jnp.float32)[..., None]
mask = jnp.asarray(rng.uniform(size=values.shape) < 0.5)

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
model = sciml.train.fit(
    model, [(values[:48], mask[:48])], loss=loss, optimizer=optax.adam(1e-2), n_steps=400,
    key=jax.random.key(6), progress=False,
).value  # fmt: skip

# %%
# Series that it never saw.
start, _ = jax.vmap(model.encode, in_axes=(0, 0, None))(values[48:], mask[48:], ts)
fine = jnp.linspace(0.0, 4.0, 101)
states, _, stats = model.ode.as_one_state(start, ts=fine, inference=True)
predicted = jnp.swapaxes(model.decode(states), 0, 1)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True)
for i, panel in enumerate(axes):
    seen = mask[48 + i, :, 0]
    panel.plot(fine, predicted[i, :, 0], label="latent equation")
    panel.plot(ts[seen], values[48 + i, seen, 0], "ko", label="observed")
    panel.plot(ts[~seen], values[48 + i, ~seen, 0], "o", mfc="none", color="grey", label="hidden")
    panel.set_xlabel("time")
axes[0].set_ylabel("value")
axes[0].legend(loc="upper right", fontsize=8)
figure.suptitle(f"Held-out series, {int(stats['num_steps'])} solver steps for all")
figure.tight_layout()
plt.show()
