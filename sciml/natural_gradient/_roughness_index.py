r"""The roughness index of a loss landscape.

Along a random direction :math:`d` the loss is a function :math:`f(s) = L(\theta + s d)` on
:math:`[-l, l]`. Its total variation over its range,
:math:`T = \sum_j |f(s_{j+1}) - f(s_j)| / (\max f - \min f)`, is 1 where it is monotone, 2 for a
symmetric well, and grows with every further bump. The index is the spread of :math:`T` over
directions by its mean.
"""

import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ..core import (
    RESULTS,
    KeyArray,
    check_count,
    check_key,
    check_positive,
    cites,
    is_successful,
    results_where,
)
from ..numerics import full_precision
from ._stationary_bibliography import ROUGHNESS_2021


class DirectionScale(enum.Enum):
    """How long the random directions are."""

    unit = "unit"
    """Length one over all parameters."""
    filter_wise = "filter_wise"
    """Each row of a matrix as long as the parameters' row, each vector as long as theirs: the
    landscape does not depend on how a network spreads its scale over layers. Parameters that are
    zero stay so."""


class VariationRange(enum.Enum):
    """What a total variation is divided by."""

    each_direction = "each_direction"
    """The range of the loss along its own direction."""
    all_directions = "all_directions"
    """The range of the loss over all directions."""


class RoughnessResult(eqx.Module):
    """The roughness of a landscape around a point.

    Attributes
    ----------
    index
        ``std / mean``.
    mean, std
        Of the total variations over the directions; the standard deviation is that of the
        population, 0 for one direction.
    total_variations
        Shape ``(directions,)``, each at least 1 with `VariationRange.each_direction`.
    is_flat
        Directions along which the loss is constant to rounding; their total variation is set to 1.
    s
        Positions along the directions, shape ``(points,)``.
    losses
        Shape ``(directions, points)``.
    result
        A member of `sciml.core.RESULTS`.
    """

    index: Float[Array, ""]
    mean: Float[Array, ""]
    std: Float[Array, ""]
    total_variations: Float[Array, " directions"]
    is_flat: Bool[Array, " directions"]
    s: Float[Array, " points"]
    losses: Float[Array, "directions points"]
    result: RESULTS


@cites(ROUGHNESS_2021)
@full_precision
def roughness_index(
    loss: Callable[[Any], Any],
    parameters: Any,
    *,
    key: KeyArray,
    n_directions: int = 50,
    n_points: int = 101,
    length: float = 1.0,
    scale: DirectionScale = DirectionScale.unit,
    variation_range: VariationRange = VariationRange.each_direction,
    throw: bool = True,
) -> RoughnessResult:
    """Measure how rough a loss is around a point, along Gaussian directions.

    Parameters
    ----------
    loss
        ``loss(parameters)``, a number. It must be deterministic: with points drawn anew at each
        call, the noise would count as roughness. See `DeepRitzLoss`, `DeepGalerkinLoss`.
    parameters
        The point: arrays in any container, or a network. Only floating-point arrays move.
    key
        For the directions.
    n_directions
        How many; at least 20 for an index that can be trusted.
    n_points
        Points along each direction, at least 3; take an odd number to have the point itself.
        Bumps that are shorter than their distance, ``2 length / (n_points - 1)``, are not seen.
    length
        The loss is taken from ``-length`` to ``length`` along a direction.
    scale
        How long the directions are.
    variation_range
        What the total variations are divided by.
    throw
        Raise if the loss is not finite somewhere; otherwise see the record's ``result``.

    Returns
    -------
    RoughnessResult
        The index, and what it is made of.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range, or the loss is no real number.
    RuntimeError
        With ``throw``, if the loss is not finite at a point. Under `jax.jit` it raises when the
        program runs.

    References
    ----------
    Wu, Du, Chen and Zhou, "Understanding loss landscapes of neural network models in solving
    partial differential equations", 2021.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> well = roughness_index(lambda p: jnp.sum(p**2), jnp.zeros(5), key=jax.random.key(0))
    >>> round(float(well.mean), 3), round(float(well.index), 3)
    (2.0, 0.0)
    """
    check_key(key)
    n_directions = check_count("n_directions", n_directions)
    n_points = check_count("n_points", n_points, minimum=3)
    check_positive("length", length)
    for name, value, kind in (
        ("scale", scale, DirectionScale),
        ("variation_range", variation_range, VariationRange),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"`{name}` must be a member of {kind.__name__}, got {value!r}.")
    moving, still = eqx.partition(parameters, eqx.is_inexact_array)
    if not jax.tree.leaves(moving):
        raise ValueError("`parameters` has no floating-point array to move.")
    theta, restore = ravel_pytree(moving)

    def value_at(theta: Array) -> Array:
        value = jnp.asarray(loss(eqx.combine(restore(theta), still)))
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(
                "`loss` must return one real floating-point number, got shape "
                f"{value.shape} of {value.dtype}."
            )
        return value

    gaussian = jax.random.normal(key, (n_directions, theta.size), theta.dtype)
    directions = jax.vmap(lambda d: _scaled(d, moving, restore, scale))(gaussian)
    s = jnp.linspace(-length, length, n_points, dtype=theta.dtype)

    def along(direction):
        return jax.vmap(lambda position: value_at(theta + position * direction))(s)

    losses = jax.lax.map(along, directions)
    record = _summary(s, losses, variation_range)
    if throw:
        cause = "`roughness_index`: the loss is not finite at some points along the directions"
        remedy = "take a smaller `length`, or guard the loss's singularities"
        failed = jnp.logical_not(is_successful(record.result))
        if not isinstance(failed, Tracer):
            if bool(failed):
                bad = int(jnp.sum(~jnp.isfinite(record.losses)))
                raise RuntimeError(f"{cause} ({bad} of {record.losses.size}): {remedy}.")
        else:
            index = eqx.error_if(record.index, failed, f"{cause}: {remedy}.")
            record = eqx.tree_at(lambda r: r.index, record, index)
    return record


def _scaled(direction: Array, moving: Any, restore: Any, scale: DirectionScale) -> Array:
    if scale is DirectionScale.unit:
        return direction / jnp.linalg.norm(direction)

    def of_leaf(d: Array, p: Array) -> Array:
        # A row of a matrix is a filter; a bias vector, or a number, is one filter.
        axes = tuple(range(1, d.ndim)) if d.ndim > 1 else None
        size = jnp.sqrt(jnp.sum(d**2, axis=axes, keepdims=True))
        size = jnp.where(size > 0, size, jnp.ones_like(size))
        wanted = jnp.sqrt(jnp.sum(p**2, axis=axes, keepdims=True))
        return d * (wanted / size).reshape((-1,) + (1,) * (d.ndim - 1) if d.ndim > 1 else ())

    return ravel_pytree(jax.tree.map(of_leaf, restore(direction), moving))[0]


def _summary(s: Array, losses: Array, variation_range: VariationRange) -> RoughnessResult:
    variations = jnp.sum(jnp.abs(jnp.diff(losses, axis=1)), axis=1)
    low, high = jnp.min(losses, axis=1), jnp.max(losses, axis=1)
    ranges = high - low
    if variation_range is VariationRange.all_directions:
        ranges = jnp.broadcast_to(jnp.max(high) - jnp.min(low), ranges.shape)
    # What rounding alone makes of a constant.
    noise = 8 * jnp.finfo(losses.dtype).eps * jnp.max(jnp.abs(losses), axis=1)
    is_flat = high - low <= noise
    totals = jnp.where(is_flat, 1.0, variations / jnp.where(is_flat, 1.0, ranges))
    mean, std = jnp.mean(totals), jnp.std(totals)
    is_finite = jnp.all(jnp.isfinite(losses))
    outcomes: Any = (RESULTS.successful, RESULTS.nonfinite_rows)
    result = results_where(is_finite, *outcomes)
    return RoughnessResult(std / mean, mean, std, totals, is_flat, s, losses, result)
