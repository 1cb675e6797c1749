"""Derivatives of a function of a point, by forward modes, to write right-hand sides with."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import check_count
from ._second_derivatives import check_point, laplacian_at


def gradient(u: Callable[..., Any]) -> Callable[[Array], Array]:
    """Return the function whose value at ``x`` is the gradient of ``u``, ``(..., dim)``.

    Parameters
    ----------
    u
        A function of a point ``x`` of shape ``(dim,)``, with a scalar or an array as its value.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(gradient(lambda x: x[0] * x[1])(jnp.asarray([2.0, 3.0])))
    [3. 2.]
    """
    jacobian = jax.jacfwd(u)

    def at(x: Array, *more: Any) -> Any:
        check_point(x)
        return jacobian(x, *more)

    return at


def laplacian(u: Callable[..., Any]) -> Callable[[Array], Array]:
    """Return the function whose value at ``x`` is the Laplacian of ``u``; no full Hessian is made.

    Parameters
    ----------
    u
        A function of a point ``x`` of shape ``(dim,)``, with a scalar or an array as its value.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(laplacian(lambda x: x[0] ** 2 + x[1] ** 2)(jnp.asarray([2.0, 3.0])))
    4.0
    """
    return lambda x: laplacian_at(u, x)


def derivative(u: Callable[..., Any], axis: int, order: int = 1) -> Callable[[Array], Array]:
    """Return the function whose value at ``x`` is a partial derivative of ``u``, of any order.

    Parameters
    ----------
    u
        A function of a point ``x`` of shape ``(dim,)``.
    axis
        The coordinate; a negative one counts from the last.
    order
        How many times.

    Raises
    ------
    ValueError
        If ``order`` or ``axis`` is out of range, the latter when the derivative is called.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(derivative(lambda x: x[0] ** 3, 0, 2)(jnp.asarray([2.0])))
    12.0
    """
    check_count("order", order)
    if not (isinstance(axis, int) and axis < 0):
        check_count("axis", axis, minimum=0)

    def once(f):
        def slope(x):
            check_point(x)
            if not -x.shape[0] <= axis < x.shape[0]:
                raise ValueError(f"`axis` {axis} is beyond the {x.shape[0]} coordinates of `x`.")
            unit = jnp.zeros_like(x).at[axis].set(1)
            return jax.jvp(f, (x,), (unit,))[1]

        return slope

    for _ in range(order):
        u = once(u)
    return u
