r"""Markov decision processes on graphs, solved by dynamic programming.

Taking action ``a`` in state ``i`` earns :math:`r_{ia}` and leads to state :math:`s_{ia}`; the best
values satisfy :math:`V_i = \max_a (r_{ia} + \gamma V_{s_{ia}})`.
"""

import equinox as eqx
import jax
import numpy as np

from ..core import KeyArray, check_count, check_key, check_real
from ..numerics import Graph


class MarkovDecisionProcess(eqx.Module):
    """A deterministic process with its optimal values.

    Attributes
    ----------
    graph
        Nodes are ``[1]``; an edge from the successor to the state carries ``[reward]``.
    values
        The optimal values, float64, shape ``(n_states,)``; their error is at most 1e-10.
    rewards, successors
        Shape ``(n_states, n_actions)``.
    discount
        The factor by which the future counts.
    """

    graph: Graph
    values: np.ndarray
    rewards: np.ndarray
    successors: np.ndarray
    discount: float = eqx.field(static=True)

    def action_values(self, values: np.ndarray) -> np.ndarray:
        """Return what each action is worth if the successors are worth ``values``."""
        return self.rewards + self.discount * np.asarray(values, np.float64)[self.successors]

    def policy_accuracy(self, values: np.ndarray) -> float:
        """Return the part of the states whose best action by ``values`` is an optimal one."""
        return self._accuracy(np.argmax(self.action_values(values), axis=1))

    def immediate_accuracy(self) -> float:
        """Return the same of the trivial policy, which takes the largest reward."""
        return self._accuracy(np.argmax(self.rewards, axis=1))

    def _accuracy(self, actions):
        q = self.action_values(self.values)
        chosen = np.take_along_axis(q, actions[:, None], axis=1)[:, 0]
        return float(np.mean(chosen >= q.max(axis=1) - 1e-8))


def random_mdp(
    n_states: int, n_actions: int, *, key: KeyArray, discount: float = 0.9
) -> MarkovDecisionProcess:
    """Return a random process: rewards uniform in [-1, 1], successors other than the state itself.

    Parameters
    ----------
    n_states, n_actions
        Sizes; at least 2 states.
    key
        PRNG key.
    discount
        Between 0 and 1, both excluded.

    Raises
    ------
    ValueError
        If a size is too small or the discount is not between 0 and 1.

    Examples
    --------
    >>> import jax, numpy as np
    >>> mdp = random_mdp(20, 5, key=jax.random.key(7))
    >>> best = mdp.action_values(mdp.values).max(axis=1)
    >>> bool(np.abs(best - mdp.values).max() < 1e-10)
    True
    """
    check_count("n_states", n_states, minimum=2)
    check_count("n_actions", n_actions)
    check_key(key)
    check_real("discount", discount)
    if not 0 < discount < 1:
        raise ValueError(f"`discount` must lie between 0 and 1, got {discount!r}.")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    rewards = rng.uniform(-1.0, 1.0, (n_states, n_actions))
    jump = rng.integers(1, n_states, (n_states, n_actions))
    successors = (np.arange(n_states)[:, None] + jump) % n_states
    values = _optimal_values(rewards, successors, discount)
    graph = Graph.from_arrays(
        np.ones((n_states, 1), np.float32),
        rewards.reshape(-1, 1).astype(np.float32),
        successors.ravel(),
        np.repeat(np.arange(n_states), n_actions),
    )
    return MarkovDecisionProcess(graph, values, rewards, successors, float(discount))


def _optimal_values(rewards, successors, discount):
    values = np.zeros(len(rewards))
    while True:
        new = (rewards + discount * values[successors]).max(axis=1)
        # The distance to the fixed point is at most the last step times d / (1 - d).
        done = np.abs(new - values).max() * discount <= 1e-10 * (1 - discount)
        values = new
        if done:
            return values
