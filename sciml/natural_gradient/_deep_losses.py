r"""Two losses of one Poisson problem: deep Ritz and deep Galerkin, on a fixed quadrature.

For :math:`-\Delta u = f` in :math:`\Omega`, :math:`u = g` on its boundary.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import RealScalar, check_positive, check_shape, cites
from ..numerics import full_precision
from ._second_derivatives import laplacian_at
from ._stationary_bibliography import E_2018, SIRIGNANO_2018


class PoissonData(eqx.Module):
    r"""The right-hand side and boundary values of a Poisson problem at quadrature points.

    Parameters
    ----------
    x, w
        Points in the domain, shape ``(n, dim)``, and weights, shape ``(n,)``.
    boundary_x, boundary_w
        The same of the boundary.
    source
        :math:`f` at ``x``, shape ``(n,)``.
    boundary_values
        :math:`g` at ``boundary_x``.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.natural_gradient import box_boundary_quadrature, box_quadrature
    >>> x, w = box_quadrature(4, 2)
    >>> y, v = box_boundary_quadrature(4, 2)
    >>> PoissonData(x, w, y, v, jnp.ones(16), jnp.zeros(16)).source.shape
    (16,)
    """

    x: Float[Array, "n dim"]
    w: Float[Array, " n"]
    boundary_x: Float[Array, "m dim"]
    boundary_w: Float[Array, " m"]
    source: Float[Array, " n"]
    boundary_values: Float[Array, " m"]

    def __init__(
        self,
        x: Float[Array, "n dim"],
        w: Float[Array, " n"],
        boundary_x: Float[Array, "m dim"],
        boundary_w: Float[Array, " m"],
        source: Float[Array, " n"],
        boundary_values: Float[Array, " m"],
    ):
        check_shape("x", x, ("n", "dim"))
        check_shape("boundary_x", boundary_x, ("m", x.shape[1]))
        for name, array, n in (
            ("w", w, len(x)),
            ("source", source, len(x)),
            ("boundary_w", boundary_w, len(boundary_x)),
            ("boundary_values", boundary_values, len(boundary_x)),
        ):
            check_shape(name, array, (n,))
        self.x, self.w = x, w
        self.boundary_x, self.boundary_w = boundary_x, boundary_w
        self.source, self.boundary_values = source, boundary_values


@cites(E_2018)
class DeepRitzLoss(eqx.Module):
    r"""The energy :math:`\int \tfrac12 |\nabla u|^2 - f u + \lambda \int_{\partial} (u - g)^2`.

    Parameters
    ----------
    data
        The problem and its points.
    penalty
        :math:`\lambda`. The minimiser is off the solution by the order of its inverse.

    References
    ----------
    E and Yu, "The Deep Ritz method", 2018.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.natural_gradient import box_boundary_quadrature, box_quadrature
    >>> x, w = box_quadrature(4, 1)
    >>> y, v = box_boundary_quadrature(4, 1)
    >>> data = PoissonData(x, w, y, v, jnp.zeros(4), jnp.zeros(2))
    >>> round(float(DeepRitzLoss(data, penalty=10.0)(lambda x: x[0])), 4)
    10.5
    """

    data: PoissonData
    penalty: RealScalar

    def __init__(self, data: PoissonData, penalty: RealScalar = 100.0):
        check_positive("penalty", penalty)
        self.data = data
        self.penalty = penalty

    @full_precision
    def __call__(self, network: Callable[[Array], Any]) -> Float[Array, ""]:
        """Return the loss of a network, a scalar function of a point."""
        values, gradients = jax.vmap(jax.value_and_grad(network))(self.data.x)
        density = 0.5 * jnp.sum(gradients**2, axis=-1) - self.data.source * values
        return self.data.w @ density + _mismatch(self.data, self.penalty, network)


@cites(SIRIGNANO_2018)
class DeepGalerkinLoss(eqx.Module):
    r"""The residual :math:`\int (\Delta u + f)^2 + \lambda \int_{\partial} (u - g)^2`.

    Parameters
    ----------
    data
        The problem and its points.
    penalty
        :math:`\lambda`.

    References
    ----------
    Sirignano and Spiliopoulos, "DGM", 2018.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.natural_gradient import box_boundary_quadrature, box_quadrature
    >>> x, w = box_quadrature(4, 1)
    >>> y, v = box_boundary_quadrature(4, 1)
    >>> data = PoissonData(x, w, y, v, 0 * w - 2.0, jnp.array([0.0, 1.0]))
    >>> float(DeepGalerkinLoss(data, penalty=10.0)(lambda x: x[0] ** 2))
    0.0
    """

    data: PoissonData
    penalty: RealScalar

    def __init__(self, data: PoissonData, penalty: RealScalar = 100.0):
        check_positive("penalty", penalty)
        self.data = data
        self.penalty = penalty

    @full_precision
    def __call__(self, network: Callable[[Array], Any]) -> Float[Array, ""]:
        """Return the loss of a network, a scalar function of a point."""
        laplacians = jax.vmap(lambda x: laplacian_at(network, x))(self.data.x)
        residual = (laplacians + self.data.source) ** 2
        return self.data.w @ residual + _mismatch(self.data, self.penalty, network)


def _mismatch(data: PoissonData, penalty: RealScalar, network: Callable[[Array], Any]) -> Array:
    error = jax.vmap(network)(data.boundary_x) - data.boundary_values
    return penalty * (data.boundary_w @ error**2)
