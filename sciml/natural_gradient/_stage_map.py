"""What is fitted at one stage: a map of the network at one time, on all rows."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array

from ._function_space import FunctionSpace


class StageMap(eqx.Module):
    """The rows of a fit as a function of the parameters.

    Attributes
    ----------
    space
        The network on its points.
    t
        Time of the stage.
    functional
        ``functional(u, x)``; None is the value.
    """

    space: FunctionSpace
    t: Any
    functional: Callable[..., Any] | None = None

    def residual(self, theta: Array, target: Array) -> Array:
        """Return the weighted rows of target minus value."""
        return self.space.weigh_rows(target - self.space.rows(theta, self.t, self.functional))

    def columns(self, theta: Array) -> Array:
        """Return the transposed weighted Jacobian."""
        return self.space.columns(theta, self.t, self.functional)
