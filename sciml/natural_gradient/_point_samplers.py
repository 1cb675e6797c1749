"""Points that are drawn anew at each step of a march."""

import abc

import equinox as eqx
import numpy as np

from ..core import KeyArray, check_count, check_positive
from ._collocation_points import CollocationPoints


class AbstractPointSampler(eqx.Module):
    """Draws the points of a step; `march` takes one in place of fixed points."""

    @abc.abstractmethod
    def draw(self, key: KeyArray) -> CollocationPoints:
        """Return the points of one step.

        Parameters
        ----------
        key
            A random key.
        """


class RandomPoints(AbstractPointSampler):
    """Uniform random points of a box, or with low discrepancy, drawn anew at each step.

    Parameters
    ----------
    n
        Number of points.
    dim
        Dimensions.
    period
        Length of the box.
    quasi
        Points of low discrepancy with a random shift; otherwise independent ones.

    Examples
    --------
    >>> import jax
    >>> RandomPoints(8, 2).draw(jax.random.key(3)).x.shape
    (8, 2)
    """

    n: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    period: float = eqx.field(static=True)
    quasi: bool = eqx.field(static=True)

    def __init__(self, n: int, dim: int, *, period: float = 2 * np.pi, quasi: bool = True):
        check_positive("period", period)
        self.n, self.dim = check_count("n", n), check_count("dim", dim)
        self.period, self.quasi = float(period), bool(quasi)

    def draw(self, key: KeyArray) -> CollocationPoints:
        """Return the points of one step.

        Parameters
        ----------
        key
            A random key.
        """
        make = CollocationPoints.quasi_random if self.quasi else CollocationPoints.random
        return make(self.n, self.dim, period=self.period, key=key)
