"""Inverse-gap weighting of mean costs: a bandit for arms whose costs lie far apart."""

import math
from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..core import KeyArray, RealScalar, check_positive, cites
from ._bandit import (
    AbstractBandit,
    BanditState,
    check_cost,
    check_grid,
    check_state,
    draw,
    inverse_gap_probabilities,
    pending_of,
    start_state,
)

FOSTER_2020 = """
@inproceedings{foster2020beyond,
  author = {Foster, Dylan J. and Rakhlin, Alexander},
  title = {Beyond {UCB}: Optimal and Efficient Contextual Bandits with Regression Oracles},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
  eprint = {2002.04926},
  archivePrefix = {arXiv},
}
"""
_KIND = "InverseGapBandit"


@cites(FOSTER_2020)
class InverseGapBandit(AbstractBandit):
    r"""Bandit for arms whose mean costs do not change, and may differ manifold.

    Each arm is tried once. Then an arm of mean cost :math:`s_i` is drawn with probability
    :math:`p_i = 1 / (d + \eta (s_i - \min s))`, and the best one with the rest. A dear arm is thus
    tried less often the dearer it is. `TsallisINF` spends more on such arms, but also holds if the
    costs change in whatever way.

    Parameters
    ----------
    grid
        The values to choose from.
    learning_rate
        Scale of :math:`\eta`, which grows in proportion to the number of steps over the error of
        the predictions so far. Less explores more.

    References
    ----------
    .. [1] D. J. Foster and A. Rakhlin, "Beyond UCB: optimal and efficient contextual bandits with
       regression oracles", ICML 2020, arXiv 2002.04926.

    Examples
    --------
    >>> import jax
    >>> bandit = InverseGapBandit((1.0, 1.5, 1.9))
    >>> state = bandit.init(key=jax.random.key(5))
    >>> for _ in range(50):
    ...     state, index, omega = bandit.ask(state)
    ...     state = bandit.tell(state, cost=(90, 40, 60)[index])
    >>> int(bandit.probabilities(state).argmax())
    1
    """

    grid: tuple[float, ...] = eqx.field(static=True)
    learning_rate: float = eqx.field(static=True)

    def __init__(self, grid: Sequence[float], *, learning_rate: float = 3.0):
        self.grid = check_grid(grid)
        check_positive("learning_rate", learning_rate)
        self.learning_rate = float(learning_rate)

    def init(self, *, key: KeyArray) -> BanditState:
        """Return the state before anything is known; ``key`` fixes all later draws."""
        n = len(self.grid)
        start = start_state(_KIND, n, key)
        return start | {"tries": [0] * n, "total": [0.0] * n, "error_norm": 0.0}

    def ask(
        self, state: BanditState, context: RealScalar | None = None
    ) -> tuple[BanditState, int, float]:
        """Return the state, the index and the value to try next; again the same until told."""
        index = draw(state, InverseGapBandit.probabilities(self, state))
        return state | {"pending": {"index": index}}, index, self.grid[index]

    def tell(self, state: BanditState, cost: RealScalar) -> BanditState:
        """Return the state that knows what the last value cost."""
        check_state(state, _KIND, len(self.grid), "error_norm")
        cost = check_cost(cost)
        index = pending_of(state)["index"]
        tries, total = list(state["tries"]), list(state["total"])
        error = cost - (total[index] / tries[index] if tries[index] else 0.0)
        tries[index] += 1
        total[index] += cost
        return state | {
            "tries": tries,
            "total": total,
            # No sum of squares: they leave the range of numbers long before the costs.
            "error_norm": math.hypot(state["error_norm"], error),
            "step": state["step"] + 1,
            "pending": None,
        }

    def probabilities(self, state: BanditState) -> Float[np.ndarray, " n_arms"]:
        """Return how likely each value is to be tried next; they sum to one."""
        check_state(state, _KIND, len(self.grid), "error_norm")
        tries = np.asarray(state["tries"])
        if not tries.all():
            untried = (tries == 0).astype(np.float64)
            return untried / untried.sum()
        error = state["error_norm"] / math.sqrt(state["step"]) or 1.0
        rate = 2.0 * self.learning_rate * math.sqrt(len(tries)) * state["step"]
        return inverse_gap_probabilities(np.asarray(state["total"]) / tries, rate, error)
