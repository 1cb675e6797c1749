"""ChebCB: a bandit that models the cost of each arm as a polynomial in the context."""

import math
from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..core import KeyArray, RealScalar, check_count, check_positive, cites
from ._bandit import (
    AbstractBandit,
    BanditState,
    check_cost,
    check_grid,
    check_range,
    check_size,
    check_state,
    clamp_context,
    draw,
    inverse_gap_probabilities,
    pending_of,
    start_state,
)
from ._tsallis_inf import KHODAK_2024

_KIND = "ChebyshevBandit"
# Chooses the shortest of the many fits to few data; far below one observation's weight.
_RIDGE = 1e-6


@cites(KHODAK_2024)
class ChebyshevBandit(AbstractBandit):
    r"""Bandit that follows the best value as the context changes.

    The cost of each arm is fitted by least squares with Chebyshev polynomials of the context
    :math:`c`, :math:`s_i(c) = \sum_j \theta_{ij} T_j(c)`. The coefficients are bounded as those of
    a cost of Lipschitz constant :math:`L` on a range of half-width :math:`C` are:

    .. math::
        |\theta_{i0}| \le K, \qquad |\theta_{ij}| \le 2 C L / j,

    where :math:`K` is the largest cost seen and :math:`L`, unless given, the spread of the costs
    seen over the width of the range. Arms are drawn by inverse-gap weighting,
    :math:`p_i = 1 / (d + \eta (s_i - \min s))`, and the best one gets the rest.

    Parameters
    ----------
    grid
        The values to choose from.
    low, high
        The range of the contexts. One outside is taken as the nearer end, with a warning.
    n_features
        Number of polynomials, one more than the degree.
    lipschitz
        Lipschitz constant of the costs in the context, if it is known.
    learning_rate
        Scale of :math:`\eta`, which grows in proportion to the number of steps over the error of
        the predictions so far. Less explores more.

    Notes
    -----
    The bounds are kept by a *constrained* fit. Clipping an unconstrained one doubles the costs.
    Each step updates one Gram matrix and fits one arm; all are fitted again when the bounds grow,
    which happens when a cost is seen beyond all earlier ones.

    References
    ----------
    .. [1] M. Khodak, E. Chow, M.-F. Balcan and A. Talwalkar, "Learning to relax: setting solver
       parameters across a sequence of linear system instances", ICLR 2024, arXiv 2310.02246.

    Examples
    --------
    >>> import jax
    >>> bandit = ChebyshevBandit((1.0, 1.5, 1.9), low=0.0, high=1.0)
    >>> state = bandit.init(key=jax.random.key(5))
    >>> for step in range(400):
    ...     shift = (step % 11) / 10
    ...     state, index, omega = bandit.ask(state, context=shift)
    ...     state = bandit.tell(state, cost=10 + 50 * abs(omega - 1 - shift))
    >>> [int(bandit.scores(state, shift).argmin()) for shift in (0.0, 0.5, 1.0)]
    [0, 1, 2]
    """

    grid: tuple[float, ...] = eqx.field(static=True)
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)
    n_features: int = eqx.field(static=True)
    lipschitz: float | None = eqx.field(static=True)
    learning_rate: float = eqx.field(static=True)

    def __init__(
        self,
        grid: Sequence[float],
        *,
        low: float,
        high: float,
        n_features: int = 6,
        lipschitz: float | None = None,
        learning_rate: float = 1.0,
    ):
        self.grid = check_grid(grid)
        self.low, self.high = check_range(low, high)
        self.n_features = check_count("n_features", n_features)
        if lipschitz is not None:
            check_positive("lipschitz", lipschitz)
        check_positive("learning_rate", learning_rate)
        self.lipschitz = lipschitz
        self.learning_rate = float(learning_rate)

    def init(self, *, key: KeyArray) -> BanditState:
        """Return the state before anything is known; ``key`` fixes all later draws."""
        n, m = len(self.grid), self.n_features
        return start_state(_KIND, n, key) | {
            "gram": [[[0.0] * m for _ in range(m)] for _ in range(n)],
            "moment": [[0.0] * m for _ in range(n)],
            "theta": [[0.0] * m for _ in range(n)],
            "lowest": None,
            "highest": 0.0,
            "error_norm": 0.0,
        }

    def ask(
        self, state: BanditState, context: RealScalar | None = None
    ) -> tuple[BanditState, int, float]:
        """Return the state, the index and the value to try next; again the same until told."""
        _check(self, state)
        where = clamp_context(context, self.low, self.high)
        probabilities = _probabilities(self, state, where)
        index = draw(state, probabilities)
        return state | {"pending": {"index": index, "context": where}}, index, self.grid[index]

    def tell(self, state: BanditState, cost: RealScalar) -> BanditState:
        """Return the state that knows what the last value cost."""
        _check(self, state)
        cost = check_cost(cost)
        pending = pending_of(state)
        arm, feature = pending["index"], _features(self, pending["context"])
        error = float(feature @ np.asarray(state["theta"][arm])) - cost
        gram, moment, theta = (list(state[name]) for name in ("gram", "moment", "theta"))
        gram[arm] = (np.asarray(gram[arm]) + np.outer(feature, feature)).tolist()
        moment[arm] = (np.asarray(moment[arm]) + cost * feature).tolist()
        lowest = cost if state["lowest"] is None else min(state["lowest"], cost)
        highest = max(state["highest"], cost)
        moved = lowest != state["lowest"] or highest != state["highest"]
        bound = _bounds(self, lowest, highest)
        for i in range(len(theta)) if moved else (arm,):
            if gram[i][0][0]:  # T_0 = 1: the number of times that the arm was tried
                fitted = bounded_least_squares(
                    np.asarray(gram[i]), np.asarray(moment[i]), bound, np.asarray(theta[i])
                )
                theta[i] = fitted.tolist()
        return state | {
            "gram": gram,
            "moment": moment,
            "theta": theta,
            "lowest": lowest,
            "highest": highest,
            # No sum of squares: they leave the range of numbers long before the costs.
            "error_norm": math.hypot(state["error_norm"], error),
            "step": state["step"] + 1,
            "pending": None,
        }

    def scores(self, state: BanditState, context: RealScalar) -> Float[np.ndarray, " n_arms"]:
        """Return the cost that is expected of each value; 0 of one that was never tried."""
        _check(self, state)
        return _scores(self, state, clamp_context(context, self.low, self.high))

    def probabilities(
        self, state: BanditState, context: RealScalar
    ) -> Float[np.ndarray, " n_arms"]:
        """Return how likely each value is to be tried next; they sum to one."""
        _check(self, state)
        return _probabilities(self, state, clamp_context(context, self.low, self.high))


# Functions, since looking up a method of an Equinox module costs as much as a fit.


def _check(bandit: ChebyshevBandit, state: BanditState) -> None:
    check_state(state, _KIND, len(bandit.grid), "error_norm")
    check_size("n_features", len(state["theta"][0]), bandit.n_features)


def _scores(
    bandit: ChebyshevBandit, state: BanditState, where: float
) -> Float[np.ndarray, " n_arms"]:
    return np.asarray(state["theta"]) @ _features(bandit, where)


def _probabilities(
    bandit: ChebyshevBandit, state: BanditState, where: float
) -> Float[np.ndarray, " n_arms"]:
    scores = _scores(bandit, state, where)
    step = state["step"]
    # In units of the error of the predictions: scaling all costs changes nothing.
    error = state["error_norm"] / math.sqrt(max(step, 1)) or state["highest"] or 1.0
    rate = 2.0 * bandit.learning_rate * math.sqrt(len(scores)) * step
    return inverse_gap_probabilities(scores, rate, error)


def _features(bandit: ChebyshevBandit, where: float) -> Float[np.ndarray, " n_features"]:
    low, high = bandit.low, bandit.high
    angle = math.acos(min(max((2.0 * where - low - high) / (high - low), -1.0), 1.0))
    return np.cos(angle * np.arange(bandit.n_features))


def _bounds(
    bandit: ChebyshevBandit, lowest: float, highest: float
) -> Float[np.ndarray, " n_features"]:
    spread = highest - lowest
    if bandit.lipschitz is not None:
        spread = bandit.lipschitz * (bandit.high - bandit.low)
    return np.concatenate([[highest], spread / np.arange(1, bandit.n_features)])


def bounded_least_squares(
    gram: Float[np.ndarray, "m m"],
    moment: Float[np.ndarray, " m"],
    bound: Float[np.ndarray, " m"],
    start: Float[np.ndarray, " m"],
) -> Float[np.ndarray, " m"]:
    """Minimise ``x' G x / 2 - h' x`` under ``|x_j| <= bound_j`` by an active-set method.

    Parameters
    ----------
    gram
        ``G``, symmetric and positive semidefinite; a tiny ridge makes the answer unique.
    moment
        ``h``.
    bound
        The bounds, zero or positive.
    start
        A guess, which costs least if its active bounds are those of the answer.
    """
    m = len(moment)
    gram = gram + _RIDGE * np.eye(m)
    x = np.clip(start, -bound, bound)
    free = np.abs(x) < bound
    slack = 1e-10 * (np.abs(moment).max() + np.abs(gram).max() * bound.max())
    # Each round lowers the objective or fixes a variable; the cap is against round-off only.
    for _ in range(10 * m * m):
        target = x.copy()
        if free.any():
            inner = np.ix_(free, free)
            rest = moment[free] - gram[free][:, ~free] @ x[~free]
            target[free] = np.linalg.solve(gram[inner], rest)
        outside = free & (np.abs(target) > bound)
        if outside.any():
            # As far as the first bound that is met, which becomes active.
            limit = np.copysign(bound, target)
            steps = np.full(m, np.inf)
            steps[outside] = (limit - x)[outside] / (target - x)[outside]
            first = int(np.argmin(steps))
            x = np.clip(x + max(steps[first], 0.0) * (target - x), -bound, bound)
            x[first] = limit[first]
            free[first] = False
            continue
        x = target
        gradient = gram @ x - moment
        # At the upper bound the objective must fall outwards, at the lower one likewise.
        pull = np.where(free | (bound == 0.0), 0.0, gradient * np.sign(x))
        worst = int(np.argmax(pull))
        if pull[worst] <= slack:
            break
        free[worst] = True
    return x
