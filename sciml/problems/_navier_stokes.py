r"""Two-dimensional incompressible Navier-Stokes equations in vorticity form.

.. math:: \omega_t + u \cdot \nabla \omega = \nu \Delta \omega - \lambda \omega + f,
          \quad u = (\partial_y \psi, -\partial_x \psi), \quad -\Delta \psi = \omega

By default the convective term is evaluated in the form of Basdevant (1983),

.. math:: u \cdot \nabla \omega
          = \partial_{xy} (v^2 - u^2) + (\partial_{xx} - \partial_{yy}) (u v),

which takes two transforms each way where the convective form takes four and one.
"""

import enum
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
    cites,
)
from ..core._bibliography import BASDEVANT_1983
from ..numerics import irfftn, rfftn, velocity_from_vorticity
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


class ConvectionForm(enum.Enum):
    """How the convective term of `NavierStokes2D` is evaluated.

    With the two-thirds rule both forms are equal in exact arithmetic. They differ in cost and in
    how they round: ``BASDEVANT`` needs four transforms, and its second derivatives lift the
    round-off of a product to ``eps |k|^2``; ``CONVECTIVE`` needs five (a step takes 1.3 to 1.5
    times as long), and its round-off is flat in ``k``. In float64 that never shows. In float32
    it shows in the derivatives of smooth fields on fine grids only: a hundred steps on 256 x 256
    points leave 4e-5 of relative H1 error against 2e-6, with equal L2 errors of 1e-6.
    """

    BASDEVANT = "Basdevant"
    CONVECTIVE = "convective"


@cites(BASDEVANT_1983)
class NavierStokes2D(AbstractSemilinearPDE):
    r"""Incompressible flow on a periodic rectangle, state ``(1, x, y)``: the vorticity.

    .. math:: \omega_t + u \cdot \nabla \omega = \nu \Delta \omega - \lambda \omega + f

    The velocity has no mean flow. Products are dealiased by the two-thirds rule (see
    `sciml.numerics.dealias_mask`); modes beyond it are kept in the state and only decay. The mean
    vorticity is conserved exactly when there is no drag and the forcing has mean zero.

    Parameters
    ----------
    n_points
        Points along x and y; 4 at least, odd, even and unequal sizes allowed.
    viscosity
        :math:`\nu \ge 0`, in units of length squared over time. The Reynolds number is ``U L``
        over it. A JAX scalar makes the problem differentiable in it.
    domain_extent
        Periods along x and y; one number for a square.
    drag
        :math:`\lambda \ge 0`, one over time.
    forcing
        :math:`f` at the grid points, shape ``(1, x, y)``, constant in time; for instance
        `fno_forcing` or `kolmogorov_forcing`.
    form
        How the convective term is evaluated; see `ConvectionForm`.

    Raises
    ------
    ValueError
        If a coefficient is negative or not finite, or the forcing has another grid.

    References
    ----------
    .. [1] C. Basdevant, "Technical improvements for direct numerical simulation of homogeneous
       three-dimensional turbulence", Journal of Computational Physics 50 (1983), 209-214.

    Examples
    --------
    >>> from sciml.problems import NavierStokes2D, solve, taylor_green_vorticity
    >>> problem = NavierStokes2D((16, 16), viscosity=0.01)
    >>> start = taylor_green_vorticity((16, 16), 1.0)
    >>> solution = solve(problem, start, dt=0.1, n_steps=4, save_every=2)
    >>> solution.value.shape
    (3, 1, 16, 16)
    """

    viscosity: Float[Array, ""]
    drag: Float[Array, ""]
    _forcing_pairs: Float[Array, "1 x modes 2"] | None
    n_channels: int = eqx.field(static=True)
    n_points: tuple[int, ...] = eqx.field(static=True)
    domain_extent: tuple[float, ...] = eqx.field(static=True)
    form: ConvectionForm = eqx.field(static=True)

    def __init__(
        self,
        n_points: Sequence[int],
        *,
        viscosity: RealScalar,
        domain_extent: Extent = 1.0,
        drag: RealScalar = 0.0,
        forcing: Float[Array | np.ndarray, "1 x y"] | None = None,
        form: ConvectionForm = ConvectionForm.BASDEVANT,
    ):
        n_points = check_n_points(n_points)
        if len(n_points) != 2:
            raise ValueError(f"`n_points` must hold two numbers, for x and y; got {n_points}.")
        for n in n_points:
            check_count("n_points", n, minimum=4)
        check_non_negative("viscosity", viscosity)
        check_non_negative("drag", drag)
        self.viscosity = as_coefficient(viscosity)
        self.drag = as_coefficient(drag)
        self.n_channels = 1
        self.n_points = n_points
        self.domain_extent = check_extent(domain_extent, 2)
        self.form = form
        self._forcing_pairs = forcing_pairs(forcing, n_points)

    @property
    def forcing(self) -> Float[Array, "1 x y"] | None:
        """The forcing at the grid points, or ``None``."""
        if self._forcing_pairs is None:
            return None
        return irfftn(from_pairs(self._forcing_pairs), self.n_points)

    def linear_symbol(self, dtype: DTypeLike) -> Float[Array, "1 x modes"]:
        """Return ``-viscosity |k|^2 - drag``."""
        squared = host_squared_wavenumber(self.n_points, self.domain_extent)
        squared = jnp.asarray(squared[None], dtype)
        return -self.viscosity.astype(dtype) * squared - self.drag.astype(dtype)

    def nonlinear_term(self, u_hat: Complex[Array, "1 x modes"]) -> Complex[Array, "1 x modes"]:
        """Return the dealiased ``-u . grad(vorticity)`` plus the forcing."""
        if self.form is ConvectionForm.BASDEVANT:
            tendency = self._basdevant(u_hat)
        else:
            tendency = self._convective(u_hat)
        if self._forcing_pairs is not None:
            tendency = tendency + from_pairs(self._forcing_pairs).astype(tendency.dtype)
        return tendency

    def nonlinear_growth(self, u_hat: Complex[Array, "1 x modes"]) -> Float[Array, ""]:
        r"""Return ``max |grad vorticity| / k``, with ``k`` the smallest wavenumber of the box.

        For the difference ``e`` of two vorticities and its velocity ``v``, convection by either
        flow conserves :math:`\|e\|`, and :math:`\langle v \cdot \nabla \omega, e \rangle
        \le \max |\nabla \omega| \, \|v\| \|e\|` with :math:`\|v\| \le \|e\| / k`.
        """
        kx, ky, mask, _ = self._symbols()
        slopes_hat = jnp.concatenate([scale_by_i(kx * mask, u_hat), scale_by_i(ky * mask, u_hat)])
        slopes = oversampled(slopes_hat, self.n_points, 2)
        steepest = jnp.sqrt(jnp.max(jnp.sum(jnp.square(slopes), axis=0)))
        return steepest * (max(self.domain_extent) / (2 * np.pi))

    def velocity(self, vorticity: Float[Array, "... 1 x y"]) -> Float[Array, "... 2 x y"]:
        """Return the velocity of states, one or a trajectory; it has no mean flow."""
        return velocity_from_vorticity(vorticity, self.domain_extent)

    def _basdevant(self, u_hat: Complex[Array, "1 x modes"]) -> Complex[Array, "1 x modes"]:
        kx, ky, mask, inverse_laplacian = self._symbols()
        velocity_hat = jnp.concatenate(
            [
                scale_by_i(ky * inverse_laplacian, u_hat),
                scale_by_i(-kx * inverse_laplacian, u_hat),
            ]
        )
        u, v = irfftn(velocity_hat, self.n_points)
        products_hat = rfftn(jnp.stack([(u - v) * (u + v), u * v]), 2)
        return scale(-kx * ky * mask, products_hat[:1]) + scale(
            (kx**2 - ky**2) * mask, products_hat[1:]
        )

    def _convective(self, u_hat: Complex[Array, "1 x modes"]) -> Complex[Array, "1 x modes"]:
        kx, ky, mask, inverse_laplacian = self._symbols()
        factors_hat = jnp.concatenate(
            [
                scale_by_i(ky * inverse_laplacian, u_hat),
                scale_by_i(-kx * inverse_laplacian, u_hat),
                scale_by_i(kx * mask, u_hat),
                scale_by_i(ky * mask, u_hat),
            ]
        )
        u, v, vorticity_x, vorticity_y = irfftn(factors_hat, self.n_points)
        product_hat = rfftn((u * vorticity_x + v * vorticity_y)[None], 2)
        return scale(-1.0 * mask, product_hat)

    def _symbols(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Wavenumbers, two-thirds mask and masked inverse of ``-Laplacian``, as constants."""
        squared = host_squared_wavenumber(self.n_points, self.domain_extent)
        kx, ky = host_wavenumbers(self.n_points, self.domain_extent, False)
        mask = host_dealias_mask(self.n_points)
        # The mean vorticity drives no velocity: kx = ky = 0 there, and 1 keeps the division finite.
        return kx, ky, mask, mask / np.where(squared > 0, squared, 1.0)
