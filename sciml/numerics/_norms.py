r"""Sobolev and Bochner norms, exact by Parseval, and the relative errors built on them.

For a field with forward-normalised coefficients :math:`\hat u_k` on a periodic box :math:`\Omega`,

.. math:: \|u\|_{H^s}^2 = |\Omega| \sum_k (\alpha + |k|^2)^s |\hat u_k|^2,

for any real order :math:`s`; :math:`k` are physical wavenumbers. The sum runs over the whole
spectrum: entries of the half spectrum count twice, except those of the last axis's zero and (on
even sizes) Nyquist modes. For :math:`s = 0` it equals the quadrature sum over the grid.
``alpha = 0`` gives the homogeneous norm, from which the mean is dropped.

The norm of a trajectory is that of :math:`L^2(0, T; H^s)`. Relative errors are ratios of two such
norms over the same space-time set, so no factor of ``T`` or of the grid is left in them.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import RealScalar, check_floating, check_non_negative, check_positive, check_real
from ._fourier import (
    Extent,
    RealArray,
    as_real_array,
    extent_tuple,
    host_half_spectrum_weights,
    host_squared_wavenumber,
    lift,
    rfftn,
)
from ._safe_sqrt import safe_sqrt


def sobolev_norm(
    u: RealArray,
    domain_extent: Extent,
    order: float | int = 0.0,
    *,
    alpha: float | int = 1.0,
) -> Float[Array, "..."]:
    """Return the H^s norm of each field, over the trailing space axes.

    Parameters
    ----------
    u
        Real values, shape ``(..., *space)``, as many space axes as periods.
    domain_extent
        Periods of the box (a number for one dimension).
    order
        The order ``s``, any real number; negative orders are the dual norms.
    alpha
        The constant in ``(alpha + |k|^2)^s``, in units of wavenumber squared. Zero makes the norm
        homogeneous: the mean is dropped, whatever ``order``.

    Returns
    -------
    Array
        Norms, the leading shape of ``u``; zero has gradient zero.

    Raises
    ------
    ValueError
        If ``alpha`` is negative or ``u`` has too few axes.

    Examples
    --------
    A single wave of wavenumber 3 has ``(1 + 9)^(s/2)`` times its L2 norm.

    >>> import jax.numpy as jnp
    >>> x = 2 * jnp.pi * jnp.arange(16) / 16
    >>> wave = jnp.cos(3 * x)
    >>> ratio = sobolev_norm(wave, 2 * jnp.pi, 1) / sobolev_norm(wave, 2 * jnp.pi)
    >>> round(float(ratio**2), 4)
    10.0
    """
    return safe_sqrt(_squared_norm(u, domain_extent, order, alpha))


def bochner_norm(
    u: RealArray,
    dt: RealScalar,
    domain_extent: Extent,
    order: float | int = 0.0,
    *,
    alpha: float | int = 1.0,
) -> Float[Array, "..."]:
    """Return the ``L^2(0, T; H^s)`` norm of trajectories, all channels together.

    Parameters
    ----------
    u
        Shape ``(..., time, channels, *space)``.
    dt
        Time between snapshots; each of them stands for one interval of that length.
    domain_extent, order, alpha
        As in `sobolev_norm`.

    Returns
    -------
    Array
        ``sqrt(sum_m dt ||u_m||^2)``, the leading shape of ``u``.

    Raises
    ------
    ValueError
        If ``u`` has no axes of time and channels before those of space.

    Examples
    --------
    A constant 3 over two time units and a box of length 2 has the norm ``sqrt(9 * 2 * 2)``.

    >>> import jax.numpy as jnp
    >>> float(bochner_norm(3 * jnp.ones((4, 1, 8)), 0.5, 2.0))
    6.0
    """
    check_positive("dt", dt)
    squared = _squared_norm(u, domain_extent, order, alpha)
    if squared.ndim < 2:
        raise ValueError(
            "`u` must have a time axis and a channel axis before its space axes, "
            f"got shape {np.shape(u)}."
        )
    total = jnp.sum(squared, axis=(-2, -1))
    return safe_sqrt(jnp.asarray(dt, total.dtype) * total)


def relative_l2(prediction: RealArray, truth: RealArray) -> Float[Array, ""]:
    """Return ``||prediction - truth|| / ||truth||`` in L2 over all axes together.

    Parameters
    ----------
    prediction, truth
        Real arrays of one shape; for a trajectory ``(time, channels, *space)`` this is the
        relative error in L2 of space and time.

    Returns
    -------
    Array
        A scalar. Where ``truth`` is zero everywhere it is 0 if ``prediction`` is zero too,
        otherwise infinity. At ``prediction = truth`` the gradient is zero.

    Raises
    ------
    ValueError
        If the shapes differ: nothing is broadcast or reshaped.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(relative_l2(jnp.full((2, 1, 4, 4), 1.1), jnp.ones((2, 1, 4, 4)))), 4)
    0.1
    """
    prediction, truth = _check_pair(prediction, truth)
    return _ratio(jnp.sum(jnp.square(prediction - truth)), jnp.sum(jnp.square(truth)))


def relative_h1(
    prediction: RealArray,
    truth: RealArray,
    domain_extent: Extent,
    *,
    alpha: float | int = 1.0,
) -> Float[Array, ""]:
    """Return the relative error in L2 of time and H1 of space.

    Parameters
    ----------
    prediction, truth
        Real arrays of one shape, ``(..., *space)``; all leading axes (time, channels) are summed.
    domain_extent
        Periods of the box; their number is the number of space axes.
    alpha
        The constant in ``(alpha + |k|^2)``; zero compares gradients only.

    Returns
    -------
    Array
        A scalar, with the behaviour of `relative_l2` where ``truth`` has norm zero.

    Examples
    --------
    An error at a fine scale weighs more than in `relative_l2`:

    >>> import jax.numpy as jnp
    >>> x = 2 * jnp.pi * jnp.arange(16) / 16
    >>> truth, prediction = jnp.sin(x), jnp.sin(x) + 0.1 * jnp.sin(5 * x)
    >>> error = relative_h1(prediction, truth, 2 * jnp.pi)
    >>> round(float(relative_l2(prediction, truth)), 3), round(float(error), 3)
    (0.1, 0.361)
    """
    prediction, truth = _check_pair(prediction, truth)
    return _ratio(
        jnp.sum(_squared_norm(prediction - truth, domain_extent, 1.0, alpha)),
        jnp.sum(_squared_norm(truth, domain_extent, 1.0, alpha)),
    )


def relative_error_curve(
    prediction: RealArray,
    truth: RealArray,
    domain_extent: Extent,
    order: float | int = 0.0,
    *,
    alpha: float | int = 1.0,
) -> Float[Array, " time"]:
    """Return the relative H^s error of each snapshot: the error against lead time.

    Parameters
    ----------
    prediction, truth
        Trajectories of one shape, ``(time, channels, *space)``.
    domain_extent, order, alpha
        As in `sobolev_norm`.

    Returns
    -------
    Array
        Shape ``(time,)``, each entry relative to the truth at that time.

    Raises
    ------
    ValueError
        If the shapes differ or have no axes of time and channels.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> truth = jnp.ones((3, 1, 8))
    >>> relative_error_curve(truth * jnp.array([1.0, 1.5, 3.0])[:, None, None], truth, 1.0)
    Array([0. , 0.5, 2. ], dtype=float32)
    """
    prediction, truth = _check_pair(prediction, truth)
    error = _squared_norm(prediction - truth, domain_extent, order, alpha)
    scale = _squared_norm(truth, domain_extent, order, alpha)
    if error.ndim != 2:
        raise ValueError(
            "`prediction` and `truth` must have the axes (time, channels, *space), "
            f"got shape {prediction.shape} for {len(extent_tuple(domain_extent))} space axes."
        )
    return _ratio(jnp.sum(error, axis=-1), jnp.sum(scale, axis=-1))


def spectral_relative_l2(
    prediction: RealArray, truth: RealArray, tail: RealScalar
) -> Float[Array, ""]:
    """Return the relative L2 error of a field that is known by its coefficients.

    The basis must be orthonormal, as the `AbstractSpectralBasis` classes are. What the prediction
    cannot hold is counted: the value is that of `relative_l2` of the decoded prediction and the
    whole field, without a grid.

    Parameters
    ----------
    prediction, truth
        Coefficients of one shape.
    tail
        Energy of the truth outside the basis, by its ``tail_energy``.

    Returns
    -------
    Array
        A scalar, with the behaviour of `relative_l2` where the truth has norm zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> error = spectral_relative_l2(jnp.asarray([3.0, 1.0]), jnp.asarray([3.0, 4.0]), 11.0)
    >>> round(float(error), 4)
    0.7454
    """
    prediction, truth = _check_pair(prediction, truth)
    check_non_negative("tail", tail)
    tail = jnp.asarray(tail, truth.dtype)
    return _ratio(jnp.sum(jnp.square(prediction - truth)) + tail, jnp.sum(jnp.square(truth)) + tail)


def _squared_norm(
    u: RealArray, domain_extent: Extent, order: float | int, alpha: float | int
) -> Float[Array, "..."]:
    extent = extent_tuple(domain_extent)
    check_real("order", order)
    check_non_negative("alpha", alpha)
    u = as_real_array("u", u, len(extent))
    n_points = u.shape[-len(extent) :]
    u_hat = rfftn(u, len(extent))
    weights = _parseval_weights(n_points, extent, float(order), float(alpha))
    density = jnp.square(u_hat.real) + jnp.square(u_hat.imag)
    return jnp.sum(lift(weights, u_hat) * density, axis=tuple(range(-len(extent), 0)))


def _parseval_weights(
    n_points: tuple[int, ...], extent: tuple[float, ...], order: float | int, alpha: float | int
) -> np.ndarray:
    squared = alpha + host_squared_wavenumber(n_points, extent)
    origin = (0,) * len(extent)
    if alpha == 0:
        squared[origin] = 1.0  # a negative power of zero; the weight is overwritten below
    weights = np.prod(extent) * squared**order * host_half_spectrum_weights(n_points[-1])
    if alpha == 0:
        weights[origin] = 0.0
    return weights


def _ratio(error: Float[Array, "..."], scale: Float[Array, "..."]) -> Float[Array, "..."]:
    # Asked with == and not with >, so that NaN stays NaN on either side.
    unknown = scale == 0
    quotient = safe_sqrt(error / jnp.where(unknown, 1.0, scale))
    undefined = jnp.where(error == 0, 0.0, jnp.where(jnp.isnan(error), jnp.nan, jnp.inf))
    return jnp.where(unknown, undefined.astype(quotient.dtype), quotient)


def _check_pair(
    prediction: RealArray, truth: RealArray
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    for name, array in (("prediction", prediction), ("truth", truth)):
        check_floating(name, array)
    if np.shape(prediction) != np.shape(truth):
        raise ValueError(
            "`prediction` and `truth` must have one shape, "
            f"got {np.shape(prediction)} and {np.shape(truth)}."
        )
    return jnp.asarray(prediction), jnp.asarray(truth)
