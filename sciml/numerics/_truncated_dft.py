"""Fourier transforms that keep few modes of many points.

A neural operator keeps a dozen modes an axis. Below a few dozen kept modes, multiplying by the
rectangular block of the Fourier matrix beats an FFT that computes every mode and throws most of
them away, above all in the backward pass. Each axis picks its method when the program is traced;
both give the same numbers to round-off.

Modes are ordered ``-(m-1), ..., m-1`` on every axis but the last, which holds the half spectrum
``0, ..., m-1``; the Nyquist mode is never kept. Coefficients are forward-normalised, so they do
not depend on the number of points: coefficient 0 is the mean.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float

# A dense axis costs 8 n K flops, an FFT about 5 n log2(n), at a fraction of the speed. With the
# backward pass they meet near K = 5 log2(n) kept modes (on CPU: benchmarks/truncated_dft.py).
_DENSE_MODES_PER_LOG2_POINT = 5


def truncated_rfftn(
    u: Float[Array, "..."], n_modes: Sequence[int], *, dense: bool | None = None
) -> Complex[Array, "..."]:
    r"""Return the low Fourier coefficients over the trailing ``len(n_modes)`` axes.

    .. math:: \hat u_k = \frac{1}{N} \sum_j u_j e^{-2\pi i k \cdot j / n}

    Parameters
    ----------
    u
        Real array; its trailing axes are the transformed ones.
    n_modes
        Modes ``m`` of each axis: frequencies below ``m`` in absolute value are kept, hence
        ``2 m - 1`` entries, and ``m`` on the last axis. Each axis needs ``2 m - 1`` points.
    dense
        Force the matrix product (``True``) or the FFT (``False``) on every axis; by default each
        axis takes the faster one.

    Returns
    -------
    Array
        Complex coefficients of shape ``(..., 2 m_1 - 1, ..., m_d)``.

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
    n_dims = len(n_modes)
    n_points = u.shape[u.ndim - n_dims :]
    _check_modes(n_points, n_modes)

    n, m = n_points[-1], n_modes[-1]
    if _use_dense(n, m, dense):
        basis = _dft_matrix(n, np.arange(m))
        cosine, sine = _real_and_imag(basis.T, u.dtype)
        v = lax.complex(u @ cosine, u @ sine)
    else:
        v = jnp.fft.rfft(u, axis=-1, norm="forward")[..., :m]

    for axis in range(n_dims - 2, -1, -1):
        n, m = n_points[axis], n_modes[axis]
        if _use_dense(n, 2 * m - 1, dense):
            v = _matmul_along(_dft_matrix(n, _signed_modes(m)), v, axis - n_dims)
        else:
            v = jnp.fft.fft(v, axis=axis - n_dims, norm="forward")
            v = jnp.take(v, jnp.asarray(_signed_modes(m) % n), axis=v.ndim + axis - n_dims)
    return v


def truncated_irfftn(
    coefficients: Complex[Array, "..."], n_points: Sequence[int], *, dense: bool | None = None
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

    Returns
    -------
    Array
        Real array of shape ``(..., *n_points)``.

    Raises
    ------
    ValueError
        If an axis has fewer points than its modes need.
    """
    n_dims = len(n_points)
    kept = coefficients.shape[coefficients.ndim - n_dims :]
    n_modes = (*((k + 1) // 2 for k in kept[:-1]), kept[-1])
    _check_modes(n_points, n_modes)

    v = coefficients
    for axis in range(n_dims - 1):
        n, m = n_points[axis], n_modes[axis]
        if _use_dense(n, 2 * m - 1, dense):
            v = _matmul_along(_idft_matrix(n, _signed_modes(m)), v, axis - n_dims)
        else:
            v = _embed(v, _signed_modes(m) % n, n, axis - n_dims)
            v = jnp.fft.ifft(v, axis=axis - n_dims, norm="forward")

    n, m = n_points[-1], n_modes[-1]
    if not _use_dense(n, m, dense):
        v = _embed(v, np.arange(m), n // 2 + 1, -1)
        return jnp.fft.irfft(v, n=n, axis=-1, norm="forward")
    basis = _idft_matrix(n, np.arange(m))
    basis[:, 1:] *= 2  # the half spectrum stands for the conjugate modes too
    cosine, sine = _real_and_imag(basis.T, v.real.dtype)
    return v.real @ cosine - v.imag @ sine


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
        if m < 1 or n < 2 * m - 1:
            raise ValueError(
                f"axis {axis} has {n} points, but n_modes={m} needs at least 2 * {m} - 1 = "
                f"{2 * m - 1} of them: use a finer grid or keep at most {(n + 1) // 2} modes."
            )


def _use_dense(n_points: int, n_kept: int, dense: bool | None) -> bool:
    if dense is not None:
        return dense
    return n_kept <= _DENSE_MODES_PER_LOG2_POINT * math.log2(max(n_points, 2))


def _signed_modes(m: int) -> np.ndarray:
    return np.arange(-(m - 1), m)


def _dft_matrix(n: int, modes: np.ndarray) -> np.ndarray:
    # Reducing k * j mod n first keeps the angle, and so the sine, exact for large grids.
    return np.exp(-2j * np.pi * (np.outer(modes, np.arange(n)) % n) / n) / n


def _idft_matrix(n: int, modes: np.ndarray) -> np.ndarray:
    return np.exp(2j * np.pi * (np.outer(np.arange(n), modes) % n) / n)


def _real_and_imag(matrix: np.ndarray, dtype: jnp.dtype) -> tuple[Array, Array]:
    return jnp.asarray(np.real(matrix), dtype), jnp.asarray(np.imag(matrix), dtype)


def _matmul_along(matrix: np.ndarray, v: Array, axis: int) -> Array:
    product = jnp.tensordot(jnp.asarray(matrix, v.dtype), v, axes=(1, v.ndim + axis))
    return jnp.moveaxis(product, 0, axis)


def _embed(v: Array, positions: np.ndarray, size: int, axis: int) -> Array:
    """Place the entries of ``axis`` at ``positions`` of an axis of ``size`` zeros."""
    v = jnp.moveaxis(v, axis, -1)
    padded = jnp.zeros((*v.shape[:-1], size), v.dtype).at[..., positions].set(v)
    return jnp.moveaxis(padded, -1, axis)
