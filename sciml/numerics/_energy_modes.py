"""How many modes an axis a tolerance on the lost energy asks for."""

import numpy as np
from jaxtyping import Float


def fewest_modes(energy: Float[np.ndarray, "channels *modes"], tol: float) -> tuple[int, ...]:
    """Return the modes of each axis whose corner keeps all but ``tol**2`` of each channel's energy.

    Parameters
    ----------
    energy
        Sums of squared coefficients.
    tol
        Bound on the root of the share of energy outside the corner.

    Returns
    -------
    tuple of int
        Of all corners that keep enough, the one with the fewest coefficients; among equals the one
        that keeps most.

    Examples
    --------
    >>> energy = np.ones((1, 4, 4)) * 1e-8
    >>> energy[0, :2, 0] = 1.0
    >>> fewest_modes(energy, 0.01)
    (2, 1)
    """
    n_dims = energy.ndim - 1
    axes = tuple(range(1, energy.ndim))
    # What lies outside of each corner, summed from the small end: no difference of large numbers.
    outside = np.zeros(energy.shape)
    for axis in axes:
        shifted = _sum_from_the_end(energy, axis)
        for before in axes[: axis - 1]:
            shifted = np.cumsum(shifted, axis=before)
        for behind in axes[axis:]:
            shifted = _total(shifted, behind)
        outside = outside + shifted
    total = np.sum(energy, axis=axes, keepdims=True)
    worst = np.max(outside / total, axis=0)
    size = np.ones((), int)
    for n in energy.shape[1:]:
        size = np.multiply.outer(size, np.arange(1, n + 1))
    keeps = worst <= tol**2
    candidates = np.where(keeps, size, size.max() + 1)
    best = candidates == candidates.min()
    index = np.argmin(np.where(best, worst, np.inf))
    return tuple(int(i) + 1 for i in np.unravel_index(index, worst.shape))[:n_dims]


def _sum_from_the_end(energy: np.ndarray, axis: int) -> np.ndarray:
    """Return at index ``i`` the sum of the entries behind ``i``."""
    reverse = np.flip(np.cumsum(np.flip(energy, axis), axis=axis), axis)
    return reverse - energy


def _total(array: np.ndarray, axis: int) -> np.ndarray:
    return np.broadcast_to(np.sum(array, axis=axis, keepdims=True), array.shape)
