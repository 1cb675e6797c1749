"""
How far can I trust a forecast, and make it better?
===================================================

A network's forecast does not come with an error bar. Where the equation is known, its residual
gives one, without the truth; and the residual can be driven to zero, which turns the forecast into
a solution of the equation. Both are shown here for a spatiotemporal operator, beside what the same
costs without any network.
"""

import jax
import jax.numpy as jnp
import numpy as np

import sciml
from sciml.data import GaussianNormaliser, VorticitySymmetries
from sciml.neural_operators import (
    LBFGS,
    SFNO,
    FiniteDifferenceResidual,
    NewtonGMRES,
    OutputLayerLBFGS,
    SolverForecaster,
    estimate,
    refine,
)
from sciml.numerics import relative_l2
from sciml.problems import ETDRK4, NavierStokes2D, solve
from sciml.train import fit, one_cycle_adam

# %%
# A forecast
# ----------
# A short training run on the shipped sample, as in the example before this one.

n_in, n_out, n_steps = 10, 10, 220
coarse = sciml.data.load("navier-stokes", n_points=16).train
model = SFNO(
    channels=1,
    dt=coarse.dt,
    horizon=n_out * coarse.dt,
    n_modes=(5, 6, 6),  # latent time, x, y
    hidden_channels=8,
    context_channels=1,
    normaliser=GaussianNormaliser.fit(coarse),
    key=jax.random.key(2027),
)
transform = VorticitySymmetries.for_fno_forcing()
solution = fit(
    model,
    coarse.windows(n_in, n_out, batch_size=4, seed=2027, transform=transform),
    optimizer=one_cycle_adam(1e-2, n_steps),
    n_steps=n_steps,
    key=jax.random.key(2028),
    progress=False,
)
model = solution.value
print(f"{n_steps} steps in {solution.stats['seconds']:.0f} s, compilation included")

# %%
# From here on everything is in float64: a residual is a difference of large numbers, divided by
# the time step. A program of your own switches it on in its first line. The sample is rounded to
# float32 and cut off at wavenumber 13, an error of 1e-5 that refinement would see. So the known
# snapshots, and the truth to compare with, are marched anew from one that no training has seen.

jax.config.update("jax_enable_x64", True)
test = sciml.data.load("navier-stokes", n_points=32).test.astype(np.float64)
context = jnp.asarray(test.context[0])
problem = NavierStokes2D(
    test.n_points,
    viscosity=test.attributes["viscosity"],
    domain_extent=test.domain_extent,
    forcing=context,
)
dt = test.dt
flow = solve(
    problem,
    jnp.asarray(test.values[0, 0]),
    dt=dt / 10,
    n_steps=10 * (n_in + n_out - 1),
    save_every=10,
).value
inputs, truth = flow[:n_in], flow[n_in:]
forecast = jax.jit(lambda known: model(known, n_out, context=context))(inputs)
persistence = jnp.broadcast_to(inputs[-1], truth.shape)

# %%
# How wrong is it?
# ----------------
# The relative residual is 0 for a solution and about 1 for fields that have nothing to do with the
# equation. The estimated error is what the residual would make if nothing but diffusion carried
# it on. The bound holds for every flow, and is pessimistic for that reason. None of the three looks
# at the truth; the last column does.

noise = 0.1 * jax.random.normal(jax.random.key(2029), truth.shape, float)
rows = []
for name, field in {
    "truth": truth,
    "truth and 1% of persistence": 0.99 * truth + 0.01 * persistence,
    "SFNO": forecast,
    "persistence": persistence,
    "truth and noise": truth + noise,
}.items():
    found = estimate(field, inputs, problem, dt=dt)
    rows.append(
        {
            "forecast": name,
            "residual": float(found.relative_eta),
            "estimate": float(found.relative_error),
            "bound": float(found.relative_bound),
            "error": float(relative_l2(field, truth)),
        }
    )
columns = {
    "forecast": "forecast",
    "residual": "relative residual",
    "estimate": "estimated error",
    "bound": "bound",
    "error": "true error",
}
print(sciml.core.format_table(rows, columns))

# %%
# The estimate is close for all that is near a solution. The truth itself has a residual, too: that
# of differences of order four between snapshots 0.2 apart.
#
# Make it solve the equation
# --------------------------
# `sciml.neural_operators.refine` drives the residual to zero, all snapshots at once. Newton's
# method does so on the coefficients of the trajectory. L-BFGS needs gradients only and takes more
# of them. The published way tunes the last layer of the network: it cannot leave what that layer
# can express. The control is Newton's method from persistence, without any network.

residual = FiniteDifferenceResidual(6)


def run(start, method, stops):
    """Refine; return the record, and the residual and error on the way there."""
    model_arguments = {"n_steps": n_out, "context": context} if callable(start) else {}
    path = {"work": [], "residual": [], "error": []}
    for max_steps in stops:
        solution = refine(
            start,
            inputs,
            problem,
            dt=dt,
            residual=residual,
            method=method,
            max_steps=max_steps,
            adapt_windows=False,
            throw=False,
            **model_arguments,
        )
        stats = solution.stats
        path["work"].append(stats["n_matvecs"] + stats["n_gradients"])
        path["residual"].append(stats["relative_eta"])
        path["error"].append(float(relative_l2(solution.value, truth)))
    return solution, path


def with_start(field, path):
    """Put the state before the first step in front of a path."""
    first = float(estimate(field, inputs, problem, dt=dt, residual=residual).relative_eta)
    values = {"work": 0, "residual": first, "error": float(relative_l2(field, truth))}
    return {name: [values[name], *entries] for name, entries in path.items()}


newton, newton_path = run(forecast, NewtonGMRES(), (1, 2, 3, 4, 20))
_, control_path = run(persistence, NewtonGMRES(), (1, 2, 3, 4, 20))
_, lbfgs_path = run(forecast, LBFGS(100), (1, 3, 10))
_, layer_path = run(model, OutputLayerLBFGS(n_iterations=40), (4,))
paths = {
    "SFNO, Newton": with_start(forecast, newton_path),
    "SFNO, L-BFGS": with_start(forecast, lbfgs_path),
    "SFNO, last layer": with_start(forecast, layer_path),
    "persistence, Newton": with_start(persistence, control_path),
}

# %%
# Marching needs no forecast at all. It solves one snapshot after the other, where refinement works
# on all of them at once; that is the only thing that a parallel machine could make up for.

march = SolverForecaster(problem, ETDRK4(), dt, substeps=2)
marched = march(inputs, n_out)
rows = [
    {
        "start": name.split(", ")[0],
        "method": name.split(", ")[1],
        "work": path["work"][-1],
        "residual": path["residual"][-1],
        "error": path["error"][-1],
    }
    for name, path in paths.items()
]
rows.append(
    {
        "start": "last snapshot",
        "method": "ETDRK4, 2 steps a snapshot",
        "residual": float(
            estimate(marched, inputs, problem, dt=dt, residual=residual).relative_eta
        ),
        "error": float(relative_l2(marched, truth)),
    }
)
columns = {
    "start": "start",
    "method": "method",
    "work": "products or gradients",
    "residual": "relative residual",
    "error": "true error",
}
print(sciml.core.format_table(rows, columns))

# %%
# The picture
# -----------
# The residual field shows where a forecast is wrong before anybody knows the truth. The error falls
# with the residual until it meets the floor of the differences in time; the residual goes on.

sciml.plot.plot_refinement(
    forecast,
    sciml.neural_operators.estimate(forecast, inputs, problem, dt=dt, residual=residual).residual,
    newton.value,
    truth=truth,
    runs=paths,
    levels={"ETDRK4, marching": float(relative_l2(marched, truth))},
    times=dt * np.arange(1, n_out + 1),
    domain_extent=test.domain_extent,
    prediction_name="SFNO",
    baselines=("persistence, Newton",),
    title="A forecast, its residual, and what is left when the residual is gone",
)

# %%
# On this smooth flow the start does not matter: persistence arrives at the same floor, after fewer
# products. And where a good solver exists, marching it is cheaper. What refinement is for:
# a certificate for a forecast that you have, a solve that is parallel in time, and a label-free
# term for training.
