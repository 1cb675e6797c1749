"""The first step size after Hairer, Nørsett and Wanner (II.4): two evaluations of the field."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, PyTree

from ..core import cites
from ..numerics import full_precision
from ._bibliography import HAIRER_1993
from ._step_regularizer import state_dtype


@cites(HAIRER_1993)
@full_precision
def initial_step(
    terms: diffrax.ODETerm,
    solver: diffrax.AbstractSolver,
    t0: Any,
    t1: Any,
    y0: PyTree,
    args: PyTree = None,
    *,
    rtol: Any,
    atol: Any,
    norm: Callable[[PyTree], Any] = optx.rms_norm,
) -> Array:
    """Return a first step size for `diffrax.diffeqsolve`, which by itself starts with 0.01.

    Parameters
    ----------
    terms
        The equation.
    solver
        Its order decides.
    t0, t1
        Begin and end; the step has the sign of ``t1 - t0`` and is not longer, nor below
        ten units of rounding of ``t0``.
    y0, args
        As for ``diffeqsolve``.
    rtol, atol, norm
        As for the step size controller.

    Returns
    -------
    Array
        ``dt0``; it gets no gradient.

    Raises
    ------
    ValueError
        If the solver has no known order.

    Examples
    --------
    >>> import diffrax, jax.numpy as jnp
    >>> slow = diffrax.ODETerm(lambda t, y, args: -1e-3 * y)
    >>> dt0 = initial_step(slow, diffrax.Tsit5(), 0.0, 9.0, jnp.ones(1), rtol=1e-3, atol=1e-6)
    >>> bool(dt0 > 0.4)
    True
    """
    order = solver.order(terms)
    if order is None:
        raise ValueError(f"{type(solver).__name__} has no known order: pass `dt0`.")
    return _from_two_evaluations(terms, order, t0, t1, y0, args, rtol, atol, norm)


@eqx.filter_jit
def _from_two_evaluations(terms, order, t0, t1, y0, args, rtol, atol, norm) -> Array:
    dtype = state_dtype(y0)
    y0 = jax.tree.map(lambda y: jnp.asarray(y, dtype), y0)
    t0, t1 = jnp.asarray(t0, dtype), jnp.asarray(t1, dtype)
    sign = jnp.where(t1 < t0, -1, 1).astype(dtype)
    with jax.numpy_dtype_promotion("standard"):
        scale = jax.tree.map(lambda y: atol + rtol * jnp.abs(y), y0)

        def size(tree):
            return norm(jax.tree.map(lambda x, s: x / s, tree, scale))

        f0 = terms.vf(t0, y0, args)
        d0, d1 = size(y0), size(f0)
        is_small = (d0 < 1e-5) | (d1 < 1e-5)
        h0 = jnp.where(is_small, 1e-6, 0.01 * d0 / jnp.where(is_small, 1, d1))
        # Below the spacing of `t0` a step would not leave it.
        length = jnp.abs(t1 - t0)
        least = jnp.minimum(10 * jnp.finfo(dtype).eps * jnp.abs(t0), length)
        h0 = jnp.clip(h0, least, length)
        y1 = jax.tree.map(lambda y, f: y + sign * h0 * f, y0, f0)
        f1 = terms.vf(t0 + sign * h0, y1, args)
        h0_safe = jnp.where(h0 > 0, h0, 1)
        d2 = size(jax.tree.map(lambda a, b: a - b, f1, f0)) / h0_safe
        largest = jnp.maximum(d1, d2)
        is_flat = largest <= 1e-15
        root = (0.01 / jnp.where(is_flat, 1, largest)) ** (1 / (order + 1))
        h1 = jnp.where(is_flat, jnp.maximum(1e-6, h0 * 1e-3), root)
        h = jnp.minimum(jnp.minimum(100 * h0, h1), length)
        # A field that overflows at once: start as small as that.
        h = jnp.where(jnp.isfinite(h), h, 1e-6 * length)
        h = jnp.maximum(h, least)
    return jax.lax.stop_gradient(sign * h.astype(dtype))
