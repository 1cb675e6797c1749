"""Fourier transforms that keep few modes of many points.

A neural operator keeps a dozen modes an axis. Below a few dozen kept modes, multiplying by the
rectangular block of the Fourier matrix beats an FFT that computes every mode and throws most of
them away, above all in the backward pass. Each axis picks its method when the program is traced;
both give the same numbers to round-off.

The matrix is real (a mean, cosines and sines), since the field is: the first axis then costs a
quarter of a complex product and leaves little for the others. Cosine and sine coefficients become
complex modes when they are few.

Modes are ordered ``-(m-1), ..., m-1`` on every axis but the last, which holds the half spectrum
``0, ..., m-1``; the Nyquist mode is never kept. Coefficients are forward-normalised, so they do
not depend on the number of points: coefficient 0 is the mean.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float

from ..core import check_array, check_count, check_shape
from ._matmul_along import matmul_along

# A dense axis costs 8 n K flops, an FFT about 5 n log2(n), at a fraction of the speed. With the
# backward pass they meet beyond K = 8 log2(n) kept modes (on CPU: benchmarks/truncated_dft.py).
_DENSE_MODES_PER_LOG2_POINT = 8


def truncated_rfftn(
    u: Float[Array, "..."], n_modes: Sequence[int], *, dense: bool | None = None
) -> Complex[Array, "..."]:
    r"""Return the low Fourier coefficients over the trailing ``len(n_modes)`` axes.

    .. math:: \hat u_k = \frac{1}{N} \sum_j u_j e^{-2\pi i k \cdot j / n}

    Parameters
    ----------
    u
        Real array; its trailing axes are the transformed ones. Half precision is taken as it is by
        the first dense product, and summed up in float32.
    n_modes
        Modes ``m`` of each axis: frequencies below ``m`` in absolute value are kept, hence
        ``2 m - 1`` entries, and ``m`` on the last axis. Each axis needs ``2 m - 1`` points.
    dense
        Force the matrix product (``True``) or the FFT (``False``) on every axis; by default each
        axis takes the faster one.

    Returns
    -------
    Array
        Complex coefficients of shape ``(..., 2 m_1 - 1, ..., m_d)``, single precision at least.

    Raises
    ------
    ValueError
        If an axis has fewer points than its modes need.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.arange(16) / 16
    >>> coefficients = truncated_rfftn(3 + jnp.cos(2 * jnp.pi * x), (3,))
    >>> [round(float(c), 3) for c in jnp.abs(coefficients)]
    [3.0, 0.5, 0.0]
    """
    check_array("u", u)
    n_dims = len(n_modes)
    n_points = u.shape[u.ndim - n_dims :]
    _check_modes(n_points, n_modes)

    is_dense = _dense_axes(n_points, n_modes, dense)
    wide = u.dtype if jnp.finfo(u.dtype).bits > 16 else jnp.float32
    for axis in range(n_dims):
        if is_dense[axis]:
            basis = _real_basis(n_points[axis], n_modes[axis]) / n_points[axis]
            u = matmul_along(jnp.asarray(basis, u.dtype), u, axis - n_dims, dtype=wide)
    u = u.astype(wide)

    m = n_modes[-1]
    if is_dense[-1]:
        cosine, sine = _split(u, m, -1)
        v = lax.complex(cosine, -sine)
    else:
        v = jnp.fft.rfft(u, axis=-1, norm="forward")[..., :m]

    for axis in range(-n_dims, -1):
        n, m = n_points[axis], n_modes[axis]
        if is_dense[axis]:
            cosine, sine = _split(v, m, axis)
            turned = _times_i(sine)
            negative = lax.slice_in_dim(cosine + turned, 1, m, axis=axis)
            v = jnp.concatenate([jnp.flip(negative, axis), cosine - turned], axis)
        else:
            v = jnp.fft.fft(v, axis=axis, norm="forward")
            v = jnp.take(v, jnp.asarray(_signed_modes(m) % n), axis=v.ndim + axis)
    return v


def truncated_irfftn(
    coefficients: Complex[Array, "..."],
    n_points: Sequence[int],
    *,
    dense: bool | None = None,
    dtype: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """Evaluate the Fourier series of `truncated_rfftn` on a grid of any size.

    Parameters
    ----------
    coefficients
        Array of shape ``(..., 2 m_1 - 1, ..., m_d)``. Imaginary parts that a real field cannot
        have (those of the conjugate-symmetric modes) are projected out.
    n_points
        Points of the target grid, one entry a transformed axis; ``2 m - 1`` at least.
    dense
        As in `truncated_rfftn`.
    dtype
        Of the result, by default that of the coefficients' parts. For half precision the last and
        largest product is of factors in half precision.

    Returns
    -------
    Array
        Real array of shape ``(..., *n_points)``.

    Raises
    ------
    ValueError
        If an axis has fewer points than its modes need.
    """
    check_array("coefficients", coefficients)
    n_points = tuple(check_count("n_points", n) for n in n_points)
    n_dims = len(n_points)
    kept = coefficients.shape[coefficients.ndim - n_dims :]
    n_modes = (*((k + 1) // 2 for k in kept[:-1]), kept[-1])
    _check_modes(n_points, n_modes)

    is_dense = _dense_axes(n_points, n_modes, dense)
    v = coefficients
    for axis in range(-n_dims, -1):
        n, m = n_points[axis], n_modes[axis]
        if is_dense[axis]:
            positive = lax.slice_in_dim(v, m, 2 * m - 1, axis=axis)
            negative = jnp.flip(lax.slice_in_dim(v, 0, m - 1, axis=axis), axis)
            mean = lax.slice_in_dim(v, m - 1, m, axis=axis)
            v = jnp.concatenate([mean, positive + negative, _times_i(positive - negative)], axis)
        else:
            v = _embed(v, _signed_modes(m) % n, n, axis)
            v = jnp.fft.ifft(v, axis=axis, norm="forward")

    n, m = n_points[-1], n_modes[-1]
    if is_dense[-1]:
        # The half spectrum stands for the conjugate modes too.
        rest = v[..., 1:]
        u = jnp.concatenate([v[..., :1].real, 2 * rest.real, -2 * rest.imag], axis=-1)
    else:
        u = jnp.fft.irfft(_embed(v, np.arange(m), n // 2 + 1, -1), n=n, axis=-1, norm="forward")

    dtype = u.dtype if dtype is None else dtype
    for axis in range(n_dims - 1, -1, -1):
        if axis == 0:
            u = u.astype(dtype)
        if is_dense[axis]:
            basis = _real_basis(n_points[axis], n_modes[axis]).T
            u = matmul_along(jnp.asarray(basis, u.dtype), u, axis - n_dims)
    return u


def fourier_series_matrix(
    positions: Float[Array, " points"], n_modes: int
) -> Complex[Array, "points modes"]:
    """Return ``exp(2 pi i k x)`` at positions in units of the period, ``k = -(m-1) ... m-1``.

    It evaluates a series along one axis at points that form no grid (times, for instance).

    Parameters
    ----------
    positions
        Points in units of the period.
    n_modes
        Modes ``m``; frequencies below it in absolute value are kept.

    Returns
    -------
    Array
        Complex matrix of shape ``(points, 2 m - 1)``.
    """
    check_count("n_modes", n_modes)
    check_array("positions", positions)
    check_shape("positions", positions, ("points",))
    modes = jnp.asarray(_signed_modes(n_modes), positions.dtype)
    angle = (2 * math.pi) * positions[:, None] * modes[None, :]
    return lax.complex(jnp.cos(angle), jnp.sin(angle))


def trigonometric_interpolation_matrix(
    positions: Float[Array, " points"], n_nodes: int
) -> Float[Array, "points nodes"]:
    """Return the matrix that takes values at ``j / n_nodes`` to values at ``positions``.

    The interpolant is the trigonometric polynomial of lowest degree; on an even number of nodes
    its Nyquist mode is a pure cosine.

    Parameters
    ----------
    positions
        Points in units of the period.
    n_nodes
        Number of equally spaced nodes.

    Returns
    -------
    Array
        Real matrix of shape ``(points, n_nodes)``; its rows sum to one.
    """
    check_count("n_nodes", n_nodes)
    check_array("positions", positions)
    check_shape("positions", positions, ("points",))
    offset = positions[:, None] - jnp.arange(n_nodes, dtype=positions.dtype)[None, :] / n_nodes
    modes = jnp.arange(1, (n_nodes + 1) // 2, dtype=positions.dtype)
    cosines = jnp.cos((2 * math.pi) * modes[None, None] * offset[..., None])
    kernel = 1 + 2 * jnp.sum(cosines, axis=-1)
    if n_nodes % 2 == 0:
        kernel = kernel + jnp.cos(math.pi * n_nodes * offset)
    return kernel / n_nodes


def _check_modes(n_points: Sequence[int], n_modes: Sequence[int]) -> None:
    if len(n_points) != len(n_modes):
        raise ValueError(
            f"expected {len(n_modes)} transformed axes for n_modes={tuple(n_modes)}, "
            f"got {len(n_points)}."
        )
    for axis, (n, m) in enumerate(zip(n_points, n_modes, strict=True)):
        m = check_count("n_modes", m)
        if n < 2 * m - 1:
            raise ValueError(
                f"axis {axis} has {n} points, but n_modes={m} needs at least 2 * {m} - 1 = "
                f"{2 * m - 1} of them: use a finer grid or keep at most {(n + 1) // 2} modes."
            )


def _dense_axes(
    n_points: Sequence[int], n_modes: Sequence[int], dense: bool | None
) -> tuple[bool, ...]:
    if dense is not None:
        return (dense,) * len(n_modes)
    kept = (*(2 * m - 1 for m in n_modes[:-1]), n_modes[-1])
    return tuple(
        k <= _DENSE_MODES_PER_LOG2_POINT * math.log2(max(n, 2))
        for n, k in zip(n_points, kept, strict=True)
    )


def _signed_modes(m: int) -> np.ndarray:
    return np.arange(-(m - 1), m)


def _real_basis(n: int, m: int) -> np.ndarray:
    """Return ``1, cos(k x), ..., sin(k x), ...`` for ``0 < k < m`` on ``n`` points, by rows."""
    # Reducing k * j mod n first keeps the angle, and so the sine, exact for large grids.
    angle = 2 * np.pi * (np.outer(np.arange(m), np.arange(n)) % n) / n
    return np.concatenate([np.cos(angle), np.sin(angle[1:])])


def _split(v: Array, m: int, axis: int) -> tuple[Array, Array]:
    """Return the cosine and the sine coefficients of modes ``0, ..., m - 1``."""
    cosine = lax.slice_in_dim(v, 0, m, axis=axis)
    sine = lax.slice_in_dim(v, m, 2 * m - 1, axis=axis)
    pad = [(0, 0)] * v.ndim
    pad[axis] = (1, 0)
    return cosine, jnp.pad(sine, pad)


def _times_i(v: Array) -> Array:
    return lax.complex(-v.imag, v.real)


def _embed(v: Array, positions: np.ndarray, size: int, axis: int) -> Array:
    """Place the entries of ``axis`` at ``positions`` of an axis of ``size`` zeros."""
    v = jnp.moveaxis(v, axis, -1)
    padded = jnp.zeros((*v.shape[:-1], size), v.dtype).at[..., positions].set(v)
    return jnp.moveaxis(padded, -1, axis)
