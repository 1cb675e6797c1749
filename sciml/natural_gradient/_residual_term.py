r"""Terms of a sum of squared residuals, and the rows of its Gauss-Newton system.

A term stands for :math:`\tfrac12 \lambda \int (A u - y)^2` with a pointwise operator :math:`A`: the
equation in a domain, a condition on a boundary, values at a time. Its rows are
:math:`\sqrt{\lambda w_i} ((A u)(x_i) - y_i)`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..core import RealScalar, check_finite, check_floating, check_non_negative, check_shape
from ..numerics import full_precision


class ResidualTerm(eqx.Module):
    r"""One term :math:`\tfrac12 \lambda \sum_i w_i |r(u, x_i) - y_i|^2` of a loss.

    Parameters
    ----------
    residual
        ``residual(u, x)``, where ``u`` is the network, a function of a point of shape ``(dim,)``,
        and ``x`` such a point; a number or an array of one axis. It may differentiate ``u``.
    x
        Points, shape ``(n, dim)``.
    w
        Quadrature weights, shape ``(n,)``, not negative.
    weight
        The factor of the term, :math:`\lambda`.
    target
        What the residual is compared with at each point, in the shape of the residuals: ``(n,)``,
        or ``(n, components)``. Zero by default.

    Raises
    ------
    ValueError
        If shapes do not fit, or an entry is not finite or a weight negative.

    Examples
    --------
    >>> from sciml.natural_gradient import box_quadrature
    >>> x, w = box_quadrature(3, 1)
    >>> term = ResidualTerm(lambda u, x: u(x) - 1.0, x, w)
    >>> float(term.loss(lambda x: x[0] * 0 + 3.0).round(5))
    2.0
    """

    residual: Callable[..., Any]
    x: Float[Array, "n dim"]
    w: Float[Array, " n"]
    weight: RealScalar
    target: Float[Array, "n *components"] | None

    def __init__(
        self,
        residual: Callable[..., Any],
        x: Float[Array, "n dim"],
        w: Float[Array, " n"],
        weight: RealScalar = 1.0,
        target: Float[Array, "_ *components"] | None = None,
    ):
        if not callable(residual):
            raise TypeError(f"`residual` must be a function of (u, x), got {residual!r}.")
        check_shape("x", x, ("n", "dim"))
        check_shape("w", w, (len(x),))
        check_floating("x", x)
        check_finite("x", x)
        check_finite("w", w)
        check_non_negative("weight", weight)
        if not len(x):
            raise ValueError("`x` must hold at least one point, got none.")
        if not isinstance(w, Tracer | jax.ShapeDtypeStruct) and np.any(np.asarray(w) < 0):
            raise ValueError(f"`w` must not be negative, the least is {np.asarray(w).min()}.")
        if target is not None and len(target) != len(x):
            raise ValueError(f"`target` needs one entry a point, {len(x)}; got {len(target)}.")
        self.residual = residual
        self.x = x
        self.w = w
        self.weight = weight
        self.target = target

    def rows(self, u: Callable[[Array], Array]) -> Float[Array, " rows"]:
        """Return the weighted residuals at all points, whose half sum of squares is the loss.

        Parameters
        ----------
        u
            A function of a point.
        """
        values = jax.vmap(lambda x: jnp.asarray(self.residual(u, x)))(self.x)
        if values.ndim > 2:
            raise ValueError(
                "`residual` must return a number or an array of one axis at each point, got "
                f"shape {values.shape[1:]}."
            )
        if self.target is not None:
            if self.target.shape != values.shape:
                raise ValueError(
                    f"`target` has shape {self.target.shape}, the residuals {values.shape}: "
                    "give them the same shape."
                )
            values = values - self.target
        return (
            values * self.scales(values.dtype).reshape((-1,) + (1,) * (values.ndim - 1))
        ).ravel()

    def scales(self, dtype: Any) -> Float[Array, " n"]:
        """Return the square roots of the weights of the points.

        Parameters
        ----------
        dtype
            Of the result.
        """
        return jnp.sqrt(jnp.asarray(self.weight, dtype) * self.w.astype(dtype))

    @full_precision
    def loss(self, u: Callable[[Array], Array]) -> Float[Array, ""]:
        """Return half the sum of the squares of the rows.

        Parameters
        ----------
        u
            A function of a point.
        """
        return 0.5 * jnp.sum(self.rows(u) ** 2)


class ResidualProblem(eqx.Module):
    """A network whose parameters, strung together, make some terms small."""

    network: Any
    terms: tuple[ResidualTerm, ...]

    def theta(self) -> Array:
        """Return the parameters in one array."""
        return ravel_pytree(eqx.filter(self.network, eqx.is_inexact_array))[0]

    def build(self, theta: Array) -> Any:
        """Return the network with these parameters."""
        parameters, static = eqx.partition(self.network, eqx.is_inexact_array)
        return eqx.combine(ravel_pytree(parameters)[1](theta), static)

    def rows(self, theta: Array) -> Array:
        """Return the rows of all terms."""
        u = self.build(theta)
        return jnp.concatenate([term.rows(u) for term in self.terms])

    def loss(self, theta: Array) -> Array:
        """Return half the sum of squares."""
        return 0.5 * jnp.sum(self.rows(theta) ** 2)

    def transposed_jacobian(self, theta: Array) -> Array:
        """Return the derivatives of the rows, shape ``(parameters, rows)``: point by point."""
        return jnp.concatenate([self._of_term(term, theta) for term in self.terms], axis=1)

    def _of_term(self, term: ResidualTerm, theta: Array) -> Array:
        def at_a_point(x):
            return jax.jacrev(lambda p: jnp.ravel(term.residual(self.build(p), x)))(theta)

        rows = jax.vmap(at_a_point)(term.x)  # (points, components, parameters)
        rows = rows * term.scales(rows.dtype)[:, None, None]
        return rows.reshape(-1, rows.shape[-1]).T


def residual_problem(network: Any, terms: Sequence[ResidualTerm]) -> ResidualProblem:
    """Return the problem; raise for what cannot be one."""
    terms = tuple(terms)
    if not terms:
        raise ValueError("`terms` must hold at least one ResidualTerm, got none.")
    for i, term in enumerate(terms):
        if not isinstance(term, ResidualTerm):
            raise TypeError(f"terms[{i}] must be a ResidualTerm, got {type(term).__name__}.")
    if not callable(network):
        raise TypeError(f"`network` must be callable on a point, got {type(network).__name__}.")
    leaves = jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))
    if not leaves:
        raise ValueError("`network` has no floating-point array to fit.")
    if any(jnp.iscomplexobj(leaf) for leaf in leaves):
        raise TypeError("`network` has complex parameters; store real and imaginary parts apart.")
    return ResidualProblem(network, terms)
