"""
Conductances from a few pressures
=================================

``diffusion_solve`` is differentiable in both modes, so that any optimiser can fit conductances to
measurements. Here a region of low permeability is found from the pressure at 80 of 400 pores and
the total flow.
"""

# %%
# The truth: throats within a disc conduct thirty times less. We look for the logarithm of the
# conductance on a coarse grid of 5 x 5 blocks; the measurements have a noise of 0.002.
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optimistix as optx
from matplotlib.collections import LineCollection

from sciml.graph_solvers import diffusion_solve
from sciml.problems import pore_network

network = pore_network(400, key=jax.random.key(7), dim=2, log_conductance_std=0.3)
rng = np.random.default_rng(5)
segments = network.positions[network.ends]
centre = segments.mean(axis=1)
in_disc = np.linalg.norm(centre - np.array([0.45, 0.6]), axis=1) < 0.22
true_log_k = np.log(network.conductance) - np.log(30) * in_disc

blocks = 5
cell = np.minimum((centre * blocks).astype(int), blocks - 1)
block = jnp.asarray(cell[:, 0] * blocks + cell[:, 1])
known_part = jnp.asarray(np.log(network.conductance), jnp.float32)  # the small-scale scatter
ends, held = jnp.asarray(network.ends), jnp.asarray(network.is_boundary)
boundary = jnp.asarray(network.pressure, jnp.float32)


def observe(log_k):
    found = diffusion_solve(jnp.exp(log_k), ends, held, boundary, rtol=1e-5)
    return found.value[pores], jnp.sum(jnp.maximum(found.stats["outflow"], 0))


pores = jnp.asarray(rng.choice(np.flatnonzero(~network.is_boundary), 80, replace=False))
measured, flow = observe(jnp.asarray(true_log_k, jnp.float32))
measured = measured + 0.002 * jnp.asarray(rng.normal(size=80), jnp.float32)

# %%
# Levenberg-Marquardt uses forward mode; a pull to zero settles what the data do not see. Blocks
# cannot draw a disc: it is found, and blocks beside it answer for what they cannot draw.


def misfit(shift, _):
    pressure, total = observe(known_part + shift[block])
    return (pressure - measured) / 0.002, (total / flow - 1) / 0.01, 1.0 * shift


solver = optx.LevenbergMarquardt(rtol=1e-3, atol=1e-3)
fit = optx.least_squares(misfit, solver, jnp.zeros(blocks**2), max_steps=30, throw=False)
found = np.asarray(known_part + fit.value[block])
before, after = (np.corrcoef(x, true_log_k)[0, 1] for x in (np.log(network.conductance), found))
print(f"correlation of log k with the truth: {before:.2f} before, {after:.2f} after")

figure, axes = plt.subplots(1, 3, figsize=(13, 4.3), sharey=True)
short = np.linalg.norm(segments[:, 0] - segments[:, 1], axis=1) < 0.2
shown = (
    ("true log k", true_log_k),
    ("start", np.log(network.conductance)),
    ("from 80 pressures and the flow", found),
)
for panel, (title, values) in zip(axes, shown, strict=True):
    lines = LineCollection(segments[short], array=values[short], cmap="viridis", linewidths=2)
    lines.set_clim(-4, 1)
    panel.add_collection(lines)
    panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[], title=title)
axes[0].plot(*network.positions[np.asarray(pores)].T, "ko", ms=4, label="measured")
axes[0].legend(loc="lower left")
figure.colorbar(lines, ax=axes, shrink=0.85)
plt.show()
