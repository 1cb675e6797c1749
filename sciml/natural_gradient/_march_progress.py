"""How far a march is: what is told after each step, and a meter that shows it."""

import sys
from typing import Any, NamedTuple

import tqdm


class MarchStatus(NamedTuple):
    """What `march` tells after each step.

    Attributes
    ----------
    t, t0, t1
        Time reached, and those of the start and the end.
    steps
        Steps made.
    dt
        The last one.
    fit_residual
        Its L2 residual.
    error_bound
        The certificate.
    seconds
        Wall time, over all sessions.
    """

    t: float
    t0: float
    t1: float
    steps: int
    dt: float
    fit_residual: float
    error_bound: float
    seconds: float

    @property
    def seconds_left(self) -> float:
        """The wall time that is left, at the rate so far."""
        done = self.t - self.t0
        return self.seconds * (self.t1 - self.t) / done if done > 0 else float("inf")


class ProgressMeter:
    """A bar with the time reached, the rate and the time left, for ``march(progress=...)``.

    Parameters
    ----------
    file
        A text stream where it is shown; the standard error by default.

    Examples
    --------
    >>> import io
    >>> shown = io.StringIO()
    >>> ProgressMeter(shown)(MarchStatus(0.5, 0.0, 1.0, 5, 0.1, 1e-8, 1e-6, 2.0))
    >>> "t = 0.5 of 1" in shown.getvalue()
    True
    """

    def __init__(self, file: Any = None):
        self._file = sys.stderr if file is None else file
        self._bar: tqdm.tqdm | None = None

    def __call__(self, status: MarchStatus) -> None:
        """Show one step.

        Parameters
        ----------
        status
            What the march tells.
        """
        if self._bar is None:
            self._bar = tqdm.tqdm(
                total=status.t1 - status.t0, desc="march", file=self._file, leave=True,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {postfix}",
            )  # fmt: skip
        bar = self._bar
        bar.n = status.t - status.t0
        rate = status.steps / max(status.seconds, 1e-9)
        bar.set_postfix_str(
            f"t = {status.t:.4g} of {status.t1:.4g}, {rate:.2g} steps/s, "
            f"{status.seconds_left:.0f} s left, residual {status.fit_residual:.1e}, "
            f"error <= {status.error_bound:.1e}"
        )
        if status.t >= status.t1:
            bar.close()
            self._bar = None
