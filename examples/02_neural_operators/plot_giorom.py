"""
Water by a hundred particles
============================

A simulator moves every particle of a fluid in tiny steps. GIOROM moves a small sample of them, a
whole frame at a time: messages between neighbours, and a small grid for what is farther away. The
same weights serve samples of different density. Here it learns drops of water in a box from our
material point method, and is compared with constant velocity and free fall on drops that it has
never seen. The training is far too short for good long motions; ``docs/particles.md`` has the
figures of longer ones.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sciml.data import ParticleNormaliser, ParticleWindows, Trajectory, sample_particles
from sciml.neural_operators import (
    GIOROM,
    BallisticStepper,
    LatentGrid,
    ParticleLoss,
    evaluate_particles,
    rollout_particles,
)
from sciml.plot import plot_error_curves, plot_particles
from sciml.problems import MaterialPointMethod, Water, march_particles, random_blocks
from sciml.train import fit, one_cycle_adam

# %%
# Trajectories
# ------------
# Sixteen drops of 400 particles, three for the test. Whole trajectories are kept apart.

cell, dt = 1 / 28, 0.004
method = MaterialPointMethod([Water()], cell_size=cell)


def simulate(seed):
    scene = random_blocks(400, spacing=cell / 2, speed=0.7, key=jax.random.key(seed))
    state = method.state(
        np.asarray(scene.position, np.float32),
        spacing=cell / 2,
        velocity=np.asarray(scene.velocity, np.float32),
    )
    frames = march_particles(method, state, dt=dt, n_frames=75).value
    return Trajectory.from_array(np.asarray(frames), dt=dt, bounds=[[0, 1], [0, 1]])


runs = [simulate(8100 + k) for k in range(16)]
train, test = runs[:13], runs[13:]
scales = ParticleNormaliser.fit(train)
print(f"velocity deviates by {scales.velocity_std}, acceleration by {scales.acceleration_std}")

# %%
# Training
# --------
# Batches of windows of 50 particles, spread evenly by farthest-point sampling, and mirrored at
# random, since the walls are alike. The log has the largest number of neighbours, so that one sees
# whether the places for them were enough.

model = GIOROM(
    scales,
    train[0].bounds,
    radius=0.16,
    hidden_channels=32,
    n_layers=(1, 2),
    latent=LatentGrid((12, 12), channels=8, n_layers=1),
    key=jax.random.key(11),
)
windows = ParticleWindows(train, n_samples=50, particles_per_batch=300, mirror_axes=(0,), seed=11)
n_steps = 320
solution = fit(
    model,
    windows,
    loss=ParticleLoss(36, noise=0.5),
    optimizer=one_cycle_adam(4e-3, n_steps),
    n_steps=n_steps,
    key=jax.random.key(12),
    progress=False,
)
model = solution.value
most = max(solution.stats["history"]["neighbours"][1])
print(f"{solution.stats['seconds']:.0f} s, at most {most:.0f} neighbours")

# %%
# Errors on unseen drops
# ----------------------
# One step from true frames, and motions of 50 frames, which begin shortly before the drops meet the
# floor; beside it what costs nothing.

box = (scales, train[0].bounds)
steppers = {
    "constant velocity": BallisticStepper(*box, (0, 0)),
    "free fall": BallisticStepper(*box, (0, -9.8)),
    "GIOROM": model,
}
begin = 20
scores = evaluate_particles(steppers, test, n_samples=50, n_steps=50, starts=(begin,))
for score in scores:
    print(
        f"{score.method:18} acceleration MSE {score.acceleration_mse:9.1f}, position MSE "
        f"{score.position_mse:.5f}, Chamfer {score.chamfer:.4f}"
    )

# %%
# A motion beside the truth
# -------------------------
# Colours show where in the body the particles started, from left to right.

run = test[0].select(sample_particles(test[0], 50))
known, following = slice(begin, begin + 6), slice(begin + 6, begin + 56)
moved = rollout_particles(model, jnp.asarray(run.position[known]), 50)
clouds = {
    "simulator, all": test[0].position[following],
    "simulator, samples": run.position[following],
    "GIOROM": np.asarray(moved.value),
}
plot_particles(clouds, times=dt * np.arange(1, 51), bounds=run.bounds)

# %%
# How errors grow, and more particles with the same weights
# ---------------------------------------------------------
# The radius is physical and sums are integrals, so that the model can be given twice as many
# particles, which it has never seen. Lines are medians of the unseen drops, bands their range.


def position_errors(stepper, n_samples):
    """Return the root mean square distance to the true positions, of each drop and frame."""
    found = []
    for drop in test:
        drop = drop.select(sample_particles(drop, n_samples))
        moved = rollout_particles(stepper, jnp.asarray(drop.position[known]), 50).value
        distances = np.linalg.norm(np.asarray(moved) - drop.position[following], axis=-1)
        found.append(np.sqrt(np.mean(distances**2, axis=-1)))
    return np.stack(found)


errors = {
    "constant velocity": position_errors(steppers["constant velocity"], 50),
    "free fall": position_errors(steppers["free fall"], 50),
    "GIOROM, 50": position_errors(model, 50),
    "GIOROM, 100": position_errors(model, 100),
}
plot_error_curves(
    errors,
    times=dt * np.arange(1, 51),
    time_unit="s",
    norm="distance to the true position",
    baselines=("constant velocity", "free fall"),
    title="Drops that no training saw, in a box of size 1",
)
