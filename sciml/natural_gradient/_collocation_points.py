"""Points at which a network is fitted, with quadrature weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from ..core import (
    KeyArray,
    RealScalar,
    check_count,
    check_finite,
    check_positive,
    check_shape,
    real_dtype,
)


class CollocationPoints(eqx.Module):
    """Points and the quadrature weights of squared errors.

    Parameters
    ----------
    x
        Points, ``(n, dim)``.
    w
        Positive weights, ``(n,)``.
    period
        Length of the periodic box that they fill, if any: a network of another period is refused.

    Raises
    ------
    ValueError
        If there is no point, the shapes do not fit, a weight is not positive, or a coordinate or a
        weight is NaN or infinite.

    Examples
    --------
    >>> CollocationPoints.grid(4, 2).x.shape
    (16, 2)
    """

    x: Float[Array, "n dim"]
    w: Float[Array, " n"]
    period: float | None = eqx.field(static=True)

    def __init__(
        self, x: Float[Array, "n dim"], w: Float[Array, " n"], *, period: float | None = None
    ):
        check_shape("x", x, ("n", "dim"))
        if len(x) < 1 or w.shape != (len(x),):
            raise ValueError(f"`w` must have one weight a point; x {x.shape}, w {w.shape}.")
        if not isinstance(w, Tracer) and not np.all(np.asarray(w) > 0):
            raise ValueError("`w` must be positive everywhere.")
        check_finite("x", x)
        check_finite("w", w)
        self.x, self.w = x, w
        self.period = None if period is None else float(period)

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
        return cls(jnp.asarray(x, real_dtype()), jnp.asarray(weights, real_dtype()), period=period)

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
        return cls(x, jnp.full(n, float(period) ** dim / n, real_dtype()), period=float(period))

    @classmethod
    def quasi_random(
        cls, n: int, dim: int, *, period: RealScalar = 2 * np.pi, key: KeyArray
    ) -> "CollocationPoints":
        r"""Return points of low discrepancy: multiples of irrational numbers, shifted at random.

        The numbers are the powers :math:`g^{-1}, \ldots, g^{-d}` of the root of
        :math:`g^{d+1} = g + 1`.

        Parameters
        ----------
        n
            Number of points.
        dim
            Dimensions.
        period
            Length of the box.
        key
            A random key, for the shift.
        """
        n, dim = check_count("n", n), check_count("dim", dim)
        root = 2.0
        for _ in range(60):
            root = (1 + root) ** (1 / (dim + 1))
        steps = np.arange(1, n + 1)[:, None] * root ** -np.arange(1, dim + 1)[None] % 1.0
        shift = jax.random.uniform(key, (1, dim), real_dtype())
        x = (jnp.asarray(steps, real_dtype()) + shift) % jnp.asarray(1.0, real_dtype()) * period
        return cls(x, jnp.full(n, float(period) ** dim / n, real_dtype()), period=float(period))

    def sharded(self, mesh: Mesh) -> "CollocationPoints":
        """Return the points split over the devices of a mesh; a march then computes on all.

        Each Gram matrix is summed over the devices in one reduction.

        Parameters
        ----------
        mesh
            All its devices are used.

        Raises
        ------
        ValueError
            If the number of points is no multiple of the number of devices.
        """
        if len(self.x) % mesh.size:
            raise ValueError(
                f"{len(self.x)} points cannot be split evenly over {mesh.size} devices: take a "
                "multiple."
            )
        over_all = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        x, w = jax.device_put((self.x, self.w), over_all)
        return CollocationPoints(x, w, period=self.period)

    def between(self, n: int = 256) -> "CollocationPoints":
        """Return at most ``n`` points between these, to see what a fit does off its points.

        Each is halfway from a point to the nearest one that is not it, so a convex domain is
        never left; they carry equal weights with the same sum.

        Parameters
        ----------
        n
            The most points.
        """
        n = check_count("n", n)
        x = np.unique(np.asarray(self.x), axis=0)
        # Drawn, with a seed of its own: a stride would fall into step with the rows of a grid.
        chosen = x[np.sort(np.random.default_rng(0).permutation(len(x))[:n])]
        if len(x) > 1:
            from scipy.spatial import KDTree  # here: it is slow to import, and few need it

            neighbour = KDTree(x).query(chosen, k=2)[1][:, 1]
            chosen = 0.5 * (chosen + x[neighbour])
        total = float(jnp.sum(self.w))
        weights = jnp.full(len(chosen), total / len(chosen), self.w.dtype)
        return CollocationPoints(jnp.asarray(chosen, self.x.dtype), weights, period=self.period)
