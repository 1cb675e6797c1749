r"""Basis functions that a network makes, and tables of their derivatives.

A field is :math:`u(x) = \ell(x) + \sum_j w_j b_j(x)`. Differentiation is linear, so a table of each
derivative of the basis, made once, serves all steps of a solver: the network is not called again.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..numerics import full_precision
from ._derivative_names import check_names, parse_derivative
from ._least_squares._rows import vary, varying_axes


class Tables(eqx.Module):
    """Derivatives by name: of the basis, ``(points, n)``, and of the lift, ``(points,)``.

    ``offset`` is the part of a combination that does not depend on the unknowns.
    """

    basis: dict[str, Array]
    lift: dict[str, Array]
    offset: dict[str, Array] | None = None


class AbstractBasis(eqx.Module):
    """Functions of a few coordinates that depend on the parameters of a problem.

    `CoordinateBasis` takes a network of the coordinates, `GridBasis` one that gives whole grids.
    """

    coordinates: eqx.AbstractVar[tuple[str, ...]]
    fields: eqx.AbstractVar[tuple[str, ...]]

    @abc.abstractmethod
    def tables(self, points: Array, parameters: PyTree[Any], needs: tuple[str, ...]) -> Tables:
        """Return the derivatives called ``needs`` at points, of shape ``(*points, n)``."""

    @abc.abstractmethod
    def windowed(self, weights: Callable[[Array], Array]) -> "AbstractBasis":
        """Return the products of window and basis function, experts first."""

    @abc.abstractmethod
    def combination(
        self,
        w: Float[Array, "experts n"],
        weights: Callable[[Array], Array] | None,
        points: Array,
        parameters: PyTree[Any],
        needs: tuple[str, ...],
    ) -> dict[str, Array]:
        """Return derivatives of the lift plus the windowed combinations."""

    @abc.abstractmethod
    def positions(self, points: Array) -> Float[Array, "*points d"]:
        """Return the coordinates of points."""

    @abc.abstractmethod
    def size(self, parameters: PyTree[Any]) -> int:
        """Return the number of basis functions."""

    @abc.abstractmethod
    def has_shape_of_points(self, points: Array) -> str:
        """Return why an array cannot be points of this basis; nothing if it can."""


class CoordinateBasis(AbstractBasis):
    """The outputs of a network of the coordinates: ``net(x, parameters)``.

    Parameters
    ----------
    net
        Any callable, for instance an Equinox module: ``net(x, parameters)`` with ``x`` of shape
        ``(d,)`` returns ``(n,)`` numbers for one field, ``(n, c)`` for ``c`` fields, which share
        their coefficients. It must be differentiable as often as the equation asks: no ReLU.
    coordinates
        One letter for each entry of ``x``.
    fields
        Names of the fields.
    lift
        ``lift(x, parameters)``: what is added to the combination, a number for one field, ``(c,)``
        otherwise. With a basis that vanishes where it holds, conditions are built in.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> basis = CoordinateBasis(lambda x, p: jnp.stack([x[0], x[0] * x[1] ** 3]))
    >>> tables = basis.tables(jnp.array([[2.0, 1.0]]), None, ("u_t", "u_xx"))
    >>> tables.basis["u_t"], tables.basis["u_xx"]
    (Array([[1., 1.]], dtype=float32), Array([[ 0., 12.]], dtype=float32))
    """

    net: Callable[..., Any]
    coordinates: tuple[str, ...] = eqx.field(static=True)
    fields: tuple[str, ...] = eqx.field(static=True)
    lift: Callable[..., Any] | None

    def __init__(
        self,
        net: Callable[..., Any],
        *,
        coordinates: tuple[str, ...] = ("t", "x"),
        fields: tuple[str, ...] = ("u",),
        lift: Callable[..., Any] | None = None,
    ):
        if not callable(net):
            raise TypeError(f"`net` must be callable, got {net!r}.")
        check_names(fields, coordinates)
        self.net = net
        self.coordinates = tuple(coordinates)
        self.fields = tuple(fields)
        self.lift = lift

    @full_precision
    def functions(self, x: Float[Array, " d"], parameters: PyTree[Any]) -> Array:
        """Return basis functions and lift at one point, ``(n + 1, fields)``."""
        values = self.net(x, parameters)
        c = len(self.fields)
        if values.ndim not in (1, 2) or (values.shape[1:] or (1,)) != (c,):
            raise ValueError(
                f"`net` must return (n, {c}) numbers, or (n,) for one field; got {values.shape}."
            )
        check_real(values)
        values = values.reshape(-1, c)
        if self.lift is None:
            lift = jnp.zeros_like(values[0])
        else:
            lift = jnp.asarray(self.lift(x, parameters), values.dtype).reshape(c)
        lift, values = vary((lift, values), varying_axes((lift, values)))
        return jnp.concatenate([values, lift[None]])

    def tables(self, points: Array, parameters: PyTree[Any], needs: tuple[str, ...]) -> Tables:
        """Return the derivatives called ``needs`` at points ``(*points, d)``, by nested jvp."""
        found = derivatives(
            lambda x: self.functions(x, parameters), points, needs, self.fields, self.coordinates
        )
        return Tables(
            {name: table[..., :-1] for name, table in found.items()},
            {name: table[..., -1] for name, table in found.items()},
        )

    def windowed(self, weights: Callable[[Array], Array]) -> "CoordinateBasis":
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

        def field(x):
            values = self.functions(x, parameters)
            mixed = w[0] if weights is None else weights(x) @ w
            return values[-1] + mixed @ values[:-1]

        return derivatives(field, points, needs, self.fields, self.coordinates)

    def positions(self, points: Array) -> Float[Array, "*points d"]:
        """Return the points themselves."""
        return points

    def size(self, parameters: PyTree[Any]) -> int:
        """Return the number of basis functions."""
        x = jax.ShapeDtypeStruct((len(self.coordinates),), jnp.result_type(float))
        return eqx.filter_eval_shape(self.functions, x, parameters).shape[0] - 1

    def has_shape_of_points(self, points: Array) -> str:
        """Return why an array cannot be points of this basis; nothing if it can."""
        d = len(self.coordinates)
        if points.shape[-1:] == (d,) and jnp.issubdtype(points.dtype, jnp.floating):
            return ""
        return (
            f"must be floating-point coordinates {self.coordinates}, (..., {d}); got "
            f"{points.dtype} of shape {points.shape}"
        )


class _Windowed(eqx.Module):
    """The products of windows and basis functions, as a network."""

    basis: CoordinateBasis
    weights: Callable[..., Any]

    def __call__(self, x, parameters):
        values = self.basis.functions(x, parameters)[:-1]
        products = self.weights(x)[:, None, None] * values[None]
        return products.reshape(-1, len(self.basis.fields))


def check_real(values: Array) -> None:
    """Raise unless basis functions are real: their coefficients are."""
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(
            f"`net` must return real floating-point numbers, got {values.dtype}; give the real and "
            "the imaginary parts of complex functions as functions of their own."
        )


def derivatives(
    function: Callable[[Array], Array],
    points: Array,
    needs: tuple[str, ...],
    fields: tuple[str, ...],
    coordinates: tuple[str, ...],
) -> dict[str, Array]:
    """Return derivatives of a function of one point that gives ``(..., fields)`` numbers."""
    parsed = {name: parse_derivative(name, fields, coordinates, "a table") for name in needs}
    wanted = {axes for _, axes in parsed.values()}
    # Each longest chain of axes gives all the shorter ones on its way.
    chains = {a for a in wanted if not any(b != a and b[: len(a)] == a for b in wanted)}

    def at_point(x):
        found = {}
        for chain in sorted(chains):
            found |= _along(function, chain)(x)
        return {name: found[axes][..., field] for name, (field, axes) in parsed.items()}

    flat = points.reshape(-1, points.shape[-1])
    tables = jax.vmap(at_point)(flat)
    return {n: t.reshape(*points.shape[:-1], *t.shape[1:]) for n, t in tables.items()}


def _along(function, chain):
    """Return ``x -> {axes: derivative}`` for all beginnings of a chain of axes."""

    def extended(inner, axes):
        def outer(x):
            direction = jax.nn.one_hot(axes[-1], x.shape[0], dtype=x.dtype)
            # Functions that stack may not mix constants with what differs between devices.
            direction = vary(direction, varying_axes(x))
            values, slopes = jax.jvp(inner, (x,), (direction,))
            return values | {axes: slopes[axes[:-1]]}

        return outer

    found = lambda x: {(): function(x)}  # noqa: E731
    for length in range(1, len(chain) + 1):
        found = extended(found, chain[:length])
    return found
