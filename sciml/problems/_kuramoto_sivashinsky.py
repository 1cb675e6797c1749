r"""The Kuramoto-Sivashinsky equation: spatiotemporal chaos in one dimension.

.. math:: u_t + u u_x + u_{xx} + u_{xxxx} = 0
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from ..core import cites
from ..core._bibliography import KASSAM_2005
from ..numerics._fourier import Extent, check_extent, host_squared_wavenumber
from ._burgers import check_line, compression, convection
from ._semilinear import AbstractSemilinearPDE


@cites(KASSAM_2005)
class KuramotoSivashinsky1D(AbstractSemilinearPDE):
    r"""Kuramoto-Sivashinsky equation on a circle, state ``(1, x)``.

    .. math:: u_t + u u_x + u_{xx} + u_{xxxx} = 0

    Long waves (:math:`|k| < 1`) grow, short ones decay, and convection carries energy from the
    former to the latter. Periods beyond about 20 are chaotic, with a largest Lyapunov exponent
    near 0.1. The mean of ``u`` is conserved.

    Parameters
    ----------
    n_points
        Points; one number in a tuple. Two to three a unit of length resolve the solution.
    domain_extent
        The period; :math:`32 \pi` in the literature.

    References
    ----------
    .. [1] A.-K. Kassam and L. N. Trefethen, "Fourth-order time-stepping for stiff PDEs", SIAM
       Journal on Scientific Computing 26 (2005), 1214-1233.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import KuramotoSivashinsky1D, solve
    >>> problem = KuramotoSivashinsky1D((64,), domain_extent=22.0)
    >>> start = jnp.cos(2 * jnp.pi * jnp.arange(64) / 64)[None]
    >>> solve(problem, start, dt=0.1, n_steps=10, save_every=5).value.shape
    (3, 1, 64)
    """

    n_channels: int = eqx.field(static=True)
    n_points: tuple[int, ...] = eqx.field(static=True)
    domain_extent: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, n_points: Sequence[int], *, domain_extent: Extent = 100.53096491487338):
        self.n_points = check_line(n_points)
        self.n_channels = 1
        self.domain_extent = check_extent(domain_extent, 1)

    def linear_symbol(self, dtype: DTypeLike) -> Float[Array, "1 modes"]:
        """Return ``k^2 - k^4``."""
        squared = host_squared_wavenumber(self.n_points, self.domain_extent)
        return jnp.asarray((squared - squared**2)[None], dtype)

    def nonlinear_term(self, u_hat: Complex[Array, "1 modes"]) -> Complex[Array, "1 modes"]:
        """Return the dealiased ``-u u_x``."""
        return convection(u_hat, self.n_points, self.domain_extent)

    def nonlinear_growth(self, u_hat: Complex[Array, "1 modes"]) -> Float[Array, ""]:
        """Return ``max(-u_x) / 2``."""
        return compression(u_hat, self.n_points, self.domain_extent)
