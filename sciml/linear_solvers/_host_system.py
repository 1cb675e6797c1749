"""A linear system on the host, scaled for an iteration: how one starts, and how one is judged."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import RESULTS, Solution
from ._conjugate_gradient import LEAST_RESIDUAL
from ._scaled_start import least_share

HostMap = Callable[[np.ndarray], np.ndarray]


class HostSystem:
    """``A x = b`` divided by a power of two near its size, so that no square leaves the range.

    All attributes are those of the scaled system, without the part of ``b`` in the nullspace.

    Parameters
    ----------
    matvec
        ``A`` on vectors of shape ``(n,)``, in the precision of the solve (`checked_map`).
    b, x0
        Right-hand side, not zero, and where to start, zero for None.
    rtol, atol
        Converged when ``||b - A x|| <= max(rtol ||b||, atol)``.
    project
        The projection off the nullspace.

    Attributes
    ----------
    x, residual
        The start.
    tolerance
        What the norm of the true residual must reach.
    passing
        As `tolerance`, but never below rounding: where an updated residual is worth a check.
    n_matvecs
        Products with ``A`` so far, through `apply`.
    """

    def __init__(
        self,
        matvec: HostMap,
        b: np.ndarray,
        x0: np.ndarray | None,
        rtol: float,
        atol: float,
        project: HostMap,
    ):
        self._matvec, self._project = matvec, project
        self._dtype = b.dtype
        self.n_matvecs = 0
        x = np.zeros_like(b) if x0 is None else project(x0.copy())
        largest = np.abs(b).max()
        if x0 is not None:
            size = largest
            largest = max(size, np.abs(b - self.apply(x)).max())
            # As in `scaled_start`.
            if size < least_share(b.dtype) * largest and np.isfinite(x).all():
                x0, x, largest = None, np.zeros_like(b), size
        self._scale = host_power_of_two_below(largest, np.finfo(b.dtype).dtype)
        b, self.x = b / self._scale, x / self._scale
        self._norm_b = np.linalg.norm(b)
        self._b = project(b)
        self._incompatible = float(np.linalg.norm(b - self._b))
        self.tolerance = max(rtol * self._norm_b, atol / self._scale)
        eps = float(np.finfo(b.dtype).eps)
        self.passing = max(self.tolerance, LEAST_RESIDUAL * eps * self._norm_b)
        self.residual = self._b.copy() if x0 is None else self._true_residual(self.x)
        self._least = self.x, np.linalg.norm(self.residual)

    def apply(self, u: np.ndarray) -> np.ndarray:
        """Return ``A u`` in the precision of the solve."""
        self.n_matvecs += 1
        return self._matvec(u)

    def verify(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the recomputed residual of ``x``, off the nullspace, and its norm."""
        residual = self._true_residual(x)
        norm = np.linalg.norm(residual)
        if norm < self._least[1]:
            self._least = x, norm
        return residual, norm

    def _true_residual(self, x: np.ndarray) -> np.ndarray:
        return self._project(self._b - self.apply(x))

    def at_start(self, norm: float) -> Any:
        """Return how the solve ended before its first step (a member of ``RESULTS``), or None."""
        if not (math.isfinite(norm) and math.isfinite(self._norm_b)):
            return RESULTS.nonfinite_input
        return RESULTS.successful if norm <= self.tolerance else None

    def unscaled(self, value: Any) -> Any:
        """Return an iterate or a norm in the units of the caller."""
        return value * self._scale

    def solution(
        self,
        x: np.ndarray,
        result: Any,
        step: int,
        norm: float,
        history: list[float],
        **counts: int,
    ) -> Solution:
        """Return the record of a solve; ``norm`` is that of the last true residual."""
        # As `_conjugate_gradient.best_at_hand`.
        limit = self._least[1]
        if result is None:
            result = RESULTS.max_steps_reached
            if step < x.size:
                limit = limit / math.sqrt(np.finfo(self._dtype).eps)
        if result != RESULTS.successful and not norm <= limit:
            x, norm = self._least[0], float(self._least[1])
        residual = math.hypot(norm, self._incompatible)
        if result == RESULTS.successful and not residual <= self.tolerance:
            result = RESULTS.stagnation
        scale = float(self._scale)
        x = self._project(x)
        value = x * self._scale
        # No range holds every answer, as in `_conjugate_gradient.unscaled`.
        if not np.isfinite(value).all():
            value, result = np.zeros_like(value), RESULTS.nonfinite_input
        lost = np.abs(value / self._scale - x).max()
        in_range = lost <= np.finfo(self._dtype).eps * np.abs(x).max()
        if result == RESULTS.successful and not in_range:
            result = RESULTS.stagnation
        if x.any() and not value.any():
            residual = float(self._norm_b)
        return host_solution(
            value,
            result,
            step,
            residual * scale,
            self.n_matvecs,
            self._incompatible * scale,
            [value * scale for value in history],
            **counts,
        )


def checked_map(function: HostMap, dtype: np.dtype, name: str) -> HostMap:
    """Return a user's map with values of the precision of the solve.

    It raises ``ValueError`` for a value of another size, or complex where the solve is real.
    """

    def checked(u: np.ndarray) -> np.ndarray:
        value = np.asarray(function(u))
        if value.size != u.size:
            raise ValueError(f"`{name}` returned shape {value.shape} for a vector of {u.shape}.")
        if value.dtype.kind == "c" and dtype.kind != "c":
            raise ValueError(f"`{name}` returned complex numbers, but `A` and `b` are real.")
        return value.reshape(u.shape).astype(dtype, copy=False)

    return checked


def host_solution(
    x: np.ndarray,
    result: Any,
    step: int,
    residual: float,
    n_matvecs: int,
    incompatible: float,
    history: list[float],
    **counts: int,
) -> Solution:
    """Return the record of a solve on the host, in the units of the caller."""
    stats = {
        "num_steps": step,
        "residual_norm": residual,
        "matvecs": n_matvecs,
        "incompatible_norm": incompatible,
        "residual_history": np.asarray(history),
        **counts,
    }
    return Solution(x, result, stats)


def zero_solution(b: np.ndarray, **counts: int) -> Solution:
    """Return the record for ``b = 0``, whose answer needs no iteration."""
    return host_solution(np.zeros_like(b), RESULTS.successful, 0, 0.0, 0, 0.0, [0.0], **counts)


def host_power_of_two_below(size: Any, dtype: np.dtype) -> Any:
    """Return what `power_of_two_below` does for NumPy, as a scalar of a real dtype."""
    if not (math.isfinite(size) and size > 0):
        return dtype.type(1)
    info = np.finfo(dtype)
    exponent = min(max(math.frexp(float(size))[1] - 1, info.minexp + 1), -info.minexp - 2)
    return dtype.type(2.0**exponent)
