"""Checks that both front doors make before they solve."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, PyTree

from ..core import check_non_negative
from ._initial_step import initial_step
from ._step_regularizer import state_dtype


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


def error_scale(
    controller: diffrax.AbstractStepSizeController,
) -> tuple[Any, Any, Callable[[PyTree], Any] | None]:
    """Return rtol, atol and norm of a step size controller; None three times if it has none."""
    while isinstance(controller, diffrax.ClipStepSizeController):
        controller = controller.controller
    if isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        return controller.rtol, controller.atol, controller.norm
    return None, None, None


def check_problem(terms: PyTree, y0: PyTree, rtol: Any, atol: Any) -> Any:
    """Return the dtype of the state; raise or warn where no regulariser can be had."""

    def is_unsafe(x):
        return isinstance(x, diffrax.UnsafeBrownianPath)

    if any(is_unsafe(leaf) for leaf in jax.tree.leaves(terms, is_leaf=is_unsafe)):
        raise ValueError(
            "`UnsafeBrownianPath` allows neither adaptive steps nor reverse-mode gradients. Take "
            "`diffrax.VirtualBrownianTree`."
        )
    dtype = state_dtype(y0)
    known = [x for x in (rtol, atol) if x is not None and not isinstance(x, Tracer)]
    eps = float(jnp.finfo(dtype).eps)
    if len(known) == 2 and max(known) < 10 * eps:
        warnings.warn(
            f"The tolerances {known} are below ten units of rounding of {dtype} ({eps:.1e}): the "
            "error estimate is mostly rounding. Compute in float64, or loosen them.",
            stacklevel=3,
        )
    return dtype


def first_step(dt0, terms, solver, t0, t1, y0, args, scale) -> Any:
    """Return ``dt0``, or one from the field itself where it is left out."""
    rtol, atol, norm = scale
    if dt0 is not None or rtol is None:
        return dt0
    if not isinstance(terms, diffrax.ODETerm):
        raise ValueError(
            "`dt0=None` chooses a first step for ordinary differential equations only (one "
            "`diffrax.ODETerm`). Pass `dt0`."
        )
    return initial_step(terms, solver, t0, t1, y0, args, rtol=rtol, atol=atol, norm=norm)
