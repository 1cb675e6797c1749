"""Steady forcings of the two-dimensional benchmarks, as vorticity sources ``(1, x, y)``."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import check_count, cites, real_dtype
from ..core._bibliography import LI_2021
from ..numerics._fourier import Extent, check_extent, check_n_points


@cites(LI_2021)
def fno_forcing(
    n_points: Sequence[int],
    domain_extent: Extent = 1.0,
    *,
    amplitude: float | int = 0.1,
    wavenumber: int = 1,
    dtype: DTypeLike | None = None,
) -> Float[Array, "1 x y"]:
    r"""Return the forcing of the Fourier neural operator's data sets.

    .. math:: f = A \bigl(\sin \theta + \cos \theta\bigr), \quad
              \theta = 2 \pi m \left(\frac{x}{L_x} + \frac{y}{L_y}\right)

    Parameters
    ----------
    n_points
        Points along x and y.
    domain_extent
        Periods along x and y.
    amplitude
        :math:`A`, one over time squared; 0.1 in the paper.
    wavenumber
        :math:`m`, waves per period; 1 in the paper.
    dtype
        Real dtype; JAX's default where it is left out.

    Returns
    -------
    Array
        Shape ``(1, *n_points)``.

    Examples
    --------
    >>> fno_forcing((8, 8)).shape
    (1, 8, 8)
    """
    (x, y), (length_x, length_y) = _coordinates(n_points, domain_extent)
    check_count("wavenumber", wavenumber)
    angle = 2 * np.pi * wavenumber * (x / length_x + y / length_y)
    field = amplitude * (np.sin(angle) + np.cos(angle))
    return jnp.asarray(field[None], real_dtype() if dtype is None else dtype)


def kolmogorov_forcing(
    n_points: Sequence[int],
    domain_extent: Extent,
    *,
    amplitude: float | int = 1.0,
    wavenumber: int = 4,
    dtype: DTypeLike | None = None,
) -> Float[Array, "1 x y"]:
    r"""Return the curl of the body force :math:`(A \sin \kappa y,\, 0)`.

    .. math:: f = -\kappa A \cos(\kappa y), \quad \kappa = 2 \pi m / L_y

    Parameters
    ----------
    n_points
        Points along x and y.
    domain_extent
        Periods along x and y, those of the equation; :math:`2 \pi` in the literature.
    amplitude
        :math:`A`, an acceleration.
    wavenumber
        :math:`m`, waves per period along y.
    dtype
        Real dtype; JAX's default where it is left out.

    Returns
    -------
    Array
        Shape ``(1, *n_points)``.

    Notes
    -----
    The laminar flow :math:`\omega = -\kappa A \cos(\kappa y) / (\nu \kappa^2 + \lambda)` is a
    fixed point.
    """
    (x, y), (_, length_y) = _coordinates(n_points, domain_extent)
    check_count("wavenumber", wavenumber)
    k = 2 * np.pi * wavenumber / length_y
    field = -k * amplitude * np.cos(k * y) + 0.0 * x
    return jnp.asarray(field[None], real_dtype() if dtype is None else dtype)


def _coordinates(
    n_points: Sequence[int], domain_extent: Extent
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[float, float]]:
    n_points = check_n_points(n_points)
    if len(n_points) != 2:
        raise ValueError(f"`n_points` must hold two numbers, for x and y; got {n_points}.")
    length_x, length_y = check_extent(domain_extent, 2)
    x = (np.arange(n_points[0]) * length_x / n_points[0])[:, None]
    y = (np.arange(n_points[1]) * length_y / n_points[1])[None, :]
    return (x, y), (length_x, length_y)
