"""Classical rivals at full order: displacements of samples, interpolated in the first frame.

All are linear in the displacements, with weights that depend on the first frame alone. They run on
the host, with SciPy.
"""

import abc

import equinox as eqx
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float

from ...core import (
    check_count,
    check_finite,
    check_non_negative,
    check_not_traced,
    check_positive,
    check_shape,
)
from ...numerics import full_precision


class AbstractInterpolant(eqx.Module):
    """A rule for the displacement of a query from those of the samples."""

    @abc.abstractmethod
    def weights(
        self, queries: Float[np.ndarray, "m d"], samples: Float[np.ndarray, "p d"]
    ) -> np.ndarray | scipy.sparse.sparray:
        """Return the matrix that takes values at samples to values at queries."""

    @full_precision
    def __call__(
        self,
        queries: Float[Array, "m d"] | Float[np.ndarray, "m d"],
        samples: Float[Array, "t p d"] | Float[np.ndarray, "t p d"],
        *,
        mask: Bool[np.ndarray, " p"] | None = None,
    ) -> Float[np.ndarray, "t m d"]:
        """Return the positions of the queries in all frames, in float64.

        Parameters
        ----------
        queries
            Positions in the first frame, ``(query, dim)``.
        samples
            Positions of the samples, ``(time, sample, dim)``.
        mask
            False for samples that are padding.

        Raises
        ------
        ValueError
            If a shape does not fit, a position is not finite, or no sample is real.
        """
        check_shape("samples", samples, ("time", "sample", "dim"))
        check_shape("queries", queries, ("query", np.shape(samples)[2]))
        for name, array in (("queries", queries), ("samples", samples)):
            check_not_traced(name, array, "positions are interpolated")
        queries, samples = np.asarray(queries, float), np.asarray(samples, float)
        if mask is not None:
            check_shape("mask", mask, (samples.shape[1],))
            samples = samples[:, np.asarray(mask, bool)]
        check_count("the number of samples", samples.shape[1])
        check_finite("samples", samples)
        check_finite("queries", queries)
        n_times, n_samples, dim = samples.shape
        displacement = (samples - samples[0]).transpose(1, 0, 2).reshape(n_samples, -1)
        moved = self.weights(queries, samples[0]) @ displacement
        return queries + moved.reshape(len(queries), n_times, dim).transpose(1, 0, 2)


class NoMotion(AbstractInterpolant):
    """Everything stays where it was: the trivial answer, with an error of 1.

    Examples
    --------
    >>> import numpy as np
    >>> NoMotion()(np.zeros((1, 2)), np.array([[[0.0, 0.0]], [[1.0, 0.0]]]))[-1]
    array([[0., 0.]])
    """

    def weights(self, queries, samples):
        """Return zeros."""
        return scipy.sparse.csr_array((len(queries), len(samples)))


class NearestSample(AbstractInterpolant):
    """Each query moves as the sample that was nearest.

    Examples
    --------
    >>> import numpy as np
    >>> NearestSample()(np.zeros((1, 2)), np.array([[[0.0, 0.0]], [[1.0, 0.0]]]))[-1]
    array([[1., 0.]])
    """

    def weights(self, queries, samples):
        """Return a one in each row."""
        index, _ = _neighbours(queries, samples, 1)
        return _sparse(index, np.ones(index.shape), len(samples))


class ShepardInterpolant(AbstractInterpolant):
    """Mean of the nearest samples with weights of inverse distance.

    Parameters
    ----------
    n_neighbours
        How many.
    power
        Of the distance.

    Examples
    --------
    >>> import numpy as np
    >>> samples = np.array([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 3.0]]])
    >>> ShepardInterpolant(2)(np.array([[0.5, 0.0]]), samples)[-1]
    array([[0.5, 2. ]])
    """

    n_neighbours: int = eqx.field(static=True)
    power: float = eqx.field(static=True)

    def __init__(self, n_neighbours: int = 8, power: float | int = 2.0):
        self.n_neighbours = check_count("n_neighbours", n_neighbours)
        check_positive("power", power)
        self.power = float(power)

    def weights(self, queries, samples):
        """Return rows that sum to one."""
        index, distance = _neighbours(queries, samples, self.n_neighbours)
        nearest = np.maximum(distance[:, :1], 1e-300)
        w = (nearest / np.maximum(distance, 1e-300)) ** self.power
        return _sparse(index, w / w.sum(1, keepdims=True), len(samples))


class MovingLeastSquares(AbstractInterpolant):
    """Affine fits to the nearest samples: affine motions are reproduced exactly.

    Parameters
    ----------
    n_neighbours
        At least ``dim + 1``; fewer samples, or samples on a line, give the best fit there is.

    Examples
    --------
    >>> import numpy as np
    >>> start = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> samples = np.stack([start, 2 * start])
    >>> MovingLeastSquares(4)(np.array([[0.5, 0.25]]), samples)[-1].round(9)
    array([[1. , 0.5]])
    """

    n_neighbours: int = eqx.field(static=True)

    def __init__(self, n_neighbours: int = 6):
        self.n_neighbours = check_count("n_neighbours", n_neighbours, minimum=2)

    def weights(self, queries, samples):
        """Return rows that sum to one and reproduce coordinates."""
        index, distance = _neighbours(queries, samples, self.n_neighbours)
        reach = 1.1 * distance[:, -1:] + 1e-300
        w = np.maximum(1 - (distance / reach) ** 2, 0) ** 2
        w = w / w.sum(1, keepdims=True)
        offset = (samples[index] - queries[:, None]) / reach[..., None]
        mean = np.einsum("mk,mkd->md", w, offset)
        centred = offset - mean[:, None]
        covariance = np.einsum("mk,mki,mkj->mij", w, centred, centred)
        slope = np.einsum("mij,mj->mi", np.linalg.pinv(covariance, 1e-9, hermitian=True), mean)
        w = w * (1 - np.einsum("mkd,md->mk", centred, slope))
        return _sparse(index, w, len(samples))


class ThinPlateSpline(AbstractInterpolant):
    """The smoothest function through all samples (SciPy's ``RBFInterpolator``; cubic in space).

    Parameters
    ----------
    smoothing
        Zero interpolates.

    Examples
    --------
    >>> import numpy as np
    >>> start = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> ThinPlateSpline()(np.array([[0.5, 0.25]]), np.stack([start, 2 * start]))[-1].round(9)
    array([[1. , 0.5]])
    """

    smoothing: float = eqx.field(static=True)

    def __init__(self, smoothing: float | int = 0.0):
        check_non_negative("smoothing", smoothing)
        self.smoothing = float(smoothing)

    def weights(self, queries, samples):
        """Return a dense matrix."""
        from scipy.interpolate import RBFInterpolator  # here: it is slow to import

        n, dim = samples.shape
        if n <= dim or np.linalg.matrix_rank(samples - samples.mean(0)) < dim:
            raise ValueError(
                f"a thin-plate spline needs at least {dim + 1} samples that do not lie on a "
                f"line or plane; there are {n}."
            )
        kernel = "thin_plate_spline" if dim == 2 else "cubic"
        try:
            spline = RBFInterpolator(
                samples, np.eye(n), kernel=kernel, degree=1, smoothing=self.smoothing
            )
        except np.linalg.LinAlgError:
            raise ValueError(
                "the thin-plate spline is not unique: two of the `samples` are at one place. Drop "
                "one of them, or take `smoothing` above zero."
            ) from None
        return np.concatenate([spline(part) for part in _parts(queries)])


def _neighbours(queries, samples, k):
    from scipy.spatial import KDTree

    k = min(k, len(samples))
    distance, index = KDTree(samples).query(queries, k=k)
    return index.reshape(len(queries), k), distance.reshape(len(queries), k)


def _sparse(index, w, n_samples):
    rows = np.repeat(np.arange(len(index)), index.shape[1])
    return scipy.sparse.csr_array((w.ravel(), (rows, index.ravel())), (len(index), n_samples))


def _parts(queries, size=8192):
    return np.array_split(queries, max(1, -(-len(queries) // size)))
