"""Random initial vorticities with a prescribed spectrum: decaying turbulence, Kolmogorov flow."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import KeyArray, check_positive, cites, real_dtype
from ..core._bibliography import KOCHKOV_2021, MCWILLIAMS_1984
from ..numerics import irfftn, velocity_from_vorticity
from ..numerics._fourier import Extent, check_extent, check_n_points, host_squared_wavenumber, scale
from ._random_fields import mode_noise


@cites(MCWILLIAMS_1984)
def mcwilliams_vorticity(
    n_points: Sequence[int],
    domain_extent: Extent,
    *,
    peak_wavenumber: float | int = 4.0,
    rms_speed: float | int = 1.0,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> Float[Array, "1 x y"]:
    r"""Draw the initial vorticity of McWilliams' isotropic decaying turbulence.

    .. math:: \hat\psi_k \propto \frac{z_k}{|k| (1 + (|k| / k_0)^4)}, \quad \omega = -\Delta \psi

    with complex white noise :math:`z_k`. As in the data of Spectral-Refiner, the factor
    multiplies the amplitude of the stream function.

    Parameters
    ----------
    n_points
        Points along x and y.
    domain_extent
        Periods along x and y, those of the equation; :math:`2 \pi` in the literature.
    peak_wavenumber
        :math:`k_0`, an angular wavenumber.
    rms_speed
        Root mean square of the speed; at 1 the kinetic energy is 1/2.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key. As in `gaussian_random_field`, the noise of a mode does not depend on the
        grid; grids differ only by the speed of the modes that the coarser cannot hold.

    Returns
    -------
    Array
        Shape ``(1, *n_points)``, mean zero.

    References
    ----------
    .. [1] J. C. McWilliams, "The emergence of isolated coherent vortices in turbulent flow",
       Journal of Fluid Mechanics 146 (1984), 21-43.

    Examples
    --------
    >>> import jax
    >>> mcwilliams_vorticity((32, 32), 2 * jax.numpy.pi, key=jax.random.key(12)).shape
    (1, 32, 32)
    """
    check_positive("peak_wavenumber", peak_wavenumber)
    check_positive("rms_speed", rms_speed)
    vorticity, velocity = _filtered_noise(
        n_points,
        domain_extent,
        lambda k: k / (1 + (k / peak_wavenumber) ** 4),
        real_dtype() if dtype is None else dtype,
        key,
    )
    return vorticity * (rms_speed / jnp.sqrt(jnp.mean(jnp.sum(velocity**2, axis=0))))


@cites(KOCHKOV_2021)
def kolmogorov_vorticity(
    n_points: Sequence[int],
    domain_extent: Extent,
    *,
    peak_wavenumber: float | int = 4.0,
    spectral_width: float | int = 0.5,
    max_speed: float | int = 5.0,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> Float[Array, "1 x y"]:
    r"""Draw a random vorticity to start Kolmogorov flow from.

    .. math:: \hat u_k \propto \frac{i k^\perp}{|k|}\, z_k\, p(|k|), \quad
              p(k) = \frac{1}{k} \exp\Bigl(-\frac{(\log k - \log k_0 - s^2)^2}{2 s^2}\Bigr)

    with complex white noise :math:`z_k`: velocity amplitudes follow the log-normal density of
    mode :math:`k_0`, and the field is scaled to a largest speed.

    Parameters
    ----------
    n_points
        Points along x and y.
    domain_extent
        Periods along x and y, those of the equation; :math:`2 \pi` in the literature.
    peak_wavenumber
        :math:`k_0`, an angular wavenumber.
    spectral_width
        :math:`s`, the standard deviation of :math:`\log k`.
    max_speed
        Largest speed over the grid points.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key. The noise of a mode does not depend on the grid; the scale does a little,
        since a finer grid may see a larger speed between the points of a coarser one.

    Returns
    -------
    Array
        Shape ``(1, *n_points)``, mean zero.

    References
    ----------
    .. [1] D. Kochkov et al., "Machine learning-accelerated computational fluid dynamics",
       Proceedings of the National Academy of Sciences 118 (2021), e2101784118.
    """
    check_positive("peak_wavenumber", peak_wavenumber)
    check_positive("spectral_width", spectral_width)
    check_positive("max_speed", max_speed)
    centre = np.log(peak_wavenumber) + spectral_width**2
    vorticity, velocity = _filtered_noise(
        n_points,
        domain_extent,
        # |k| times p(|k|): the curl of a velocity of amplitude p.
        lambda k: np.exp(-((np.log(k) - centre) ** 2) / (2 * spectral_width**2)),
        real_dtype() if dtype is None else dtype,
        key,
    )
    return vorticity * (max_speed / jnp.sqrt(jnp.max(jnp.sum(velocity**2, axis=0))))


def _filtered_noise(
    n_points: Sequence[int],
    domain_extent: Extent,
    amplitude: Callable[[np.ndarray], np.ndarray],
    dtype: DTypeLike,
    key: KeyArray,
) -> tuple[Float[Array, "1 x y"], Float[Array, "2 x y"]]:
    """Return vorticity of the given amplitude against wavenumber, and its velocity."""
    n_points = check_n_points(n_points)
    if len(n_points) != 2:
        raise ValueError(f"`n_points` must hold two numbers, for x and y; got {n_points}.")
    extent = check_extent(domain_extent, 2)
    k = np.sqrt(host_squared_wavenumber(n_points, extent))
    k = np.where(k > 0, k, 1.0)  # the noise of the mean is zero
    noise = mode_noise(n_points, dtype, key)
    vorticity = irfftn(scale(amplitude(k), noise), n_points)[None]
    return vorticity, velocity_from_vorticity(vorticity, extent)
