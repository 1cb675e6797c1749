"""
A splash from one particle in thirty
====================================

The motion of some twenty particles of water is known; where do the other six hundred go? Classical
interpolation of displacements tears the water apart, because neighbours in the first frame do not
stay neighbours. The kernel model carries each point along with the samples that are around it *by
then*, and a small network, trained on other splashes, mixes that with interpolation.
"""

# %%
# Blocks of water fall into a box; the simulator (material point method) is part of sciml. Splits
# are whole trajectories.
import jax
import matplotlib.pyplot as plt
import numpy as np

from sciml.data import ParticleRecipe, generate_particles, sample_particles
from sciml.neural_operators import KernelReducedOrderModel, ThinPlateSpline, train_full_order

recipe = ParticleRecipe.water(n_particles=650, n_frames=121)
splits = generate_particles(
    None, recipe=recipe, n_train=10, n_validation=3, n_test=3, seed=23, progress=False
)
n_samples = 650 // 30

# %%
# Untrained, the model is nearly a spline through the increments of the samples. Training changes
# only how five such candidates are mixed, so that it takes seconds.
solution = train_full_order(
    KernelReducedOrderModel(2, key=jax.random.key(3)),
    splits.train,
    splits.validation,
    n_samples,
    n_steps=300,
    key=jax.random.key(4),
    progress=False,
)
model = solution.value

# %%
# A splash that neither training nor validation has seen, and the error relative to the
# displacement over all three of them.


def answers(run):
    samples = sample_particles(run, n_samples)
    others = np.setdiff1d(np.arange(run.n_particles), samples)
    known = run.position[:, samples]
    return others, {
        "thin-plate spline": ThinPlateSpline()(run.position[0, others], known),
        "kernel model": np.asarray(model(run.position[0, others], known, bounds=run.bounds)),
    }


sums = {}
for run in splits.test:
    others, found = answers(run)
    truth = run.position[:, others]
    moved = np.sum((truth - truth[0]) ** 2)
    for name, position in found.items():
        error, scale = sums.get(name, (0.0, 0.0))
        sums[name] = (error + np.sum((position - truth) ** 2), scale + moved)
errors = {name: float(np.sqrt(error / scale)) for name, (error, scale) in sums.items()}
for name, error in errors.items():
    print(f"{name}: {100 * error:.1f} % of the displacement")

# %%
# Colour is the place in the first frame; black points are the samples.
run = splits.test[0]
others, found = answers(run)
samples = np.setdiff1d(np.arange(run.n_particles), others)
colour = run.position[0, others, 0]
panels = {"truth": run.position[:, others]} | found
figure, axes = plt.subplots(3, 3, figsize=(9, 8.4), sharex=True, sharey=True)
for row, (name, position) in zip(axes, panels.items(), strict=True):
    for axis, k in zip(row, (40, 80, 120), strict=True):
        axis.scatter(*position[k].T, c=colour, s=6, cmap="viridis", linewidths=0)
        axis.scatter(*run.position[k, samples].T, c="black", s=9, linewidths=0)
        axis.set(xlim=(0, 1), ylim=(0, 0.8), aspect="equal", xticks=[], yticks=[])
    label = name if name == "truth" else f"{name}\n(error {100 * errors[name]:.0f} %)"
    row[0].set_ylabel(label)
for axis, k in zip(axes[0], (40, 80, 120), strict=True):
    axis.set_title(f"{1000 * k * run.dt:.0f} ms")
figure.tight_layout()
plt.show()
