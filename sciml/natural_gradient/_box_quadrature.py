"""Fixed quadrature points of a box and of its boundary: Gauss-Legendre in each axis."""

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import check_count, check_positive


def box_quadrature(
    n_points: int, dim: int, *, domain_extent: float | int = 1.0
) -> tuple[Float[Array, "n dim"], Float[Array, " n"]]:
    """Return Gauss-Legendre points and weights of the box ``[0, domain_extent]^dim``.

    Parameters
    ----------
    n_points
        Points along each axis; polynomials of degree ``2 n_points - 1`` are integrated exactly.
    dim
        Number of axes.
    domain_extent
        Length of every side.

    Returns
    -------
    tuple
        Points of shape ``(n_points**dim, dim)`` and weights, which add up to the volume.

    Raises
    ------
    TypeError, ValueError
        If a count is not a positive integer, or the length is not positive.

    Examples
    --------
    >>> x, w = box_quadrature(4, 2)
    >>> x.shape, bool(abs(w @ x[:, 0] ** 3 - 0.25) < 1e-6)
    ((16, 2), True)
    """
    dim = check_count("dim", dim)
    nodes, weights = _on_an_interval(n_points, domain_extent)
    return _tensor_product([nodes] * dim, [weights] * dim)


def box_boundary_quadrature(
    n_points: int, dim: int, *, domain_extent: float | int = 1.0
) -> tuple[Float[Array, "n dim"], Float[Array, " n"]]:
    """Return Gauss-Legendre points and weights of the faces of ``[0, domain_extent]^dim``.

    Parameters
    ----------
    n_points
        Points along each axis of a face.
    dim
        Number of axes of the box.
    domain_extent
        Length of every side.

    Returns
    -------
    tuple
        Points of shape ``(2 dim n_points**(dim-1), dim)`` and weights, which add up to the
        boundary's size.

    Raises
    ------
    TypeError, ValueError
        If a count is not a positive integer, or the length is not positive.

    Examples
    --------
    >>> x, w = box_boundary_quadrature(4, 2)
    >>> x.shape, round(float(w.sum()), 5)
    ((16, 2), 4.0)
    """
    dim = check_count("dim", dim)
    nodes, weights = _on_an_interval(n_points, domain_extent)
    one = np.ones(1)
    faces = []
    for axis, end in itertools.product(range(dim), (0.0, float(domain_extent))):
        points = [np.array([end]) if a == axis else nodes for a in range(dim)]
        faces.append(_tensor_product(points, [one if a == axis else weights for a in range(dim)]))
    return jnp.concatenate([x for x, _ in faces]), jnp.concatenate([w for _, w in faces])


def _on_an_interval(n_points: int, domain_extent: float | int) -> tuple[np.ndarray, np.ndarray]:
    check_positive("domain_extent", domain_extent)
    nodes, weights = np.polynomial.legendre.leggauss(check_count("n_points", n_points))
    half = 0.5 * float(domain_extent)
    return half * (nodes + 1), half * weights


def _tensor_product(points: list[np.ndarray], weights: list[np.ndarray]) -> tuple[Array, Array]:
    x = np.stack([axis.ravel() for axis in np.meshgrid(*points, indexing="ij")], axis=-1)
    w = np.prod([axis.ravel() for axis in np.meshgrid(*weights, indexing="ij")], axis=0)
    dtype = jnp.result_type(float)
    return jnp.asarray(x, dtype), jnp.asarray(w, dtype)
