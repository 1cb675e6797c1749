"""The length of the next step of an adaptive march: time errors and fits, against one tolerance."""

import math
from typing import Any

# Half a step must cut the residual of its fit below this part: if the residual only falls with the
# step, the sum over all steps does not.
_GAIN = 0.4
# The limit for fits above the residual of one that shorter steps do not help.
_SLACK = 1.5
# A march ends when its step is this part of the first one, or does not change the time.
_LEAST = 1e-6


class StepControl:
    """A proportional-integral controller.

    A step is cut for its time error, or for the residual of its fit. Where half of it is hardly
    better fitted, the network cannot do it: the half is taken, the march goes on with the longer
    step, and the limit for fits is raised to its residual until fits are better again.

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
    >>> control.accepts(8e-6, 1e-7, 0.1, False), round(control.dt, 3)  # too long
    (False, 0.045)
    >>> control.accepts(1e-6, 4e-6, 0.04, False), control.dt  # will the fit be better?
    (False, 0.02)
    >>> control.accepts(1e-7, 3e-6, 0.02, False), control.fit_limit  # hardly: this is the floor
    (True, 6e-06)
    >>> control.accepts(1e-7, 1e-6, 0.04, False), control.fit_limit
    (True, 3e-06)
    """

    def __init__(self, atol: float | None, dt: float, order: int):
        self.atol, self.dt, self.order = atol, float(dt), order
        self.previous, self.least = 1.0, _LEAST * float(dt)
        self.floor: float = 0.0
        # The step that was shortened to end at a given time, until it ends there.
        self.whole: float = 0.0
        # The residual of the step before, if it was refused, and the step to go back to.
        self.missed: tuple[float, float] | None = None

    @property
    def fit_limit(self) -> float:
        """What the fit of a step may miss: ``atol``, or what fits can do."""
        return math.inf if self.atol is None else max(self.atol, self.floor)

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
        if self.atol is None:
            return True
        if is_shortened:
            self.whole = max(self.whole, self.dt)
        ratio = max(time_error, 1e-300) / self.atol
        if ratio > 1:
            self.missed = None
            self.dt = dt * max(0.2, 0.9 * ratio ** (-1 / self.order))
            return False
        before, self.missed = self.missed, None
        if fit > self.fit_limit:
            if before is not None and _GAIN < fit / before[0] < _SLACK:
                self.floor, self.dt = _SLACK * before[0], before[1]
                return True
            self.missed, self.dt = (fit, self.dt), dt / 2
            return False
        if fit < self.floor / 2:
            self.floor /= 2
        if is_shortened:
            self.dt, self.whole = max(self.dt, self.whole), 0.0
            return True
        factor = 0.9 * ratio ** (-0.7 / self.order) * self.previous ** (0.3 / self.order)
        self.previous = max(ratio, 1e-3)
        # Longer steps are harder to fit, shorter ones not always easier: a fit only limits growth.
        room = max(1.0, math.sqrt(0.5 * self.fit_limit / max(fit, 1e-300)))
        self.dt = dt * min(3.0, room, max(0.5, factor))
        return True

    def is_spent(self, t: float) -> bool:
        """Return whether the step has become too short to go on at time ``t``.

        Parameters
        ----------
        t
            Where the march is.
        """
        # On the way to a given time steps may be as short as what remains.
        least = self.least if self.whole == 0 else _LEAST * self.least
        return self.atol is not None and self.dt < max(least, 1e-14 * abs(t))

    def cuts(self, dt: float) -> bool:
        """Halve the step after one that failed; False if it is fixed.

        Parameters
        ----------
        dt
            The length of the step that failed.
        """
        if self.atol is None:
            return False
        self.dt, self.missed = dt / 2, None
        return True

    def restart(self, dt: float) -> None:
        """Forget everything but the tolerance.

        Parameters
        ----------
        dt
            The next step.
        """
        self.dt, self.previous, self.floor = dt, 1.0, 0.0
        self.missed, self.whole = None, 0.0

    def pack(self) -> dict[str, Any]:
        """Return the state, as JSON takes it."""
        names = ("dt", "previous", "floor", "whole", "missed")
        return {name: getattr(self, name) for name in names}

    def unpack(self, packed: dict[str, Any]) -> None:
        """Go on from a state.

        Parameters
        ----------
        packed
            What `pack` returned.
        """
        for name in ("dt", "previous", "floor", "whole"):
            setattr(self, name, float(packed[name]))
        self.missed = None if packed["missed"] is None else tuple(packed["missed"])
