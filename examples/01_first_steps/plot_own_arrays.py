"""
Your own arrays in 20 lines
===========================

Any array of trajectories on a uniform grid can train an operator, once you say what its axes mean.
Here is one that sciml did not make: temperature patterns that drift with the wind and diffuse, in
an order that many MATLAB files have, sample and time last.
"""

import jax
import numpy as np

import sciml
from sciml.data import FieldDataset, GaussianNormaliser
from sciml.neural_operators import SFNO, Persistence, evaluate
from sciml.train import fit, one_cycle_adam

t = 0.05 * np.arange(30)
k = 2 * np.pi * np.fft.fftfreq(20, 1 / 20)[:, None, None, None]  # 20 points of a period of 1
decay = (k**2 + k.transpose(1, 0, 2, 3) ** 2) * (0.01 + 0.004 * t)
start = np.random.default_rng(2024).normal(size=(20, 20, 60, 1))
spectrum = np.fft.fft2(start, axes=(0, 1)) * np.exp(-decay - 0.7j * k * t)
array = np.fft.ifft2(spectrum, axes=(0, 1)).real
array.shape

# %%
# Name the axes, the extent of the domain and the time between snapshots, put samples aside, and let
# a model see four snapshots and predict the next sixteen. This is all of it:

data = FieldDataset.from_array(
    array, axis_order="x y sample time", domain_extent=1.0, dt=0.05, channels=["temperature"]
)
splits = data.split(n_validation=6, n_test=6)
windows = splits.train.windows(n_in=4, n_out=16, batch_size=4, seed=2024)

key = jax.random.key(2024)
normaliser = GaussianNormaliser.fit(splits.train)
sizes = {"n_modes": (6, 6, 6), "hidden_channels": 8}  # modes of time, x and y
model = SFNO(1, dt=data.dt, horizon=16 * data.dt, **sizes, normaliser=normaliser, key=key)

optimizer = one_cycle_adam(1e-2, 250)
solution = fit(model, windows, optimizer=optimizer, n_steps=250, key=key, progress=False)

models = {"persistence": Persistence(), "SFNO": solution.value}
scores = evaluate(models, splits.test, n_in=4, n_out=16)
for score in scores:
    print(f"{score.method:11}  relative L2 {score.relative_l2:.3f}")

# %%
# Persistence, the last snapshot repeated, costs nothing. A model that is not well below it has
# learned nothing, whatever its loss looks like. The bands hold all of the unseen samples.

lead_times = data.dt * np.arange(1, 17)
sciml.plot.plot_error_curves(
    {score.method: score.error_curve for score in scores},
    times=lead_times,
    title="Error against lead time, unseen samples",
)

# %%
# One of the unseen samples, x to the right and y up. Truth and prediction share one colour range,
# the error has its own.

sciml.plot.plot_fields(
    splits.test.values[0, 4:20],
    scores[1].example,
    times=lead_times,
    domain_extent=data.domain_extent,
    quantity="temperature",
    prediction_name="SFNO",
)

# %%
# The wind is the same everywhere here, so the exact solution is a formula, and it would win: a
# network is for the case in which you have nothing but the array. What does not fit is refused, and
# the message says what was expected and what came:

try:
    FieldDataset.from_array(array, axis_order="x y time", domain_extent=1.0, dt=0.05)
except ValueError as error:
    print(error)
