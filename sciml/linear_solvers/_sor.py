"""Successive over-relaxation, its symmetric form as a preconditioner, and Young's formula.

    W = D / omega + L,    x <- x + W^-1 (b - A x),    M = omega / (2 - omega) W D^-1 W^H

with ``A = D + L + L^H``. The sweeps are solves with a sparse triangular factor that SuperLU takes
as it is, without pivoting or fill: no Python loop over rows.
"""

import math
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Inexact, Num
from scipy.sparse.linalg import LinearOperator, splu

from ..core import (
    RESULTS,
    RealScalar,
    Solution,
    check_count,
    check_non_negative,
    check_not_traced,
    check_positive,
    cites,
    throw_if_failed,
)
from ._hermitian_matrix import known_to_scipy
from ._host_system import host_power_of_two_below

Matrix = np.ndarray | scipy.sparse.sparray | scipy.sparse.spmatrix

YOUNG_1954 = """
@article{young1954iterative,
  author = {Young, David},
  title = {Iterative methods for solving partial difference equations of elliptic type},
  journal = {Transactions of the American Mathematical Society},
  volume = {76},
  pages = {92--111},
  year = {1954},
}
"""


@cites(YOUNG_1954)
def young_omega(beta: RealScalar) -> float:
    r"""Return the best relaxation parameter of SOR for a consistently ordered matrix.

    .. math::
        \omega^* = 1 + \left( \frac{\beta}{1 + \sqrt{1 - \beta^2}} \right)^2

    Parameters
    ----------
    beta
        Spectral radius of the Jacobi iteration, ``rho(I - D^-1 A)``, in [0, 1).

    Raises
    ------
    ValueError
        If ``beta`` is outside [0, 1): Jacobi does not converge, and the formula means nothing.

    References
    ----------
    .. [1] D. Young, "Iterative methods for solving partial difference equations of elliptic type",
       Transactions of the American Mathematical Society 76 (1954), 92-111.

    Examples
    --------
    >>> young_omega(0.0), round(young_omega(0.8), 3)
    (1.0, 1.25)
    """
    check_non_negative("beta", beta)
    if beta >= 1:
        raise ValueError(f"`beta` must be below 1 (a convergent Jacobi iteration), got {beta!r}.")
    return 1.0 + (float(beta) / (1.0 + math.sqrt(1.0 - float(beta) ** 2))) ** 2


def ssor_preconditioner(A: Matrix, omega: RealScalar) -> LinearOperator:
    r"""Return the symmetric SOR preconditioner as a SciPy operator, for ``M=`` of ``cg``.

    .. math::
        M^{-1} = \frac{2 - \omega}{\omega} \, W^{-H} D \, W^{-1}, \qquad W = D / \omega + L

    It is Hermitian and positive definite whenever ``A`` is, for every ``omega`` in (0, 2).

    Parameters
    ----------
    A
        A square matrix of shape ``(n, n)``, dense or sparse; only its lower triangle is looked at.
    omega
        Relaxation parameter, strictly between 0 and 2.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        The action of ``M^-1``, in the precision of ``A``.

    Raises
    ------
    ValueError
        If ``A`` is not square, has a zero or non-finite entry on its diagonal, or ``omega`` is
        outside (0, 2).

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[2.0, -1.0], [-1.0, 2.0]])
    >>> ssor_preconditioner(A, 1.0).matvec(np.array([1.0, 0.0])).tolist()
    [0.625, 0.25]
    """
    matrix = as_csr(A)
    factor = _relaxation_factor(matrix, omega)
    weight = matrix.diagonal() * ((2.0 - float(omega)) / float(omega))
    weight = weight.astype(matrix.dtype)

    def apply(r: np.ndarray) -> np.ndarray:
        if np.iscomplexobj(r) and matrix.dtype.kind != "c":
            return apply(np.real(r)) + 1j * apply(np.imag(r))
        # (n,) and (n, 1) come here, each goes back in its own shape.
        z = factor.solve(np.asarray(r, matrix.dtype).reshape(-1))
        return factor.solve(weight * z, "H").reshape(r.shape)

    options: dict[str, Any] = {"matvec": apply, "rmatvec": apply, "dtype": matrix.dtype}
    return LinearOperator(matrix.shape, **options)


def sor(
    A: Matrix,
    b: Num[np.ndarray, "..."],
    omega: RealScalar,
    x0: Num[np.ndarray, "..."] | None = None,
    *,
    rtol: RealScalar = 1e-5,
    atol: RealScalar = 0.0,
    max_steps: int = 10_000,
    throw: bool = True,
) -> Solution:
    """Solve ``A x = b`` by successive over-relaxation in the natural order of the unknowns.

    It converges for every symmetric positive definite ``A`` and every ``omega`` in (0, 2). The
    residual of the stop test is ``b - A x`` itself, computed anew in every step.

    Parameters
    ----------
    A
        A square matrix of shape ``(n, n)``, dense or sparse.
    b
        Right-hand side, shape ``(n,)`` or ``(n, 1)``.
    omega
        Relaxation parameter, strictly between 0 and 2; 1 is Gauss-Seidel.
    x0
        Where to start, zero by default. So large a start that its residual overflows in units of
        ``b`` is left out.
    rtol, atol
        Stop once ``||b - A x|| <= max(rtol ||b||, atol)`` in the 2-norm.
    max_steps
        The most sweeps that are made.
    throw
        Raise if it does not converge. With False look at ``result``.

    Returns
    -------
    Solution
        ``value`` of shape ``(n,)``; ``stats`` has ``num_steps`` and ``residual_norm``. ``result``
        may be ``max_steps_reached``, ``breakdown`` (the iteration overflowed, so ``A`` is not
        positive definite, or the answer is outside the range of its precision) or
        ``nonfinite_input``.

    Raises
    ------
    ValueError
        If shapes do not fit, a diagonal entry is zero, or ``omega`` is outside (0, 2).
    RuntimeError
        If it does not converge and ``throw`` is set.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.array([[2.0, -1.0], [-1.0, 2.0]])
    >>> solution = sor(A, np.array([1.0, 0.0]), 1.1, rtol=1e-10)
    >>> bool(np.allclose(solution.value, [2 / 3, 1 / 3])), solution.stats["num_steps"]
    (True, 11)
    """
    matrix: Any = as_csr(A)
    b = as_vector("b", b, matrix)
    x = np.zeros_like(b) if x0 is None else as_vector("x0", x0, matrix)
    # SciPy's factor of a real or less precise matrix takes no right-hand side of another dtype.
    dtype = np.result_type(matrix.dtype, b.dtype, x.dtype)
    matrix = matrix.astype(dtype, copy=False)
    b, x = b.astype(dtype, copy=False), x.astype(dtype)
    check_non_negative("rtol", rtol)
    check_non_negative("atol", atol)
    max_steps = check_count("max_steps", max_steps, minimum=0)
    if not all(np.isfinite(values).all() for values in (matrix.data, b, x)):
        nothing = {"num_steps": 0, "residual_norm": math.nan}
        result: Any = RESULTS.nonfinite_input
        solution = Solution(x, result, nothing)
        return throw_if_failed(solution) if throw else solution
    factor = _relaxation_factor(matrix, omega)
    # Squares of entries as small as 1e-30 would vanish in the norms.
    scale = host_power_of_two_below(np.abs(b).max(), np.finfo(dtype).dtype)
    b = b / scale
    tolerance = max(rtol * float(np.linalg.norm(b)), atol / float(scale))
    steps = 0
    with np.errstate(over="ignore", invalid="ignore"):
        x = x / scale
        r = b - matrix @ x
        size = float(np.linalg.norm(r))
        if not (np.any(b) and math.isfinite(size)):
            # Nothing is as near to the answer as zero.
            x, r = np.zeros_like(b), b
            size = float(np.linalg.norm(r))
        while size > tolerance and steps < max_steps:
            x += factor.solve(r)
            r = b - matrix @ x
            size = float(np.linalg.norm(r))
            steps += 1
        value = x * scale
        # No range holds every answer: what is judged is what is returned.
        kept = np.array_equal(value / scale, x)
        if not kept:
            size = float(np.linalg.norm(b - matrix @ (value / scale)))
    if size <= tolerance:
        result = RESULTS.successful
    else:
        running = kept and math.isfinite(size)
        result = RESULTS.max_steps_reached if running else RESULTS.breakdown
    stats = {"num_steps": steps, "residual_norm": size * float(scale)}
    solution = Solution(value, result, stats)
    return throw_if_failed(solution, f"SOR with omega = {omega:g} failed.") if throw else solution


def as_csr(A: Any) -> scipy.sparse.csr_array:
    """Return a square matrix in compressed rows and floating point, or say why it is none."""
    if not (isinstance(A, np.ndarray) or scipy.sparse.issparse(A)):
        raise TypeError(
            f"`A` must be a NumPy array or a SciPy sparse matrix, got {type(A).__name__}: its "
            "entries are needed."
        )
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.shape[0]:
        raise ValueError(f"`A` must be a square matrix, got shape {A.shape}.")
    if A.dtype.kind not in "biufc":
        raise TypeError(f"`A` must hold numbers, got dtype {A.dtype}.")
    A = known_to_scipy(A)
    matrix: Any = A if isinstance(A, scipy.sparse.csr_array) else scipy.sparse.csr_array(A)
    return matrix.astype(_working_dtype(matrix.dtype), copy=False)


def as_vector(name: str, b: Any, matrix: Any) -> Inexact[np.ndarray, " n"]:
    """Return a vector of ``matrix``'s size in their common precision; ``(n, 1)`` is one too."""
    check_not_traced(name, b, "solvers with SciPy's interface read it")
    vector = np.asarray(b)
    n = matrix.shape[0]
    if vector.shape not in ((n,), (n, 1)):
        raise ValueError(
            f"`{name}` must have shape ({n},) or ({n}, 1) to fit `A` of shape {matrix.shape}, got "
            f"{vector.shape}."
        )
    dtype = np.result_type(_working_dtype(vector.dtype), matrix.dtype)
    return vector.reshape(n).astype(dtype, copy=False)


def check_omega(omega: RealScalar) -> None:
    """Raise ``ValueError`` unless ``omega`` lies strictly between 0 and 2."""
    check_positive("omega", omega)
    if omega >= 2:
        raise ValueError(f"`omega` must be below 2 (SOR diverges otherwise), got {omega!r}.")


def _working_dtype(dtype: np.dtype) -> np.dtype:
    # SuperLU knows these four.
    dtype = dtype.newbyteorder("=")
    return dtype if dtype.char in "fdFD" else np.result_type(dtype, np.float64)


def _relaxation_factor(matrix: scipy.sparse.csr_array, omega: RealScalar):
    """Return SuperLU's factor of ``D / omega + L``, which is that matrix itself."""
    check_omega(omega)
    diagonal: Any = matrix.diagonal()
    bad = ~np.isfinite(diagonal) | (diagonal == 0)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"the diagonal of `A` must be finite and nonzero; entry {row} is {diagonal[row]}."
        )
    lower = scipy.sparse.tril(matrix, -1) + scipy.sparse.diags_array(diagonal / float(omega))
    # In natural order without pivoting a triangle is its own factor. Supernodes of one column:
    # twice to three times as fast to set up, and as fast to solve.
    return splu(
        scipy.sparse.csc_array(lower).astype(matrix.dtype, copy=False),
        permc_spec="NATURAL",
        diag_pivot_thresh=0.0,
        relax=1,
        panel_size=1,
        options={"SymmetricMode": True},
    )
