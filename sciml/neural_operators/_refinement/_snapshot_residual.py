"""What residuals share whose unknowns are the predicted snapshots themselves."""

import numpy as np

from ._time_residual import AbstractTimeResidual, Coefficients


class AbstractSnapshotResidual(AbstractTimeResidual):
    """A residual with one equation for each predicted snapshot."""

    def times(self, n_steps: int) -> np.ndarray:
        """Return ``1, ..., n_steps``."""
        return np.arange(1.0, n_steps + 1)

    def time_weights(self, n_steps: int) -> np.ndarray:
        """Return ones: each snapshot stands for one interval."""
        return np.ones(n_steps)

    def to_unknowns(self, history_hat: Coefficients, u_hat: Coefficients) -> Coefficients:
        """Return ``u_hat``: the snapshots are the unknowns."""
        return u_hat

    def from_unknowns(
        self, history_hat: Coefficients, unknowns: Coefficients, n_steps: int
    ) -> Coefficients:
        """Return the unknowns, which are the snapshots."""
        return unknowns
