"""
A network whose output solves the equation
==========================================

The last layer of a network is linear. Here its weights are not trained: a least-squares solve finds
them for each problem, such that the output satisfies a differential equation. Training then only
improves the basis functions, and needs no solution data. The equation is nonlinear diffusion with
sorption on 0 < x < 1; walls and total mass are imposed exactly.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import optax

from sciml.constraints import (
    BoxRouter,
    Condition,
    CoordinateBasis,
    Experts,
    HardConstraint,
    IntegralResidual,
    Points,
    Residual,
    refine,
)
from sciml.train import fit

# A solve needs double precision.
jax.config.update("jax_enable_x64", True)

# %%
# The problem
# -----------
# :math:`u_t = \partial_x (D(u) u_x)` with :math:`D = p\,(0.2 + u^2)`, insulated ends, and a bump at
# the start. The parameter :math:`p` differs from problem to problem. Nothing leaves, so that the
# mass is that of the start at all times.


def bump(x):
    return 0.7 + 0.2 * jnp.cos(jnp.pi * x) - 0.4 * jnp.cos(2 * jnp.pi * x)


def equation(jet, x, p):
    u, u_x = jet["u"], jet["u_x"]
    return jet["u_t"] - p * ((0.2 + u**2) * jet["u_xx"] + 2 * u * u_x**2)


nodes, weights = np.polynomial.legendre.leggauss(24)
nodes, weights = 0.5 + 0.5 * nodes, 0.5 * weights
total = float(weights @ np.asarray(bump(nodes)))

blocks = [
    Residual(equation, ("u", "u_t", "u_x", "u_xx")),
    Residual(
        lambda jet, x, p: jet["u_x"],
        ("u_x",),
        name="walls",
        condition=Condition.exact,
        everywhere=True,
    ),
    IntegralResidual(lambda jet, x, p: jet["u"], ("u",), name="mass", target=lambda x, p: total),
]

# %%
# Points for each block: scattered ones for the equation, a few times at which walls and mass are
# exact.

rng = np.random.default_rng(12)
times = np.array([0.1, 0.25, 0.5, 0.75, 1.0])
cells = np.stack(np.broadcast_arrays(times[:, None], nodes), -1)
points = {
    "pde": jnp.asarray(np.stack([rng.uniform(size=500), rng.uniform(size=500)], 1)),
    "walls": jnp.asarray([[t, end] for t in times for end in (0.0, 1.0)]),
    "mass": Points(jnp.asarray(cells), quadrature=jnp.asarray(np.tile(weights, (5, 1)))),
}

# %%
# The layer
# ---------
# A small network gives 32 basis functions. They are multiplied by t, so that the lift, the bump,
# holds at the start.


class Net(eqx.Module):
    mlp: eqx.nn.MLP

    def __call__(self, x, p):
        inputs = 2 * jnp.stack([2 * x[0] - 1, 2 * x[1] - 1, 20 * p - 1])
        return x[0] * self.mlp(inputs)


def layer(net):
    basis = CoordinateBasis(net, lift=lambda x, p: bump(x[1]))
    return HardConstraint(basis, blocks)


key = jax.random.key(8)
net = Net(eqx.nn.MLP(3, 32, 32, 2, activation=jnp.tanh, key=key, dtype=jnp.float64))
p = jnp.asarray(0.05)
field = layer(net)(p, points).check()
print(f"untrained: {int(field.stats['n_steps'][0])} steps of Levenberg-Marquardt")
print(f"residual {float(field.stats['residual_norm'][0]):.2e}")
print(f"walls and mass to {float(field.stats['exact_defect'][0]):.1e}")

# %%
# Training makes better basis functions
# -------------------------------------
# The loss is the residual that the solve leaves, for random parameters. Its gradient comes from the
# implicit function theorem; the steps of the solver are not stored.


class Batches:
    def __getitem__(self, step):
        return jnp.asarray(np.random.default_rng(step).uniform(0.02, 0.08, 1))


def loss(model, batch, key):
    def one(p):
        found = layer(model)(p, points)
        return jnp.mean(found.residual(blocks[0], points["pde"]) ** 2)

    return jnp.mean(jax.vmap(one)(batch))


solution = fit(
    net,
    Batches(),
    loss=loss,
    optimizer=optax.adam(5e-3),
    n_steps=200,
    key=key,
    progress=False,
)
trained = layer(solution.value)(p, points).check()
print(f"residual after training {float(trained.stats['residual_norm'][0]):.2e}")

# %%
# More points and a tighter tolerance at test time cost one solve and no training. Two experts,
# each with the half of the domain and mixed smoothly, are the same layer with a router.

more = points | {"pde": jnp.asarray(np.stack([rng.uniform(size=2000), rng.uniform(size=2000)], 1))}
refined = refine(layer(solution.value), trained, more).check()
router = BoxRouter((0.0, 0.0), (1.0, 1.0), (1, 2), overlap=0.3)
mixed = Experts(layer(solution.value), router)(p, more).check()
print(f"steps of the experts: {mixed.stats['n_steps']}")
print(f"mixed field: walls and mass to {float(mixed.stats['exact_defect'].max()):.1e}")

# %%
# How good is it?
# ---------------
# The classical rival is a finite-volume method of lines, which takes well under a second for this
# problem; a layer like this pays where many parameters are asked for, or gradients.

from scipy.integrate import solve_ivp

n = 200
x = (np.arange(n) + 0.5) / n


def rhs(_, u):
    face = 0.5 * (u[1:] + u[:-1])
    flux = np.concatenate([[0], 0.05 * (0.2 + face**2) * np.diff(u) * n, [0]])
    return np.diff(flux) * n


shown = np.array([0.0, 0.05, 0.25, 1.0])
truth = solve_ivp(
    rhs, (0, 1), np.asarray(bump(x)), method="LSODA", t_eval=shown, rtol=1e-8, lband=1, uband=1
).y.T
fields = {
    "untrained": field,
    "trained": trained,
    "trained, refined": refined,
    "two experts": mixed,
}
grid = jnp.asarray(np.stack(np.meshgrid(shown, x, indexing="ij"), -1).reshape(-1, 2))
values = {name: np.asarray(f.jet(grid, ("u",))["u"]).reshape(4, n) for name, f in fields.items()}
for name, found in values.items():
    error = np.linalg.norm(found[1:] - truth[1:]) / np.linalg.norm(truth[1:])
    print(f"{name:18} relative L2 error {error:.2e}")

# %%

figure = matplotlib.figure.Figure(figsize=(10, 3.4), layout="constrained")
left, right = figure.subplots(1, 2)
for k, (t, colour) in enumerate(zip(shown, ("0.75", "#7fb3d5", "#2874a6", "#154360"), strict=True)):
    left.plot(x, truth[k], color=colour, label=f"t = {t:g}")
    left.plot(x[::10], values["trained, refined"][k][::10], "o", ms=3, color=colour)
left.set(xlabel="x", ylabel="u", title="finite volumes (lines), layer (dots)")
left.legend(frameon=False)
for name, colour in zip(values, ("0.6", "#d98880", "#922b21", "#1e8449"), strict=True):
    right.semilogy(x, np.abs(values[name][3] - truth[3]) + 1e-9, color=colour, label=name)
right.set(xlabel="x", ylabel="error at t = 1", title="error at the last time")
right.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
figure
