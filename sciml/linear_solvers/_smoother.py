"""Chebyshev smoothing: a polynomial in the scaled matrix that damps the upper part of its spectrum.

``W`` is half the absolute row sum of ``A``, so the eigenvalues of ``W^-1 A`` lie in ``(0, 2]``, by
Gershgorin. The error after smoothing is ``p(W^-1 A) e`` with

    p(x) = T_k(t(x)) / T_k(t(0)),   t(x) = (2 x - lower - upper) / (upper - lower).

By symmetry ``|p(x)| < 1`` for all ``0 < x < lower + upper``. So every choice with
``lower + upper > 2`` shrinks each part of the error, and the cycle built on it is positive
definite.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..numerics import StencilOperator, full_precision
from ..numerics._stencil import full_row


def inverse_scale(operator: StencilOperator) -> Float[Array, "*space"]:
    """Return ``1 / W``, with 0 where a cell takes no part."""
    total = sum_of_magnitudes(operator)
    active = total > 0
    return jnp.where(
        active, 2 / jnp.where(active, total, jnp.ones_like(total)), jnp.zeros_like(total)
    )


def sum_of_magnitudes(operator: StencilOperator) -> Float[Array, "*space"]:
    """Return the sum of ``|A_ij|`` over each row."""
    total = jnp.zeros_like(operator.diagonal)
    for entry in full_row(operator).values():
        total = total + jnp.abs(entry)
    return total


@full_precision
def chebyshev_smooth(
    matvec: Callable[[Array], Array],
    inverse_scale: Float[Array, "*space"],
    residual: Float[Array, "*space"],
    lower: Float[Array, ""],
    upper: Float[Array, ""],
    n_sweeps: int,
) -> Float[Array, "*space"]:
    """Return the correction that Chebyshev iteration makes of a residual, starting from zero.

    Parameters
    ----------
    matvec
        The operator.
    inverse_scale
        ``1 / W``.
    residual
        Right-hand side of the error equation.
    lower, upper
        The interval on which the polynomial is small.
    n_sweeps
        Its degree; ``n_sweeps - 1`` matvecs are done.
    """
    centre, radius = (upper + lower) / 2, (upper - lower) / 2
    # Nothing is divided by the radius, which is 0 where the interval shrinks to a point.
    sigma = radius / centre
    step = inverse_scale * residual / centre
    correction = step
    for _ in range(n_sweeps - 1):
        residual = residual - matvec(step)
        gain = 1 / (2 * centre - radius * sigma)
        step = (gain * radius * sigma) * step + (2 * gain) * (inverse_scale * residual)
        correction = correction + step
        sigma = gain * radius
    return correction
