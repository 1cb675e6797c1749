"""Conjugate gradients in NumPy, for operators that only the host can apply.

The same rules as in `_conjugate_gradient`: scaling, true residuals, restarts, outcomes.
"""

import math
from collections.abc import Callable

import jax
import numpy as np

from ..core import RESULTS, Solution
from ._conjugate_gradient import LEAST_RESIDUAL, MOST_FAILURES, RECOMPUTE_EVERY

HostMap = Callable[[np.ndarray], np.ndarray]


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
    dtype = b.dtype
    with np.errstate(all="ignore"):
        # A plain function leaves the scope of errstate around the user's calls as it was.
        return _iterate(
            lambda u: _as_vector(matvec(u), u, dtype, "A"),
            b,
            x0,
            None if precondition is None else lambda u: _as_vector(precondition(u), u, dtype, "M"),
            rtol,
            atol,
            max_steps,
            project or (lambda u: u),
            callback,
        )


def _iterate(matvec, b, x0, precondition, rtol, atol, max_steps, project, callback) -> Solution:
    if not b.any():
        return _solution(np.zeros_like(b), RESULTS.successful, 0, 0.0, 0, 0.0, [0.0])
    matvecs = 0
    x = np.zeros_like(b) if x0 is None else project(x0.copy())
    largest = np.abs(b).max()
    if x0 is not None:
        largest = max(largest, np.abs(b - matvec(x)).max())
        matvecs += 1
    scale = _power_of_two_below(largest, dtype=b.real.dtype)
    b, x = b / scale, x / scale
    norm_b = np.linalg.norm(b)
    projected_b = project(b)
    incompatible = float(np.linalg.norm(b - projected_b))
    tolerance = max(rtol * norm_b, atol / scale)
    passing = max(tolerance, LEAST_RESIDUAL * float(np.finfo(b.dtype).eps) * norm_b)

    if x0 is None:
        r = projected_b.copy()
    else:
        r = project(projected_b - matvec(x))
        matvecs += 1
    norm = np.linalg.norm(r)
    history = [float(norm)]
    result = None
    if not (math.isfinite(norm) and math.isfinite(norm_b)):
        result = RESULTS.nonfinite_input
    elif norm <= tolerance:
        result = RESULTS.successful
    best, failures, step = math.inf, 0, 0
    p, rho_before = np.zeros_like(r), math.inf
    while result is None and step < max_steps:
        end = min(step + RECOMPUTE_EVERY, max_steps)
        while result is None and norm > passing and step < end:
            z = r if precondition is None else project(precondition(r))
            rho = np.vdot(r, z).real
            p = z + dtype_of(r)(rho / rho_before) * p
            q = matvec(p)
            matvecs += 1
            curvature = np.vdot(p, q).real
            if not (math.isfinite(rho) and math.isfinite(curvature)):
                result = RESULTS.nonfinite_input
            elif not (rho > 0 and curvature > 0):
                result = RESULTS.breakdown
            else:
                alpha = dtype_of(r)(rho / curvature)
                x = x + alpha * p
                r = r - alpha * q
                norm = np.linalg.norm(r)
                rho_before = rho
                step += 1
                history.append(float(norm))
                if callback is not None:
                    callback(x * scale)
                if not math.isfinite(norm):
                    result = RESULTS.nonfinite_input
        true = project(projected_b - matvec(x))
        matvecs += 1
        true_norm = np.linalg.norm(true)
        rounded = norm <= passing or np.linalg.norm(true - r) > 0.5 * true_norm
        failures = failures + 1 if rounded and not true_norm < 0.5 * best else 0
        r, norm, best = true, true_norm, min(best, true_norm)
        if rounded:
            p, rho_before = np.zeros_like(r), math.inf
        if norm <= tolerance:
            result = RESULTS.successful
        elif not math.isfinite(norm):
            result = RESULTS.nonfinite_input
        elif result is None and failures >= MOST_FAILURES:
            result = RESULTS.stagnation
    if result is None:
        result = RESULTS.max_steps_reached
    residual = math.hypot(norm, incompatible)
    if result == RESULTS.successful and not residual <= tolerance:
        result = RESULTS.stagnation
    history = [value * float(scale) for value in history]
    return _solution(
        project(x) * scale,
        result,
        step,
        residual * float(scale),
        matvecs,
        incompatible * float(scale),
        history,
    )


def stacked_solutions(solutions: list[Solution]) -> Solution:
    """Return the records of several right-hand sides as one; shorter histories end in NaN."""
    longest = max(len(s.stats["residual_history"]) for s in solutions)
    for s in solutions:
        history = s.stats["residual_history"]
        padding = np.full(longest - len(history), np.nan)
        s.stats["residual_history"] = np.concatenate([history, padding])
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *solutions)


def dtype_of(u: np.ndarray) -> type:
    """Return the scalar type of ``u``."""
    return u.dtype.type


def _solution(x, result, step, residual, matvecs, incompatible, history) -> Solution:
    stats = {
        "num_steps": step,
        "residual_norm": residual,
        "matvecs": matvecs,
        "incompatible_norm": incompatible,
        "residual_history": np.asarray(history),
    }
    return Solution(x, result, stats)


def _power_of_two_below(size, dtype):
    if not (math.isfinite(size) and size > 0):
        return dtype.type(1)
    info = np.finfo(dtype)
    exponent = min(max(math.frexp(float(size))[1] - 1, info.minexp + 1), -info.minexp - 2)
    return dtype.type(2.0**exponent)


def _as_vector(value, like: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    value = np.asarray(value)
    if value.size != like.size:
        raise ValueError(f"`{name}` returned shape {value.shape} for a vector of {like.shape}.")
    if value.dtype.kind == "c" and dtype.kind != "c":
        raise ValueError(f"`{name}` returned complex numbers, but `A` and `b` are real.")
    return value.reshape(like.shape).astype(dtype, copy=False)
