"""The length of the next step of an adaptive march: time errors and fits, against one tolerance."""

import math
from typing import Any

# Half a step must halve the residual of its fit, or the sum over all steps only grows.
_GAIN = 0.5
# The tolerance above the residual of a fit that shorter steps do not help.
_SLACK = 1.5


class StepControl:
    """A proportional-integral controller.

    A step is judged by its time error or the residual of its fit, whichever is larger. Where the
    fit alone misses the tolerance, half the step is tried; if that does not halve the residual, the
    network cannot do it, and the tolerance is raised to what it can.

    Parameters
    ----------
    atol
        The L2 error a step may make; None keeps ``dt``.
    dt
        The first step.
    order
        The power of the step with which the time error falls.

    Examples
    --------
    >>> control = StepControl(1e-6, 0.1, 3)
    >>> control.accepts(8e-6, 1e-7, 0.1, False), round(control.dt, 3)  # half the step
    (False, 0.045)
    >>> control.accepts(1e-6, 4e-6, 0.04, False), control.dt  # will the fit be better?
    (False, 0.02)
    >>> control.accepts(1e-7, 3e-6, 0.02, False), control.tolerance  # hardly: this is the floor
    (True, 6e-06)
    """

    def __init__(self, atol: float | None, dt: float, order: int):
        self.atol, self.dt, self.order = atol, float(dt), order
        self.previous, self.least = 1.0, 1e-3 * float(dt)
        self.floor, self.missed = 0.0, None

    @property
    def tolerance(self) -> float | None:
        """What a step may miss: ``atol``, or what fits can do."""
        return None if self.atol is None else max(self.atol, self.floor)

    def accepts(self, time_error: float, fit: float, dt: float, is_shortened: bool) -> bool:
        """Judge a step of length ``dt`` and set the length of the next one.

        Parameters
        ----------
        time_error
            Its estimated error.
        fit
            The residual of its fit.
        dt
            Its length.
        is_shortened
            Whether it had to end at a given time; then it does not lengthen the next one.
        """
        tolerance = self.tolerance
        if tolerance is None:
            return True
        if time_error > tolerance:
            ratio, self.missed = time_error / tolerance, None
            self.dt = dt * max(0.2, 0.9 * ratio ** (-1 / self.order))
            return False
        if self.missed is not None and fit > _GAIN * self.missed:
            self.floor, self.missed, self.dt = _SLACK * self.missed, None, 2 * dt
            return True
        if fit > tolerance:
            self.missed, self.dt = fit, dt / 2
            return False
        ratio, self.missed = max(time_error, 1e-300) / tolerance, None
        factor = 0.9 * ratio ** (-0.7 / self.order) * self.previous ** (0.3 / self.order)
        self.previous = max(ratio, 1e-3)
        # Longer steps are harder to fit, shorter ones not always easier: a fit only limits growth.
        room = max(1.0, math.sqrt(0.5 * tolerance / max(fit, 1e-300)))
        factor = min(3.0, room, max(0.5, factor))
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
        self.dt, self.missed = dt / 2, None
        return True

    def pack(self) -> dict[str, Any]:
        """Return the state between steps, as JSON takes it."""
        return {"dt": self.dt, "previous": self.previous, "floor": self.floor}

    def unpack(self, packed: dict[str, Any]) -> None:
        """Go on from a state.

        Parameters
        ----------
        packed
            What `pack` returned.
        """
        self.dt, self.previous, self.floor = packed["dt"], packed["previous"], packed["floor"]
