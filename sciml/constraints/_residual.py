"""What a field must satisfy: blocks of rows, each a function of a few derivatives at a point."""

import abc
import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..core import check_non_negative


class Condition(enum.Enum):
    """How rows are imposed.

    Attributes
    ----------
    equality
        Zero, in the sense of least squares.
    inequality
        Zero or below, in the sense of least squares: only what is above zero counts.
    exact
        Zero to round-off, for any network and from the first step on: eliminated before the
        solve. The rows must be linear in the field, and fewer than the basis functions.
    """

    equality = "equality"
    inequality = "inequality"
    exact = "exact"


class AbstractResidual(eqx.Module):
    """A block of rows: `Residual` at points, `IntegralResidual` over cells."""

    name: eqx.AbstractVar[str]
    needs: eqx.AbstractVar[tuple[str, ...]]
    condition: eqx.AbstractVar[Condition]
    weight: eqx.AbstractVar[Any]
    everywhere: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def signed(
        self, jet: dict[str, Array], x: Array, quadrature: Array | None, parameters: PyTree[Any]
    ) -> Float[Array, " rows"]:
        """Return what must be zero, or zero and below, at one point or cell."""

    def item(
        self, jet: dict[str, Array], x: Array, quadrature: Array | None, parameters: PyTree[Any]
    ) -> Float[Array, " rows"]:
        """Return the rows of one point or cell: of inequalities what is above zero."""
        rows = self.signed(jet, x, quadrature, parameters)
        return jax.nn.relu(rows) if self.condition is Condition.inequality else rows

    @abc.abstractmethod
    def expected_axes(self) -> int:
        """Return how many axes the points of this block have before their coordinates."""


class Residual(AbstractResidual):
    """Rows at points: ``function(jet, x, parameters)``.

    Parameters
    ----------
    function
        ``function(jet, x, parameters)`` returns a number, or ``(rows,)`` of them, for one point:
        ``jet["u_xx"]`` is a number, ``x`` has shape ``(d,)``.
    needs
        The derivatives that it uses, by name.
    name
        What messages and the dictionary of points call the block.
    condition
        How it is imposed.
    weight
        Factor of the block's mean square in the objective.
    everywhere
        Whether every expert gets all points of the block, also those outside its part of the
        domain. Boundary and initial conditions need it: they are what makes the equation in a
        part of the domain have one solution.

    Examples
    --------
    >>> heat = Residual(lambda jet, x, nu: jet["u_t"] - nu * jet["u_xx"], ("u_t", "u_xx"))
    >>> heat.name, heat.condition
    ('pde', <Condition.equality: 'equality'>)
    """

    function: Callable[..., Any]
    needs: tuple[str, ...] = eqx.field(static=True)
    name: str = eqx.field(static=True)
    condition: Condition = eqx.field(static=True)
    weight: Any
    everywhere: bool = eqx.field(static=True)

    def __init__(
        self,
        function: Callable[..., Any],
        needs: tuple[str, ...],
        *,
        name: str = "pde",
        condition: Condition = Condition.equality,
        weight: float | Float[Array, ""] = 1.0,
        everywhere: bool = False,
    ):
        _check(function, needs, name, condition, weight)
        self.function = function
        self.needs = tuple(needs)
        self.name = name
        self.condition = condition
        self.weight = weight
        self.everywhere = everywhere

    def signed(
        self, jet: dict[str, Array], x: Array, quadrature: Array | None, parameters: PyTree[Any]
    ) -> Float[Array, " rows"]:
        """Return what the function says at one point."""
        del quadrature
        return jnp.reshape(self.function(_Jet(jet, self), x, parameters), (-1,))

    def expected_axes(self) -> int:
        """Return 1: a list of points."""
        return 1


class IntegralResidual(AbstractResidual):
    """Rows over cells: the integral of ``integrand(jet, x, parameters)`` minus a target.

    Conservation laws are of this kind: the mass at a time, the balance of a cell.

    Parameters
    ----------
    integrand
        As the function of a `Residual`.
    needs, name, condition, weight, everywhere
        As for `Residual`. By default the condition is exact and the block goes to all experts.
    target
        ``target(x, parameters)`` with the quadrature points ``x`` of a cell, ``(q, d)``: what the
        integral must be; zero by default.

    Examples
    --------
    >>> mass = IntegralResidual(lambda jet, x, p: jet["u"], ("u",), target=lambda x, p: 1.0)
    >>> mass.condition
    <Condition.exact: 'exact'>
    """

    integrand: Callable[..., Any]
    needs: tuple[str, ...] = eqx.field(static=True)
    name: str = eqx.field(static=True)
    target: Callable[..., Any] | None
    condition: Condition = eqx.field(static=True)
    weight: Any
    everywhere: bool = eqx.field(static=True)

    def __init__(
        self,
        integrand: Callable[..., Any],
        needs: tuple[str, ...],
        *,
        name: str = "integral",
        target: Callable[..., Any] | None = None,
        condition: Condition = Condition.exact,
        weight: float | Float[Array, ""] = 1.0,
        everywhere: bool = True,
    ):
        _check(integrand, needs, name, condition, weight)
        self.integrand = integrand
        self.needs = tuple(needs)
        self.name = name
        self.target = target
        self.condition = condition
        self.weight = weight
        self.everywhere = everywhere

    def signed(
        self, jet: dict[str, Array], x: Array, quadrature: Array | None, parameters: PyTree[Any]
    ) -> Float[Array, " rows"]:
        """Return integral minus target of one cell."""

        def integrand(jet_at, x_at):
            return jnp.reshape(self.integrand(_Jet(jet_at, self), x_at, parameters), (-1,))

        rows = jnp.tensordot(jnp.asarray(quadrature), jax.vmap(integrand)(jet, x), 1)
        if self.target is not None:
            target = jnp.asarray(self.target(x, parameters), rows.dtype)
            rows = rows - jnp.broadcast_to(jnp.reshape(target, (-1,)), rows.shape)
        return rows

    def expected_axes(self) -> int:
        """Return 2: cells and their quadrature points."""
        return 2


class _Jet(dict):
    """A dictionary that says which block forgot to declare what it uses."""

    def __init__(self, values, residual):
        super().__init__(values)
        self.residual = residual

    def __missing__(self, key):
        raise ValueError(
            f"the block {self.residual.name!r} uses {key!r}, which is not among its `needs` "
            f"{self.residual.needs}."
        )


def _check(function, needs, name, condition, weight):
    if not callable(function):
        raise TypeError(f"the block {name!r} needs a callable, got {function!r}.")
    if isinstance(needs, str) or not needs or not all(isinstance(n, str) for n in needs):
        raise ValueError(
            f"`needs` of the block {name!r} must be a tuple of names such as ('u', 'u_xx'), got "
            f"{needs!r}."
        )
    if not isinstance(condition, Condition):
        raise TypeError(
            f"`condition` of the block {name!r} must be a member of Condition, got {condition!r}."
        )
    check_non_negative("weight", weight)
