"""A contextual bandit from one without context: the range of contexts is cut into bins."""

import equinox as eqx
import jax

from ..core import KeyArray, RealScalar, check_count, cites
from ._bandit import (
    AbstractBandit,
    BanditState,
    check_range,
    check_size,
    check_state,
    clamp_context,
    pending_of,
    start_state,
)
from ._tsallis_inf import KHODAK_2024

_KIND = "BinnedBandit"


@cites(KHODAK_2024)
class BinnedBandit(AbstractBandit):
    """One copy of a bandit for each of several equal bins of the context.

    Parameters
    ----------
    bandit
        What learns inside each bin, for instance `TsallisINF`.
    n_bins
        How many bins.
    low, high
        The range of the contexts. One outside is taken as the nearer end, with a warning.

    References
    ----------
    .. [1] M. Khodak, E. Chow, M.-F. Balcan and A. Talwalkar, "Learning to relax: setting solver
       parameters across a sequence of linear system instances", ICLR 2024, arXiv 2310.02246.

    Examples
    --------
    >>> import jax
    >>> from sciml.linear_solvers import BinnedBandit, TsallisINF
    >>> bandit = BinnedBandit(TsallisINF((1.0, 1.5, 1.9)), n_bins=4, low=0.0, high=1.0)
    >>> state = bandit.init(key=jax.random.key(5))
    >>> state, index, omega = bandit.ask(state, context=0.3)
    >>> state = bandit.tell(state, cost=40)
    """

    bandit: AbstractBandit
    n_bins: int = eqx.field(static=True)
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __init__(self, bandit: AbstractBandit, *, n_bins: int, low: float, high: float):
        self.bandit = bandit
        self.n_bins = check_count("n_bins", n_bins)
        self.low, self.high = check_range(low, high)

    @property
    def grid(self) -> tuple[float, ...]:
        """The values to choose from."""
        return self.bandit.grid

    def init(self, *, key: KeyArray) -> BanditState:
        """Return the state before anything is known; ``key`` fixes all later draws."""
        start = start_state(_KIND, len(self.grid), key)
        keys = jax.random.split(key, self.n_bins)
        return start | {"bins": [self.bandit.init(key=k) for k in keys]}

    def ask(
        self, state: BanditState, context: RealScalar | None = None
    ) -> tuple[BanditState, int, float]:
        """Return the state, the index and the value to try next; again the same until told."""
        _check(self, state)
        where = clamp_context(context, self.low, self.high)
        fraction = (where - self.low) / (self.high - self.low)
        chosen = min(int(fraction * self.n_bins), self.n_bins - 1)
        inner, index, value = self.bandit.ask(state["bins"][chosen], where)
        bins = _replaced(state["bins"], chosen, inner)
        return state | {"bins": bins, "pending": {"bin": chosen}}, index, value

    def tell(self, state: BanditState, cost: RealScalar) -> BanditState:
        """Return the state that knows what the last value cost."""
        _check(self, state)
        chosen = pending_of(state)["bin"]
        inner = self.bandit.tell(state["bins"][chosen], cost)
        bins = _replaced(state["bins"], chosen, inner)
        return state | {"bins": bins, "step": state["step"] + 1, "pending": None}


def _check(bandit: BinnedBandit, state: BanditState) -> None:
    check_state(state, _KIND, len(bandit.grid))
    check_size("n_bins", len(state["bins"]), bandit.n_bins)


def _replaced(bins: list[BanditState], index: int, entry: BanditState) -> list[BanditState]:
    return [*bins[:index], entry, *bins[index + 1 :]]
