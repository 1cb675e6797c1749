"""
A stationary problem by natural gradients, and the landscape of its loss
========================================================================

A small network is fitted to Poisson's equation. Adam stalls at an error of about one per mille; the
energy natural gradient takes the same network, on the same points, two digits further in the same
time, and to seven digits within a minute. Then a look at the losses that are in use for this
equation: how rough are they around their minima?
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import optax

from sciml.natural_gradient import (
    DeepGalerkinLoss,
    DeepRitzLoss,
    EnergyNaturalGradient,
    GradientMethod,
    PoissonData,
    ResidualTerm,
    box_boundary_quadrature,
    box_quadrature,
    laplacian,
    minimise_residuals,
    roughness_index,
)
from sciml.plot import plot_roughness

# Natural gradients need double precision.
jax.config.update("jax_enable_x64", True)

# %%
# The problem
# -----------
# :math:`-\Delta u = f` on the unit square, :math:`u = 0` on its boundary, with a known solution.
# Each term of the loss is a residual at a point, with quadrature points and weights.


def solution(x):
    return jnp.prod(jnp.sin(jnp.pi * x))


def equation(u, x):
    return laplacian(u)(x) + 2 * jnp.pi**2 * solution(x)


inside, inside_weights = box_quadrature(20, 2)
edge, edge_weights = box_boundary_quadrature(20, 2)
terms = [
    ResidualTerm(equation, inside, inside_weights),
    ResidualTerm(lambda u, x: u(x), edge, edge_weights),
]
network = eqx.nn.MLP(2, "scalar", 32, 1, activation=jnp.tanh, key=jax.random.key(0))

# %%
# Three methods, five seconds each
# --------------------------------
# `throw=False`: the runs end with their time, not with a tolerance.

methods = {
    "natural gradient": EnergyNaturalGradient(),
    "L-BFGS": GradientMethod(optax.lbfgs()),
    "Adam": GradientMethod(optax.adam(1e-3)),
}
runs = {
    name: minimise_residuals(
        network, terms, method, max_steps=100_000, max_seconds=5.0, throw=False
    )
    for name, method in methods.items()
}

axis = np.linspace(0, 1, 61)
grid = jnp.asarray(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2))
truth = np.asarray(jax.vmap(solution)(grid))
errors = {name: np.asarray(jax.vmap(run.value)(grid)) - truth for name, run in runs.items()}
relative = {name: np.linalg.norm(e) / np.linalg.norm(truth) for name, e in errors.items()}
for name, run in runs.items():
    print(f"{name:18} {run.stats['n_steps']:6d} steps   relative L2 error {relative[name]:.1e}")

# %%
# Error of the natural gradient over the square, and the loss over time. One step of it costs more
# than one of Adam, so the axis is time, not steps.

figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
error = errors["natural gradient"].reshape(61, 61).T
bound = float(np.abs(error).max())
image = left.imshow(error, "PuOr_r", origin="lower", extent=(0, 1, 0, 1), vmin=-bound, vmax=bound)
figure.colorbar(image, ax=left, label="error")
left.set(title="Natural gradient: error", xlabel="x", ylabel="y")
for (name, run), colour in zip(runs.items(), ("#0072B2", "#D55E00", "#7A7A7A"), strict=True):
    losses = run.stats["losses"]
    seconds = np.linspace(0, run.stats["seconds"], len(losses))
    right.semilogy(seconds, losses, color=colour, label=f"{name}: error {relative[name]:.0e}")
right.set(title="Loss over time", xlabel="seconds", ylabel="loss")
right.legend(frameon=False)
figure

# %%
# How rough is the landscape?
# ---------------------------
# Deep Ritz minimises the energy, deep Galerkin the squared residual. Around the natural gradient's
# network, which is near the minimum of both, the losses are taken along random directions. A
# curve's total variation over its range is 2 for a symmetric well, and grows with each further
# bump; the index is its spread over the directions by its mean.

data = PoissonData(
    inside,
    inside_weights,
    edge,
    edge_weights,
    2 * jnp.pi**2 * jax.vmap(solution)(inside),
    jnp.zeros(len(edge)),
)
best = runs["natural gradient"].value
landscapes = {
    name: roughness_index(loss, best, key=jax.random.key(1), n_directions=40, length=1.0)
    for name, loss in {
        "deep Ritz": DeepRitzLoss(data, 100.0),
        "deep Galerkin": DeepGalerkinLoss(data, 100.0),
    }.items()
}
plot_roughness(landscapes, title="Losses around one network, along 40 random directions")
