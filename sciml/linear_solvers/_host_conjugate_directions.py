"""Conjugate directions in NumPy, for operators and directions that only the host can apply.

The same rules as in `_conjugate_directions`: unit A-norms, safeguard, true residuals, outcomes.
"""

import math
from collections.abc import Callable

import numpy as np

from ..core import RESULTS, Solution
from ._conjugate_directions import DEPENDENT, LEAST_SHARE, STILL_STEPS, WEAK_STEPS
from ._conjugate_gradient import MOST_FAILURES
from ._host_system import HostMap, HostSystem, checked_map, zero_solution


class _Directions:
    """The last directions, of unit A-norm, and their images."""

    def __init__(self, memory: int):
        self.memory = memory
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def store(self, p: np.ndarray, image: np.ndarray) -> None:
        self.pairs = [*self.pairs, (p, image)][-self.memory :] if self.memory else []

    def new_part(
        self, q: np.ndarray, *extra: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, bool]:
        """Return what is new in ``q``, and whether that is anything but rounding."""
        largest = np.abs(q).max()
        if not (math.isfinite(largest) and largest > 0):
            return np.zeros_like(q), False
        q = q / largest
        size = np.linalg.norm(q)
        for _ in range(2):
            for p, image in (*self.pairs, *extra):
                c = np.vdot(image, q)
                size += abs(c) * np.linalg.norm(p)
                q = q - c * p
        eps = np.finfo(q.dtype).eps
        return q, bool(np.linalg.norm(q) > DEPENDENT * eps * size)


def host_conjugate_directions(
    matvec: HostMap,
    b: np.ndarray,
    x0: np.ndarray | None,
    *,
    direction: HostMap | None,
    precondition: HostMap | None,
    memory: int,
    safeguard: bool,
    rtol: float,
    atol: float,
    max_steps: int,
    recompute_every: int,
    project: HostMap | None = None,
    callback: Callable[..., object] | None = None,
) -> Solution:
    """Solve ``A x = b`` as `conjugate_directions` does, one host call at a time.

    Parameters
    ----------
    matvec, direction, precondition
        On vectors of shape ``(n,)``.
    b, x0
        Vectors of the precision of the solve.
    memory, safeguard, rtol, atol, max_steps, recompute_every
        As in `conjugate_directions`.
    project
        The projection off the nullspace.
    callback
        Called with a copy of the iterate, the step and the residual norm after each step.

    Returns
    -------
    Solution
        With ``residual_history`` of all steps.
    """
    with np.errstate(all="ignore"):
        return _iterate(
            checked_map(matvec, b.dtype, "A"),
            b,
            x0,
            None if direction is None else checked_map(direction, b.dtype, "direction"),
            None if precondition is None else checked_map(precondition, b.dtype, "M"),
            memory,
            safeguard,
            rtol,
            atol,
            max_steps,
            recompute_every,
            project or (lambda u: u),
            callback,
        )


def _iterate(
    matvec,
    b,
    x0,
    direction,
    precondition,
    memory,
    safeguard,
    rtol,
    atol,
    max_steps,
    recompute_every,
    project,
    callback,
) -> Solution:
    counts = {"n_rejected": 0, "n_replaced": 0, "direction_calls": 0, "dropped_at": -1}
    if not b.any():
        return zero_solution(b, **counts)
    dtype, eps = b.dtype, float(np.finfo(b.dtype).eps)
    system = HostSystem(matvec, b, x0, rtol, atol, project)
    x, r = system.x, system.residual
    norm = np.linalg.norm(r)
    history = [float(norm)]
    result = system.at_start(float(norm))
    is_plain = direction is not None and not safeguard
    stored = _Directions(memory)
    best, failures, step, weak, still = math.inf, 0, 0, 0, 0

    def moves(u):
        return abs(np.vdot(u, r)) > eps * np.linalg.norm(u) * norm

    def unit_direction(u):
        image = system.apply(u)
        curvature = float(np.vdot(u, image).real)
        size = dtype.type(math.sqrt(curvature)) if curvature > 0 else dtype.type(1)
        return curvature, u / size, image / size

    while result is None and step < max_steps:
        end, before, first = min(step + recompute_every, max_steps), x, step
        while result is None and norm > system.passing and step < end:
            unit = r / norm
            if direction is not None and is_plain:
                q = direction(unit)
                counts["direction_calls"] += 1
            else:
                q = unit if precondition is None else precondition(unit)
            q = project(q)
            u, usable = stored.new_part(q)
            usable = usable and moves(u)
            if is_plain and not usable:
                finite = bool(np.isfinite(q).all())
                result = RESULTS.stagnation if finite else RESULTS.nonfinite_input
                break
            if not usable and precondition is not None:
                u, _ = stored.new_part(unit)
                counts["n_replaced"] += 1
            curvature, p, image = unit_direction(u)
            if not curvature > 0:
                bad = math.isfinite(curvature)
                result = RESULTS.breakdown if bad else RESULTS.nonfinite_input
                break
            a = np.vdot(p, r)
            x_new, r_new = x + a * p, r - a * image
            drops = False
            if direction is not None and safeguard and counts["dropped_at"] < 0:
                counts["direction_calls"] += 1
                q = project(direction(unit))
                v, usable = stored.new_part(q, (p, image))
                gain = 0.0
                if usable and moves(v):
                    curvature, p_2, image_2 = unit_direction(v)
                    usable = curvature > 0 and math.isfinite(curvature)
                    if usable:
                        gain = np.vdot(p_2, r_new)
                        x_new, r_new = x_new + gain * p_2, r_new - gain * image_2
                        size = dtype.type(math.hypot(a, gain)) or dtype.type(1)
                        p = (a * p + gain * p_2) / size
                        image = (a * image + gain * image_2) / size
                    elif curvature < -math.sqrt(eps) * np.linalg.norm(v) * np.linalg.norm(image_2):
                        result = RESULTS.breakdown
                        break
                else:
                    usable = False
                counts["n_rejected"] += not usable
                weak = weak + 1 if gain**2 < LEAST_SHARE * (a**2 + gain**2) else 0
                drops = weak >= WEAK_STEPS
            norm_new = np.linalg.norm(r_new)
            if not math.isfinite(norm_new):
                result = RESULTS.nonfinite_input
                break
            x, r, norm = x_new, r_new, norm_new
            step += 1
            if drops:
                counts["dropped_at"] = step
                stored = _Directions(memory)
            else:
                stored.store(p, image)
            history.append(float(norm))
            if callback is not None:
                callback(system.unscaled(x), step, float(system.unscaled(norm)))
        true, true_norm = system.verify(x)
        rounded = norm <= system.passing or np.linalg.norm(true - r) > 0.5 * true_norm
        failures = failures + 1 if rounded and not true_norm < 0.5 * best else 0
        moved = np.linalg.norm(x - before) > eps * np.linalg.norm(x)
        still = 0 if moved else still + step - first
        r, norm, best = true, true_norm, min(best, true_norm)
        if rounded:
            stored = _Directions(memory)
        if norm <= system.tolerance:
            result = RESULTS.successful
        elif not math.isfinite(norm):
            result = RESULTS.nonfinite_input
        elif result is None and (failures >= MOST_FAILURES or still >= STILL_STEPS):
            result = RESULTS.stagnation
    return system.solution(x, result, step, float(norm), history, **counts)
