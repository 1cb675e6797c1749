"""The record of a regularised solve: each regulariser, and their weighted sum."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..core import check_non_negative


class Regularization(eqx.Module):
    """What a regularised solve adds to the loss.

    Attributes
    ----------
    values
        Each regulariser, without its weight.
    total
        The sum of the values, times their weights.
    """

    values: dict[str, Array]
    total: Array


def combine(
    values: Mapping[str, Array], weights: Mapping[str, Any] | None, dtype: Any
) -> Regularization:
    """Return the record of regularisers with their weighted sum."""
    total = jnp.zeros((), dtype)
    for name, value in values.items():
        weight = 1.0 if weights is None else weights[name]
        total = total + jnp.asarray(weight, dtype) * value
    return Regularization(dict(values), total)


def check_weights(weights: Mapping[str, Any] | None, names: Any) -> None:
    """Raise unless there is one weight, zero or above, for each regulariser."""
    if weights is None:
        return
    if set(weights) != set(names):
        raise ValueError(
            f"`weights` must name the regularisers {sorted(names)}; it names {sorted(weights)}."
        )
    for name, weight in weights.items():
        check_non_negative(f"weights[{name!r}]", weight)
