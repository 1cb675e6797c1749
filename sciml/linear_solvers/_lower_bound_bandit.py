"""Lower confidence bounds of costs: a bandit that writes no arm off for a single bad day."""

import math
import sys
from collections.abc import Callable, Sequence

import equinox as eqx

from ..core import KeyArray, RealScalar, check_non_negative, check_positive, cites
from ._bandit import (
    AbstractBandit,
    BanditState,
    check_cost,
    check_grid,
    check_state,
    pending_of,
    start_state,
)

AUER_2002 = """
@article{auer2002finite,
  author = {Auer, Peter and Cesa-Bianchi, Nicol{\\`o} and Fischer, Paul},
  title = {Finite-time Analysis of the Multiarmed Bandit Problem},
  journal = {Machine Learning},
  volume = {47},
  pages = {235--256},
  year = {2002},
}
"""
_KIND = "LowerBoundBandit"
# Before anything was repeated the logarithm of a cost is taken to scatter by this much, with the
# weight of two repetitions.
_FIRST_SCATTER = 0.5
_FIRST_WEIGHT = 2
# The least cost that is told from zero, as a logarithm and in units of the dearest so far: a coarse
# clock shows zeros, and one of them must not outweigh all else.
_LEAST_LOG = math.log(1e-12)


@cites(AUER_2002)
class LowerBoundBandit(AbstractBandit):
    r"""Bandit for arms whose costs differ by factors and scatter by factors, as seconds do.

    Each arm is tried once, in the order of the grid: put first what is probably cheap. Then the arm
    is taken whose cost may well be least,

    .. math:: \arg\min_i \; l_i - c \, s \sqrt{\log t / n_i} ,

    with the mean logarithm :math:`l_i` of the costs of its :math:`n_i` tries, the dearest left
    out, the scatter :math:`s` of these logarithms about their arm's mean, pooled over all arms,
    and the step :math:`t`. A dear arm is thus seldom tried again; but a cheap one whose first try
    was disturbed is. An arm that is cheap mostly and very dear now and then looks better than its
    mean cost: where such arms are, take `InverseGapBandit`.

    Parameters
    ----------
    grid
        The values to choose from.
    caution
        The factor :math:`c`. Less explores less.
    disturbance
        The least scatter that a single try is taken to have, as the logarithm of a factor: it may
        have met a busy machine. Costs that others do not disturb, such as steps or the processor's
        time, need less than wall time, and dear arms are then seldom tried a second time.

    References
    ----------
    .. [1] P. Auer, N. Cesa-Bianchi and P. Fischer, "Finite-time analysis of the multiarmed bandit
       problem", Machine Learning 47 (2002), 235-256: bounds of this kind for bounded rewards.

    Examples
    --------
    >>> import jax
    >>> bandit = LowerBoundBandit((1.0, 1.5, 1.9))
    >>> state = bandit.init(key=jax.random.key(5))
    >>> for _ in range(50):
    ...     state, index, omega = bandit.ask(state)
    ...     state = bandit.tell(state, cost=(90, 40, 60)[index])
    >>> state["tries"][1] > 40
    True
    """

    grid: tuple[float, ...] = eqx.field(static=True)
    caution: float = eqx.field(static=True)
    disturbance: float = eqx.field(static=True)

    def __init__(self, grid: Sequence[float], *, caution: float = 1.0, disturbance: float = 0.9):
        self.grid = check_grid(grid)
        check_positive("caution", caution)
        check_non_negative("disturbance", disturbance)
        self.caution, self.disturbance = float(caution), float(disturbance)

    def init(self, *, key: KeyArray) -> BanditState:
        """Return the state before anything is known; ``key`` is not used, nothing is drawn."""
        n = len(self.grid)
        start = start_state(_KIND, n, key)
        return start | {
            "tries": [0] * n,
            "mean_log": [0.0] * n,
            "largest_log": [0.0] * n,
            "squared_error": 0.0,
        }

    def ask(
        self, state: BanditState, context: RealScalar | None = None
    ) -> tuple[BanditState, int, float]:
        """Return the state, the index and the value to try next; again the same until told."""
        check_state(state, _KIND, len(self.grid))
        if 0 in state["tries"]:
            index = state["tries"].index(0)
        else:
            index = min(range(len(self.grid)), key=_lower_bound(self, state))
        return state | {"pending": {"index": index}}, index, self.grid[index]

    def tell(self, state: BanditState, cost: RealScalar) -> BanditState:
        """Return the state that knows what the last value cost."""
        check_state(state, _KIND, len(self.grid))
        cost = check_cost(cost)
        index = pending_of(state)["index"]
        names = ("tries", "mean_log", "largest_log")
        tries, mean_log, largest = (list(state[name]) for name in names)
        log = math.log(max(cost, sys.float_info.min))
        dearest = max((seen for seen, n in zip(largest, tries, strict=True) if n), default=log)
        log = max(log, dearest + _LEAST_LOG)
        tries[index] += 1
        # Welford's update of mean and sum of squares.
        error = log - mean_log[index]
        mean_log[index] += error / tries[index]
        largest[index] = log if tries[index] == 1 else max(largest[index], log)
        return state | {
            "tries": tries,
            "mean_log": mean_log,
            "largest_log": largest,
            "squared_error": state["squared_error"] + error**2 * (1 - 1 / tries[index]),
            "step": state["step"] + 1,
            "pending": None,
        }


def _lower_bound(bandit: LowerBoundBandit, state: BanditState) -> Callable[[int], float]:
    """Return the bound of each arm, in plain numbers: a few arms are too few for arrays."""
    repeated = state["step"] - len(state["tries"])
    pooled = math.sqrt(
        (_FIRST_WEIGHT * _FIRST_SCATTER**2 + state["squared_error"]) / (_FIRST_WEIGHT + repeated)
    )
    log_step = math.log(state["step"])

    def bound(arm: int) -> float:
        tries, mean = state["tries"][arm], state["mean_log"][arm]
        scatter = pooled
        if tries == 1:
            scatter = max(bandit.disturbance, pooled)
        else:
            mean = (tries * mean - state["largest_log"][arm]) / (tries - 1)
        return mean - bandit.caution * scatter * math.sqrt(log_step / tries)

    return bound
