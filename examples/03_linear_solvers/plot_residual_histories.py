"""
Residual histories: what a preconditioner buys
==============================================

Conjugate gradients on four linear systems of 128 x 128 cells, without preconditioner, with the
classical ones, and with a multigrid cycle whose few numbers are the textbook's or learned. The
systems are from the gallery of `sciml.problems`: pressure among obstacles, pressure in a maze of
thin walls, and diffusion with coefficients that jump or depend on the direction.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import scipy.sparse

from sciml.linear_solvers import MultigridPreconditioner, MultigridWeights, conjugate_gradient
from sciml.problems import (
    anisotropic_problem,
    baffle_problem,
    checkerboard_problem,
    obstacle_problem,
)

# %%
# The systems
# -----------
# Each has a matrix-free operator, a right-hand side and a name. Float64 is on for the solves only;
# the multigrid cycle inside works in float32, which costs no iterations.

makers = (obstacle_problem, baffle_problem, checkerboard_problem, anisotropic_problem)
with jax.enable_x64(True):
    problems = [make((128, 128), key=jax.random.key(2027)) for make in makers]
problems[0].operator.to_scipy(active_only=True)

# %%
# The rivals
# ----------
# A preconditioner is any function ``z = M(r)`` on arrays of the grid's shape: Jacobi's divides by
# the diagonal. IC(0), the incomplete Cholesky factor, is there if the package ilupp is.

try:
    import ilupp
except ImportError:
    ilupp = None
    print("ilupp is not installed: no IC(0) here")


class Jacobi(eqx.Module):
    diagonal: jax.Array

    def __call__(self, r):
        return jnp.where(self.diagonal > 0, r / self.diagonal, 0)


def relative_history(problem, preconditioner, rtol=1e-10, n_history=600):
    solution = conjugate_gradient(
        problem.operator,
        problem.right_hand_side,
        preconditioner=preconditioner,
        rtol=rtol,
        max_steps=20_000,
        n_history=n_history,
    )
    history = np.asarray(solution.stats["residual_history"])
    return history[np.isfinite(history)] / history[0], int(solution.stats["num_steps"])


def incomplete_cholesky_history(problem, rtol=1e-10, n_history=600):
    matrix = scipy.sparse.csr_matrix(problem.operator.to_scipy(active_only=True))
    matrix.indices, matrix.indptr = matrix.indices.astype("i4"), matrix.indptr.astype("i4")
    b = np.asarray(problem.right_hand_side)[np.asarray(problem.operator.active)]
    factor = ilupp.IChol0Preconditioner(matrix)
    x, r, p, rho, residuals = np.zeros_like(b), b, np.zeros_like(b), np.inf, [1.0]
    while residuals[-1] > rtol and len(residuals) < n_history:
        z = factor @ r
        rho, last = r @ z, rho
        p = z + rho / last * p
        q = matrix @ p
        x, r = x + rho / (p @ q) * p, r - rho / (p @ q) * q
        residuals.append(np.linalg.norm(r) / np.linalg.norm(b))
    return np.array(residuals), len(residuals) - 1


with jax.enable_x64(True):
    histories = {}
    for problem in problems:
        operator = problem.operator
        classical = MultigridPreconditioner(operator, MultigridWeights())
        learned = MultigridPreconditioner(operator)
        found = {
            "CG": relative_history(problem, None),
            "Jacobi": relative_history(problem, Jacobi(operator.diagonal)),
            "multigrid, classical": relative_history(problem, classical),
            "multigrid, learned": relative_history(problem, learned),
        }
        if ilupp is not None:
            found["IC(0)"] = incomplete_cholesky_history(problem)
        histories[problem.name] = found

print(f"{'iterations to 1e-6':28}" + "".join(f"{name:>22}" for name in found))
for name, found in histories.items():
    counts = [np.flatnonzero(np.append(curve, 0) <= 1e-6)[0] for curve, _ in found.values()]
    shown = (
        f"{c:22d}" if c < len(curve) else f"{'> 599':>22}"
        for c, (curve, _) in zip(counts, found.values(), strict=True)
    )
    print(f"{name:28}" + "".join(shown))

# %%
# Against iterations
# ------------------
# The plain methods have to carry information across the grid cell by cell; their counts double with
# the resolution. The multigrid cycle's do not, and walls one cell thick or jumps of 1:10000 hardly
# matter, because its coarse grids follow from the matrix. Learning moves a few numbers of a good
# cycle: it saves an iteration here and there, no more. An iteration of it costs about ten of plain
# CG.

colours = {
    "CG": "#7A7A7A",
    "Jacobi": "#E69F00",
    "IC(0)": "#009E73",
    "multigrid, classical": "#56B4E9",
    "multigrid, learned": "#0072B2",
}
figure = matplotlib.figure.Figure(figsize=(9, 6.4), layout="constrained")
panels = figure.subplots(2, 2, sharex=True, sharey=True)
for panel, (name, found) in zip(panels.flat, histories.items(), strict=True):
    for method, (curve, _) in found.items():
        panel.loglog(np.arange(1, len(curve) + 1), curve, color=colours[method], label=method)
    panel.axhline(1e-6, color="#BBBBBB", linewidth=0.8, zorder=0)
    panel.set_title(name, fontsize=10)
    panel.set_ylim(3e-11, 30)
    panel.set_xlim(1, 620)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
for panel in panels[1]:
    panel.set_xlabel("iteration, counted from 1 (the start)")
for panel in panels[:, 0]:
    panel.set_ylabel("relative residual")
panels[0, 0].legend(frameon=False, fontsize=8, loc="lower left")
figure
