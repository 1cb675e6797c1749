"""Weights of polynomials through points in time: values, derivatives and integrals."""

import numpy as np


def derivative_weights(points: np.ndarray, at: float, order: int) -> np.ndarray:
    """Return the weights that take values at ``points`` to a derivative at ``at``.

    It is the derivative of the interpolating polynomial; order 0 interpolates. Points must be
    distinct and few (a dozen): the weights come from a Vandermonde system.

    Examples
    --------
    >>> derivative_weights(np.array([-1.0, 0.0, 1.0]), 0.0, 1)
    array([-0.5,  0. ,  0.5])
    """
    offsets = np.asarray(points, float) - at
    size = max(np.abs(offsets).max(), 1.0)
    powers = np.vander(offsets / size, increasing=True).T
    target = np.zeros(len(offsets))
    if order < len(offsets):
        target[order] = float(np.prod(np.arange(1, order + 1))) / size**order
    return np.linalg.solve(powers, target)


def nearest_window(n_points: int, size: int, centre: float | int) -> int:
    """Return the first of the ``size`` consecutive points whose middle is nearest to ``centre``.

    Points are ``0, 1, ..., n_points - 1``; at the ends the window is one-sided.
    """
    first = round(centre - (size - 1) / 2 + 1e-9)
    return int(np.clip(first, 0, n_points - size))


def local_interpolation_matrix(
    n_points: int, positions: np.ndarray, degree: int, derivative: int = 0
) -> np.ndarray:
    """Return the matrix that interpolates between ``0, 1, ..., n_points - 1`` piece by piece.

    Parameters
    ----------
    n_points
        Number of points; they lie at the integers.
    positions
        Where the values are wanted.
    degree
        Degree of the polynomial through the nearest points; lower if there are fewer.
    derivative
        Order of the derivative that is wanted; 0 for values.

    Returns
    -------
    numpy.ndarray
        Shape ``(len(positions), n_points)``.
    """
    size = min(degree + 1, n_points)
    matrix = np.zeros((len(positions), n_points))
    for row, position in zip(matrix, positions, strict=True):
        # The same points for all positions of an interval, so that pieces meet at the points.
        interval = np.clip(np.floor(position), 0, max(n_points - 2, 0))
        first = nearest_window(n_points, size, interval + 0.5 if size % 2 == 0 else position)
        points = np.arange(first, first + size)
        row[points] = derivative_weights(points.astype(float), float(position), derivative)
    return matrix
