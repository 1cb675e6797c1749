"""Conjugate gradients in NumPy, for operators that only the host can apply.

The same rules as in `_conjugate_gradient`: scaling, true residuals, restarts, outcomes.
"""

import math
from collections.abc import Callable

import jax
import numpy as np

from ..core import RESULTS, Solution
from ._conjugate_gradient import MOST_FAILURES, RECOMPUTE_EVERY
from ._host_system import HostMap, HostSystem, checked_map, zero_solution


def host_conjugate_gradient(
    matvec: HostMap,
    b: np.ndarray,
    x0: np.ndarray | None,
    *,
    precondition: HostMap | None,
    rtol: float,
    atol: float,
    max_steps: int,
    project: HostMap | None = None,
    callback: Callable[[np.ndarray], object] | None = None,
) -> Solution:
    """Solve ``A x = b`` as `conjugate_gradient` does, one host call at a time.

    Parameters
    ----------
    matvec, precondition
        ``A`` and ``M`` on vectors of shape ``(n,)``.
    b, x0
        Vectors of the precision of the solve.
    rtol, atol, max_steps
        As in `conjugate_gradient`.
    project
        The projection off the nullspace.
    callback
        Called with a copy of the iterate after each step.

    Returns
    -------
    Solution
        With ``residual_history`` of all steps.
    """
    with np.errstate(all="ignore"):
        # A plain function leaves the scope of errstate around the user's calls as it was.
        return _iterate(
            checked_map(matvec, b.dtype, "A"),
            b,
            x0,
            None if precondition is None else checked_map(precondition, b.dtype, "M"),
            rtol,
            atol,
            max_steps,
            project or (lambda u: u),
            callback,
        )


def _iterate(matvec, b, x0, precondition, rtol, atol, max_steps, project, callback) -> Solution:
    if not b.any():
        return zero_solution(b)
    system = HostSystem(matvec, b, x0, rtol, atol, project)
    number = b.dtype.type
    x, r = system.x, system.residual
    norm = np.linalg.norm(r)
    history = [float(norm)]
    result = system.at_start(float(norm))
    best, failures, step = math.inf, 0, 0
    p, rho_before = np.zeros_like(r), math.inf
    while result is None and step < max_steps:
        end = min(step + RECOMPUTE_EVERY, max_steps)
        while result is None and norm > system.passing and step < end:
            z = r if precondition is None else project(precondition(r))
            rho = np.vdot(r, z).real
            p = z + number(rho / rho_before) * p
            q = system.apply(p)
            curvature = np.vdot(p, q).real
            if not (math.isfinite(rho) and math.isfinite(curvature)):
                result = RESULTS.nonfinite_input
            elif not (rho > 0 and curvature > 0):
                result = RESULTS.breakdown
            else:
                alpha = number(rho / curvature)
                x = x + alpha * p
                r = r - alpha * q
                norm = np.linalg.norm(r)
                rho_before = rho
                step += 1
                history.append(float(norm))
                if callback is not None:
                    callback(system.unscaled(x))
                if not math.isfinite(norm):
                    result = RESULTS.nonfinite_input
        true, true_norm = system.verify(x)
        rounded = norm <= system.passing or np.linalg.norm(true - r) > 0.5 * true_norm
        failures = failures + 1 if rounded and not true_norm < 0.5 * best else 0
        r, norm, best = true, true_norm, min(best, true_norm)
        if rounded:
            p, rho_before = np.zeros_like(r), math.inf
        if norm <= system.tolerance:
            result = RESULTS.successful
        elif not math.isfinite(norm):
            result = RESULTS.nonfinite_input
        elif result is None and failures >= MOST_FAILURES:
            result = RESULTS.stagnation
    return system.solution(x, result, step, float(norm), history)


def stacked_solutions(solutions: list[Solution]) -> Solution:
    """Return the records of several right-hand sides as one; shorter histories end in NaN."""
    longest = max(len(s.stats["residual_history"]) for s in solutions)
    for s in solutions:
        history = s.stats["residual_history"]
        padding = np.full(longest - len(history), np.nan)
        s.stats["residual_history"] = np.concatenate([history, padding])
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *solutions)
