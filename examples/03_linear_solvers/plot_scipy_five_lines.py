"""
From SciPy in five lines
========================

You have a sparse matrix, a right-hand side and a call of `scipy.sparse.linalg.cg`. This page
replaces the call by ours, then adds our preconditioner, then gives that preconditioner to SciPy's
own ``cg``.
"""

import time

import jax
import matplotlib.figure
import numpy as np
import scipy.sparse.linalg

from sciml.linear_solvers import aspreconditioner, cg
from sciml.problems import inclusion_problem

# %%
# A system
# --------
# Stationary heat in a plate of 96 x 96 cells with inclusions that conduct a hundred times
# better. From here on it is a matrix and a vector of NumPy and SciPy; where they came from does not
# matter.

with jax.enable_x64(True):
    problem = inclusion_problem((96, 96), contrast=100.0, key=jax.random.key(3))
A = problem.operator.to_scipy()
b = np.asarray(problem.right_hand_side).ravel()
print(f"{type(A).__name__} of shape {A.shape} in {A.dtype}, {A.nnz} entries")

# %%
# The five lines
# --------------
# This is all. The grid is found from the diagonals of the matrix; a matrix that is on no grid gets
# a classical preconditioner instead, and ``M.kind`` says which.

M = aspreconditioner(A)
x, info = cg(A, b, rtol=1e-8, M=M)
x_scipy, info_scipy = scipy.sparse.linalg.cg(A, b, rtol=1e-8, M=M)

print(f"M.kind: {M.kind}")
print(f"ours: info {info}, residual {np.linalg.norm(b - A @ x) / np.linalg.norm(b):.1e}")
print(f"SciPy: info {info_scipy}, difference of the answers {np.abs(x - x_scipy).max():.1e}")

# %%
# What it takes
# -------------
# All four combinations, timed once more: the first calls above included the compilation, which is
# done once for each shape. The setup of ``M`` counts. Residuals are recorded in runs of their own,
# so that the recording costs no time. With less than 10 000 unknowns NumPy's dot products use one
# thread; with more of them SciPy's plain ``cg`` slows down a lot while other programs are running,
# which would flatter us.


def timed(solve, repeats):
    """Return the least of several times: what else runs on the machine only adds."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        solve()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def scipy_history(preconditioner):
    residuals = [1.0]
    scipy.sparse.linalg.cg(
        A,
        b,
        rtol=1e-8,
        M=preconditioner,
        callback=lambda xk: residuals.append(np.linalg.norm(b - A @ xk) / np.linalg.norm(b)),
    )
    return np.array(residuals)


def our_history(preconditioner):
    *_, record = cg(A, b, rtol=1e-8, M=preconditioner, full_output=True)
    return record["residual_history"] / record["residual_history"][0]


cg(A, b, rtol=1e-8)  # compiles the plain iteration
setup = timed(lambda: aspreconditioner(A), repeats=3)
runs = {}
for name, preconditioner, start in (("", None, 0.0), (", our M", M, setup)):
    repeats = 2 if preconditioner is None else 10
    seconds = timed(lambda M=preconditioner: scipy.sparse.linalg.cg(A, b, rtol=1e-8, M=M), repeats)
    runs[f"SciPy's cg{name}"] = scipy_history(preconditioner), start, seconds
    seconds = timed(lambda M=preconditioner: cg(A, b, rtol=1e-8, M=M), repeats)
    runs[f"our cg{name}"] = our_history(preconditioner), start, seconds

print(f"{'':18}{'iterations':>12}{'setup, ms':>12}{'solve, ms':>12}")
for name, (history, start, seconds) in runs.items():
    print(f"{name:18}{len(history) - 1:12d}{1e3 * start:12.0f}{1e3 * seconds:12.0f}")

# %%
# Without a preconditioner both do the same iterations, but for rounding. With it a few steps
# do what took thousands. Each of them is dearer, and the setup comes before the first, so
# that the gain in time is smaller than that in iterations: look at the right panel before you
# choose. ``cg(..., M=M)`` also tries whether ``A`` is symmetric and judges its answer by the
# recomputed residual.

colours = {"SciPy's cg": "#333333", "our cg": "#56B4E9"}
colours |= {"SciPy's cg, our M": "#E69F00", "our cg, our M": "#0072B2"}
figure = matplotlib.figure.Figure(figsize=(9.5, 3.8), layout="constrained")
left, right = figure.subplots(1, 2, sharey=True)
for name, (history, start, seconds) in sorted(runs.items(), reverse=True):
    steps = np.arange(len(history))
    style = {"color": colours[name], "linewidth": 3.0}
    if name.startswith("SciPy"):  # drawn last, on top of ours, which has the same residuals
        style |= {"linestyle": "--", "linewidth": 1.5}
    left.semilogy(steps + 1, history, **style, label=name)
    # Each step of a run takes its share of the time.
    right.semilogy(1e3 * (start + seconds * steps / steps[-1]), history, **style)
left.set_xscale("log")
left.set_xlabel("iteration, counted from 1 (the start)")
left.set_ylabel("relative residual")
left.legend(frameon=False, fontsize=9, loc="lower center")
right.set_xlabel("milliseconds, setup included")
right.set_xscale("log")
right.set_xlim(1, None)
for panel in (left, right):
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
figure
