"""How the weight of a regulariser changes during training."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..core import check_count, check_positive


def exponential_decay(start: float, end: float, n_steps: int) -> Callable[[Any], Array]:
    """Return a schedule ``step -> start (end / start)^(step / n_steps)``, constant afterwards.

    Parameters
    ----------
    start, end
        First and last weight, both positive.
    n_steps
        Training steps from one to the other.

    Examples
    --------
    >>> float(exponential_decay(100.0, 1.0, 2)(1))
    10.0
    """
    check_positive("start", start)
    check_positive("end", end)
    check_count("n_steps", n_steps)

    def weight(step: Any) -> Array:
        share = jnp.clip(jnp.asarray(step, float) / n_steps, 0.0, 1.0)
        return start * (end / start) ** share

    return weight


class TargetNFE(eqx.Module):
    """Adapt a weight so that the function evaluations meet a budget (dual ascent on its log).

    ``log w <- log w + rate (log nfe - log budget)``, kept within bounds.

    Parameters
    ----------
    budget
        Evaluations aimed at.
    rate
        How fast the weight follows.
    lowest, highest
        Bounds of the weight.

    Examples
    --------
    >>> bool(TargetNFE(50.0).update(jnp.asarray(1.0), 100) > 1)
    True
    """

    budget: float
    rate: float
    lowest: float
    highest: float

    def __init__(
        self, budget: float, rate: float = 0.05, *, lowest: float = 1e-6, highest: float = 1e3
    ):
        for name, value in (("budget", budget), ("rate", rate), ("lowest", lowest)):
            check_positive(name, value)
        if not highest > lowest:
            raise ValueError(f"`highest` must exceed `lowest`, got {highest} and {lowest}.")
        self.budget = budget
        self.rate = rate
        self.lowest = lowest
        self.highest = highest

    def update(self, weight: Any, evaluations: Any) -> Array:
        """Return the weight for the next training step."""
        weight = jnp.asarray(weight, float)
        ratio = jnp.maximum(jnp.asarray(evaluations, weight.dtype), 1) / self.budget
        return jnp.clip(weight * ratio**self.rate, self.lowest, self.highest)
