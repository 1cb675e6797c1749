"""A cheap look at whether a preconditioner is linear and symmetric, as plain CG needs it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_SEED = 8123


class LinearityDefects(NamedTuple):
    """How far a map is from being linear and Hermitian, relative to the size of its values.

    Attributes
    ----------
    additivity
        ``||f(x + 2 y) - f(x) - 2 f(y)||`` over the sum of the norms.
    symmetry
        ``|y.f(x) - conj(x.f(y))|`` over the product of the norms.
    """

    additivity: float
    symmetry: float


def linearity_defects(
    apply: Callable[[np.ndarray], np.ndarray], n: int, dtype: np.dtype
) -> LinearityDefects:
    """Probe a map on two random vectors; three calls.

    Parameters
    ----------
    apply
        The map on host vectors of shape ``(n,)``.
    n
        Number of unknowns.
    dtype
        Precision of the vectors.

    Returns
    -------
    LinearityDefects
        Zeros where the map gives a NaN or infinity: that is for the solve to report.

    Examples
    --------
    >>> linearity_defects(lambda r: 4 * r, 5, np.dtype(float)).additivity < 1e-14
    True
    >>> linearity_defects(np.abs, 5, np.dtype(float)).additivity > 0.1
    True
    """
    rng = np.random.default_rng(_SEED)
    x, y = rng.standard_normal((2, n)).astype(dtype)
    if dtype.kind == "c":
        x, y = (v + 1j * rng.standard_normal(n).astype(v.real.dtype) for v in (x, y))
    with np.errstate(all="ignore"):
        f_x, f_y = (np.array(apply(v)).reshape(n) for v in (x, y))
        f_sum = np.array(apply(x + 2 * y)).reshape(n)
        norms = [float(np.linalg.norm(v)) for v in (f_sum, f_x, f_y)]
        rest = float(np.linalg.norm(f_sum - f_x - 2 * f_y))
        size = norms[0] + norms[1] + 2 * norms[2]
        cross = float(abs(np.vdot(y, f_x) - np.conj(np.vdot(x, f_y))))
        n_x, n_y = float(np.linalg.norm(x)), float(np.linalg.norm(y))
        product = n_y * norms[1] + n_x * norms[2]
    if not (math.isfinite(rest) and math.isfinite(cross)):
        return LinearityDefects(0.0, 0.0)
    return LinearityDefects(
        rest / size if size > 0 else 0.0, cross / product if product > 0 else 0.0
    )


def linearity_complaint(
    apply: Callable[[np.ndarray], np.ndarray],
    n: int,
    dtype: np.dtype,
    *,
    precision: np.dtype | None = None,
) -> str | None:
    """Return what is wrong with a map as preconditioner of plain CG, or None.

    Parameters
    ----------
    apply, n, dtype
        As in `linearity_defects`.
    precision
        Precision in which the map computes inside; ``dtype`` by default.
    """
    defects = linearity_defects(apply, n, dtype)
    tolerance = math.sqrt(np.finfo(dtype if precision is None else precision).eps)
    if defects.additivity > tolerance:
        return (
            f"is not linear: M(x + 2 y) and M x + 2 M y differ by {defects.additivity:.1e} of "
            "their size for random x and y"
        )
    if defects.symmetry > tolerance:
        return (
            f"is not symmetric: y.(M x) and x.(M y) differ by {defects.symmetry:.1e} of their "
            "size for random x and y"
        )
    return None
