"""
Gradient of a solve: find what conducts
=======================================

Temperatures are measured in a plate; which parts of it conduct well is asked for. A loss is
differentiated through the solution of a linear system, with flexible conjugate gradients and a
multigrid preconditioner inside. The gradient is implicit: one more solve, nothing is unrolled.
"""

import jax
import jax.numpy as jnp
import lineax as lx
import matplotlib.figure
import numpy as np
import optax

from sciml.linear_solvers import FlexibleCG, MultigridPreconditioner
from sciml.problems import diffusion_operator

# %%
# The plate
# ---------
# Three sources, one after the other, heat a plate whose rim is held at zero. The conductivity is 1
# but for a disc and a bar.

n = 24
x, y = jnp.meshgrid(*2 * [(jnp.arange(n) + 0.5) / n], indexing="ij")
disc = (x - 0.35) ** 2 + (y - 0.62) ** 2 < 0.17**2
bar = (jnp.abs(x - 0.72) < 0.08) & (jnp.abs(y - 0.4) < 0.25)
truth = jnp.where(disc, 4.0, jnp.where(bar, 0.25, 1.0))
centres = ((0.25, 0.25), (0.7, 0.75), (0.5, 0.45))
sources = jnp.stack([jnp.exp(-30 * ((x - a) ** 2 + (y - b) ** 2)) for a, b in centres])

# %%
# The solve
# ---------
# The preconditioner is built in the function that is differentiated, from the coefficient of the
# moment; it gets no gradient and needs none, since the answer does not depend on it. The ``plan``
# of coarsening is fixed beforehand so that all this can be compiled.

plan = MultigridPreconditioner(diffusion_operator((n, n))).plan


def temperatures(log_k):
    operator = diffusion_operator((n, n), coefficient=jnp.exp(log_k))
    frozen = jax.tree.map(jax.lax.stop_gradient, operator)
    cycle = MultigridPreconditioner(frozen, plan=plan, dtype=log_k.dtype)
    solver = FlexibleCG(cycle, rtol=1e-10, atol=0.0)

    def solve(b):
        return lx.linear_solve(operator.as_lineax(), b, solver).value

    return jax.vmap(solve)(sources.astype(log_k.dtype))


def loss(log_k, measured):
    misfit = jnp.mean((temperatures(log_k) - measured) ** 2) / jnp.mean(measured**2)
    steps = [jnp.diff(log_k, axis=axis) for axis in (0, 1)]
    # Total variation, rounded at the tip: it likes pieces of constant value.
    roughness = sum(jnp.mean(jnp.sqrt(d**2 + 1e-4)) for d in steps)
    return misfit + 2e-5 * roughness


# %%
# Is the gradient right?
# ----------------------
# Along a random direction, beside a central difference, in float64.

with jax.enable_x64(True):
    truth64 = jnp.log(truth).astype(jnp.float64)
    measured = temperatures(truth64)
    start = jnp.zeros((n, n), jnp.float64)
    value_and_gradient = jax.jit(jax.value_and_grad(loss))
    _, gradient = value_and_gradient(start, measured)
    direction = jax.random.normal(jax.random.key(8), (n, n), jnp.float64)
    along = float(jnp.vdot(gradient, direction))
    h = 1e-4
    ends = [float(value_and_gradient(start + s * h * direction, measured)[0]) for s in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * h)
print(f"gradient {along:.10e}, difference quotient {difference:.10e}")
print(f"relative difference {abs(along / difference - 1):.1e}")

# %%
# Descent
# -------
# Adam on the logarithm of the conductivity, from a plate of 1 everywhere. Each step solves six
# systems: three for the temperatures, three for the gradient.

n_steps = 150
optimizer = optax.adam(optax.cosine_decay_schedule(0.15, n_steps))
with jax.enable_x64(True):
    found, state, values = start, optimizer.init(start), []
    for _ in range(n_steps):
        value, gradient = value_and_gradient(found, measured)
        updates, state = optimizer.update(gradient, state)
        found = optax.apply_updates(found, updates)
        values.append(float(value))
print(f"loss {values[0]:.1e} at the start, {values[-1]:.1e} at the end")

# %%
# The disc and the bar are back. Where little heat flows, next to the rim and in the corners, the
# measurements say little, and the penalty decides.

figure = matplotlib.figure.Figure(figsize=(10, 3.1), layout="constrained")
panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
for panel, title, field in zip(panels, ("truth", "found"), (truth64, found), strict=False):
    image = panel.imshow(
        np.asarray(field).T, origin="lower", cmap="PuOr_r", vmin=-1.6, vmax=1.6, extent=(0, 1, 0, 1)
    )
    panel.contour(
        x[:, 0], y[0], np.asarray(truth64).T, levels=[-0.7, 0.7], colors="k", linewidths=0.8
    )
    panel.set_title(f"log of the conductivity, {title}", fontsize=10)
    panel.set_xticks([])
    panel.set_yticks([])
figure.colorbar(image, ax=panels[:2], shrink=0.85)
panels[2].semilogy(values, color="#0072B2")
panels[2].set_xlabel("step of the descent")
panels[2].set_ylabel("loss")
for side in ("top", "right"):
    panels[2].spines[side].set_visible(False)
figure
