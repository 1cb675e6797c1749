"""
Following chaos with sixteen sensors
====================================

A forecast of a chaotic system goes wrong after a while, however good the model. Measurements put
it right again, even few, noisy and now and then. Here a model of the Kuramoto-Sivashinsky equation
is learned together with a gain that says how to correct it, and compared with nudging, which has
two numbers to tune.
"""

# %%
# The system, on 64 points. A snapshot a time unit; errors grow by a factor e in some ten of them.
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from sciml.core import format_table
from sciml.data import FieldDataset, GaussianNormaliser
from sciml.neural_operators import (
    FNO,
    NODA,
    AssimilationLoss,
    GatedGain,
    Nudging,
    PointSensors,
    ResidualPredictor,
    simulate_measurements,
)
from sciml.nn import LayerForm
from sciml.problems import KuramotoSivashinsky1D, gaussian_random_field, solve
from sciml.train import fit, one_cycle_adam

problem = KuramotoSivashinsky1D((64,), domain_extent=22.0)


@jax.jit
def trajectory(key):
    start = gaussian_random_field((64,), 22.0, alpha=2.0, tau=0.5, key=key)
    start = start / jnp.std(start)
    return solve(problem, start, dt=0.1, n_steps=2000, save_every=10, throw=False).value[80:]


values = np.asarray(jax.lax.map(trajectory, jax.random.split(jax.random.key(2027), 40)))
train = FieldDataset.from_array(values[:32], dt=1.0, domain_extent=22.0)
tuning, test = values[32:36], values[36:]
print(train)

# %%
# Sensors at every fourth point, with an error of a tenth of the standard deviation. The predictor
# is an FNO that gives the change in a time unit.

sensors = PointSensors.every((64,), 4)
noise_std = 0.1 * float(train.values.std())
keys = jax.random.split(jax.random.key(2026), 3)
normaliser = GaussianNormaliser.fit(train)
network = FNO(1, 1, (16,), hidden_channels=32, form=LayerForm.PLAIN, coordinates=False, key=keys[0])
predictor = ResidualPredictor(network, normaliser=normaliser)
gain = GatedGain(
    1, (16,), lengths=(1.5, 3.0), hidden_channels=16, normaliser=normaliser, key=keys[1]
)

# %%
# First the predictor alone, on two steps from the truth: nudging by nothing is a free forecast.
# Then both, unrolled over twelve steps, with first guesses that are wrong and measurements that
# come at random. A predictor that saw single steps only would blow up within a few hundred.


def training(model, loss, n_unrolled, batch_size, n_steps):
    solution = fit(
        model,
        train.windows(1, n_unrolled, batch_size=batch_size, seed=2025),
        loss=loss,
        optimizer=one_cycle_adam(4e-3, n_steps),
        n_steps=n_steps,
        key=keys[2],
        progress=False,
    )
    print(
        f"{n_steps} steps in {solution.stats['seconds']:.0f} s, loss {solution.stats['loss']:.3f}"
    )
    return solution.value


single_steps = AssimilationLoss(0.0, initial_errors=(0.0,), max_availability=0.0)
predictor = training(Nudging(predictor, sensors, 0.0), single_steps, 2, 32, 200).predictor
model = training(NODA(predictor, sensors, gain), AssimilationLoss(noise_std), 12, 8, 160)

# %%
# Follow unseen trajectories from a first guess of zero. "Availability" is the share of times at
# which the sensors report; the first ten always do. Nudging is tuned for each availability by
# itself, on trajectories that are not those of the table, and uses NODA's predictor.


@eqx.filter_jit
def follow(model, truth, availability):
    key = jax.random.key(7)
    y, mask = simulate_measurements(
        sensors, truth[1:], availability=availability, noise_std=noise_std, key=key
    )
    mask = mask | (jnp.arange(len(mask)) < 10)
    return model(jnp.zeros((1, 64)), y, mask)[0], mask


def error(model, trajectories, availability):
    found = []
    for truth in jnp.asarray(trajectories):
        analyses, _ = follow(model, truth, jnp.float32(availability))
        wrong = analyses[60:] - truth[61:]
        found.append(float(jnp.sum(wrong**2) / jnp.sum(truth[61:] ** 2)))
    return float(np.mean(found))


rows = []
for availability in (0.1, 0.3, 1.0):
    rivals = [
        Nudging(model.predictor, sensors, strength, length=2.0)
        for strength in (0.25, 0.4, 0.6, 0.8)
    ]
    tuned = min(rivals, key=lambda rival: error(rival, tuning, availability))
    rows.append(
        {
            "availability": availability,
            "NODA": error(model, test, availability),
            "nudging, tuned": error(tuned, test, availability),
            "its gain": float(tuned.gain),
        }
    )
print(format_table(rows, {name: name for name in rows[0]}))

# %%
# Relative mean squares of the error; 2 is what an unrelated state would have. NODA is one model for
# all columns and better where measurements are rare. With sensors that report always, tuned nudging
# is hard to beat: its innovations are spread over the grid, and its gain is right for that case.
# Without a measurement in a step, the forecast is left as it is, exactly: the correction is linear
# in what the sensors say beyond the forecast.

truth = jnp.asarray(test[0])
free, _ = follow(model, truth, jnp.float32(0.0))
assimilated, seen = follow(model, truth, jnp.float32(0.3))
figure = matplotlib.figure.Figure(figsize=(10, 5.4), layout="constrained")
axes = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": (3, 3, 3, 2)})
limit = float(jnp.abs(truth).max())
for axis, (title, field) in zip(
    axes,
    {
        "truth": truth[1:],
        "forecast after ten measured times": free,
        "measured at three times in ten": assimilated,
    }.items(),
    strict=False,
):
    axis.imshow(
        field[:, 0].T, aspect="auto", origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit,
        extent=(0, len(field), 0, 22), interpolation="nearest",
    )  # fmt: skip
    axis.set_title(title, loc="left", fontsize=10)
    axis.set_ylabel("x")
scale = jnp.sqrt(jnp.mean(truth**2))
for name, field, colour in (("forecast", free, "#7A7A7A"), ("measured", assimilated, "#0072B2")):
    wrong = jnp.sqrt(jnp.mean((field - truth[1:]) ** 2, axis=(1, 2)))
    axes[3].semilogy(wrong / scale, color=colour, label=name)
times = np.nonzero(np.asarray(seen))[0]
axes[3].plot(times, np.full(len(times), 0.012), "|", color="#D55E00", label="a measurement")
axes[3].set(xlabel="time", ylabel="relative error", xlim=(0, len(free)), ylim=(8e-3, 40))
axes[3].legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
figure
