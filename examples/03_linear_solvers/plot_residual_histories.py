"""
Residual histories: what a preconditioner buys
==============================================

Conjugate gradients on three linear systems of 128 x 128 cells, without preconditioner, with the
classical ones, and with a multigrid cycle whose few numbers are the textbook's or learned. The
systems are from the gallery of `sciml.problems`: pressure among obstacles, pressure in a maze of
thin walls, and diffusion with a coefficient that jumps by a factor of 10,000.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import scipy.sparse

from sciml.linear_solvers import MultigridPreconditioner, MultigridWeights, conjugate_gradient
from sciml.problems import baffle_problem, checkerboard_problem, obstacle_problem

# %%
# The systems
# -----------
# Each has a matrix-free operator, a right-hand side and a name. Float64 is on for the solves only;
# the multigrid cycle inside works in float32, which costs no iterations.

makers = (obstacle_problem, baffle_problem, checkerboard_problem)
with jax.enable_x64(True):
    problems = [make((128, 128), key=jax.random.key(2027)) for make in makers]
    for problem in problems:
        matrix = problem.operator.to_scipy(active_only=True)
        print(f"{problem.name:28} {matrix.shape[0]} unknowns, {matrix.nnz} entries")

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


def relative_history(problem, preconditioner, rtol=1e-10, max_steps=1500):
    solution = conjugate_gradient(
        problem.operator,
        problem.right_hand_side,
        preconditioner=preconditioner,
        rtol=rtol,
        max_steps=max_steps,
        n_history=max_steps + 1,
    )
    history = np.asarray(solution.stats["residual_history"])
    return history[np.isfinite(history)] / history[0]


def incomplete_cholesky_history(problem, rtol=1e-10, max_steps=1500):
    matrix = scipy.sparse.csr_matrix(problem.operator.to_scipy(active_only=True))
    matrix.indices, matrix.indptr = matrix.indices.astype("i4"), matrix.indptr.astype("i4")
    b = np.asarray(problem.right_hand_side)[np.asarray(problem.operator.active)]
    factor = ilupp.IChol0Preconditioner(matrix)
    x, r, p, rho, residuals = np.zeros_like(b), b, np.zeros_like(b), np.inf, [1.0]
    while residuals[-1] > rtol and len(residuals) <= max_steps:
        z = factor @ r
        rho, last = r @ z, rho
        p = z + rho / last * p
        q = matrix @ p
        x, r = x + rho / (p @ q) * p, r - rho / (p @ q) * q
        residuals.append(np.linalg.norm(r) / np.linalg.norm(b))
    return np.array(residuals)


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
    counts = [np.flatnonzero(np.append(curve, 0) <= 1e-6)[0] for curve in found.values()]
    shown = (
        f"{c:22d}" if c < len(curve) else f"{'> 1500':>22}"
        for c, curve in zip(counts, found.values(), strict=True)
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
figure = matplotlib.figure.Figure(figsize=(10, 3.6), layout="constrained")
panels = figure.subplots(1, 3, sharey=True)
for panel, (name, found) in zip(panels, histories.items(), strict=True):
    for method, curve in found.items():
        panel.loglog(np.arange(1, len(curve) + 1), curve, color=colours[method], label=method)
    panel.axhline(1e-6, color="#BBBBBB", linewidth=0.8, zorder=0)
    panel.set_title(name, fontsize=10)
    panel.set_ylim(3e-11, 30)
    panel.set_xlim(1, 1500)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.set_xlabel("iteration, counted from 1 (the start)")
panels[0].set_ylabel("relative residual")
panels[0].legend(frameon=False, fontsize=8, loc=(0.36, 0.03))
figure
