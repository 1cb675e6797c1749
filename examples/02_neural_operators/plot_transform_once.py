"""
Transform once: an operator on coefficients
===========================================

A Fourier neural operator (FNO) transforms every channel there and back in each layer, and works on
every grid point in between. Transform once (T1) encodes a field into the coefficients of few basis
functions, works on those alone and decodes at the end. The training data are encoded once, before
the first step, and a step then costs the same on every grid. Here both learn a map of flows in two
dimensions, from one state to that four time units later, and are compared by error and by time.
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import sciml
from sciml.data import EncodedFields, encode_fields
from sciml.neural_operators import FNO, T1, ModeMixing
from sciml.numerics import CosineBasis, FourierBasis, GridPoints, relative_l2
from sciml.train import fit, one_cycle_adam, spectral_loss

# %%
# Pairs of states
# ---------------
# The shipped sample has 64 snapshots a trajectory, every 0.2 time units. Both networks see
# vorticity in units of its deviation.

lead = 20


def pairs(part):
    unit = splits.train.values.std()
    starts = range(0, part.n_times - lead, 6)
    inputs = np.concatenate([part.values[:, s] for s in starts]) / unit
    targets = np.concatenate([part.values[:, s + lead] for s in starts]) / unit
    return inputs, targets


splits = sciml.data.load("navier-stokes", n_points=32)
train, validation, test = (pairs(part) for _, part in splits.items())
print(f"{len(train[0])} pairs to train on, {len(test[0])} unseen ones to judge by")

# %%
# How many modes?
# ---------------
# What the basis leaves out of the targets is a floor that no training goes below. These fields are
# smooth and periodic, so real Fourier modes need fewer than cosines; on a domain with walls it is
# the other way round.

for basis in (
    FourierBasis.from_energy(train[1], 1e-3),
    CosineBasis.from_energy(train[1], 1e-2, points=GridPoints.PERIODIC),
):
    floor = encode_fields(basis, *test).floor
    print(f"{type(basis).__name__} with {basis.n_modes} modes leaves {floor:.2e} of a test target")

# %%
# Encode once, train on coefficients
# ----------------------------------
# The loss on coefficients is exactly the relative error of the decoded field. Training the FNO, of
# the same bandwidth, width and depth, needs the fields. It is given about the same time.

basis = FourierBasis((15, 15))
width, depth = 16, 3


@eqx.filter_jit
def mean_error(model, inputs, targets):
    return jnp.mean(jax.vmap(lambda u, y: relative_l2(model(u), y))(inputs, targets))


def errors(model, pair):
    return float(mean_error(model, *pair))


def train_and_watch(model, batches, loss, n_steps):
    seconds, curve = [], []

    def watch(model):
        seconds.append(time.perf_counter())
        curve.append(errors(model, validation))
        pauses.append(time.perf_counter() - seconds[-1])
        return curve[-1]

    pauses = []
    solution = fit(
        model,
        batches,
        loss=loss,
        optimizer=one_cycle_adam(1e-2, n_steps),
        n_steps=n_steps,
        validation=watch,
        validate_every=max(1, n_steps // 10),
        key=jax.random.key(41),
        progress=False,
    )
    # Time of the steps alone, counted from the first look, when all is compiled.
    own = np.array(seconds) - seconds[0] - np.concatenate([[0], np.cumsum(pauses)[:-1]])
    rate = own[-1] / (n_steps - max(1, n_steps // 10))
    return solution.value, rate, own + rate * max(1, n_steps // 10), curve


def field_loss(model, batch, key):
    outputs = jax.vmap(model)(jnp.asarray(batch.inputs))
    return jnp.mean(jax.vmap(relative_l2)(outputs, jnp.asarray(batch.targets)))


t1 = T1(
    1, 1, basis, hidden_channels=width, n_layers=depth, mixing=ModeMixing.GRID,
    key=jax.random.key(42),
)  # fmt: skip
n_steps = 400
encoded = encode_fields(basis, *train)
t1, t1_rate, t1_times, t1_curve = train_and_watch(
    t1, encoded.batches(batch_size=16, seed=43), spectral_loss, n_steps
)

fno = FNO(1, 1, (8, 8), hidden_channels=width, n_layers=depth, key=jax.random.key(44))
fields = EncodedFields(*train, tail=np.zeros(len(train[0]), np.float32))  # fields as they are
batches = fields.batches(batch_size=16, seed=43)
fno_steps = 45  # about as long as the steps of T1
fno, fno_rate, fno_times, fno_curve = train_and_watch(fno, batches, field_loss, fno_steps)
print(f"T1: {n_steps} steps of {1e3 * t1_rate:.1f} ms; FNO: {fno_steps} of {1e3 * fno_rate:.1f} ms")

# %%
# Error against time
# ------------------
# Persistence repeats the input; ridge regression is the best linear map between the coefficients.

z = encoded.inputs.reshape(encoded.n_samples, -1)
y = encoded.targets.reshape(encoded.n_samples, -1)


def ridge_regression(penalty):
    gram = z.T @ z
    weights = jnp.asarray(
        np.linalg.solve(gram + penalty * np.trace(gram) * np.eye(len(gram)), z.T @ y)
    )

    def linear_map(u):
        out = basis.encode(u).reshape(-1) @ weights
        return basis.decode(out.reshape(1, *basis.n_modes), u.shape[1:])

    return linear_map


candidates = [ridge_regression(penalty) for penalty in (1e-5, 1e-4, 1e-3, 1e-2)]
ridge = min(candidates, key=lambda candidate: errors(candidate, validation))
rows = [
    {"method": name, "error": errors(model, test)}
    for name, model in {"persistence": lambda u: u, "ridge": ridge, "FNO": fno, "T1": t1}.items()
]
print(sciml.core.format_table(rows, {"method": "method", "error": "relative L2, unseen flows"}))

figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
for name, times, curve, colour in (
    ("T1", t1_times, t1_curve, "tab:blue"),
    ("FNO", fno_times, fno_curve, "tab:orange"),
):
    axes.semilogy(times, curve, "o-", color=colour, label=name)
for row, style in zip(rows[:2], (":", "--"), strict=True):
    axes.axhline(row["error"], color="grey", linestyle=style, label=row["method"])
axes.set(xlabel="seconds of training steps", ylabel="relative L2 error, validation flows")
axes.set_title("Error against the time spent in training steps")
axes.legend()

# %%
# Any grid
# --------
# Coefficients of one field agree on all grids, so the network trained on 32 x 32 points takes, and
# gives, any other. (With the usual "ortho" scaling of transforms it would see four times larger
# numbers here.)

splits = sciml.data.load("navier-stokes", n_points=128)
fine = pairs(splits.test)
print(f"T1 on 128 x 128 points: {errors(t1, fine):.4f}")

truth, prediction = fine[1][-1, 0], np.asarray(eqx.filter_jit(t1)(jnp.asarray(fine[0][-1]))[0])
figure, panels = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
limit = np.abs(truth).max()
for panel, field, title in zip(
    panels,
    (truth, prediction, prediction - truth),
    ("truth, 128 x 128", "T1", "difference"),
    strict=True,
):
    bound = limit if title != "difference" else np.abs(field).max()
    image = panel.imshow(field.T, origin="lower", cmap="RdBu_r", vmin=-bound, vmax=bound)
    panel.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=panel, shrink=0.8)

# %%
# When to take which
# ------------------
# T1 makes many cheap steps; given as many steps, an FNO is the more accurate one (the benchmark
# ``transform_once`` has both comparisons). Take T1 when the grid is fine, when training
# time counts, or when there are walls; see :doc:`/choose_a_method`.
