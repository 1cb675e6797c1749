"""
Values on the boundary: built in, or by least squares
=====================================================

A population spreads from the left end of a strip (Fisher's equation). Values at both ends are
prescribed and change with time. They can be built into the network, which then meets them exactly,
or be further rows of each fit; what those miss is reported apart.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from sciml.natural_gradient import (
    BoundaryAnsatz,
    CollocationPoints,
    SoftBoundary,
    box_quadrature,
    fit_initial,
    laplacian,
    march,
)

# Natural gradients need double precision.
jax.config.update("jax_enable_x64", True)

# %%
# The equation has a travelling wave, which gives the values at the ends and the truth inside.

SPREAD, RATE = 0.02, 2.0


def wave(t, x):
    z = jnp.sqrt(RATE / (6 * SPREAD)) * (x[0] - 0.3) - 5 / 6 * RATE * t
    return 1 / (1 + jnp.exp(z)) ** 2


def fisher(t, x, u):
    return SPREAD * laplacian(u)(x) + RATE * u(x) * (1 - u(x))


# %%
# Built in: the network times a distance that is zero at the ends, plus a line between the values.


def line(t, x):
    left, right = wave(t, jnp.zeros(1)), wave(t, jnp.ones(1))
    return left + (right - left) * x[0]


points = CollocationPoints(*box_quadrature(80, 1))
plain = eqx.nn.MLP(1, "scalar", 10, 2, activation=jnp.tanh, key=jax.random.key(2))
hard = BoundaryAnsatz(plain, lambda x: x[0] * (1 - x[0]), line)

# %%
# By least squares: two points, with a weight.

ends = SoftBoundary(jnp.asarray([[0.0], [1.0]]), jnp.ones(2), wave, weight=10.0)

axis = np.linspace(0, 1, 101)
runs, times = {}, tuple(float(t) for t in np.linspace(0.05, 0.4, 8))
for name, network, boundary in (("built in", hard, ()), ("least squares", plain, (ends,))):
    fit = fit_initial(
        network, lambda x: wave(0.0, x), points, key=jax.random.key(3), rtol=1e-6,
        boundary=boundary,
    )  # fmt: skip
    runs[name] = run = march(
        fisher, fit.value, points, t1=0.4, dt=0.0125, boundary=boundary, saveat=times
    )
    truth = np.asarray(jax.vmap(lambda x: wave(0.4, x))(jnp.asarray(axis)[:, None]))
    ours = np.asarray(jax.vmap(run.value)(jnp.asarray(axis)[:, None]))
    print(f"{name:13} largest error {np.abs(ours - truth).max():.1e}, at the ends "
          f"{np.abs(ours - truth)[[0, -1]].max():.1e}, certificate (L2) "
          f"{run.stats['error_bound']:.1e}")  # fmt: skip

# %%
# The wave at the times that were kept, and the error at the end over the strip.

figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
left, right = figure.subplots(1, 2)
x = jnp.asarray(axis)[:, None]
for i, (_t, network) in enumerate(zip(times, runs["built in"].stats["networks"], strict=True)):
    left.plot(axis, jax.vmap(network)(x), color=(0.0, 0.45, 0.7, 0.25 + 0.75 * i / len(times)))
left.set(title=f"t = {times[0]:.2f} (light) to {times[-1]:.2f}", xlabel="x", ylabel="u")
for (name, run), colour in zip(runs.items(), ("#0072B2", "#D55E00"), strict=True):
    miss = np.abs(np.asarray(jax.vmap(run.value)(x)) - truth)
    right.semilogy(axis, np.maximum(miss, 1e-17), color=colour, label=name)
right.set(title="error at the end", xlabel="x", ylabel="|error|", ylim=(1e-10, None))
right.legend(frameon=False)
figure
