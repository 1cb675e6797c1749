"""
Pressure projection with a moving obstacle
==========================================

An incompressible flow past a bar that turns. In every step of time the domain is another one, so
the pressure equation has another matrix, and whatever a solver prepares for a matrix it has to
prepare again. Here the whole step, matrix and multigrid hierarchy included, is one compiled
program.
"""

import time

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from sciml.linear_solvers import MultigridPreconditioner, conjugate_gradient
from sciml.problems import (
    Dirichlet,
    Neumann,
    close_walls,
    face_divergence,
    pressure_operator,
    project_velocity,
    rotating_bar,
)

# %%
# The flow
# --------
# A square channel on a staggered grid: the velocity lives on the faces of the cells, the pressure
# in their centres. Fluid enters on the left at speed 1 and leaves on the right, where the pressure
# is zero. Speeds are in cells per step.

n, n_steps, speed = 128, 160, 0.6
turns = 1.5
masks = rotating_bar((n, n), n_steps=n_steps, turns=turns, length=0.4, thickness=0.06)
boundary = [(Neumann(), Dirichlet()), Neumann()]  # in and out along x, walls along y
spin = 2 * np.pi * turns / n_steps

x, y = jnp.meshgrid(jnp.arange(n + 1.0), jnp.arange(n) + 0.5, indexing="ij")
bar_u = -spin * (y - n / 2)
bar_v = spin * (y.T * 0 + jnp.arange(n)[:, None] + 0.5 - n / 2) * jnp.ones((n, n + 1))

# %%
# A step of time
# --------------
# Carry the velocity along (semi-Lagrangian), impose the walls, make it free of divergence. The
# ``plan`` says which axes to coarsen on each level: both, three times, which leaves 16 x 16 cells
# for a dense solve. Outside ``jax.jit`` it is found from the matrix.

plan = [(True, True)] * 3


def sample(field, position, offset):
    coordinates = [position[axis] - offset[axis] for axis in range(2)]
    return jax.scipy.ndimage.map_coordinates(field, coordinates, order=1, mode="nearest")


def carry(field, offset, velocity, shape):
    """Value at the foot of the path that ends in each point (midpoint rule)."""
    u, v = velocity
    position = [jnp.arange(shape[axis], dtype=u.dtype) + offset[axis] for axis in range(2)]
    position = jnp.meshgrid(*position, indexing="ij")
    foot = position
    for fraction in (0.5, 1.0):
        moved = sample(u, foot, (0.0, 0.5)), sample(v, foot, (0.5, 0.0))
        foot = [position[axis] - fraction * moved[axis] for axis in range(2)]
    return sample(field, foot, offset)


@jax.jit
def advance(state, mask):
    (u, v), dye = state
    moved = carry(u, (0.0, 0.5), (u, v), u.shape), carry(v, (0.5, 0.0), (u, v), v.shape)
    dye = carry(dye, (0.5, 0.5), (u, v), dye.shape)
    u, v = close_walls(moved, mask, (bar_u, bar_v), boundary=boundary)
    u = u.at[0].set(speed)
    v = v.at[:, 0].set(0.0).at[:, -1].set(0.0)
    b = -face_divergence((u, v), mask)
    operator = pressure_operator(mask, boundary=boundary)
    cycle = MultigridPreconditioner(operator, plan=plan)
    solution = conjugate_gradient(operator, b, preconditioner=cycle, rtol=1e-5)
    velocity = project_velocity((u, v), solution.value, mask, boundary=boundary)
    dye = jnp.where(mask, dye, 0.0).at[0].set(streaks)
    left_over = jnp.abs(face_divergence(velocity, mask)).max()
    return (velocity, dye), (solution.value, b, solution.stats["num_steps"], left_over)


streaks = ((jnp.arange(n) // 8) % 2).astype(jnp.float32)
state = ((jnp.full((n + 1, n), speed), jnp.zeros((n, n + 1))), jnp.zeros((n, n)))
sources, counts, outflows, seconds = [], [], [], []
for mask in masks:
    begin = time.perf_counter()
    state, (pressure, b, count, outflow) = jax.block_until_ready(advance(state, mask))
    seconds.append(time.perf_counter() - begin)
    sources.append(b)
    counts.append(int(count))
    outflows.append(float(outflow))
print(f"{n_steps} steps, {np.mean(counts):.1f} iterations each, to a residual of 1e-5")
print(f"largest net outflow of a cell: {max(outflows) / speed:.0e} of what flows in")

# %%
# The bar sheds vortices, and the dye that enters in streaks shows them. The pressure is high where
# the bar pushes the fluid and low in the vortices.

(u, v), dye = jax.tree.map(np.asarray, state)
vorticity = np.full((n + 1, n + 1), np.nan)
vorticity[1:-1, 1:-1] = np.diff(v, axis=0)[:, 1:-1] - np.diff(u, axis=1)[1:-1]
solid = np.asarray(~masks[-1])
pressure = np.where(solid, np.nan, np.asarray(pressure))

figure = matplotlib.figure.Figure(figsize=(10, 3.1), layout="constrained")
panels = figure.subplots(1, 3)
pictures = (
    ("dye", np.where(solid, np.nan, dye), "Blues", (0, 1.1)),
    ("vorticity", vorticity, "RdBu_r", (-0.25, 0.25)),
    ("pressure", pressure, "PuOr_r", None),
)
for panel, (title, field, colours, limits) in zip(panels, pictures, strict=True):
    if limits is None:
        largest = np.nanquantile(np.abs(field), 0.995)
        limits = (-largest, largest)
    image = panel.imshow(
        field.T, origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1], extent=(0, n, 0, n)
    )
    panel.contourf(
        np.arange(n) + 0.5, np.arange(n) + 0.5, solid.T, levels=[0.5, 1.5], colors="#262626"
    )
    panel.set_title(title, fontsize=10)
    panel.set_xticks([])
    panel.set_yticks([])
    figure.colorbar(image, ax=panel, shrink=0.85)
figure

# %%
# Time per step
# -------------
# Everything that a new mask asks for, against PyAMG (Ruge-Stueben, accelerated by CG), which gets
# the pressure matrix ready-made and is timed for setup and solve only, while ours carries the flow
# along too. Both stop at 1e-5. Ours is the median, PyAMG's the best of eight: it suffers more where
# other programs run. ``benchmarks/linear_solvers.py`` has the careful comparison, with other sizes
# and rivals.

print(f"sciml, the whole step:  {1e3 * np.median(seconds[1:]):6.1f} ms")
try:
    import pyamg
except ImportError:
    print("PyAMG is not installed: only our own time is shown")
else:
    theirs = []
    for step in range(0, n_steps, 20):
        operator = pressure_operator(masks[step], boundary=boundary)
        matrix = operator.to_scipy(active_only=True).astype(np.float64)
        vector = np.asarray(sources[step])[np.asarray(operator.active)].astype(np.float64)
        begin = time.perf_counter()
        pyamg.ruge_stuben_solver(matrix).solve(vector, tol=1e-5, accel="cg")
        theirs.append(time.perf_counter() - begin)
    print(f"PyAMG, pressure only:   {1e3 * min(theirs):6.1f} ms")
