"""Taylor-Green vortices: an exact solution, used to check solvers."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import RealScalar, check_count, check_non_negative, check_real, real_dtype
from ..numerics._fourier import Extent
from ._forcing import _coordinates


def taylor_green_vorticity(
    n_points: Sequence[int],
    domain_extent: Extent,
    *,
    amplitude: float | int = 1.0,
    wavenumber: int = 1,
    viscosity: RealScalar = 0.0,
    drag: RealScalar = 0.0,
    time: RealScalar = 0.0,
    dtype: DTypeLike | None = None,
) -> Float[Array, "1 x y"]:
    r"""Return the exact vorticity of decaying Taylor-Green vortices at one time.

    .. math:: \omega = \frac{\kappa_x^2 + \kappa_y^2}{\kappa} A
              \cos(\kappa_x x) \cos(\kappa_y y)\,
              e^{-(\nu (\kappa_x^2 + \kappa_y^2) + \lambda) t}, \quad
              \kappa = \max(\kappa_x, \kappa_y)

    with :math:`\kappa_x = 2 \pi m / L_x`. On a square it is
    :math:`2 \kappa A \cos \kappa x \cos \kappa y`, and ``A`` is the largest speed. The convective
    term vanishes, so the equations of `NavierStokes2D` without forcing are solved exactly.

    Parameters
    ----------
    n_points
        Points along x and y.
    domain_extent
        Periods along x and y, those of the equation; :math:`2 \pi` in the literature.
    amplitude
        :math:`A`, the largest speed.
    wavenumber
        :math:`m`, waves per period.
    viscosity, drag
        Coefficients of the equation.
    time
        Time since the start.
    dtype
        Real dtype; JAX's default where it is left out.

    Returns
    -------
    Array
        Shape ``(1, *n_points)``.

    Examples
    --------
    >>> import numpy as np
    >>> start = taylor_green_vorticity((16, 16), 2 * np.pi)
    >>> round(float(start.max()), 5)
    2.0
    """
    (x, y), (length_x, length_y) = _coordinates(n_points, domain_extent)
    check_count("wavenumber", wavenumber)
    for name, number in (("amplitude", amplitude), ("time", time)):
        check_real(name, number)
    for name, number in (("viscosity", viscosity), ("drag", drag)):
        check_non_negative(name, number)
    kx, ky = 2 * np.pi * wavenumber / length_x, 2 * np.pi * wavenumber / length_y
    squared = kx**2 + ky**2
    start = amplitude * squared / max(kx, ky) * np.cos(kx * x) * np.cos(ky * y)
    dtype = real_dtype() if dtype is None else dtype
    rate = jnp.asarray(viscosity, dtype) * squared + jnp.asarray(drag, dtype)
    return jnp.asarray(start[None], dtype) * jnp.exp(-rate * jnp.asarray(time, dtype))
