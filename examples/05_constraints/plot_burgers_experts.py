"""
Experts for Burgers' equation: alone or together
================================================

A mixture of experts cuts the domain into parts and gives each part a solve of its own. Alone, the
experts run on different devices without a word in between; but an expert whose part touches no
boundary has an equation with many solutions, and takes one that its neighbours do not. Solved
together, as one problem with the unknowns of all, they agree. Burgers' equation with random
features shows both, beside one expert with as many unknowns as one of the four, and as all of them.
Nothing is trained here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from scipy.integrate import solve_ivp

from sciml.constraints import (
    BoxRouter,
    CoordinateBasis,
    Experts,
    HardConstraint,
    LevenbergMarquardt,
    Residual,
    couple_experts,
)

# A solve needs double precision.
jax.config.update("jax_enable_x64", True)

# %%
# The problem
# -----------
# :math:`u_t + u u_x = \nu u_{xx}` on -1 < x < 1, zero at both ends, from :math:`-\sin(\pi x)`: a
# front forms at x = 0.

VISCOSITY, EDGES = 0.03, (-0.5, 0.0, 0.5)


def equation(jet, x, p):
    return jet["u_t"] + jet["u"] * jet["u_x"] - VISCOSITY * jet["u_xx"]


blocks = [Residual(equation, ("u", "u_t", "u_x", "u_xx"))]


def start(x):
    # The lift. It holds at both ends, too; functions that vanish there leave it so.
    return -jnp.sin(jnp.pi * x)


class Features(eqx.Module):
    """Random tanh functions of t and x, times one that vanishes at the start and at the ends."""

    weights: jax.Array
    shifts: jax.Array

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        directions = rng.normal(size=(n, 2))
        scales = np.exp(rng.uniform(0, np.log(12), (n, 1)))
        centres = rng.uniform([0, -1], [1, 1], (n, 2))
        self.weights = jnp.asarray(scales * directions)
        self.shifts = jnp.asarray(-np.sum(scales * directions * centres, axis=1))

    def __call__(self, x, p):
        return x[0] * (1 - x[1] ** 2) * jnp.tanh(self.weights @ x + self.shifts)


def layer(n):
    basis = CoordinateBasis(Features(n, seed=5), lift=lambda x, p: start(x[1]))
    return HardConstraint(basis, blocks, solver=LevenbergMarquardt(newton_steps=0))


router = BoxRouter((0.0, -1.0), (1.0, 1.0), (1, 4), overlap=0.2)
rng = np.random.default_rng(9)
points = {"pde": jnp.asarray(rng.uniform([0, -1], [1, 1], (3000, 2)))}

# %%
# Four ways to solve it
# ---------------------
# All of them use the same points and the same rows.

solvers = {
    "1 expert, 24 functions": layer(24),
    "4 experts alone": Experts(layer(24), router),
    "4 experts together": couple_experts(layer(24), router),
    "1 expert, 96 functions": layer(96),
}
fields = {name: solver(None, points) for name, solver in solvers.items()}
for name, field in fields.items():
    unknowns, steps = field.w.size, field.stats["n_steps"]
    residual = np.asarray(field.stats["residual_norm"])
    print(f"{name:24} {unknowns:3d} unknowns, steps {steps}, residual {np.round(residual, 3)}")

# %%
# How good are they?
# ------------------
# The reference is a finite-volume method of lines, which solves this single problem faster than any
# of them.

n = 400
x = -1 + (2 * np.arange(n) + 1) / n
times = np.array([0.1, 0.3, 1.0])


def rhs(_, u):
    padded = np.concatenate([[-u[0]], u, [-u[-1]]])
    face = 0.5 * (padded[1:] + padded[:-1])
    flux = 0.5 * face**2 - VISCOSITY * np.diff(padded) * n / 2
    return -np.diff(flux) * n / 2


truth = solve_ivp(
    rhs, (0, 1), -np.sin(np.pi * x), method="LSODA", t_eval=times, rtol=1e-8, lband=1, uband=1
).y.T
grid = jnp.asarray(np.stack(np.meshgrid(times, x, indexing="ij"), -1).reshape(-1, 2))
values = {name: np.asarray(f.jet(grid, ("u",))["u"]).reshape(3, n) for name, f in fields.items()}
errors = {name: np.linalg.norm(v - truth) / np.linalg.norm(truth) for name, v in values.items()}
for name, error in errors.items():
    print(f"{name:24} relative L2 error {error:.2e}")

# %%
# Where do they disagree?
# -----------------------
# Left: each of the lone experts on its own part and a little beyond. Right: the error of the four
# fields at the last time.

alone = fields["4 experts alone"]
at_end = jnp.asarray(np.stack([np.full(n, times[-1]), x], 1))
each = [
    np.asarray(alone.basis.combination(alone.w[k : k + 1], None, at_end, None, ("u",))["u"])
    for k in range(4)
]
figure = matplotlib.figure.Figure(figsize=(9.5, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(x, truth[-1], color="0.75", lw=4, label="finite volumes")
for k, values_of_one in enumerate(each):
    own = np.abs(x - (-0.75 + 0.5 * k)) < 0.35
    left.plot(x[own], values_of_one[own], color=f"C{k}", label=f"expert {k + 1}")
for edge in EDGES:
    left.axvline(edge, color="0.85", lw=0.8, zorder=0)
    right.axvline(edge, color="0.85", lw=0.8, zorder=0)
left.set(xlabel="x", ylabel="u", title="four experts alone, t = 1")
left.legend(frameon=False, fontsize=8)
for (name, found), colour in zip(
    values.items(), ("0.5", "#c0392b", "#1e8449", "#2874a6"), strict=True
):
    label = f"{name}: {errors[name]:.1e}"
    right.semilogy(x, np.abs(found[-1] - truth[-1]) + 1e-7, color=colour, label=label)
right.set(xlabel="x", ylabel="error at t = 1", ylim=(1e-6, 20), title="relative L2 in the legend")
right.legend(frameon=False, fontsize=8, loc="lower center")
figure
