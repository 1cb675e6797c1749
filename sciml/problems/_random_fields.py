r"""Gaussian random fields with the covariance of the Fourier neural operator's data sets.

.. math:: u \sim \mathcal N\bigl(0,\; \tau^{2\alpha - d} (-\Delta + \tau^2)^{-\alpha}\bigr)

on a periodic box of dimension :math:`d`, mean zero.
"""

import enum
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float, UInt32

from ..core import KeyArray, check_key, check_positive, cites, real_dtype
from ..core._bibliography import LI_2021
from ..numerics import irfftn
from ..numerics._fourier import (
    Extent,
    check_extent,
    check_n_points,
    host_squared_wavenumber,
    host_wavenumbers,
    scale,
)


class AmplitudeConvention(enum.Enum):
    """Which amplitude "the Gaussian random field of the FNO paper" has.

    The scripts that wrote the public FNO files drew complex noise whose real and imaginary parts
    both have variance one, which doubles the variance that the covariance states. Later versions
    of the scripts do not, so their fields are smaller by the square root of two.
    """

    PUBLIC_FILES = "public files"
    COVARIANCE = "covariance"

    @property
    def variance_factor(self) -> float:
        """The variance of the field over the trace of its stated covariance."""
        return 2.0 if self is AmplitudeConvention.PUBLIC_FILES else 1.0


@cites(LI_2021)
def gaussian_random_field(
    n_points: Sequence[int],
    domain_extent: Extent = 1.0,
    *,
    alpha: float | int = 2.5,
    tau: float | int = 7.0,
    convention: AmplitudeConvention = AmplitudeConvention.PUBLIC_FILES,
    dtype: DTypeLike | None = None,
    key: KeyArray,
) -> Float[Array, "1 *space"]:
    """Draw one field.

    The noise of a Fourier mode depends on ``key`` and the mode only. So the same key gives the
    same field on every grid, up to the modes that the coarser grid cannot hold: resampling the
    finer one to the coarser grid gives the coarser one.

    Parameters
    ----------
    n_points
        Points along each space axis; any number of axes.
    domain_extent
        Periods.
    alpha
        Smoothness: above half the dimension the field has finite variance.
    tau
        Inverse length scale, in units of wavenumber.
    convention
        Amplitude, see `AmplitudeConvention`; that of the public files by default.
    dtype
        Real dtype; JAX's default where it is left out.
    key
        Typed PRNG key.

    Returns
    -------
    Array
        The field, shape ``(1, *n_points)``, with mean zero and no Nyquist modes.

    References
    ----------
    .. [1] Z. Li et al., "Fourier neural operator for parametric partial differential equations",
       ICLR 2021, section 5.3.

    Examples
    --------
    >>> import jax
    >>> gaussian_random_field((16, 24), key=jax.random.key(11)).shape
    (1, 16, 24)
    """
    n_points = check_n_points(n_points)
    extent = check_extent(domain_extent, len(n_points))
    check_positive("alpha", alpha)
    check_positive("tau", tau)
    d = len(n_points)
    variance = convention.variance_factor * tau ** (2 * alpha - d)
    eigenvalues = (host_squared_wavenumber(n_points, extent) + tau**2) ** -alpha
    amplitude = np.sqrt(variance * eigenvalues)
    dtype = real_dtype() if dtype is None else dtype
    noise = mode_noise(n_points, dtype, key)
    return irfftn(scale(amplitude, noise), n_points)[None]


def mode_noise(
    n_points: tuple[int, ...], dtype: DTypeLike, key: KeyArray
) -> Complex[Array, "*modes"]:
    """White noise on the half spectrum, the same for a mode on every grid that holds it.

    The coefficients are complex normal with mean square 1 and the symmetry of a real field; the
    mean and the Nyquist modes, which differ between grids, are zero.
    """
    check_key(key)
    unit = (2 * np.pi,) * len(n_points)
    axes = [np.rint(k).astype(np.int64) for k in host_wavenumbers(n_points, unit, False)]
    modes = np.stack(np.broadcast_arrays(*axes), axis=-1).reshape(-1, len(n_points))
    # Of a conjugate pair the one whose last non-zero number is positive is drawn. Modes of the
    # half spectrum break that rule only where the last axis is zero.
    last = np.zeros(len(modes), dtype=np.int64)
    for column in modes.T:
        last = np.where(column != 0, column, last)
    sign = np.where(last < 0, -1, 1)
    canonical = modes * sign[:, None]
    # An integer of any sign becomes a non-negative one that does not depend on the grid.
    folded = np.where(canonical >= 0, 2 * canonical, -2 * canonical - 1).astype(np.uint32)
    nyquist = np.any([2 * np.abs(m) == n for m, n in zip(modes.T, n_points, strict=True)], axis=0)
    live = (last != 0) & ~nyquist

    factors = np.sqrt(0.5) * np.stack([live, live * sign], axis=-1)
    shape = np.broadcast_shapes(*(axis.shape for axis in axes))
    return _draw(key, jnp.asarray(folded), jnp.asarray(factors, dtype)).reshape(shape)


@jax.jit
def _draw(
    key: KeyArray, numbers: UInt32[Array, "modes axes"], factors: Float[Array, "modes 2"]
) -> Complex[Array, " modes"]:
    """Return one complex normal for each row of numbers, its two parts scaled."""

    def draw(row):
        mode_key = key
        for number in row:
            mode_key = jax.random.fold_in(mode_key, number)
        return jax.random.normal(mode_key, (2,), factors.dtype)

    pairs = factors * jax.vmap(draw)(numbers)
    return jax.lax.complex(pairs[:, 0], pairs[:, 1])
