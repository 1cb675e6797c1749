"""The record of a regularised solve: each regulariser, and their weighted sum."""

from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ..core import check_non_negative


class Regularization(eqx.Module):
    """What a regularised solve adds to the loss, and what it cost.

    Attributes
    ----------
    values
        Each regulariser, without its weight.
    total
        The sum of the values, times their weights.
    num_steps
        Steps of the solve, rejected ones too.
    nfe
        Evaluations of the field in these steps, exactly: after jumps and rejections too. The two
        of `initial_step` are left out, and those of the extra step of local regularisation, as
        many as its solver has stages. None where they do not follow from the steps: for solvers
        that are implicit, stochastic or wrapped (see `nfe`), for step size controllers that
        neither are adaptive nor ``ConstantStepSize`` or ``StepTo``, and where a model without
        regularisation solves with ``ImplicitAdjoint`` and a method that shares stages.
    max_stiffness
        The largest eigenvalue that a `StiffnessEstimate` among the regularisers met in an accepted
        step, before its weight and ``normalize``; without a gradient. None if there is none, and
        in local regularisation, which looks at single steps.
    """

    values: dict[str, Array]
    total: Array
    num_steps: Array | None = None
    nfe: Array | None = None
    max_stiffness: Array | None = None


def combine(
    values: Mapping[str, Array],
    weights: Mapping[str, Any] | None,
    dtype: Any,
    solution: diffrax.Solution,
    evaluations: Array | None,
    max_stiffness: Array | None = None,
) -> Regularization:
    """Return the record of regularisers with their weighted sum."""
    total = jnp.zeros((), dtype)
    for name, value in values.items():
        weight = 1.0 if weights is None else weights[name]
        total = total + jnp.asarray(weight, dtype) * value
    steps = jnp.asarray(solution.stats["num_steps"])
    return Regularization(dict(values), total, steps, evaluations, max_stiffness)


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
