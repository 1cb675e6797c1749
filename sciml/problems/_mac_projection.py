r"""Velocities on the faces of cells (MAC grid): divergence, and the projection by a pressure.

.. math:: \nabla \cdot (v - \nabla p) = 0

Along its own axis a component of the velocity has one value more than there are cells: the first
and the last lie on the boundary. A periodic axis keeps both, equal.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..core import check_shape
from ._grid_boundaries import Boundary, Dirichlet, Neumann, Periodic, face_pairs

Faces = tuple[Float[Array, "..."], ...]

_WALL = Neumann()


def face_divergence(
    velocity: Sequence[Float[Array, "..."]], mask: Bool[Array | np.ndarray, "*space"]
) -> Float[Array, "*space"]:
    """Return the net outflow of each fluid cell, in units of cells; zero in solid cells.

    Parameters
    ----------
    velocity
        One array an axis, with one point more than ``mask`` along that axis.
    mask
        True in fluid cells.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> u = jnp.array([0.0, 1.0, 3.0])
    >>> face_divergence((u,), jnp.array([True, True])).tolist()
    [1.0, 2.0]
    """
    mask = jnp.asarray(mask)
    _check_faces(velocity, mask.shape)
    total = jnp.zeros(mask.shape, velocity[0].dtype)
    for axis, component in enumerate(velocity):
        total = total + jnp.diff(component, axis=axis)
    return jnp.where(mask, total, jnp.zeros((), total.dtype))


def project_velocity(
    velocity: Sequence[Float[Array, "..."]],
    pressure: Float[Array, "*space"],
    mask: Bool[Array | np.ndarray, "*space"],
    *,
    boundary: Boundary = _WALL,
) -> Faces:
    """Subtract the pressure gradient and close the faces of walls and obstacles.

    If ``pressure_operator(mask, boundary=boundary) p = -face_divergence(v, mask)`` for a velocity
    ``v`` that is already closed there (see `close_walls`), the result has no divergence.

    Parameters
    ----------
    velocity
        One array an axis, with one point more than ``mask`` along that axis.
    pressure
        Shape ``(*space)``.
    mask
        True in fluid cells.
    boundary
        `Neumann` faces are walls (through which the velocity stays), `Dirichlet` ones open, with
        their value as the surrounding pressure.

    Returns
    -------
    tuple of Array
        The new velocity, of the same shapes.

    Examples
    --------
    A pipe with an open end: what the inner face lets in has to leave.

    >>> import jax.numpy as jnp
    >>> from sciml.problems import Dirichlet, Neumann, pressure_operator, project_velocity
    >>> mask, ends = jnp.array([True, True]), [(Neumann(), Dirichlet())]
    >>> v = (jnp.array([1.0, 0.0, 0.0]),)
    >>> A = pressure_operator(mask, boundary=ends).to_scipy().toarray()
    >>> p = jnp.linalg.solve(A, -face_divergence(v, mask))
    >>> [round(float(w), 5) for w in project_velocity(v, p, mask, boundary=ends)[0]]
    [1.0, 1.0, 1.0]
    """
    mask = jnp.asarray(mask)
    _check_faces(velocity, mask.shape)
    check_shape("pressure", pressure, mask.shape)
    pairs = face_pairs(boundary, mask.shape)
    projected = []
    for axis, (component, pair) in enumerate(zip(velocity, pairs, strict=True)):
        n = mask.shape[axis]
        inner = _slice(pressure, axis, 1, n) - _slice(pressure, axis, 0, n - 1)
        open_faces = _slice(mask, axis, 1, n) & _slice(mask, axis, 0, n - 1)
        inner = jnp.where(open_faces, inner, jnp.zeros((), inner.dtype))
        first, last = _slice(pressure, axis, 0, 1), _slice(pressure, axis, n - 1, n)
        inside = _slice(mask, axis, 0, 1), _slice(mask, axis, n - 1, n)
        if isinstance(pair[0], Periodic):
            seam = jnp.where(inside[0] & inside[1], first - last, jnp.zeros((), first.dtype))
            ends = [seam, seam]
        else:
            # Half a cell from the centre to the face; at the low end the outside comes first.
            ends = []
            for face, value, fluid, sign in zip(pair, (first, last), inside, (-1, 1), strict=True):
                step = jnp.zeros_like(value)
                if isinstance(face, Dirichlet):
                    outside = jnp.asarray(face.value, value.dtype)
                    outside = jnp.expand_dims(outside, axis) if outside.ndim else outside
                    step = jnp.where(fluid, sign * 2 * (outside - value), step)
                ends.append(step)
        gradient = jnp.concatenate([ends[0], inner, ends[1]], axis=axis)
        projected.append(component - gradient)
    return tuple(projected)


def close_walls(
    velocity: Sequence[Float[Array, "..."]],
    mask: Bool[Array | np.ndarray, "*space"],
    obstacle_velocity: Sequence[Float[Array, "..."]] | None = None,
    *,
    boundary: Boundary = _WALL,
) -> Faces:
    """Set the velocity on faces of solid cells to that of the obstacles (zero by default).

    Parameters
    ----------
    velocity
        One array an axis, with one point more than ``mask`` along that axis.
    mask
        True in fluid cells.
    obstacle_velocity
        What moving obstacles impose, in the layout of ``velocity``.
    boundary
        Only which axes are periodic counts: there the seam has a solid cell on both sides.

    Returns
    -------
    tuple of Array
        The velocity with those faces overwritten. Faces on the box itself keep their values
        unless the cell inside is solid.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> close_walls((jnp.ones(4),), jnp.array([True, False, True]))[0].tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    mask = jnp.asarray(mask)
    _check_faces(velocity, mask.shape)
    if obstacle_velocity is not None:
        _check_faces(obstacle_velocity, mask.shape)
    pairs = face_pairs(boundary, mask.shape)
    closed = []
    for axis, component in enumerate(velocity):
        n = mask.shape[axis]
        first, last = _slice(mask, axis, 0, 1), _slice(mask, axis, n - 1, n)
        if isinstance(pairs[axis][0], Periodic):
            first = last = first & last
        inner = _slice(mask, axis, 1, n) & _slice(mask, axis, 0, n - 1)
        fluid = jnp.concatenate([first, inner, last], axis=axis)
        imposed = (
            jnp.zeros((), component.dtype) if obstacle_velocity is None else obstacle_velocity[axis]
        )
        closed.append(jnp.where(fluid, component, imposed))
    return tuple(closed)


def _check_faces(velocity, n_points):
    if len(velocity) != len(n_points):
        raise ValueError(
            f"`velocity` must have one array an axis ({len(n_points)}), got {len(velocity)}."
        )
    for axis, component in enumerate(velocity):
        shape = tuple(n + (a == axis) for a, n in enumerate(n_points))
        check_shape(f"component {axis} of `velocity`", component, shape)


def _slice(array, axis, start, stop):
    return jax.lax.slice_in_dim(array, start, stop, axis=axis)
