r"""Networks that meet their boundary values exactly: :math:`u = g(t, x) + d(x)\, n(x)`."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jax.core import Tracer
from jaxtyping import Array, Float

from ..numerics import full_precision


class AbstractTimedField(eqx.Module):
    """A network that is another function at another time, with the same parameters."""

    @abc.abstractmethod
    def at(self, t: Any) -> Any:
        """Return the module as it is at a time.

        Parameters
        ----------
        t
            The time.
        """


class BoundaryAnsatz(AbstractTimedField):
    r"""A network times a distance from the boundary, plus an extension of the boundary values.

    Parameters
    ----------
    network
        Any module: a point ``(dim,)`` to a number or ``(c,)``.
    distance
        A smooth function of a point, zero on the boundary and positive inside.
    boundary_value
        ``boundary_value(t, x)``, smooth, with the right values on the boundary; zero by default.
        It may depend on the time.
    time
        The time at which the module is called; `march` sets it.

    Examples
    --------
    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> network = eqx.nn.MLP(1, "scalar", 4, 1, key=jax.random.key(0))
    >>> u = BoundaryAnsatz(network, lambda x: x[0] * (1 - x[0]), lambda t, x: t * x[0])
    >>> float(u.at(3.0)(jnp.ones(1)))
    3.0
    """

    network: Any
    distance: Callable[..., Any]
    boundary_value: Callable[..., Any] | None
    time: Any

    def __init__(
        self,
        network: Any,
        distance: Callable[..., Any],
        boundary_value: Callable[..., Any] | None = None,
        *,
        time: Any = 0.0,
    ):
        self.network, self.distance = network, distance
        self.boundary_value = boundary_value
        self.time = time if isinstance(time, Tracer) else float(time)

    def at(self, t: Any) -> "BoundaryAnsatz":
        """Return the module as it is at a time.

        Parameters
        ----------
        t
            The time.
        """
        return BoundaryAnsatz(self.network, self.distance, self.boundary_value, time=t)

    @full_precision
    def __call__(self, x: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Return the value at a point.

        Parameters
        ----------
        x
            A point, ``(dim,)``.
        """
        value = self.distance(x) * self.network(x)
        if self.boundary_value is None:
            return value
        return value + self.boundary_value(self.time, x)
