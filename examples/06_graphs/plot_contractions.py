"""
How far a contraction sees
==========================

The fixed point of :math:`h = \\gamma A h + b` carries what is known at one node to all others, but
its strength falls at least by :math:`\\gamma` from node to node. This is the horizon of a graph
solver with one factor; factors that depend on the node have no such limit. The same equation gives
the values of a policy, and a few of them in a row those of the best one.
"""

# %%
# A chain whose first node is known. The others average over their neighbours.
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from sciml.graph_solvers import (
    AndersonSolver,
    PicardSolver,
    solve_contraction,
    solve_max_contraction,
)
from sciml.problems import random_mdp

n = 60
left, right = np.arange(n - 1), np.arange(1, n)
rows, columns = jnp.asarray(np.r_[left, right]), jnp.asarray(np.r_[right, left])
degree = np.bincount(rows, minlength=n)
entries = jnp.asarray(1 / degree[rows], jnp.float32)[:, None]
known = jnp.zeros((n, 1)).at[0].set(1.0)

figure, influence = plt.subplots(figsize=(5.5, 3.8))
for gamma in (0.5, 0.9, 0.99, 0.9999):
    factor = jnp.full(n, gamma).at[0].set(0.0)  # the first node absorbs: it stays what it is
    counts = []
    for solver in (PicardSolver(rtol=1e-6, max_steps=100_000), AndersonSolver(rtol=1e-6)):
        found = solve_contraction(
            entries, known, rows, columns, gamma=factor, solver=solver, throw=False
        )
        counts.append(int(found.stats["n_steps"]))
    print(f"gamma {gamma}: {counts[0]} steps of Picard, {counts[1]} of Anderson")
    influence.semilogy(np.abs(found.value[:, 0]) + 1e-12, label=f"$\\gamma$ = {gamma}")
influence.set(xlabel="distance from the known node", ylabel="influence", ylim=(1e-5, 2))
influence.legend()
influence.set_title("range against the factor")
figure.tight_layout()
plt.show()

# %%
# A Markov decision process. A policy's values are the fixed point with one entry a row, the
# successor; improving the policy and solving again is policy iteration. With the maximum inside the
# fixed point, ``solve_max_contraction`` finds the optimal values at once.
mdp = random_mdp(60, 6, key=jax.random.key(7))
states = np.arange(60)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
action = mdp.rewards.argmax(axis=1)
for solve in range(6):
    found = solve_contraction(
        jnp.ones((60, 1)), jnp.asarray(mdp.rewards[states, action], jnp.float32)[:, None],
        jnp.asarray(states), jnp.asarray(mdp.successors[states, action]), gamma=mdp.discount,
    )  # fmt: skip
    values = np.asarray(found.value[:, 0], np.float64)
    error = np.abs(values - mdp.values).max()
    right = mdp.policy_accuracy(values)
    print(f"solve {solve + 1}: largest error {error:.1e}, best actions {right:.2f}")
    axes[0].plot(mdp.values, values, ".", label=f"solve {solve + 1}")
    axes[1].semilogy(solve + 1, max(error, 1e-7), "ko")
    action = mdp.action_values(values).argmax(axis=1)
graph = mdp.graph
best = solve_max_contraction(
    graph.edges, jnp.zeros((60, 1)), graph.receivers, graph.senders, gamma=mdp.discount
)
print(f"maximum inside: largest error {np.abs(best.value[:, 0] - mdp.values).max():.1e}")
low, high = mdp.values.min(), mdp.values.max()
axes[0].plot([low, high], [low, high], "k-", lw=0.8)
axes[0].set(xlabel="optimal value", ylabel="value of the policy")
axes[0].set_title("values of 60 states")
axes[0].legend()
axes[1].set(xlabel="solves", ylabel="largest error of the values", xticks=range(1, 7))
axes[1].set_title("policy iteration")
figure.tight_layout()
plt.show()
