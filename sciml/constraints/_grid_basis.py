"""Basis functions on a tensor grid, from networks that give whole grids, and their derivatives."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from ..core import check_count, check_flags, check_positive
from ..numerics import full_precision, spectral_derivative
from ._basis import AbstractBasis, Tables, check_real
from ._derivative_names import check_names, parse_derivative


class GridBasis(AbstractBasis):
    """The outputs of an operator network on a grid: ``net(parameters)``.

    Points are flat indices of the grid (``GridBasis.indices`` gives all). Derivatives are spectral
    along periodic axes; along others finite differences of fourth order, one-sided at the ends.
    They are taken on the whole grid before points are picked, so that no part needs a margin. The
    field exists at grid points only.

    Parameters
    ----------
    net
        ``net(parameters)`` returns ``(n, *n_points)`` for one field, ``(n, c, *n_points)`` for
        ``c`` fields.
    n_points
        Points along each axis.
    domain_extent
        Lengths. Periodic axes leave out the end point; others have both ends.
    periodic
        Which axes are periodic.
    coordinates, fields
        As for `CoordinateBasis`.
    origin
        Coordinates of the first point; zero by default.
    lift
        ``lift(parameters)``: ``n_points`` numbers for one field, else ``(c, *n_points)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.arange(8) / 8
    >>> basis = GridBasis(
    ...     lambda p: jnp.sin(2 * jnp.pi * x)[None], (8,), (1.0,), (True,), coordinates=("x",)
    ... )
    >>> table = basis.tables(jnp.arange(8), None, ("u_x",)).basis["u_x"]
    >>> print(f"{table[0, 0] / (2 * jnp.pi):.4f}")
    1.0000
    """

    net: Callable[..., Any]
    n_points: tuple[int, ...] = eqx.field(static=True)
    domain_extent: tuple[float, ...] = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)
    coordinates: tuple[str, ...] = eqx.field(static=True)
    fields: tuple[str, ...] = eqx.field(static=True)
    origin: tuple[float, ...] = eqx.field(static=True)
    lift: Callable[..., Any] | None

    def __init__(
        self,
        net: Callable[..., Any],
        n_points: Sequence[int],
        domain_extent: Sequence[float | int],
        periodic: Sequence[bool],
        *,
        coordinates: tuple[str, ...] = ("t", "x"),
        fields: tuple[str, ...] = ("u",),
        origin: Sequence[float | int] | None = None,
        lift: Callable[..., Any] | None = None,
    ):
        if not callable(net):
            raise TypeError(f"`net` must be callable, got {net!r}.")
        check_names(fields, coordinates)
        origin = (0.0,) * len(coordinates) if origin is None else origin
        for name, value in (
            ("n_points", n_points),
            ("domain_extent", domain_extent),
            ("origin", origin),
        ):
            if len(value) != len(coordinates):
                raise ValueError(
                    f"`{name}` must have one entry for each of the coordinates {coordinates}, got "
                    f"{value}."
                )
        for length in domain_extent:
            check_positive("domain_extent", length)
        self.net = net
        self.n_points = tuple(check_count("n_points", n, minimum=2) for n in n_points)
        self.domain_extent = tuple(float(length) for length in domain_extent)
        self.periodic = check_flags("periodic", periodic, len(coordinates))
        self.coordinates = tuple(coordinates)
        self.fields = tuple(fields)
        self.origin = tuple(float(start) for start in origin)
        self.lift = lift

    def functions(self, parameters: PyTree[Any]) -> Array:
        """Return basis functions and lift on the grid, ``(n + 1, fields, *n_points)``."""
        values = self.net(parameters)
        c = len(self.fields)
        if values.shape[1:] not in ((c, *self.n_points), self.n_points if c == 1 else None):
            raise ValueError(
                f"`net` must return (n, {c}, {', '.join(map(str, self.n_points))}) numbers, the "
                f"second axis optional for one field; got {values.shape}."
            )
        check_real(values)
        values = values.reshape(-1, c, *self.n_points)
        if self.lift is None:
            lift = jnp.zeros_like(values[0])
        else:
            lift = jnp.asarray(self.lift(parameters), values.dtype).reshape(values.shape[1:])
        return jnp.concatenate([values, lift[None]])

    def indices(self) -> Array:
        """Return all points, in the order of the grid."""
        return jnp.arange(int(np.prod(self.n_points)))

    def tables(self, points: Array, parameters: PyTree[Any], needs: tuple[str, ...]) -> Tables:
        """Return the derivatives called ``needs`` at grid points."""
        found = self._picked(self.functions(parameters), points, needs)
        return Tables(
            {name: table[..., :-1] for name, table in found.items()},
            {name: table[..., -1] for name, table in found.items()},
        )

    def windowed(self, weights: Callable[[Array], Array]) -> "GridBasis":
        """Return the products of window and basis function, experts first."""
        return eqx.tree_at(lambda basis: basis.net, self, _Windowed(self, weights))

    @full_precision
    def combination(
        self,
        w: Float[Array, "experts n"],
        weights: Callable[[Array], Array] | None,
        points: Array,
        parameters: PyTree[Any],
        needs: tuple[str, ...],
    ) -> dict[str, Array]:
        """Return derivatives of the lift plus the windowed combinations."""
        values = self.functions(parameters)
        parts = jnp.tensordot(w, values[:-1], 1)
        if weights is None:
            field = parts[0]
        else:
            field = jnp.sum(self._windows(weights, values.dtype)[:, None] * parts, axis=0)
        found = self._picked((values[-1] + field)[None], points, needs)
        return {name: table[..., 0] for name, table in found.items()}

    def positions(self, points: Array) -> Float[Array, "*points d"]:
        """Return the coordinates of grid points."""
        index = jnp.unravel_index(points, self.n_points)
        steps = self._steps()
        dtype = jnp.result_type(float)
        axes = [
            start + h * i.astype(dtype)
            for start, h, i in zip(self.origin, steps, index, strict=True)
        ]
        return jnp.stack(axes, axis=-1)

    def size(self, parameters: PyTree[Any]) -> int:
        """Return the number of basis functions."""
        return eqx.filter_eval_shape(self.functions, parameters).shape[0] - 1

    def has_shape_of_points(self, points: Array) -> str:
        """Return why an array cannot be points of this basis; nothing if it can."""
        if jnp.issubdtype(points.dtype, jnp.integer) and points.ndim in (1, 2):
            size = math.prod(self.n_points)
            if isinstance(points, Tracer) or not points.size:
                return ""
            # On the host: inside a jit JAX would trace what it computes from a known array, too.
            known = np.asarray(points)
            least, most = int(known.min()), int(known.max())
            if least >= 0 and most < size:
                return ""
            return f"must be indices of 0 to {size - 1}; they reach from {least} to {most}"
        return (
            f"must be flat indices of the grid {self.n_points}, integers of shape (m,); got "
            f"{points.dtype} of shape {points.shape}"
        )

    def _steps(self):
        return tuple(
            length / (n if wraps else n - 1)
            for length, n, wraps in zip(
                self.domain_extent, self.n_points, self.periodic, strict=True
            )
        )

    def _windows(self, weights, dtype):
        shares = jax.vmap(weights)(self.positions(self.indices()))
        return shares.T.reshape(-1, *self.n_points).astype(dtype)

    def _picked(self, values, points, needs):
        """Return derivatives by name, points first and functions last."""
        found = {}
        for name in needs:
            field, axes = parse_derivative(name, self.fields, self.coordinates, "a table")
            whole = values[:, field]
            for axis in sorted(set(axes)):
                whole = self._differentiate(whole, axis, axes.count(axis))
            # Under `jax.jit` an index outside is not known before: its row is no number.
            flat = whole.reshape(whole.shape[0], -1)
            inside = jnp.where(points < 0, flat.shape[1], points)
            picked = flat.at[:, inside].get(mode="fill", fill_value=jnp.nan)
            found[name] = jnp.moveaxis(picked, 0, -1)
        return found

    def _differentiate(self, values, axis, order):
        if self.periodic[axis]:
            moved = jnp.moveaxis(values, 1 + axis, -1)
            slope = spectral_derivative(moved, self.domain_extent[axis], 0, order=order)
            return jnp.moveaxis(slope, -1, 1 + axis)
        matrix = difference_matrix(self.n_points[axis], self._steps()[axis], order)
        moved = jnp.tensordot(values, jnp.asarray(matrix, values.dtype), ((1 + axis,), (1,)))
        return jnp.moveaxis(moved, -1, 1 + axis)


class _Windowed(eqx.Module):
    """The products of windows and basis functions on the grid, as a network."""

    basis: GridBasis
    weights: Callable[..., Any]

    def __call__(self, parameters):
        values = self.basis.functions(parameters)[:-1]
        windows = self.basis._windows(self.weights, values.dtype)
        products = windows[:, None, None] * values[None]
        return products.reshape(-1, *values.shape[1:])


def difference_matrix(n: int, step: float, order: int, accuracy: int = 4) -> np.ndarray:
    """Return the matrix of finite differences on ``n`` points, exact for polynomials.

    The stencil has ``order + accuracy`` points (all, if fewer), moved inwards at the ends.

    Examples
    --------
    >>> x = np.linspace(0, 1, 9)
    >>> bool(np.allclose(difference_matrix(9, 1 / 8, 2) @ x**4, 12 * x**2))
    True
    """
    width = min(n, order + accuracy + (order + accuracy + 1) % 2)
    if width <= order:
        raise ValueError(f"a derivative of order {order} needs more than {n} points.")
    matrix = np.zeros((n, n))
    target = np.zeros(width)
    target[order] = float(np.prod(np.arange(1, order + 1)))
    for row in range(n):
        first = int(np.clip(row - width // 2, 0, n - width))
        offsets = np.arange(first, first + width) - row
        powers = offsets[None, :].astype(float) ** np.arange(width)[:, None]
        matrix[row, first : first + width] = np.linalg.solve(powers, target)
    return matrix / step**order
