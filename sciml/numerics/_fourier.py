"""Fourier transforms, wavenumbers and derivatives on periodic grids of any dimension and size.

Coefficients are forward-normalised, so that coefficient 0 is the mean and a coefficient does not
change with the grid; the last space axis holds the half spectrum. A real field of ``n`` points
and period ``L`` along an axis is sampled at ``x_i = i L / n`` and has the wavenumbers
``2 pi m / L`` with ``m = 0, 1, ..., -1`` in the order of ``numpy.fft.fftfreq``.

On an axis with an even number of points the Nyquist mode ``m = n / 2`` has no partner: its
derivatives of odd order vanish at the grid points, so odd symbols are zero there. Even symbols
keep ``(pi n / L)^2``.
"""

import functools
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Complex, Float

from ..core import check_array, check_count, check_floating, check_positive

RealArray = Float[Array | np.ndarray, "..."]
"""A real array, of JAX or NumPy, in which any leading axes precede the space axes."""

Extent: TypeAlias = float | int | Sequence[float | int]
"""Periods of a box, one per space axis."""


def rfftn(u: RealArray, n_dims: int) -> Complex[Array, "..."]:
    """Transform the last ``n_dims`` axes of a real array; ``coefficient[0, ..., 0]`` is the mean.

    Parameters
    ----------
    u
        Real values, shape ``(..., *space)``.
    n_dims
        Number of space axes.

    Returns
    -------
    Array
        Coefficients, shape ``(..., *space[:-1], space[-1] // 2 + 1)``, complex of the precision
        of ``u``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> coefficients = rfftn(jnp.ones((3, 8, 6)), 2)
    >>> coefficients.shape, float(coefficients[0, 0, 0].real)
    ((3, 8, 4), 1.0)
    """
    u = as_real_array("u", u, n_dims)
    return jnp.fft.rfftn(u, axes=_trailing_axes(n_dims), norm="forward")


def irfftn(
    u_hat: Complex[Array | np.ndarray, "..."], n_points: Sequence[int]
) -> Float[Array, "..."]:
    """Return the real field of ``n_points`` points whose coefficients are ``u_hat``.

    Parameters
    ----------
    u_hat
        Coefficients as `rfftn` gives them, shape ``(..., *modes)``.
    n_points
        Points along each space axis. The size of the last one cannot be read off the half
        spectrum, so it is asked for; the others must agree with ``u_hat``.

    Returns
    -------
    Array
        Values, shape ``(..., *n_points)``.

    Raises
    ------
    ValueError
        If ``u_hat`` is not the half spectrum of such a grid.
    """
    n_points = check_n_points(n_points)
    check_array("u_hat", u_hat)
    u_hat = jnp.asarray(u_hat)
    expected = spectrum_shape(n_points)
    if u_hat.shape[-len(n_points) :] != expected:
        raise ValueError(
            f"the half spectrum of a grid of {n_points} points has trailing axes {expected}, "
            f"got `u_hat` of shape {u_hat.shape}."
        )
    return jnp.fft.irfftn(u_hat, s=n_points, axes=_trailing_axes(len(n_points)), norm="forward")


def wavenumbers(
    n_points: Sequence[int],
    domain_extent: Extent = 1.0,
    *,
    zero_nyquist: bool = False,
    dtype: DTypeLike | None = None,
) -> tuple[Float[Array, "..."], ...]:
    """Return the angular wavenumbers ``2 pi m / L`` of each axis, ready to broadcast.

    Parameters
    ----------
    n_points
        Points along each space axis.
    domain_extent
        Periods, one per axis; a number stands for all axes.
    zero_nyquist
        Put 0 in place of the Nyquist wavenumber of even axes: what a derivative of odd order
        needs.
    dtype
        Real dtype; JAX's default where it is left out.

    Returns
    -------
    tuple of Array
        One array per axis, of size 1 along all axes but its own.

    Examples
    --------
    >>> kx, ky = wavenumbers((4, 6), (1.0, 2 * 3.141592653589793))
    >>> kx.shape, ky.shape, [round(float(k), 3) for k in ky[0]]
    ((4, 1), (1, 4), [0.0, 1.0, 2.0, 3.0])
    """
    n_points = check_n_points(n_points)
    extent = check_extent(domain_extent, len(n_points))
    dtype = jnp.result_type(float) if dtype is None else dtype
    return tuple(jnp.asarray(k, dtype) for k in host_wavenumbers(n_points, extent, zero_nyquist))


def dealias_mask(n_points: Sequence[int]) -> Bool[Array, "..."]:
    """Return which modes the two-thirds rule keeps: those with ``3 |m| < n`` along every axis.

    The product of two fields that hold only such modes is then exact in all modes that are kept:
    an alias ``m_1 + m_2 - n`` of two kept modes always falls on a mode that is dropped. The
    inequality is strict, because for ``n`` divisible by 3 the mode ``n / 3`` would receive the
    alias of its own square.

    Parameters
    ----------
    n_points
        Points along each space axis.

    Returns
    -------
    Array
        Booleans of the shape of the half spectrum.

    Examples
    --------
    >>> mask = dealias_mask((12, 12))
    >>> mask.shape, int(mask[:, 0].sum()), int(mask[0].sum())
    ((12, 7), 7, 4)
    """
    n_points = check_n_points(n_points)
    return jnp.asarray(host_dealias_mask(n_points))


def spectral_derivative(
    u: RealArray, domain_extent: Extent, axis: int, *, order: int = 1
) -> Float[Array, "..."]:
    """Differentiate the trigonometric interpolant of ``u`` along one space axis.

    Parameters
    ----------
    u
        Real values, shape ``(..., *space)``; there are as many space axes as periods in
        ``domain_extent`` (one if it is a number).
    domain_extent
        Periods, one per space axis.
    axis
        Number of the space axis, 0 for x.
    order
        Order of the derivative, 1 or more.

    Returns
    -------
    Array
        Shape and dtype of ``u``.

    Raises
    ------
    ValueError
        If ``axis`` is no space axis, ``order`` is below one, or ``u`` has too few axes.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = 2 * jnp.pi * jnp.arange(8) / 8
    >>> derivative = spectral_derivative(jnp.sin(x), 2 * jnp.pi, 0)
    >>> bool(jnp.allclose(derivative, jnp.cos(x), atol=1e-5))
    True
    """
    extent = extent_tuple(domain_extent)
    u = as_real_array("u", u, len(extent))
    order = check_count("order", order)
    axis = check_count("axis", axis, minimum=0)
    if not 0 <= axis < len(extent):
        raise ValueError(f"`axis` must be a space axis, 0 to {len(extent) - 1}, got {axis}.")
    array_axis = axis - len(extent)
    n = u.shape[array_axis]
    (k,) = host_wavenumbers((n,), (extent[axis],), order % 2 == 1)
    shape = [1] * u.ndim
    shape[array_axis] = k.size
    # i^order by table: powers of 1j in floating point leave a spurious part of size 1e-16.
    unit = (1, 1j, -1, -1j)[order % 4]
    u_hat = jnp.fft.rfft(u, axis=array_axis)
    symbol = jnp.asarray((unit * k**order).reshape(shape), u_hat.dtype)
    return jnp.fft.irfft(symbol * u_hat, n=n, axis=array_axis)


def laplacian(u: RealArray, domain_extent: Extent) -> Float[Array, "..."]:
    """Return the Laplacian of the trigonometric interpolant of ``u`` at the grid points.

    Parameters
    ----------
    u
        Real values, shape ``(..., *space)``.
    domain_extent
        Periods; their number is the number of space axes.

    Returns
    -------
    Array
        Shape and dtype of ``u``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> wave = jnp.sin(2 * jnp.pi * 3 * jnp.arange(16) / 16)
    >>> bool(jnp.allclose(laplacian(wave, 2 * jnp.pi), -9 * wave, atol=1e-4))
    True
    """
    extent = extent_tuple(domain_extent)
    u = as_real_array("u", u, len(extent))
    n_points = u.shape[-len(extent) :]
    u_hat = rfftn(u, len(extent))
    return irfftn(scale(-host_squared_wavenumber(n_points, extent), u_hat), n_points)


def host_wavenumbers(
    n_points: tuple[int, ...], extent: tuple[float, ...], zero_nyquist: bool
) -> tuple[np.ndarray, ...]:
    """Wavenumbers in float64 NumPy: constants that a trace bakes in at the state's precision."""
    d = len(n_points)
    result = []
    for axis, (n, length) in enumerate(zip(n_points, extent, strict=True)):
        frequencies = np.fft.rfftfreq if axis == d - 1 else np.fft.fftfreq
        modes = frequencies(n, 1.0 / n)
        if axis == d - 1:
            modes = np.abs(modes)
        if zero_nyquist and n % 2 == 0:
            modes[n // 2] = 0.0
        result.append(
            (2 * np.pi / length * modes).reshape([-1 if a == axis else 1 for a in range(d)])
        )
    return tuple(result)


@functools.lru_cache(maxsize=32)
def host_squared_wavenumber(n_points: tuple[int, ...], extent: tuple[float, ...]) -> np.ndarray:
    """``|k|^2`` on the half spectrum, float64, with the Nyquist modes in."""
    total = np.zeros(spectrum_shape(n_points))
    for k in host_wavenumbers(n_points, extent, False):
        total = total + k**2
    total.flags.writeable = False  # the cache hands out one array to all callers
    return total


@functools.lru_cache(maxsize=32)
def host_dealias_mask(n_points: tuple[int, ...]) -> np.ndarray:
    """NumPy version of `dealias_mask`, for constants."""
    unit = (2 * np.pi,) * len(n_points)
    mask = np.ones(spectrum_shape(n_points), dtype=bool)
    for modes, n in zip(host_wavenumbers(n_points, unit, False), n_points, strict=True):
        mask = mask & (3 * np.rint(np.abs(modes)) < n)
    mask.flags.writeable = False
    return mask


@functools.lru_cache(maxsize=32)
def host_half_spectrum_weights(n: int) -> np.ndarray:
    """How many modes of the full spectrum each entry of the last axis stands for (1 or 2)."""
    weights = np.full(n // 2 + 1, 2.0)
    weights[0] = 1.0
    if n % 2 == 0:
        weights[-1] = 1.0
    weights.flags.writeable = False
    return weights


def spectrum_shape(n_points: Sequence[int]) -> tuple[int, ...]:
    """Shape of the half spectrum of a grid."""
    return (*n_points[:-1], n_points[-1] // 2 + 1)


def lift(symbol: np.ndarray, like: Array) -> Array:
    """Give a host constant the real precision and the number of axes of ``like``."""
    dtype = jnp.finfo(like.dtype).dtype
    return jnp.asarray(symbol, dtype).reshape((1,) * (like.ndim - symbol.ndim) + symbol.shape)


def scale(symbol: np.ndarray | Array, u_hat: Array) -> Array:
    """Multiply coefficients by a real (or complex) symbol, at the precision of the coefficients.

    A real symbol takes two real products where a complex one takes four, which XLA does not find
    out by itself.
    """
    if isinstance(symbol, np.ndarray):
        symbol = lift(symbol, u_hat)
    if jnp.iscomplexobj(symbol):
        return symbol * u_hat
    return jax.lax.complex(symbol * u_hat.real, symbol * u_hat.imag)


def scale_by_i(symbol: np.ndarray | Array, u_hat: Array) -> Array:
    """Multiply coefficients by ``i`` times a real symbol: a derivative of odd order."""
    if isinstance(symbol, np.ndarray):
        symbol = lift(symbol, u_hat)
    return jax.lax.complex(-symbol * u_hat.imag, symbol * u_hat.real)


def extent_tuple(domain_extent: Extent) -> tuple[float, ...]:
    """Return the checked periods as a tuple; a number becomes a tuple of one."""
    extent = tuple(domain_extent) if isinstance(domain_extent, Sequence) else (domain_extent,)
    if not extent:
        raise ValueError("`domain_extent` must be one number or one per space axis, got none.")
    for length in extent:
        check_positive("domain_extent", length)
    return tuple(float(length) for length in extent)


def check_extent(domain_extent: Extent, n_dims: int) -> tuple[float, ...]:
    """Return one checked period per axis, repeating a number for all axes."""
    extent = extent_tuple(domain_extent)
    if not isinstance(domain_extent, Sequence):
        extent = extent * n_dims
    if len(extent) != n_dims:
        raise ValueError(
            f"`domain_extent` must be one number or {n_dims} of them, one per space axis; "
            f"got {domain_extent!r}."
        )
    return extent


def check_n_points(n_points: Sequence[int]) -> tuple[int, ...]:
    """Return the checked numbers of points as a tuple of ``int``."""
    counts = tuple(n_points) if np.iterable(n_points) else ()
    if not counts:
        raise ValueError(f"`n_points` must hold one number per space axis, got {n_points!r}.")
    return tuple(check_count("n_points", n) for n in counts)


def as_real_array(name: str, u: RealArray, n_dims: int) -> Float[Array, "..."]:
    """Return ``u`` as a JAX array after checking that it is real and has the space axes."""
    n_dims = check_count("n_dims", n_dims)
    check_floating(name, u)
    if jnp.finfo(jnp.asarray(u).dtype).bits < 32:
        raise TypeError(f"`{name}` must be float32 or float64: there is no FFT of {u.dtype}.")
    if np.ndim(u) < n_dims:
        raise ValueError(
            f"`{name}` must have at least {n_dims} axes, one per space axis; "
            f"got shape {np.shape(u)}."
        )
    return jnp.asarray(u)


def _trailing_axes(n_dims: int) -> tuple[int, ...]:
    return tuple(range(-check_count("n_dims", n_dims), 0))
