r"""The error certificate of a march: what is known of the error at the end.

.. math:: E_{n+1} \le e^{\Lambda \Delta t} (E_n + \varepsilon_n + \sigma_n + \tau_n)

with the fit residual :math:`\varepsilon`, on the points or between them, whichever is larger, the
residuals of the stages :math:`\sigma` with their weights, and the estimated time error
:math:`\tau`. What soft boundary conditions miss is added once, at its largest, times the root of
the volume.
"""

import math


class Certificate:
    r"""Accumulates a bound on the L2 error, step by step.

    Parameters
    ----------
    initial_error
        Of the initial network.
    growth_rate
        :math:`\Lambda`.
    volume
        Of the domain.

    Examples
    --------
    >>> certificate = Certificate(1e-6, 0.0, 1.0)
    >>> certificate.add({"fit": 2e-7, "off_grid": 3e-7, "stage": 0.0, "time_error": 1e-7,
    ...                  "boundary": 0.0}, 0.1)
    >>> round(certificate.bound * 1e6, 3)
    1.4
    """

    def __init__(self, initial_error: float, growth_rate: float, volume: float):
        self.interior, self.growth_rate = float(initial_error), float(growth_rate)
        self.boundary, self.volume = 0.0, float(volume)

    def add(self, row: dict[str, float], dt: float) -> None:
        """Add a step.

        Parameters
        ----------
        row
            Its norms.
        dt
            Its length.
        """
        added = max(row["fit"], row["off_grid"]) + row["stage"] + row["time_error"]
        self.interior = math.exp(self.growth_rate * dt) * (self.interior + added)
        self.boundary = max(self.boundary, row["boundary"])

    @property
    def bound(self) -> float:
        """The bound on the L2 error now."""
        return self.interior + self.boundary * math.sqrt(self.volume)
