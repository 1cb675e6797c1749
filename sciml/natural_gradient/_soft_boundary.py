r"""Boundary conditions as further rows of each fit: :math:`\sqrt{\lambda w}\,(B u - g(t))`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..core import check_count, check_finite, check_positive, check_shape


def _value(u: Callable[[Array], Any], x: Array) -> Any:
    return u(x)


class SoftBoundary(eqx.Module):
    r"""A condition :math:`B u = g(t, x)` at points of the boundary, met by least squares.

    Parameters
    ----------
    x
        Points, ``(n, dim)``, for instance those of `box_boundary_quadrature`.
    w
        Positive weights, ``(n,)``.
    target
        ``target(t, x)``, the value at a time; zero by default.
    operator
        ``operator(u, x)``, what is prescribed: the value by default (Dirichlet); a derivative for
        Neumann, ``lambda u, x: derivative(u, 0)(x)`` on a face across the first axis.
    n_components
        How many numbers ``operator`` and ``target`` give.
    weight
        The factor :math:`\lambda` of the squared residuals.

    Raises
    ------
    ValueError
        If there is no point, shapes do not fit, a weight is not positive, or a number is not
        finite.

    Examples
    --------
    >>> import jax
    >>> from sciml.natural_gradient import box_boundary_quadrature
    >>> with jax.enable_x64(True):
    ...     SoftBoundary(*box_boundary_quadrature(3, 2), weight=10.0).x.shape
    (12, 2)
    """

    x: Float[Array, "n dim"]
    w: Float[Array, " n"]
    target: Callable[..., Any] | None
    operator: Callable[..., Any]
    n_components: int = eqx.field(static=True)
    weight: float

    def __init__(
        self,
        x: Float[Array, "n dim"],
        w: Float[Array, " n"],
        target: Callable[..., Any] | None = None,
        *,
        operator: Callable[..., Any] = _value,
        n_components: int = 1,
        weight: float = 10.0,
    ):
        check_shape("x", x, ("n", "dim"))
        check_shape("w", w, (len(x),))
        check_positive("weight", weight)
        if len(x) < 1:
            raise ValueError("`x` must hold at least one point of the boundary, got none.")
        check_finite("x", x)
        check_finite("w", w)
        if not isinstance(w, Tracer) and not np.all(np.asarray(w) > 0):
            raise ValueError("`w` must be positive everywhere.")
        self.x, self.w, self.target, self.operator = x, w, target, operator
        self.weight, self.n_components = float(weight), check_count("n_components", n_components)

    def values(self, u: Callable[..., Any]) -> Float[Array, " rows"]:
        """Return what a function shows at the points, flat.

        Parameters
        ----------
        u
            A function of a point.
        """
        found = jax.vmap(lambda x: self.operator(u, x))(self.x)
        return self._flat("operator(u, x)", found)

    def targets(self, t: Any) -> Float[Array, " rows"]:
        """Return what it should show at a time, flat.

        Parameters
        ----------
        t
            The time.
        """
        if self.target is None:
            return jnp.zeros(self.n_rows, self.x.dtype)
        target = self.target
        found = jax.vmap(lambda x: jnp.asarray(target(t, x), x.dtype))(self.x)
        return self._flat("target(t, x)", found)

    def _flat(self, name: str, found: Any) -> Array:
        if found.size != self.n_rows:
            raise ValueError(
                f"{name} of a SoftBoundary must give {self.n_components} numbers a point "
                f"(`n_components`), got the shape {found.shape[1:]}."
            )
        return found.reshape(-1)

    @property
    def n_rows(self) -> int:
        """How many rows it adds to a fit."""
        return self.n_components * len(self.x)

    def weigh(self, r: Float[Array, " rows"]) -> Float[Array, " rows"]:
        """Multiply by the square roots of the weights.

        Parameters
        ----------
        r
            One number, or as many as there are components, a point.
        """
        scale = jnp.sqrt(jnp.asarray(self.weight, self.w.dtype) * self.w)
        return jnp.repeat(scale, self.n_components) * r

    def squared_miss(self, u: Callable[..., Any], t: Any) -> Float[Array, ""]:
        """Return the integral of the squared residual, without ``weight``.

        Parameters
        ----------
        u
            A function of a point.
        t
            The time.
        """
        return jnp.sum(self.weigh(self.values(u) - self.targets(t)) ** 2) / self.weight
