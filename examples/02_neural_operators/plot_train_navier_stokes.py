"""
Train an operator on Navier-Stokes
==================================

A spatiotemporal Fourier neural operator (SFNO) learns to continue two-dimensional flows: it is
given ten snapshots and predicts the next forty. It is trained on a coarse grid and judged on flows
that it never saw, on a finer grid, beside the trivial forecast and a classical solver. This is a
short run; ``make bench`` trains longer and on more trajectories.
"""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np

import sciml
from sciml.data import GaussianNormaliser, VorticitySymmetries
from sciml.neural_operators import SFNO, Persistence, SolverForecaster, evaluate, rollout
from sciml.problems import ETDRK4, NavierStokes2D
from sciml.train import fit, one_cycle_adam, one_cycle_schedule

# %%
# The shipped sample
# ------------------
# The fields are smooth enough for 16 x 16 points (the spectrum below shows it), so training needs
# no more. ``context`` holds what drives the flow and does not change: the forcing.

coarse = sciml.data.load("navier-stokes", n_points=16)
coarse.train

# %%
# Training
# --------
# Each step sees four windows of ten plus forty snapshots that start anywhere in a trajectory, and
# turns them by symmetries of the equation. The normaliser becomes a part of the model.

n_in, n_out, n_steps = 10, 40, 450
model = SFNO(
    channels=1,
    dt=coarse.train.dt,
    horizon=n_out * coarse.train.dt,
    n_modes=(6, 6, 6),  # latent time, x, y
    hidden_channels=8,
    context_channels=1,
    normaliser=GaussianNormaliser.fit(coarse.train),
    key=jax.random.key(2025),
)
solution = fit(
    model,
    coarse.train.windows(
        n_in, n_out, batch_size=4, seed=2025, transform=VorticitySymmetries.for_fno_forcing()
    ),
    optimizer=one_cycle_adam(1e-2, n_steps),
    n_steps=n_steps,
    validation=coarse.validation.windows(n_in, n_out, batch_size=4, seed=2025, shuffle=False),
    validate_every=75,
    key=jax.random.key(2026),
    progress=False,
)
model = solution.value
print(f"{n_steps} steps in {solution.stats['seconds']:.0f} s, compilation included")
sciml.plot.plot_training(
    solution.stats["history"],
    learning_rate=one_cycle_schedule(1e-2, n_steps),
    title="Relative L2 error while training",
)

# %%
# How good is it?
# ---------------
# Persistence repeats the last snapshot. ETDRK4 knows the equation, the viscosity and the forcing;
# it takes two steps a snapshot because one is not stable for every trajectory. Errors are relative
# norms over all of space and time; seconds are those of one forecast, without compilation.

test = sciml.data.load("navier-stokes", n_points=64).test
problem = NavierStokes2D(
    test.n_points,
    viscosity=test.attributes["viscosity"],
    domain_extent=test.domain_extent,
    forcing=jnp.asarray(test.context[0]),
)
scores = evaluate(
    {
        "persistence": Persistence(),
        "SFNO": model,
        "ETDRK4": SolverForecaster(problem, ETDRK4(), test.dt, substeps=2),
    },
    test,
    n_in,
    n_out,
)
columns = {
    "method": "method",
    "relative_l2": "relative L2",
    "relative_h1": "relative H1",
    "seconds": "seconds",
}
print(sciml.core.format_table([score.row() for score in scores], columns))

# %%
# The network never saw this grid and has learned the flow: its error is a small part of that of
# persistence. The solver still wins on accuracy by orders of magnitude, and it needs no training.
# That is the rule where the equation is known and the flow is smooth; a network is worth its
# training where the equation is not known, or where a step of the solver is dear.

times = test.dt * np.arange(1, n_out + 1)
sciml.plot.plot_error_curves(
    {score.method: score.error_curve for score in scores},
    times=times,
    title="Error against lead time, unseen flows at 64 x 64",
)

# %%
# The error has a colour range of its own; on that of the fields it could not be seen.

truth = test.values[0, n_in : n_in + n_out]
predictions = {score.method: score.example for score in scores}
sciml.plot.plot_fields(
    truth,
    predictions["SFNO"],
    times=times,
    domain_extent=test.domain_extent,
    prediction_name="SFNO",
)

# %%
# The network follows the spectrum down to about a millionth of the largest value. Its layers keep
# six modes an axis, up to a wavenumber of 31; beyond, it has only what its pointwise functions make
# of them. The truth ends at 82, where the sample is cut off; what is left is rounding.

sciml.plot.plot_spectrum(
    {"truth": truth, "SFNO": predictions["SFNO"]},
    domain_extent=test.domain_extent,
    title="Enstrophy spectrum at the last time",
)

# %%
# Save and load
# -------------
# A folder with the constructor's arguments and the arrays; nothing is pickled.

with tempfile.TemporaryDirectory() as folder:
    sciml.save(f"{folder}/model", model)
    model = sciml.load(f"{folder}/model")

# %%
# Other times, another grid
# -------------------------
# The model knows physical time: ten snapshots of the same horizon are every fourth of the forty. A
# finer grid needs no other weights. It adds no scales either, so the error stays what it was.

inputs, context = jnp.asarray(test.values[0, :n_in]), jnp.asarray(test.context[0])
forty = model(inputs, 40, context=context)
ten = model(inputs, 10, dt_out=4 * test.dt, context=context)
print(f"largest difference: {float(jnp.abs(ten - forty[3::4]).max()):.1e}")

fine = sciml.data.load("navier-stokes", n_points=96).test
on_fine = model(fine.values[0, :n_in], 40, context=fine.context[0])
fine_truth = fine.values[0, n_in : n_in + 40]
for n, prediction, reference in ((64, forty, truth), (96, on_fine, fine_truth)):
    error = float(sciml.numerics.relative_l2(prediction, reference))
    print(f"{n} x {n} points: relative L2 {error:.4f}")

# %%
# Beyond the horizon
# ------------------
# The model refuses times that it never learned. To go on, feed the forecast back: that is what
# `sciml.neural_operators.rollout` does.

try:
    model(inputs, 54, context=context)
except ValueError as error:
    print(error)

fed_back = rollout(model, inputs, 54, window=40, context=context)

# %%
# Errors that are fed back grow: the curve is steeper behind the horizon (8 time units) than before
# it. To use an operator mainly in this way, train it so, on fed-back forecasts.

forecasts = {"persistence": jnp.repeat(inputs[-1:], 54, axis=0), "SFNO, fed back": fed_back}
further_truth = test.values[0, n_in : n_in + 54]
sciml.plot.plot_error_curves(
    {
        name: sciml.numerics.relative_error_curve(forecast, further_truth, test.domain_extent)[None]
        for name, forecast in forecasts.items()
    },
    times=test.dt * np.arange(1, 55),
    title="Beyond the horizon of 8 time units",
)
