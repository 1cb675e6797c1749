"""The length of the next step of an adaptive march, from the estimated time errors."""


class StepControl:
    """A proportional-integral controller.

    Parameters
    ----------
    atol
        The L2 error a step may make; None keeps ``dt``.
    dt
        The first step.
    order
        The power of the step with which the error falls.
    """

    def __init__(self, atol: float | None, dt: float, order: int):
        self.atol, self.dt, self.order = atol, float(dt), order
        self.previous, self.least = 1.0, 1e-3 * float(dt)

    def accepts(self, error: float, dt: float, is_shortened: bool) -> bool:
        """Judge a step of length ``dt`` and set the length of the next one.

        Parameters
        ----------
        error
            Its estimated error.
        dt
            Its length.
        is_shortened
            Whether it had to end at a given time; then it does not lengthen the next one.
        """
        if self.atol is None:
            return True
        ratio = max(error, 1e-300) / self.atol
        if ratio > 1:
            self.dt = dt * max(0.2, 0.9 * ratio ** (-1 / self.order))
            return False
        factor = 0.9 * ratio ** (-0.7 / self.order) * self.previous ** (0.3 / self.order)
        self.previous = max(ratio, 1e-3)
        factor = min(3.0, max(0.5, factor))
        if not is_shortened:
            self.dt = dt * factor
        return True

    def cuts(self, dt: float) -> bool:
        """Halve the step after a fit that failed; False if it is fixed or small already.

        Parameters
        ----------
        dt
            The length of the step that failed.
        """
        if self.atol is None or dt < self.least:
            return False
        self.dt = dt / 2
        return True
