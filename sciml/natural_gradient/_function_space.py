"""A network as a vector of weighted values on points, and its Jacobian: what all fits share."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ._boundary_ansatz import AbstractTimedField
from ._collocation_points import CollocationPoints
from ._soft_boundary import SoftBoundary


class FunctionSpace(eqx.Module):
    """A network's architecture on fixed points; parameters are one vector ``theta``.

    A flat field holds the components at the points of the domain. A row vector is a flat field
    followed by what the soft boundary conditions see.

    Attributes
    ----------
    static
        The network without its arrays.
    unravel
        From a vector to the arrays.
    points
        Points and weights of the domain.
    boundary
        Soft conditions.
    """

    static: Any
    unravel: Callable[[Array], Any] = eqx.field(static=True)
    points: CollocationPoints
    boundary: tuple[SoftBoundary, ...] = ()

    def network(self, theta: Array) -> Any:
        """Return the network with these parameters."""
        return eqx.combine(self.unravel(theta), self.static)

    def field(self, theta: Array, t: Any = None) -> Any:
        """Return the function that the network is at a time."""
        network = self.network(theta)
        if t is None or not isinstance(network, AbstractTimedField):
            return network
        return network.at(t)

    def at(self, points: CollocationPoints) -> "FunctionSpace":
        """Return the same network on other points of the domain, without its boundary."""
        return FunctionSpace(self.static, self.unravel, points)

    def values(self, theta: Array, t: Any = None) -> Array:
        """Return the values on the points, flat."""
        return jax.vmap(self.field(theta, t))(self.points.x).reshape(-1)

    def slopes(self, theta: Array, rhs: Callable[..., Any], t: Array) -> Array:
        """Return the right-hand side on the points, flat."""
        network = self.field(theta, t)
        return jax.vmap(lambda x: rhs(t, x, network))(self.points.x).reshape(-1)

    def rows(self, theta: Array, t: Any, functional: Callable[..., Any] | None = None) -> Array:
        """Return ``functional(u, x)``, the value by default, and what the boundary sees."""
        u = self.field(theta, t)
        inside = jax.vmap(u if functional is None else lambda x: functional(u, x))(self.points.x)
        return jnp.concatenate([inside.reshape(-1), *(b.values(u) for b in self.boundary)])

    def targets(self, inside: Array, t: Any) -> Array:
        """Return a row vector to fit: a flat field, and the boundary's values at a time."""
        return jnp.concatenate([inside, *(b.targets(t) for b in self.boundary)])

    def columns(self, theta: Array, t: Any, functional: Callable[..., Any] | None = None) -> Array:
        """Return the transposed weighted Jacobian of `rows`, ``(parameters, rows)``."""
        inside = self._jacobian(theta, t, functional, self.points.x)
        blocks = [jax.vmap(self.weigh, 1)(inside)]
        for b in self.boundary:
            seen = self._jacobian(theta, t, b.operator, b.x)
            blocks.append(jax.vmap(b.weigh, 1)(seen))
        return jnp.concatenate(blocks, axis=1)

    def _jacobian(self, theta, t, functional, x):
        def at(parameters, point):
            u = self.field(parameters, t)
            return jnp.reshape(u(point) if functional is None else functional(u, point), -1)

        return jax.vmap(jax.jacrev(at), (None, 0))(theta, x).reshape(-1, theta.size)

    def weigh(self, f: Array) -> Array:
        """Multiply a flat field by the square roots of the weights."""
        n_components = f.size // self.points.w.size
        return jnp.repeat(jnp.sqrt(self.points.w), n_components) * f

    def weigh_rows(self, r: Array) -> Array:
        """Multiply a row vector by the square roots of all weights."""
        n_seen = sum(b.n_rows for b in self.boundary)
        pieces, start = [self.weigh(r[: r.size - n_seen])], r.size - n_seen
        for b in self.boundary:
            n = b.n_rows
            pieces.append(b.weigh(r[start : start + n]))
            start += n
        return jnp.concatenate(pieces)

    def norm(self, f: Array) -> Array:
        """Return the L2 norm of a flat field."""
        return jnp.linalg.norm(self.weigh(f))

    def boundary_residual(self, theta: Array, t: Any) -> Array:
        """Return the root mean square of what the soft conditions miss; zero without any."""
        if not self.boundary:
            return jnp.zeros((), theta.dtype)
        u = self.field(theta, t)
        squares = [b.squared_miss(u, t) for b in self.boundary]
        measure = sum(jnp.sum(b.w) for b in self.boundary)
        return jnp.sqrt(sum(squares[1:], squares[0]) / measure)


def function_space(
    network: Any, points: CollocationPoints, boundary: tuple[SoftBoundary, ...] = ()
) -> tuple[FunctionSpace, Array]:
    """Return the space and the parameters of a network; raise for what cannot be fitted."""
    for i, b in enumerate(boundary):
        if not isinstance(b, SoftBoundary):
            raise TypeError(f"boundary[{i}] must be a SoftBoundary, got {type(b).__name__}.")
        if b.x.shape[1] != points.x.shape[1]:
            raise ValueError(
                f"boundary[{i}] has points of {b.x.shape[1]} coordinates, the domain's have "
                f"{points.x.shape[1]}."
            )
    arrays, static = eqx.partition(network, eqx.is_inexact_array)
    theta, unravel = ravel_pytree(arrays)
    if theta.size == 0:
        raise ValueError("`network` has no floating-point arrays: there is nothing to fit.")
    if theta.dtype != jnp.float64:
        raise ValueError(
            f"`network` has parameters of {theta.dtype}; build it in float64 (enable "
            "`jax_enable_x64` before it is made)."
        )
    period = getattr(network, "period", None)
    given = points.period
    if period is not None and given is not None and abs(period - given) > 1e-9 * abs(period):
        raise ValueError(
            f"`network` has the period {period:.6g}, its points {given:.6g}: give both "
            "the same `period`."
        )
    space = FunctionSpace(static, unravel, points, boundary)
    value = jax.eval_shape(lambda th: space.network(th)(points.x[0]), theta)
    if not isinstance(value, jax.ShapeDtypeStruct) or value.ndim > 1:
        raise ValueError(
            "`network` must map a point to a number or an array of one axis, got "
            f"{getattr(value, 'shape', type(value).__name__)}."
        )
    if value.dtype != jnp.float64:
        raise ValueError(f"`network` must give float64 values, got {value.dtype}.")
    return space, theta
