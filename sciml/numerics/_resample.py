"""Exact change of grid for periodic fields: evaluate the trigonometric interpolant elsewhere.

Each axis is treated on its own, since the interpolant of a product grid is a product of
one-dimensional ones. Between sizes the coefficients are kept, padded with zeros or cut off. On an
even axis the Nyquist entry stands for both ``+n/2`` and ``-n/2``: going up, the two share it; going
down, they merge again. So going up and back down is the identity, and real fields stay real.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._fourier import RealArray, as_real_array, check_n_points


def fourier_resample(u: RealArray, n_points: Sequence[int]) -> Float[Array, "..."]:
    """Sample the trigonometric interpolant of ``u`` on a grid of other sizes.

    Parameters
    ----------
    u
        Real periodic values, shape ``(..., *space)``, sampled at ``x_i = i L / n``.
    n_points
        New number of points along each of the last ``len(n_points)`` axes. Any sizes may meet:
        odd and even, larger along one axis and smaller along another.

    Returns
    -------
    Array
        Shape ``(..., *n_points)``, the dtype of ``u``. Going to a finer grid is exact
        interpolation; going to a coarser one drops the modes that it cannot hold, which is not
        the same as striding unless there are none.

    Raises
    ------
    ValueError
        If ``u`` has too few axes, or one without points.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> coarse = jnp.cos(2 * jnp.pi * jnp.arange(6) / 6)
    >>> fine = fourier_resample(coarse, (9,))
    >>> bool(jnp.allclose(fine, jnp.cos(2 * jnp.pi * jnp.arange(9) / 9), atol=1e-6))
    True
    """
    n_points = check_n_points(n_points)
    u = as_real_array("u", u, len(n_points))
    if 0 in u.shape[-len(n_points) :]:
        raise ValueError(f"`u` has no points to resample along an axis, got shape {u.shape}.")
    # Shrinking axes first leaves less work for the ones that grow.
    axes = sorted(range(-len(n_points), 0), key=lambda axis: n_points[axis] / max(u.shape[axis], 1))
    for axis in axes:
        u = _resample_axis(u, n_points[axis], axis)
    return u


def _resample_axis(u: Float[Array, "..."], m: int, axis: int) -> Float[Array, "..."]:
    n = u.shape[axis]
    if n == m:
        return u
    u_hat = jnp.moveaxis(jnp.fft.rfft(u, axis=axis, norm="forward"), axis, -1)
    shared = min(n, m)
    u_hat = u_hat[..., : shared // 2 + 1]
    if shared % 2 == 0:
        # Halved on the way up, where -n/2 now has a place of its own (implied by the half
        # spectrum); on the way down the sum of both partners, which is twice the real part.
        nyquist = u_hat[..., -1:]
        nyquist = 0.5 * nyquist if m > n else 2.0 * nyquist.real.astype(nyquist.dtype)
        u_hat = jnp.concatenate([u_hat[..., :-1], nyquist], axis=-1)
    # irfft pads the missing high modes with zeros.
    return jnp.moveaxis(jnp.fft.irfft(u_hat, n=m, axis=-1, norm="forward"), -1, axis)
