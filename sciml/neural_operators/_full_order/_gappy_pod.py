"""Gappy proper orthogonal decomposition: modes of whole motions, fitted at the samples."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from ...core import check_count, check_finite, check_non_negative, check_shape, cites
from ...data import Trajectory


@cites(
    """@article{everson1995gappy,
  author = {Everson, Richard and Sirovich, Lawrence},
  title = {{Karhunen}-{L}o{\\`e}ve procedure for gappy data},
  journal = {Journal of the Optical Society of America A},
  volume = {12},
  number = {8},
  pages = {1657--1664},
  year = {1995}
}"""
)
class GappyPOD(eqx.Module):
    """Displacements as sums of modes that were found in other trajectories.

    Particle ``k`` must be the same material point in all trajectories, and the start comparable:
    a method for one body under many loads. Of scenes that differ in shape it makes little.

    Parameters
    ----------
    modes
        Displacement of every particle in each mode, ``(mode, particle, dim)``.
    mean
        Mean displacement, ``(particle, dim)``.
    ridge
        Added to the normal equations, relative to the largest entry of their diagonal.

    References
    ----------
    .. [1] Everson, Sirovich, "Karhunen-Loève procedure for gappy data", J. Opt. Soc. Am. A 12(8),
       1995.

    Examples
    --------
    >>> import numpy as np
    >>> modes = np.ones((1, 3, 2))
    >>> pod = GappyPOD(modes, np.zeros((3, 2)), ridge=0.0)
    >>> pod(np.array([1]), np.full((4, 1, 2), 0.5)).shape
    (4, 3, 2)
    """

    modes: np.ndarray
    mean: np.ndarray
    ridge: float = eqx.field(static=True)

    def __init__(
        self,
        modes: Float[np.ndarray, "k p d"],
        mean: Float[np.ndarray, "p d"],
        *,
        ridge: float | int = 1e-6,
    ):
        check_shape("mean", mean, modes.shape[1:])
        check_finite("modes", modes)
        check_non_negative("ridge", ridge)
        self.modes = np.asarray(modes)
        self.mean = np.asarray(mean)
        self.ridge = float(ridge)

    @classmethod
    def from_trajectories(
        cls, trajectories: Sequence[Trajectory], n_modes: int = 32, *, ridge: float | int = 1e-6
    ) -> "GappyPOD":
        """Find the modes of trajectories that have the same particles.

        Parameters
        ----------
        trajectories
            To learn from.
        n_modes
            At most; there are no more than frames.
        ridge
            As in the class.

        Raises
        ------
        ValueError
            If the trajectories differ in the number of particles.
        """
        check_count("n_modes", n_modes)
        sizes = {run.n_particles for run in trajectories}
        if len(sizes) != 1:
            raise ValueError(f"the trajectories must have the same particles, got {sorted(sizes)}.")
        fields = np.concatenate([run.displacement for run in trajectories])
        shape = fields.shape[1:]
        mean = fields.mean(0)
        rows = (fields - mean).reshape(len(fields), -1).astype(np.float64)
        # By the small Gram matrix: frames are fewer than coordinates, or about as many.
        values, vectors = np.linalg.eigh(rows @ rows.T)
        order = [k for k in np.argsort(values)[::-1][:n_modes] if values[k] > 1e-12 * values[-1]]
        modes = (vectors[:, order] / np.sqrt(values[order])).T @ rows
        return cls(modes.reshape(-1, *shape), mean.astype(np.float64), ridge=ridge)

    def __call__(
        self, samples: Int[np.ndarray, " q"], displacement: Float[np.ndarray, "t q d"]
    ) -> Float[np.ndarray, "t p d"]:
        """Return the displacement of all particles.

        Parameters
        ----------
        samples
            Which particles are known, ``(sample,)``.
        displacement
            Theirs, ``(time, sample, dim)``.
        """
        n_times = len(displacement)
        check_shape("displacement", displacement, (n_times, len(samples), self.mean.shape[1]))
        basis = self.modes[:, samples].reshape(len(self.modes), -1)
        gram = basis @ basis.T
        gram = gram + self.ridge * np.diag(gram).max() * np.eye(len(gram))
        known = (displacement - self.mean[samples]).reshape(n_times, -1)
        amplitudes = np.linalg.solve(gram, basis @ known.T)
        return self.mean + np.einsum("kt,kpd->tpd", amplitudes, self.modes)
