"""What the doors for SciPy users, `cg` and `dcdm`, share: warnings before, SciPy's answer after."""

from typing import Any

import numpy as np

from ..core import Solution, warn_caller
from ..numerics._stencil import StencilOperator
from ._nullspace import (
    ConstantNullspace,
    constant_components,
    constant_components_on_grid,
    constants_vanish,
)
from ._scipy_inputs import LinearSystem, ending, scipy_info

# Residuals that `full_output` keeps at most.
MOST_HISTORY = 1 << 17

_MESSAGES = {
    0: "converged",
    -1: "`A` or `M` is not positive definite: check signs, boundary rows, symmetry",
    -2: "a NaN or infinity came up: look at `A` and `b`",
    -3: "stagnation: rounding, or a part of `b` that no `x` reaches, keeps the true residual above "
    "the tolerance; take a larger tolerance, float64, or a compatible `b`",
}


def warn_if_not_hermitian(system: LinearSystem) -> None:
    """Try `A` on two random vectors, unless its tags or its preconditioner vouch for it."""
    if system.known is not None:
        return  # `aspreconditioner` looked at each entry
    if system.matrix is None and system.operator is not None:
        return  # a lineax operator: its tags were checked
    defect = _hermitian_defect(system)
    if defect > np.sqrt(np.finfo(system.dtype).eps):
        warn_caller(
            f"`A` does not look Hermitian: x.Ay and y.Ax differ by {defect:.1e} of their size for "
            "random x and y. Conjugate gradients need a Hermitian positive definite matrix.",
        )


def find_nullspace(system: LinearSystem) -> ConstantNullspace | None:
    """Return the constants that ``A`` maps to zero, per connected component.

    An operator whose entries are unknown is tried with the constant vector alone.
    """
    known = system.known
    if known is not None and known.nullspace is not None:
        return known.nullspace[0]
    if isinstance(system.operator, StencilOperator):
        labels = constant_components_on_grid(system.operator, system.matrix)
    elif system.matrix is not None:
        labels = constant_components(system.matrix)
    else:
        ones = np.ones(system.n, system.dtype)
        alternating = np.where(np.arange(system.n) % 2, 1, -1).astype(system.dtype)
        size = float(np.abs(system.matvec(alternating)).max())
        singular = constants_vanish(system.matvec(ones), size)
        labels = np.zeros(system.n, int) if singular else None
    found = None if labels is None else ConstantNullspace(labels.reshape(system.n_points))
    if known is not None:
        known.nullspace = (found,)
    return found


def scipy_answer(
    solution: Solution,
    system: LinearSystem,
    nullspace: ConstantNullspace | None,
    *,
    rtol: float,
    atol: float,
    full_output: bool,
) -> Any:
    """Return ``(x, info)``, or ``(x, info, record)``; warn if no solution exists."""
    if nullspace is not None:
        _warn_if_incompatible(system, solution, rtol, atol)
    info = scipy_info(solution, exact=rtol == 0 and atol == 0)
    x = system.restore(np.asarray(solution.value).reshape(system.rhs.shape))
    info = info if system.has_many else int(info.reshape(()))
    return (x, info, _record(solution, system, info)) if full_output else (x, info)


def _hermitian_defect(system: LinearSystem) -> float:
    rng = np.random.default_rng(20407)
    x, y = rng.standard_normal((2, system.n)).astype(system.dtype)
    if system.dtype.kind == "c":
        x, y = x + 1j * rng.standard_normal((2, system.n)).astype(x.real.dtype)
    with np.errstate(all="ignore"):
        a_x, a_y = system.matvec(x), system.matvec(y)
        size = np.linalg.norm(a_x) * np.linalg.norm(y) + np.linalg.norm(a_y) * np.linalg.norm(x)
        defect = abs(np.vdot(y, a_x) - np.conj(np.vdot(x, a_y))) / size
    # NaN in the matrix is for the solve to report.
    return float(defect) if np.isfinite(defect) else 0.0


def _warn_if_incompatible(
    system: LinearSystem, solution: Solution, rtol: float, atol: float
) -> None:
    norms = np.linalg.norm(system.rhs, axis=1)
    incompatible = np.atleast_1d(np.asarray(solution.stats["incompatible_norm"]))
    bad = incompatible > np.maximum(rtol * norms, atol)
    # Without a tolerance everything would be bad; rounding is not worth a warning.
    bad &= incompatible > 100 * np.finfo(system.dtype).eps * norms
    if bad.any():
        share = float(np.max(incompatible[bad] / norms[bad]))
        warn_caller(
            "`A` is singular (constants on a connected component are in its nullspace) and `b` has "
            f"a part in the nullspace, {share:.1e} of its norm: no solution exists. The system "
            "was solved without that part.",
        )


def _record(solution: Solution, system: LinearSystem, info: Any) -> dict[str, Any]:
    record: dict[str, Any] = {k: np.asarray(v) for k, v in solution.stats.items()}
    steps = record["num_steps"]
    stagnated = np.atleast_1d(np.asarray(ending(solution.result)) == -3)
    messages = [_message(*ended) for ended in zip(np.atleast_1d(info), stagnated, strict=True)]
    if not system.has_many:
        record["residual_history"] = record["residual_history"][: int(steps) + 1]
        record = {k: v.item() if v.ndim == 0 else v for k, v in record.items()}
    record["message"] = messages if system.has_many else messages[0]
    return record


def _message(info: Any, stagnated: Any) -> str:
    """Say how a solve ended, in the words of the arguments of the doors."""
    if info <= 0:
        return _MESSAGES[int(info)]
    if stagnated:
        return "no tolerance was given: the iteration went on until rounding stopped it"
    return f"iterations were not enough ({info}): take a better `M` or a larger `maxiter`"
