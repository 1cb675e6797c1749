"""
Pressure in a network of pores
==============================

A convergent graph solver learns the pressure from conductances alone, without coordinates, on small
networks, and is asked about one of ten times their size. Then the exact solver of the same problem
gives the sensitivity of the flow to every throat.
"""

# %%
# Training networks have 40 to 110 pores; the exact pressure comes from a sparse solve.
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.collections import LineCollection

import sciml
from sciml.graph_solvers import (
    ConvergentGraphSolver,
    FactorKind,
    GraphMapOptions,
    diffusion_solve,
)
from sciml.numerics import batch_graphs
from sciml.problems import pore_network

rng = np.random.default_rng(8)


def as_batch(networks):
    graph = batch_graphs([n.graph for n in networks], pad_nodes=448, pad_edges=6144)
    pressure = np.concatenate([n.pressure for n in networks])
    inside = np.concatenate([~n.is_boundary for n in networks])
    rest = len(graph.nodes) - len(pressure)
    return graph, np.pad(pressure, (0, rest)).astype(np.float32), np.pad(inside, (0, rest))


sizes = rng.integers(40, 111, (24, 4))
batches = [
    as_batch([pore_network(int(n), key=jax.random.key(10 * i + j))
              for j, n in enumerate(row)])
    for i, row in enumerate(sizes)
]  # fmt: skip


def loss(model, batch, key):
    graph, pressure, inside = batch
    error = jnp.where(inside, model.solve(graph, throw=False).value[:, 0] - pressure, 0)
    return jnp.sum(error**2) / jnp.sum(inside)


# Each node holds a value of its own or takes the mean of its neighbours: as the equation does.
options = GraphMapOptions(gamma=0.99999, factor=FactorKind.ABSORBING)
model = ConvergentGraphSolver(2, 1, 1, heads=8, options=options, key=jax.random.key(5))
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(6e-3, 1000))
)
model = sciml.train.fit(
    model, batches, loss=loss, optimizer=optimizer, n_steps=1000, key=jax.random.key(6),
    progress=False,
).value  # fmt: skip

# %%
# A cube of 800 pores. The prediction is a fixed point that certifies itself: the residual and a
# bound on its error are in the record. (The bound is for the solve, not for what was learned.)
network = pore_network(800, key=jax.random.key(12_345))
solution = model.solve(network.graph)
predicted = np.where(network.is_boundary, network.pressure, solution.value[:, 0])
line = network.straight_line()
inside = ~network.is_boundary
for name, values in (("learned", predicted), ("straight line", line)):
    mse = np.mean((values - network.pressure)[inside] ** 2)
    print(f"{name}: MSE {mse:.2e}, imbalance of flow {network.imbalance(values):.2f}")
print({k: float(solution.stats[k]) for k in ("n_steps", "residual", "factor")})

# %%
# Beside it: the exact solver, differentiable. The sensitivity of the total flow to the logarithm of
# each conductance shows which throats carry it: the long ones of the tessellation's hull.
ends, k = jnp.asarray(network.ends), jnp.asarray(network.conductance, jnp.float32)
held = jnp.asarray(network.is_boundary)
boundary = jnp.asarray(network.pressure, jnp.float32)


def total_flow(log_k):
    found = diffusion_solve(jnp.exp(log_k), ends, held, boundary, rtol=1e-5)
    return jnp.sum(jnp.maximum(found.stats["outflow"], 0))


sensitivity = np.asarray(jax.grad(total_flow)(jnp.log(k)))

figure, axes = plt.subplots(1, 4, figsize=(16, 4.3), sharey=True)
x, y, _ = network.positions.T
segments = network.positions[network.ends][..., :2]
top = np.argsort(sensitivity)[-1500:]  # of some 5500 throats
panels = (
    ("exact pressure", network.pressure, "viridis", (0, 1)),
    ("learned, from 40-110 pores", predicted, "viridis", (0, 1)),
    ("error", predicted - network.pressure, "RdBu_r", (-0.03, 0.03)),
)
for panel, (title, values, colours, limits) in zip(axes, panels, strict=False):
    drawn = panel.scatter(x, y, c=values, s=14, cmap=colours, vmin=limits[0], vmax=limits[1])
    figure.colorbar(drawn, ax=panel, shrink=0.85)
    panel.set_title(title)
lines = LineCollection(
    segments[top], array=sensitivity[top] / sensitivity.sum(), cmap="magma_r",
    linewidths=0.3 + 6 * np.sqrt(sensitivity[top] / sensitivity.max()),
)  # fmt: skip
axes[3].add_collection(lines)
figure.colorbar(lines, ax=axes[3], shrink=0.85)
axes[3].set_title("share of each throat in the flow's sensitivity", fontsize=10)
for panel in axes:
    panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[], xlabel="x")
figure.tight_layout()
plt.show()
