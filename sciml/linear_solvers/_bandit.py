"""What all bandits share: the interface, the random draws, the checks.

A bandit is a pure state machine. Its state is a dictionary of numbers and lists, which
``json.dumps`` writes as it is, so that what was learned outlives the process.
"""

import abc
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from ..core import KeyArray, RealScalar, check_finite, check_key, check_real, warn_caller

BanditState = dict[str, Any]
_LARGEST_COST = 1e302


class AbstractBandit(eqx.Module):
    """Chooses one of several values, is told its cost, and learns which is cheapest.

    ``state = init(key=key)``; then, for each problem, ``state, index, value = ask(state, context)``
    and ``state = tell(state, cost)``. States are never changed in place, and are JSON.
    """

    grid: eqx.AbstractVar[tuple[float, ...]]

    # Bound as Python binds methods: Equinox would make a PyTree of each, which nobody needs on the
    # host and which takes longer than all the arithmetic of a bandit.
    __getattribute__ = object.__getattribute__

    @abc.abstractmethod
    def init(self, *, key: KeyArray) -> BanditState:
        """Return the state before anything is known; ``key`` fixes all later draws."""

    @abc.abstractmethod
    def ask(
        self, state: BanditState, context: RealScalar | None = None
    ) -> tuple[BanditState, int, float]:
        """Return the state, the index and the value to try next; again the same until told."""

    @abc.abstractmethod
    def tell(self, state: BanditState, cost: RealScalar) -> BanditState:
        """Return the state that knows what the last value cost."""


def check_grid(grid: Sequence[float]) -> tuple[float, ...]:
    """Return the values to choose from as floats; there must be at least one."""
    if not isinstance(grid, Sequence | np.ndarray | jax.Array) or isinstance(grid, str):
        raise TypeError(f"`grid` must be a sequence of numbers, got {grid!r}.")
    for value in grid:
        check_real("grid", value)
    if not len(grid):
        raise ValueError("`grid` must hold at least one value, got none.")
    return tuple(float(value) for value in grid)


def check_range(low: float, high: float) -> tuple[float, float]:
    """Return the ends of the range of contexts; the upper one must lie above the lower one."""
    check_finite("low", low)
    check_finite("high", high)
    if not low < high:
        raise ValueError(f"`low` must be below `high`, got {low!r} and {high!r}.")
    return float(low), float(high)


def clamp_context(context: RealScalar | None, low: float, high: float) -> float:
    """Return the context, moved into the range with a warning if it lies outside."""
    if context is None:
        raise ValueError("this bandit needs a `context` to ask.")
    context = float(context)
    if not math.isfinite(context):
        raise ValueError(f"`context` must be finite, got {context!r}.")
    clamped = min(max(context, low), high)
    if clamped != context:
        warn_caller(
            f"the context {context:g} lies outside [{low:g}, {high:g}] and is taken as "
            f"{clamped:g}. Widen the range of the bandit if such contexts are common.",
            UserWarning,
        )
    return clamped


def check_cost(cost: RealScalar) -> float:
    """Return the cost as a float; raise unless it is finite and not negative."""
    if cost is None or isinstance(cost, str) or np.ndim(cost):
        raise TypeError(f"`cost` must be a real number, got {cost!r}.")
    cost = float(cost)
    if not (math.isfinite(cost) and cost >= 0):
        raise ValueError(
            f"`cost` must be finite and not negative, got {cost!r}. Tell a failed solve by what it "
            "took, for instance the largest number of steps."
        )
    if cost > _LARGEST_COST:
        raise ValueError(
            f"`cost` must be at most {_LARGEST_COST:g}, so that sums of costs stay finite, got "
            f"{cost!r}. Count in a larger unit."
        )
    return cost


def check_state(state: BanditState, kind: str, n_arms: int, *entries: str) -> None:
    """Raise ``ValueError`` unless the state is of this kind and size and has these entries."""
    if state.get("kind") != kind or state.get("n_arms") != n_arms:
        raise ValueError(
            f"the state must come from a {kind} with {n_arms} arms, got one of "
            f"{state.get('kind')!r} with {state.get('n_arms')!r}."
        )
    missing = [name for name in entries if name not in state]
    if missing:
        raise ValueError(
            f"the state of this {kind} lacks {', '.join(map(repr, missing))}: another version of "
            "sciml made it. Begin anew with `init`."
        )


def check_size(name: str, found: int, expected: int) -> None:
    """Raise ``ValueError`` unless the state is of a bandit whose ``name`` is the same."""
    if found != expected:
        raise ValueError(
            f"the state must come from a bandit with `{name}` = {expected}, got one with {found}."
        )


def start_state(kind: str, n_arms: int, key: KeyArray) -> BanditState:
    """Return what every state holds."""
    check_key(key)
    words = np.asarray(jax.random.key_data(key), np.uint32).tolist()
    return {"kind": kind, "n_arms": n_arms, "seed": words, "step": 0, "pending": None}


def pending_of(state: BanditState) -> dict[str, Any]:
    """Return what was asked last; raise ``ValueError`` if that was told already."""
    if state["pending"] is None:
        raise ValueError("`tell` must follow an `ask`: no cost is waited for.")
    return state["pending"]


def inverse_gap_probabilities(
    scores: Float[np.ndarray, " n_arms"], rate: float, unit: float
) -> Float[np.ndarray, " n_arms"]:
    """Return ``1 / (n + rate gap / unit)``, where the arm of least score gets what is left."""
    # The gap first: the rate over a unit of 1e-308 would overflow.
    probabilities = 1.0 / (len(scores) + rate * ((scores - scores.min()) / unit))
    best = int(np.argmin(scores))
    probabilities[best] = 0.0
    probabilities[best] = 1.0 - probabilities.sum()
    return probabilities


def draw(state: BanditState, probabilities: np.ndarray) -> int:
    """Return an index drawn with these probabilities; the draw depends on seed and step only."""
    # A counter-based generator: nothing but two numbers to store, no key to split at 0.1 ms a call.
    seed = sum(word << (32 * i) for i, word in enumerate(state["seed"]))
    generator = np.random.Generator(np.random.Philox(key=seed, counter=state["step"] << 64))
    cumulative = np.cumsum(probabilities)
    index = int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))
    return min(index, len(probabilities) - 1)
