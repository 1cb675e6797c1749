"""Points at which a network is fitted, with quadrature weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from ..core import KeyArray, RealScalar, check_count, check_positive, check_shape, real_dtype


class CollocationPoints(eqx.Module):
    """Points and the quadrature weights of squared errors.

    Parameters
    ----------
    x
        Points, ``(n, dim)``.
    w
        Positive weights, ``(n,)``.

    Raises
    ------
    ValueError
        If there is no point, the shapes do not fit, or a weight is not positive.

    Examples
    --------
    >>> CollocationPoints.grid(4, 2).x.shape
    (16, 2)
    """

    x: Float[Array, "n dim"]
    w: Float[Array, " n"]

    def __init__(self, x: Float[Array, "n dim"], w: Float[Array, " n"]):
        check_shape("x", x, ("n", "dim"))
        if len(x) < 1 or w.shape != (len(x),):
            raise ValueError(f"`w` must have one weight a point; x {x.shape}, w {w.shape}.")
        if not isinstance(w, Tracer) and not bool(jnp.all(w > 0)):
            raise ValueError("`w` must be positive everywhere.")
        self.x, self.w = x, w

    @classmethod
    def grid(
        cls, n: int, dim: int, *, period: float = 2 * np.pi, shift: float = 0.0
    ) -> "CollocationPoints":
        """Return a uniform periodic grid, each axis shifted by ``shift`` spacings.

        Parameters
        ----------
        n
            Points an axis.
        dim
            Dimensions.
        period
            Length of the box.
        shift
            In units of the spacing.
        """
        n, dim = check_count("n", n), check_count("dim", dim)
        check_positive("period", period)
        axis = (np.arange(n) + shift) * period / n
        x = np.stack(np.meshgrid(*[axis] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
        weights = np.full(len(x), (period / n) ** dim)
        return cls(jnp.asarray(x, real_dtype()), jnp.asarray(weights, real_dtype()))

    @classmethod
    def random(
        cls, n: int, dim: int, *, period: RealScalar = 2 * np.pi, key: KeyArray
    ) -> "CollocationPoints":
        """Return uniform random points of a box, with equal weights.

        Parameters
        ----------
        n
            Number of points.
        dim
            Dimensions.
        period
            Length of the box.
        key
            A random key.
        """
        n, dim = check_count("n", n), check_count("dim", dim)
        x = jax.random.uniform(key, (n, dim), real_dtype()) * period
        return cls(x, jnp.full(n, float(period) ** dim / n, real_dtype()))
