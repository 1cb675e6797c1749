"""Where the blocks of a constraint are imposed."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import check_array, check_non_negative
from ._basis import AbstractBasis
from ._derivative_names import parse_derivative
from ._residual import AbstractResidual


class Points(eqx.Module):
    """Points of one block, with weights; a plain array of positions will do where there are none.

    Parameters
    ----------
    positions
        ``(m, d)`` coordinates, ``(m,)`` indices of a `GridBasis`, or, for integrals,
        ``(cells, q, d)`` quadrature points.
    weights
        Weight of each point or cell in the block's mean square, ``(m,)``. Zero leaves one out;
        one that is negative or no number makes the rows of its expert ``nonfinite_rows``.
    quadrature
        Quadrature weights of each cell, ``(cells, q)``; for integrals only.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> Points(jnp.zeros((5, 2))).weights.shape
    (5,)
    """

    positions: Array
    weights: Float[Array, "..."]
    quadrature: Float[Array, "..."] | None

    def __init__(
        self,
        positions: Array,
        weights: Float[Array, "..."] | None = None,
        quadrature: Float[Array, "..."] | None = None,
    ):
        check_array("positions", positions)
        dtype = (
            positions.dtype
            if jnp.issubdtype(positions.dtype, jnp.floating)
            else jnp.result_type(float)
        )
        self.positions = positions
        self.weights = jnp.ones(positions.shape[:1], dtype) if weights is None else weights
        self.quadrature = quadrature


def as_points(
    points: Mapping[str, Any], residuals: Sequence[AbstractResidual], basis: AbstractBasis
) -> dict[str, Points]:
    """Return checked points by name; raise ``ValueError`` naming the block that does not fit."""
    names = [residual.name for residual in residuals]
    if not isinstance(points, Mapping) or set(points) != set(names):
        given = sorted(points) if isinstance(points, Mapping) else points
        raise ValueError(
            f"`points` must be a dictionary with the blocks {sorted(names)}; got {given}."
        )
    checked = {}
    for residual in residuals:
        name, found = residual.name, points[residual.name]
        if hasattr(found, "dtype"):
            check_array(f"points[{name!r}]", found)
        found = found if isinstance(found, Points) else Points(jnp.asarray(found))
        reason = basis.has_shape_of_points(found.positions)
        if reason:
            raise ValueError(f"the points of the block {name!r} {reason}.")
        axes = basis.positions(found.positions[:0]).ndim - 1
        if axes != residual.expected_axes():
            raise ValueError(
                f"the points of the block {name!r} must have {residual.expected_axes()} axes "
                f"before their coordinates, got the shape {found.positions.shape}."
            )
        if axes == 2:
            wanted = basis.positions(found.positions).shape[:2]
            if found.quadrature is None or found.quadrature.shape != wanted:
                got = None if found.quadrature is None else found.quadrature.shape
                raise ValueError(
                    f"the block {name!r} integrates: its points need `quadrature` of shape "
                    f"{wanted}, got {got}."
                )
        if found.weights.shape != found.positions.shape[:1]:
            raise ValueError(
                f"the weights of the block {name!r} must have shape {found.positions.shape[:1]}, "
                f"got {found.weights.shape}."
            )
        checked[name] = found
    return checked


def check_residuals(residuals: Sequence[AbstractResidual], basis: AbstractBasis) -> None:
    """Raise unless names are distinct and every derivative exists."""
    if not residuals:
        raise ValueError("`residuals` must hold at least one block.")
    names = [residual.name for residual in residuals]
    if len(set(names)) != len(names):
        raise ValueError(f"the blocks must have distinct names, got {names}.")
    for residual in residuals:
        for need in residual.needs:
            parse_derivative(need, basis.fields, basis.coordinates, f"the block {residual.name!r}")
        check_non_negative("weight", residual.weight)
