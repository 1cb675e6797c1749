"""Innovations at sensors, spread over the grid by Gaussian weights."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import Field
from ...numerics import irfftn, rfftn
from ...numerics._fourier import host_squared_wavenumber, scale

# Where all weights of the sensors are below this, nothing is known of the point.
_LEAST_WEIGHT = 1e-2


def spread(
    e: Field, density: Field, lengths: tuple[float, ...]
) -> tuple[Float[Array, "lengths channels *space"], Float[Array, "lengths channels *space"]]:
    r"""Return weighted means of the innovations around each point, and the weights' sums.

    .. math:: \frac{G_\ell * e}{G_\ell * d + \epsilon}

    with a Gaussian of length ``l`` on the periodic grid and the density ``d`` of the sensors that
    are there: linear in ``e``, and zero where it is.

    Parameters
    ----------
    e
        The innovations as a field, zero where there is no sensor.
    density
        One where a sensor is, otherwise zero; the adjoint of the mask in general.
    lengths
        Standard deviations in grid points.
    """
    n_points = e.shape[1:]
    squared = host_squared_wavenumber(n_points, tuple(float(n) for n in n_points))
    # The value of the Gaussian at its centre: a lone sensor then has the density 1 at its point.
    filters = [np.exp(-0.5 * squared * length**2) for length in lengths]
    filters = np.stack([f / _centre(f, n_points) for f in filters])[:, None]
    both = rfftn(jnp.stack([e, density.astype(e.dtype)]), len(n_points))
    filtered = irfftn(scale(filters, both[:, None]), n_points)
    weights = jnp.maximum(filtered[1], 0)
    return filtered[0] / (weights + _LEAST_WEIGHT), weights


def _centre(symbol: np.ndarray, n_points: tuple[int, ...]) -> float:
    """Return the value at the origin of the kernel that convolves by the forward-normed symbol."""
    kernel = np.fft.irfftn(symbol, s=n_points, axes=range(len(n_points)))
    return float(kernel.reshape(-1)[0])
