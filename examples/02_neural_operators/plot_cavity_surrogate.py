"""
A surrogate of the flow in a cavity
===================================

The lid of a box starts to move and drags the fluid along. One model is to step all such flows,
slow and fast, thin and thick. The cases have the form of the CFD benchmark CFDBench and are split
by case, never by frame: otherwise a model is tested on what it has seen.
"""

# %%
# Sixteen boxes at Reynolds numbers from 100 to 600, written and read as folders of the benchmark.
# They are generated here: call such data ``cfdbench_like``.
import tempfile
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from sciml.core import format_table
from sciml.data import (
    FlowNormaliser,
    FlowProblem,
    frame_pairs,
    generate_cavity,
    load_cfdbench,
    save_flow_case,
)
from sciml.neural_operators import FlowStep, TransformOnce, flow_loss, rollout_flow
from sciml.numerics import CosineBasis, FourierBasis, normalised_mse
from sciml.train import fit, one_cycle_adam

begin = time.perf_counter()
with tempfile.TemporaryDirectory() as root:
    for number, reynolds in enumerate(np.geomspace(100, 600, 16)):
        case = generate_cavity(
            lid=0.2, density=1.0, viscosity=0.02 / reynolds, size=0.1, n=38, n_frames=30
        )
        save_flow_case(root, "prop", number, case)
    splits = load_cfdbench(root, FlowProblem.CAVITY, ("prop",), mmap=False)
print(f"{time.perf_counter() - begin:.0f} s")
print({part: [round(case.reynolds) for case in cases] for part, cases in splits.items()})

# %%
# The model is told the Reynolds number and how far the lid travels in a frame, both standardised on
# the training cases; velocities are in units of the lid's. T1 works on a few coefficients of the
# frame. Cosines assume neither a period nor boundary values; Fourier modes take the lid for a
# neighbour of the bottom. On the boundary the known values stand.

normaliser = FlowNormaliser.fit(splits["train"])
pairs = frame_pairs(splits["train"], normaliser)
n_in = 3 + len(normaliser.names)


def trained(basis):
    key = jax.random.key(11)
    network = TransformOnce(n_in, 2, basis, hidden_channels=16, n_layers=3, key=key)
    solution = fit(
        FlowStep(network, residual=False),
        pairs.batches(16, seed=11),
        loss=flow_loss,
        optimizer=one_cycle_adam(4e-3, 400),
        n_steps=400,
        key=key,
        progress=False,
    )
    print(f"{type(basis).__name__}: {solution.stats['seconds']:.0f} s")
    return solution.value


models = {
    "persistence": lambda frame, inputs: frame,
    "T1, Fourier modes": trained(FourierBasis((18, 18))),
    "T1, cosines": trained(CosineBasis((18, 18))),
}

# %%
# One step, and a roll-out of twenty from rest, in which the model is fed its own frames. Errors are
# sums of squares over those of the truth, in the fluid, over the test cases.


@eqx.filter_jit
def follow(step, frames, inputs):
    one = jax.vmap(lambda u: step(u, inputs))(frames[:-1])
    return one / inputs.scale, rollout_flow(step, frames[0], inputs, 20) / inputs.scale


rows, rolled = [], {}
for name, step in models.items():
    single, many = [], []
    for case in splits["test"]:
        frames, inputs = jax.tree.map(jnp.asarray, (case.frames(), normaliser.inputs(case)))
        one, rolled[name] = follow(step, frames, inputs)
        frames, mask = frames / case.speed, inputs.mask
        single.append(float(normalised_mse(one, frames[1:], mask=mask)))
        many.append(float(normalised_mse(rolled[name], frames[1:21], mask=mask)))
    rows.append({"model": name, "one step": np.mean(single), "20 steps": np.mean(many)})
print(f"unseen cases, Reynolds numbers {[round(case.reynolds) for case in splits['test']]}")
print(format_table(rows, {name: name for name in rows[0]}))

# %%
# Speed of the fluid in the last of these cases, in units of the lid, after twenty steps.
# Persistence is still at rest. The stripes near the bottom are the lid, seen across the period of
# the Fourier modes; cosines have none.

figure = matplotlib.figure.Figure(figsize=(10, 3.0), layout="constrained")
axes = figure.subplots(1, 4)
panels = {"truth": frames[20]} | {name: rollout[-1] for name, rollout in rolled.items()}
for axis, (name, frame) in zip(axes, panels.items(), strict=True):
    image = axis.imshow(jnp.hypot(*frame), origin="lower", cmap="viridis", vmin=0, vmax=0.5)
    axis.set_title(name, fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
figure.colorbar(image, ax=axes, extend="max", label="speed / lid")
figure
