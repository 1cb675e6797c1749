"""A network as a vector of weighted values on points, and its Jacobian: what all fits share."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ._collocation_points import CollocationPoints


class FunctionSpace(eqx.Module):
    """A network's architecture on fixed points; parameters are one vector ``theta``.

    Attributes
    ----------
    static
        The network without its arrays.
    unravel
        From a vector to the arrays.
    points
        Points and weights.
    """

    static: Any
    unravel: Callable[[Array], Any] = eqx.field(static=True)
    points: CollocationPoints

    def network(self, theta: Array) -> Any:
        """Return the network with these parameters."""
        return eqx.combine(self.unravel(theta), self.static)

    def values(self, theta: Array) -> Array:
        """Return the values on the points, flat."""
        return jax.vmap(self.network(theta))(self.points.x).reshape(-1)

    def slopes(self, theta: Array, rhs: Callable[..., Any], t: Array) -> Array:
        """Return the right-hand side on the points, flat."""
        network = self.network(theta)
        return jax.vmap(lambda x: rhs(t, x, network))(self.points.x).reshape(-1)

    def weigh(self, f: Array) -> Array:
        """Multiply a flat field by the square roots of the weights."""
        n_components = f.size // self.points.w.size
        return jnp.repeat(jnp.sqrt(self.points.w), n_components) * f

    def norm(self, f: Array) -> Array:
        """Return the L2 norm of a flat field."""
        return jnp.linalg.norm(self.weigh(f))

    def columns(self, theta: Array, functional: Callable[..., Any] | None = None) -> Array:
        """Return the transposed weighted Jacobian of ``functional(network, x)``, of the values."""

        def at(parameters, x):
            network = self.network(parameters)
            value = network(x) if functional is None else functional(network, x)
            return jnp.reshape(value, -1)

        jacobian = jax.vmap(jax.jacrev(at), (None, 0))(theta, self.points.x)
        jacobian = jacobian.reshape(-1, theta.size)
        return jax.vmap(self.weigh, 1)(jacobian)


def function_space(network: Any, points: CollocationPoints) -> tuple[FunctionSpace, Array]:
    """Return the space and the parameters of a network; raise for what cannot be fitted."""
    arrays, static = eqx.partition(network, eqx.is_inexact_array)
    theta, unravel = ravel_pytree(arrays)
    if theta.size == 0:
        raise ValueError("`network` has no floating-point arrays: there is nothing to fit.")
    if theta.dtype != jnp.float64:
        raise ValueError(
            f"`network` has parameters of {theta.dtype}; build it in float64 (enable "
            "`jax_enable_x64` before it is made)."
        )
    return FunctionSpace(static, unravel, points), theta
