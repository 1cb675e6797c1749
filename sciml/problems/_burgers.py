r"""The viscous Burgers equation on a circle, and the convective term it shares with others.

.. math:: u_t + u u_x = \nu u_{xx} + f

The convective term is evaluated as :math:`\tfrac12 \partial_x (u^2)` of the dealiased state: a
Galerkin form, so that it conserves :math:`\int u^2` exactly.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from ..core import (
    RealScalar,
    check_count,
    check_non_negative,
)
from ..numerics import irfftn, rfftn
from ..numerics._fourier import (
    Extent,
    check_extent,
    check_n_points,
    host_dealias_mask,
    host_squared_wavenumber,
    host_wavenumbers,
    scale,
    scale_by_i,
)
from ._oversample import oversampled
from ._semilinear import AbstractSemilinearPDE, as_coefficient
from ._steady_source import forcing_pairs, from_pairs


class Burgers1D(AbstractSemilinearPDE):
    r"""Viscous Burgers equation, state ``(1, x)``.

    .. math:: u_t + u u_x = \nu u_{xx} + f

    The mean of ``u`` is conserved when the forcing has mean zero. Without viscosity, and wherever
    the grid does not resolve the shock layer (width of the order of the viscosity over the jump),
    the solution oscillates.

    Parameters
    ----------
    n_points
        Points; one number in a tuple, 4 at least.
    viscosity
        :math:`\nu \ge 0`, in units of length squared over time. A JAX scalar makes the problem
        differentiable in it.
    domain_extent
        The period.
    forcing
        :math:`f` at the grid points, shape ``(1, x)``, constant in time.

    Raises
    ------
    ValueError
        If the viscosity is negative or not finite, or the forcing has another grid.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import Burgers1D, solve
    >>> problem = Burgers1D((32,), viscosity=0.05)
    >>> start = jnp.sin(2 * jnp.pi * jnp.arange(32) / 32)[None]
    >>> solve(problem, start, dt=0.01, n_steps=10, save_every=5).value.shape
    (3, 1, 32)
    """

    viscosity: Float[Array, ""]
    _forcing_pairs: Float[Array, "1 modes 2"] | None
    n_channels: int = eqx.field(static=True)
    n_points: tuple[int, ...] = eqx.field(static=True)
    domain_extent: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        n_points: Sequence[int],
        *,
        viscosity: RealScalar,
        domain_extent: Extent = 1.0,
        forcing: Float[Array | np.ndarray, "1 x"] | None = None,
    ):
        self.n_points = check_line(n_points)
        check_non_negative("viscosity", viscosity)
        self.viscosity = as_coefficient(viscosity)
        self.n_channels = 1
        self.domain_extent = check_extent(domain_extent, 1)
        self._forcing_pairs = forcing_pairs(forcing, self.n_points)

    @property
    def forcing(self) -> Float[Array, "1 x"] | None:
        """The forcing at the grid points, or ``None``."""
        if self._forcing_pairs is None:
            return None
        return irfftn(from_pairs(self._forcing_pairs), self.n_points)

    def linear_symbol(self, dtype: DTypeLike) -> Float[Array, "1 modes"]:
        """Return ``-viscosity k^2``."""
        squared = host_squared_wavenumber(self.n_points, self.domain_extent)
        return -self.viscosity.astype(dtype) * jnp.asarray(squared[None], dtype)

    def nonlinear_term(self, u_hat: Complex[Array, "1 modes"]) -> Complex[Array, "1 modes"]:
        """Return the dealiased ``-u u_x`` plus the forcing."""
        tendency = convection(u_hat, self.n_points, self.domain_extent)
        if self._forcing_pairs is not None:
            tendency = tendency + from_pairs(self._forcing_pairs).astype(tendency.dtype)
        return tendency

    def nonlinear_growth(self, u_hat: Complex[Array, "1 modes"]) -> Float[Array, ""]:
        """Return ``max(-u_x) / 2``."""
        return compression(u_hat, self.n_points, self.domain_extent)


def convection(
    u_hat: Complex[Array, "1 modes"], n_points: tuple[int, ...], extent: tuple[float, ...]
) -> Complex[Array, "1 modes"]:
    """Return the dealiased ``-(u^2 / 2)_x``."""
    (k,) = host_wavenumbers(n_points, extent, True)
    mask = host_dealias_mask(n_points)
    u = irfftn(scale(1.0 * mask, u_hat), n_points)
    return scale_by_i(-0.5 * k * mask, rfftn(u * u, 1))


def compression(
    u_hat: Complex[Array, "1 modes"], n_points: tuple[int, ...], extent: tuple[float, ...]
) -> Float[Array, ""]:
    r"""Return ``max(-u_x) / 2``: how fast convection can make a difference of solutions grow.

    For the difference ``e``, :math:`-\langle (u e)_x + e e_x, e \rangle
    = -\tfrac12 \langle u_x e, e \rangle`.
    """
    (k,) = host_wavenumbers(n_points, extent, True)
    slope_hat = scale_by_i(k * host_dealias_mask(n_points), u_hat)
    return jnp.max(-oversampled(slope_hat, n_points, 4)) / 2


def check_line(n_points: Sequence[int]) -> tuple[int, ...]:
    """Return the checked number of points of a one-dimensional grid, in a tuple."""
    n_points = check_n_points(n_points)
    if len(n_points) != 1:
        raise ValueError(f"`n_points` must hold one number, for x; got {n_points}.")
    check_count("n_points", n_points[0], minimum=4)
    return n_points
