"""Tsallis-INF: a bandit that needs no model of the costs (Zimmert and Seldin; Khodak et al.)."""

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
    pending_of,
    start_state,
)

KHODAK_2024 = """
@inproceedings{khodak2024learning,
  author = {Khodak, Mikhail and Chow, Edmond and Balcan, Maria-Florina and Talwalkar, Ameet},
  title = {Learning to Relax: Setting Solver Parameters Across a Sequence of Linear System
           Instances},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
  eprint = {2310.02246},
  archivePrefix = {arXiv},
}
"""
ZIMMERT_2021 = """
@article{zimmert2021tsallis,
  author = {Zimmert, Julian and Seldin, Yevgeny},
  title = {{Tsallis-INF}: An Optimal Algorithm for Stochastic and Adversarial Bandits},
  journal = {Journal of Machine Learning Research},
  volume = {22},
  pages = {1--49},
  year = {2021},
}
"""
_KIND = "TsallisINF"
_MAX_NEWTON_STEPS = 20


@cites(KHODAK_2024, ZIMMERT_2021)
class TsallisINF(AbstractBandit):
    r"""Bandit for one value that is best on average, whatever the sequence of problems.

    With importance-weighted cumulative costs :math:`k_i` in units of the mean cost, an arm is
    drawn with probability

    .. math::
        p_i = \frac{4}{\eta^2 (k_i - x)^2}, \qquad \sum_i p_i = 1, \quad x < \min_i k_i .

    Scaling all costs by a factor changes nothing.

    Parameters
    ----------
    grid
        The values to choose from, for instance relaxation parameters.
    learning_rate
        :math:`\eta`; by default :math:`2 / \sqrt{t}` in step :math:`t`, which needs no horizon.

    Notes
    -----
    ``ask`` takes a context for the sake of a common interface, and does not look at it. Newton's
    iteration for :math:`x` starts right of the root and comes down to it: started left of it, as
    the reference implementation does, it overshoots once costs have grown, and the "probabilities"
    no longer sum to one.

    References
    ----------
    .. [1] M. Khodak, E. Chow, M.-F. Balcan and A. Talwalkar, "Learning to relax: setting solver
       parameters across a sequence of linear system instances", ICLR 2024, arXiv 2310.02246.
    .. [2] J. Zimmert and Y. Seldin, "Tsallis-INF: an optimal algorithm for stochastic and
       adversarial bandits", Journal of Machine Learning Research 22 (2021), 1-49.

    Examples
    --------
    >>> import jax
    >>> bandit = TsallisINF((1.0, 1.5, 1.9))
    >>> state = bandit.init(key=jax.random.key(5))
    >>> for _ in range(300):
    ...     state, index, omega = bandit.ask(state)
    ...     state = bandit.tell(state, cost=(90, 40, 60)[index])
    >>> int(bandit.probabilities(state).argmax())
    1
    """

    grid: tuple[float, ...] = eqx.field(static=True)
    learning_rate: float | None = eqx.field(static=True)

    def __init__(self, grid: Sequence[float], *, learning_rate: float | None = None):
        self.grid = check_grid(grid)
        if learning_rate is not None:
            check_positive("learning_rate", learning_rate)
        self.learning_rate = learning_rate

    def init(self, *, key: KeyArray) -> BanditState:
        """Return the state before anything is known; ``key`` fixes all later draws."""
        start = start_state(_KIND, len(self.grid), key)
        return start | {"cumulative": [0.0] * len(self.grid), "total": 0.0}

    def ask(
        self, state: BanditState, context: RealScalar | None = None
    ) -> tuple[BanditState, int, float]:
        """Return the state, the index and the value to try next; again the same until told."""
        probabilities = TsallisINF.probabilities(self, state)
        index = draw(state, probabilities)
        pending = {"index": index, "probability": float(probabilities[index])}
        return state | {"pending": pending}, index, self.grid[index]

    def tell(self, state: BanditState, cost: RealScalar) -> BanditState:
        """Return the state that knows what the last value cost."""
        check_state(state, _KIND, len(self.grid))
        cost = check_cost(cost)
        pending = pending_of(state)
        cumulative = list(state["cumulative"])
        cumulative[pending["index"]] += cost / pending["probability"]
        return state | {
            "cumulative": cumulative,
            "total": state["total"] + cost,
            "step": state["step"] + 1,
            "pending": None,
        }

    def probabilities(self, state: BanditState) -> Float[np.ndarray, " n_arms"]:
        """Return how likely each value is to be tried next; they sum to one."""
        check_state(state, _KIND, len(self.grid))
        step = state["step"]
        mean = state["total"] / step if step else 1.0
        costs = np.asarray(state["cumulative"]) / (mean or 1.0)
        rate = self.learning_rate
        return tsallis_probabilities(costs, rate or 2.0 / math.sqrt(step + 1))


def tsallis_probabilities(
    costs: Float[np.ndarray, " n_arms"], learning_rate: float
) -> Float[np.ndarray, " n_arms"]:
    """Return ``4 / (learning_rate (costs - x))^2`` with the ``x`` for which they sum to one."""
    excess = costs - costs.min()
    radius = 2.0 / learning_rate
    # With y = min(costs) - x, solve sum (excess + y)^-2 = radius^-2. To the power -1/2 this is
    # concave and increasing in y, so Newton from y = radius, where one arm alone has
    # probability 1, never passes the root; with equal costs it is there in one step.
    y = radius
    for _ in range(_MAX_NEWTON_STEPS):
        inverse = radius / (excess + y)
        total = float(inverse @ inverse)
        slope = float(inverse @ (inverse * inverse)) * total**-1.5
        change = radius * (1.0 - total**-0.5) / slope
        y += change
        if change <= 1e-14 * y:
            break
    probabilities = (radius / (excess + y)) ** 2
    return probabilities / probabilities.sum()
