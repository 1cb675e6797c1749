r"""Diffusion on a box, in cell-centred finite volumes: the matrix and the boundary data.

.. math:: -\nabla \cdot (K \nabla u) = f, \qquad K = \mathrm{diag}(w_a k_a(x))

Cell ``i`` has its centre at ``x_i = (i + 1/2) h``. The flux through the face between two cells
takes the harmonic mean of their coefficients: the resistance of two half cells in a row, which
makes piecewise linear solutions exact when the coefficient jumps at faces. A Dirichlet face lies
half a cell from the centre beside it, which the factor 2 in its coupling says.

The scheme is of second order in the values, also where the boundary costs the truncation error an
order.
"""

import functools
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from ..core import check_finite, check_floating, check_positive, check_shape, real_dtype
from ..numerics import StencilOperator
from ..numerics._fourier import Extent, check_extent, check_n_points
from ..numerics._stencil import shifted
from ._grid_boundaries import (
    AbstractBoundary,
    Boundary,
    Dirichlet,
    Neumann,
    Periodic,
    face_kinds,
    face_pairs,
)

Mask: TypeAlias = Bool[Array | np.ndarray, "..."]
Coefficient: TypeAlias = Float[Array | np.ndarray, "..."] | float | int

_WALL = Neumann()
_HELD = Dirichlet()


def diffusion_operator(
    n_points: Sequence[int],
    *,
    domain_extent: Extent = 1.0,
    coefficient: Coefficient = 1.0,
    axis_weights: Sequence[float | int] | None = None,
    mask: Mask | None = None,
    boundary: Boundary = _HELD,
    obstacle: AbstractBoundary = _WALL,
    dtype: DTypeLike | None = None,
) -> StencilOperator:
    r"""Return the matrix of :math:`-\nabla \cdot (K \nabla u)` on the cells of a box.

    It may be called inside ``jax.jit`` and differentiated in ``coefficient``; outside, one
    compiled program a shape does the work.

    Parameters
    ----------
    n_points
        Cells along each axis; any number of axes.
    domain_extent
        Length of the box, one number or one an axis.
    coefficient
        :math:`k > 0`: a number, an array of shape ``(*n_points)``, or one of shape
        ``(n_axes, *n_points)`` with the diagonal of a tensor. Entries of solid cells are ignored.
    axis_weights
        A factor :math:`w_a` on each axis: ``(1, 100)`` is an anisotropy of 1:100. All 1 by
        default.
    mask
        Shape ``(*n_points)``, true in the cells that take part, false in solid ones.
    boundary
        What holds on the faces of the box: one condition for all, or one entry an axis, each a
        condition or a pair ``(low, high)``. The values they hold do not enter the matrix, see
        `boundary_source`. Zero Dirichlet by default.
    obstacle
        What holds on the faces between fluid and solid cells: `Neumann` or `Dirichlet`.
    dtype
        Real dtype; that of ``coefficient`` if it is an array, otherwise JAX's default.

    Returns
    -------
    StencilOperator
        Symmetric and positive semidefinite, with the offsets of the nearest neighbours. It is
        singular on each connected part that no Dirichlet face touches. A fluid cell without any
        neighbour or Dirichlet face becomes inactive: no equation fixes it.

    Raises
    ------
    ValueError
        If shapes do not match, no cell takes part, or a coefficient or weight is not positive.
    TypeError
        If a condition is not an object of the classes above.

    Examples
    --------
    Heat through a wall of two layers, from 0 outside to 1 inside: the second insulates.

    >>> import jax.numpy as jnp
    >>> from sciml.problems import Dirichlet, boundary_source, diffusion_operator
    >>> layers = jnp.array([1.0, 1.0, 0.25, 0.25])
    >>> wall = {"coefficient": layers, "boundary": [(Dirichlet(), Dirichlet(1.0))]}
    >>> A = diffusion_operator((4,), **wall)
    >>> u = jnp.linalg.solve(A.to_scipy().toarray(), boundary_source((4,), **wall))
    >>> [round(float(v), 6) for v in u]
    [0.05, 0.15, 0.4, 0.8]
    """
    arguments = _checked(
        n_points, domain_extent, coefficient, axis_weights, mask, boundary, obstacle, dtype
    )
    (n_points, pairs, obstacle, dtype), numbers = arguments
    return _assemble(*numbers, n_points, face_kinds(pairs), type(obstacle), np.dtype(dtype).name)


def boundary_source(
    n_points: Sequence[int],
    *,
    domain_extent: Extent = 1.0,
    coefficient: Coefficient = 1.0,
    axis_weights: Sequence[float | int] | None = None,
    mask: Mask | None = None,
    boundary: Boundary = _HELD,
    obstacle: AbstractBoundary = _WALL,
    dtype: DTypeLike | None = None,
) -> Float[Array, "*space"]:
    """Return what the boundary's values and fluxes add to the right-hand side.

    With the same arguments as `diffusion_operator`, the discrete problem is
    ``A u = f + boundary_source(...)``.

    Parameters
    ----------
    n_points, domain_extent, coefficient, axis_weights, mask, dtype
        As in `diffusion_operator`.
    boundary
        The conditions on the faces of the box, with their values.
    obstacle
        The condition on faces between fluid and solid cells. An array for its value has the shape
        ``(*n_points)`` and counts in the solid cells.

    Returns
    -------
    Array
        Shape ``(*n_points)``, zero in solid cells and away from the boundary.

    Raises
    ------
    ValueError, TypeError
        As `diffusion_operator`; also if the values of a condition do not have its face's shape.

    Examples
    --------
    >>> from sciml.problems import Dirichlet, Neumann, boundary_source
    >>> ends = [(Dirichlet(3.0), Neumann(2.0))]
    >>> boundary_source((4,), boundary=ends).tolist()
    [96.0, 0.0, 0.0, 8.0]
    """
    arguments = _checked(
        n_points, domain_extent, coefficient, axis_weights, mask, boundary, obstacle, dtype
    )
    (n_points, pairs, obstacle, dtype), numbers = arguments
    data = []
    for axis, pair in enumerate(pairs):
        shape = n_points[:axis] + n_points[axis + 1 :]
        data.append([_face_data(f"axis {axis} of `boundary`", f, shape, dtype) for f in pair])
    solid_data = _face_data("`obstacle`", obstacle, n_points, dtype)
    return _source(
        *numbers,
        data,
        solid_data,
        n_points,
        face_kinds(pairs),
        type(obstacle),
        np.dtype(dtype).name,
    )


def pressure_operator(
    mask: Mask, *, boundary: Boundary = _WALL, dtype: DTypeLike | None = None
) -> StencilOperator:
    """Return the matrix of a pressure projection on a staggered (MAC) grid, in units of cells.

    It is minus the divergence of the gradient: the diagonal counts the fluid neighbours of a cell,
    and each of them has the coupling -1. Walls and obstacles let nothing through. An open face
    (``Dirichlet()``, the surrounding pressure) lies half a cell away and counts 2. See
    `project_velocity`, which makes a flow free of divergence with it.

    Parameters
    ----------
    mask
        Shape ``(*space)``, true in fluid cells.
    boundary
        As in `diffusion_operator`; closed walls by default.
    dtype
        Real dtype; JAX's default where it is left out.

    Returns
    -------
    StencilOperator
        Symmetric, positive semidefinite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> pressure_operator(jnp.array([[True, True], [True, False]])).diagonal.tolist()
    [[2.0, 1.0], [1.0, 0.0]]
    """
    n_points = tuple(np.shape(mask))
    return diffusion_operator(
        n_points, domain_extent=n_points, mask=mask, boundary=boundary, dtype=dtype
    )


def _checked(n_points, domain_extent, coefficient, axis_weights, mask, boundary, obstacle, dtype):
    """Check what users pass; return the static facts, and the arrays that the matrix needs."""
    n_points = check_n_points(n_points)
    extent = check_extent(domain_extent, len(n_points))
    weights = (1.0,) * len(n_points) if axis_weights is None else tuple(axis_weights)
    if len(weights) != len(n_points):
        raise ValueError(
            f"`axis_weights` must have one entry an axis ({len(n_points)}), got {axis_weights!r}."
        )
    for weight in weights:
        check_positive("axis_weights", weight)
    pairs = face_pairs(boundary, n_points)
    if not isinstance(obstacle, Dirichlet | Neumann):
        raise TypeError(f"`obstacle` must be a Dirichlet or Neumann object, got {obstacle!r}.")
    if dtype is None:
        dtype = real_dtype() if np.ndim(coefficient) == 0 else jnp.asarray(coefficient).dtype
    if np.ndim(coefficient) == 0:
        check_positive("coefficient", coefficient)
    else:
        check_floating("coefficient", coefficient)
        by_axis = np.ndim(coefficient) > len(n_points)
        check_shape(
            "coefficient", coefficient, n_points if not by_axis else (len(n_points), *n_points)
        )
    if mask is not None:
        check_shape("mask", mask, n_points)
        mask = jnp.asarray(mask)
        if _known_false(mask.any()):
            raise ValueError("`mask` has no fluid cells: no cell takes part.")
    coefficient = jnp.asarray(coefficient, dtype)
    if coefficient.ndim and _known_false(_all_positive(coefficient, mask)):
        raise ValueError(
            "`coefficient` must be positive and finite in every cell that takes part; its "
            f"smallest entry is {float(jnp.min(coefficient)):.6g}."
        )
    inverse_spacings = np.array(n_points) / np.array(extent)
    scales = np.stack([np.array(weights) * inverse_spacings**2, inverse_spacings]).astype(dtype)
    return (n_points, pairs, obstacle, dtype), (coefficient, scales, mask)


def _known_false(condition):
    # Under jit even what comes of a known array is traced: ask the result, not the array.
    return not isinstance(condition, Tracer) and not bool(condition)


@jax.jit
def _all_positive(coefficient, mask):
    good = (coefficient > 0) & jnp.isfinite(coefficient)
    if mask is not None:
        good = good | ~jnp.broadcast_to(mask, good.shape)
    return good.all()


def _face_data(name, face, shape, dtype):
    if isinstance(face, Periodic):
        return None
    data = face.value if isinstance(face, Dirichlet) else face.flux
    if np.ndim(data):
        check_shape(f"the values of {name}", data, shape)
    check_finite(f"the values of {name}", data)
    return jnp.broadcast_to(jnp.asarray(data, dtype), shape)


def _axis_coefficients(coefficient, scales, mask, n_points, dtype):
    """Return ``w_a k_a / h_a^2`` in each cell, 0 in solid ones; one array an axis."""
    fluid = jnp.ones(n_points, dtype) if mask is None else mask.astype(dtype)
    by_axis = coefficient.ndim == len(n_points) + 1
    return [
        fluid if coefficient.ndim == 0 else jnp.where(fluid > 0, k, 0)
        for k in (coefficient if by_axis else [coefficient] * len(n_points))
    ], [scale if coefficient.ndim else scale * coefficient for scale in scales[0]]


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _assemble(coefficient, scales, mask, n_points, kinds, obstacle, dtype):
    n_axes = len(n_points)
    by_axis, factors = _axis_coefficients(coefficient, scales, mask, n_points, dtype)
    periodic = tuple(low is Periodic for low, _ in kinds)
    diagonal = jnp.zeros(n_points, dtype)
    couplings = []
    for axis, (k, factor) in enumerate(zip(by_axis, factors, strict=True)):
        ahead, back = _unit(axis, n_axes), _unit(axis, n_axes, -1)
        beyond = shifted(k, ahead, periodic)
        # A uniform coefficient is 1 or 0 here, where the smaller is the harmonic mean.
        mean = jnp.minimum(k, beyond) if coefficient.ndim == 0 else _harmonic_mean(k, beyond)
        face = factor * mean
        couplings.append(-face)
        diagonal += face + shifted(face, back, periodic)
        for end, kind in zip((0, -1), kinds[axis], strict=True):
            if kind is Dirichlet:
                diagonal += 2 * factor * _on_face(k, axis, end, n_points[axis])
        if obstacle is Dirichlet and mask is not None:
            solid = (~mask).astype(dtype)
            beside = shifted(solid, ahead, periodic) + shifted(solid, back, periodic)
            diagonal += 2 * factor * k * beside
    return StencilOperator(
        diagonal,
        jnp.stack(couplings),
        tuple(_unit(axis, n_axes) for axis in range(n_axes)),
        periodic,
    )


@functools.partial(jax.jit, static_argnums=(5, 6, 7, 8))
def _source(coefficient, scales, mask, data, solid_data, n_points, kinds, obstacle, dtype):
    n_axes = len(n_points)
    by_axis, factors = _axis_coefficients(coefficient, scales, mask, n_points, dtype)
    periodic = tuple(low is Periodic for low, _ in kinds)
    fluid = jnp.ones(n_points, dtype) if mask is None else mask.astype(dtype)
    source = jnp.zeros(n_points, dtype)
    for axis, (k, factor) in enumerate(zip(by_axis, factors, strict=True)):
        # What one unit of the boundary's value or flux does to the cell beside it.
        response = {Dirichlet: 2 * factor * k, Neumann: scales[1, axis] * fluid}
        for end, kind, values in zip((0, -1), kinds[axis], data[axis], strict=True):
            if kind is not Periodic:
                values = jnp.expand_dims(values, axis)
                source += _on_face(response[kind], axis, end, n_points[axis]) * values
        if mask is not None:
            held = jnp.where(mask, jnp.zeros((), dtype), solid_data)
            beside = shifted(held, _unit(axis, n_axes), periodic)
            beside += shifted(held, _unit(axis, n_axes, -1), periodic)
            source += response[obstacle] * beside
    return source


def _harmonic_mean(a, b):
    # Safe in the gradient too where both are 0; a quotient first, since a product may overflow.
    total = jnp.where(a + b > 0, a + b, 1)
    return 2 * a * (b / total)


def _unit(axis, n_axes, step=1):
    return tuple(step if other == axis else 0 for other in range(n_axes))


def _on_face(values, axis, end, n):
    """Keep the cells beside one face and set the others to zero."""
    here = jnp.arange(n) == (0 if end == 0 else n - 1)
    shape = [1] * values.ndim
    shape[axis] = n
    return jnp.where(here.reshape(shape), values, jnp.zeros((), values.dtype))
