r"""The Allen-Cahn equation: phase separation, in any dimension.

.. math:: u_t = \epsilon^2 \Delta u + u - u^3
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from ..core import RealScalar, check_positive
from ..numerics import irfftn, rfftn
from ..numerics._fourier import Extent, check_extent, check_n_points, host_squared_wavenumber
from ._semilinear import AbstractSemilinearPDE, as_coefficient


class AllenCahn(AbstractSemilinearPDE):
    r"""Allen-Cahn equation on a periodic box, state ``(1, *space)``.

    .. math:: u_t = \epsilon^2 \Delta u + u - u^3

    The state tends to patches of 1 and -1 with walls of width about :math:`2 \sqrt2 \epsilon`
    between them. The cubic term is taken at the grid points, without dealiasing: that keeps the
    states between -1 and 1 and the energy falling, and aliases only where a wall is not resolved
    (four points or so across it suffice).

    Parameters
    ----------
    n_points
        Points along each axis; their number is the dimension.
    interface_width
        :math:`\epsilon > 0`, in units of length. A JAX scalar makes the problem differentiable
        in it.
    domain_extent
        Periods; one number for a square or cube.

    Raises
    ------
    ValueError
        If the width is not positive.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import AllenCahn, solve
    >>> problem = AllenCahn((64,), interface_width=0.05, domain_extent=2.0)
    >>> start = 0.5 * jnp.cos(jnp.pi * jnp.arange(64) / 32)[None]
    >>> solve(problem, start, dt=0.1, n_steps=10, save_every=5).value.shape
    (3, 1, 64)
    """

    interface_width: Float[Array, ""]
    n_channels: int = eqx.field(static=True)
    n_points: tuple[int, ...] = eqx.field(static=True)
    domain_extent: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        n_points: Sequence[int],
        *,
        interface_width: RealScalar,
        domain_extent: Extent = 1.0,
    ):
        self.n_points = check_n_points(n_points)
        check_positive("interface_width", interface_width)
        self.interface_width = as_coefficient(interface_width)
        self.n_channels = 1
        self.domain_extent = check_extent(domain_extent, len(self.n_points))

    def linear_symbol(self, dtype: DTypeLike) -> Float[Array, "1 *modes"]:
        """Return ``1 - interface_width^2 |k|^2``."""
        squared = jnp.asarray(
            host_squared_wavenumber(self.n_points, self.domain_extent)[None], dtype
        )
        return 1 - jnp.square(self.interface_width.astype(dtype)) * squared

    def nonlinear_term(self, u_hat: Complex[Array, "1 *modes"]) -> Complex[Array, "1 *modes"]:
        """Return ``-u^3``."""
        u = irfftn(u_hat, self.n_points)
        return rfftn(-(u**3), len(self.n_points))

    def nonlinear_growth(self, u_hat: Complex[Array, "1 *modes"]) -> Float[Array, ""]:
        r"""Return ``-3/4 min u^2``.

        At each point :math:`-((u + e)^3 - u^3) e = -(3 u^2 + 3 u e + e^2) e^2
        \le -\tfrac34 u^2 e^2`.
        """
        return -0.75 * jnp.min(jnp.square(irfftn(u_hat, self.n_points)))
