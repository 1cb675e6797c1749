"""The work of ``sciml solve``."""

import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from ..core import atomic_path, check_non_negative, format_table, import_optional
from ..linear_solvers._aspreconditioner import (
    aspreconditioner,
    checked_hermitian,
    jacobi,
    smoothed_aggregation,
    symmetric_gauss_seidel,
)
from ..linear_solvers._cg import cg
from ._errors import UsageError
from ._solve import Solve
from ._terminal import say

_REASONS = {
    -1: "the matrix, or its preconditioner, is not positive definite",
    -2: "a NaN or infinity came up; look at the sizes of matrix and right-hand side",
    -3: "rounding, or a part of the right-hand side that no solution reaches, keeps the residual "
    "above the tolerance; take a larger --rtol, or a compatible right-hand side",
}
_COLUMNS = {
    "n": "n",
    "nnz": "nnz",
    "preconditioner": "preconditioner",
    "setup": "setup [s]",
    "solve": "solve [s]",
    "iterations": "iterations",
    "residual": "relative residual",
    "status": "status",
}


def run_solve(options: Solve) -> None:
    """Read, solve, print the table, and write the solution if there is one.

    Raises
    ------
    UsageError
        If options or files are bad.
    RuntimeError
        If the iteration does not converge; nothing is written then.
    """
    _check_options(options)
    matrix = _read_matrix(options.matrix)
    b = _read_rhs(options.rhs, matrix.shape[0])
    # The checks of the library name its arguments; here the file says more.
    try:
        matrix = checked_hermitian(matrix)
    except ValueError as error:
        raise UsageError(f"{options.matrix}: {error}") from None
    start = time.perf_counter()
    M, kind = _preconditioner(options, matrix)
    setup = time.perf_counter() - start

    start = time.perf_counter()
    x, info, record = cg(
        matrix,
        b,
        M=M,
        rtol=options.rtol,
        atol=options.atol,
        maxiter=options.maxiter,
        full_output=True,
    )
    seconds = time.perf_counter() - start
    info = np.atleast_1d(info)
    row = {
        "n": matrix.shape[0],
        "nnz": matrix.nnz,
        "preconditioner": kind,
        "setup": setup,
        "solve": seconds,
        "iterations": int(np.max(record["num_steps"])),
        "residual": _relative_residual(matrix, x, b),
        "status": "converged" if not info.any() else f"failed ({int(info[info != 0][0])})",
    }
    say(format_table([row], _COLUMNS))
    if info.any():
        k = int(np.flatnonzero(info)[0])
        where = f" for column {k} of {info.size}" if info.size > 1 else ""
        reason = _reason(int(info[k]), options, row["residual"])
        raise RuntimeError(f"no solution{where} (nothing was written): {reason}.")
    if options.out is not None:
        with atomic_path(options.out) as path:
            np.save(path, x)
        say(f"\nSolution   {options.out}: {x.dtype} {x.shape}")


def _reason(info: int, options: Solve, residual: float) -> str:
    if info < 0:
        return _REASONS[info]
    if options.rtol == options.atol == 0:
        return (
            "with --rtol 0 and --atol 0 no residual is small enough; the relative one after the "
            f"last iteration is {residual:.1e}. Give --rtol"
        )
    return f"iterations were not enough ({info}); choose a --preconditioner or a larger --maxiter"


def _check_options(options: Solve) -> None:
    for name in ("rtol", "atol"):
        try:
            check_non_negative(name, getattr(options, name))
        except ValueError:
            raise UsageError(
                f"--{name} must be zero or positive, and finite; got {getattr(options, name)}."
            ) from None
    if options.maxiter is not None and options.maxiter < 0:
        raise UsageError(f"--maxiter must be at least 0, got {options.maxiter}.")
    if options.n_points is not None:
        if options.preconditioner != "auto":
            raise UsageError("--n-points is for --preconditioner auto.")
        if not options.n_points or min(options.n_points) < 1:
            raise UsageError(f"--n-points must be positive, got {options.n_points}.")
    if options.preconditioner == "amg":
        import_optional("pyamg", "--preconditioner amg")
    out = options.out
    if out is None:
        return
    if out.suffix != ".npy":
        raise UsageError(f"--out must end in .npy, got {out}.")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name a file.")
    if not out.parent.is_dir():
        raise UsageError(f"the folder of {out} does not exist.")
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} is there already; add --overwrite to replace it.")


def _preconditioner(options: Solve, matrix: Any) -> tuple[Any, str]:
    match options.preconditioner:
        case "none":
            return None, "none"
        case "jacobi":
            M = jacobi(matrix)
        case "gauss-seidel":
            M = symmetric_gauss_seidel(matrix)
        case "amg":
            M = smoothed_aggregation(matrix)
        case "auto":
            M: Any = aspreconditioner(matrix, n_points=options.n_points)
    return M, M.kind


def _read_matrix(path: Path) -> Any:
    """Return the matrix of a file; a clear error if it is none."""
    _check_readable(path)
    if path.suffix == ".npz":
        try:
            # An open file: given a name, NumPy leaves a damaged one open.
            with path.open("rb") as file:
                matrix = scipy.sparse.load_npz(file)
        except Exception as error:
            raise _unreadable(path, "a file of scipy.sparse.save_npz", error) from None
    elif path.name.endswith((".mtx", ".mtx.gz")):
        matrix = _read_matrix_market(path)
    else:
        raise UsageError(f"the matrix must be a .mtx, .mtx.gz or .npz file, got {path}.")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UsageError(f"{path} holds a matrix of shape {matrix.shape}; it must be square.")
    if matrix.shape[0] >= 2**31:
        raise UsageError(f"{path} has {matrix.shape[0]} rows; at most 2^31 - 1 fit.")
    if matrix.dtype.kind not in "biufc":
        raise UsageError(f"{path} holds {matrix.dtype}, which are no numbers.")
    return matrix


def _read_matrix_market(path: Path) -> Any:
    try:
        return scipy.io.mmread(path, spmatrix=False)
    # It raises what its parts raise: ValueError, OverflowError, EOFError, zlib.error, ...
    except Exception as error:
        raise _unreadable(path, "a Matrix Market file", error) from None


def _read_rhs(path: Path | None, n: int) -> np.ndarray:
    if path is None:
        return np.ones(n)
    _check_readable(path)
    if path.suffix == ".npy":
        try:
            b = np.load(path, allow_pickle=False)
        except Exception as error:
            raise _unreadable(path, "a .npy file of numbers", error) from None
    elif path.name.endswith((".mtx", ".mtx.gz")):
        b = _read_matrix_market(path)
        b = b.toarray() if scipy.sparse.issparse(b) else b
    else:
        raise UsageError(f"the right-hand side must be a .npy or .mtx file, got {path}.")
    if not isinstance(b, np.ndarray) or b.dtype.kind not in "biufc":
        raise UsageError(f"{path} holds {getattr(b, 'dtype', type(b).__name__)}, no numbers.")
    if b.ndim not in (1, 2) or b.shape[0] != n or b.size == 0:
        raise UsageError(
            f"{path} has shape {b.shape}; the matrix needs ({n},), or ({n}, k) for k right-hand "
            "sides."
        )
    if not np.isfinite(b).all():
        raise UsageError(f"{path} has non-finite entries.")
    return b


def _check_readable(path: Path) -> None:
    if not path.exists():
        raise UsageError(f"no such file: {path}.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a file.")


def _unreadable(path: Path, what: str, error: Exception) -> Exception:
    if isinstance(error, PermissionError):
        return error
    if isinstance(error, zipfile.BadZipFile):
        return UsageError(f"{path} is not {what}, or damaged.")
    return UsageError(f"{path} is not {what}: {error or type(error).__name__}")


def _relative_residual(matrix: Any, x: np.ndarray, b: np.ndarray) -> float:
    b = b.reshape(x.shape)
    norms = np.linalg.norm(b, axis=0)
    residuals = np.linalg.norm(b - matrix @ x, axis=0)
    return float(np.max(residuals / np.where(norms > 0, norms, 1)))
