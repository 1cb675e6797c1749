r"""The Korteweg-de Vries equation: waves that disperse, and solitons that do not.

.. math:: u_t + 6 u u_x + u_{xxx} = 0
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from ..core import cites
from ..core._bibliography import COX_2002
from ..numerics._fourier import Extent, check_extent, host_wavenumbers
from ._burgers import check_line, compression, convection
from ._semilinear import AbstractSemilinearPDE


@cites(COX_2002)
class KortewegDeVries1D(AbstractSemilinearPDE):
    r"""Korteweg-de Vries equation on a circle, state ``(1, x)``.

    .. math:: u_t + 6 u u_x + u_{xxx} = 0

    Nothing is dissipated: mean and energy :math:`\int u^2` are conserved, and an error in the
    state stays. A soliton is :math:`\tfrac{c}{2} \operatorname{sech}^2(\sqrt{c} (x - ct) / 2)`.

    Parameters
    ----------
    n_points
        Points; one number in a tuple. The width of the tallest soliton, ``4 / sqrt(c)``, needs
        some eight of them.
    domain_extent
        The period.

    References
    ----------
    .. [1] S. M. Cox and P. C. Matthews, "Exponential time differencing for stiff systems",
       Journal of Computational Physics 176 (2002), 430-455 (for the steppers it goes with).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import KortewegDeVries1D, solve
    >>> problem = KortewegDeVries1D((64,), domain_extent=20.0)
    >>> start = 0.5 / jnp.cosh((jnp.arange(64) - 32) * (20 / 64) / 2)[None] ** 2
    >>> solve(problem, start, dt=0.02, n_steps=10, save_every=5).value.shape
    (3, 1, 64)
    """

    n_channels: int = eqx.field(static=True)
    n_points: tuple[int, ...] = eqx.field(static=True)
    domain_extent: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, n_points: Sequence[int], *, domain_extent: Extent = 20.0):
        self.n_points = check_line(n_points)
        self.n_channels = 1
        self.domain_extent = check_extent(domain_extent, 1)

    def linear_symbol(self, dtype: DTypeLike) -> Complex[Array, "1 modes"]:
        """Return ``i k^3``."""
        (k,) = host_wavenumbers(self.n_points, self.domain_extent, True)
        cubes = jnp.asarray(k[None] ** 3, dtype)
        return jax.lax.complex(jnp.zeros_like(cubes), cubes)

    def nonlinear_term(self, u_hat: Complex[Array, "1 modes"]) -> Complex[Array, "1 modes"]:
        """Return the dealiased ``-6 u u_x``."""
        return 6 * convection(u_hat, self.n_points, self.domain_extent)

    def nonlinear_growth(self, u_hat: Complex[Array, "1 modes"]) -> Float[Array, ""]:
        """Return ``max(-6 u_x) / 2``."""
        return 6 * compression(u_hat, self.n_points, self.domain_extent)
