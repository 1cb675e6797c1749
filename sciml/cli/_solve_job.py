"""The work of ``sciml solve``."""

import gzip
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from ..core import atomic_path, check_non_negative, format_table, import_optional
from ..core._npy import load_npy
from ..data._npz import open_npz
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
            with open_npz(path) as archive:
                # SciPy believes the file, whatever its length.
                if "shape" in archive and archive.read("shape").shape != (2,):
                    raise ValueError("its `shape` is not that of a matrix")
            # An open file: given a name, NumPy leaves a damaged one open.
            with path.open("rb") as file:
                matrix = scipy.sparse.load_npz(file)
            if hasattr(matrix, "check_format"):
                # Compiled code trusts the indices: one beyond the end would be a crash.
                matrix.check_format(full_check=True)
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
    n_entries = matrix.nnz if scipy.sparse.issparse(matrix) else matrix.size
    if matrix.shape[0] > 100 * n_entries + 10**6:
        raise UsageError(
            f"{path} has {matrix.shape[0]} rows and {n_entries} entries: nearly all rows are "
            "empty. Is its size right?"
        )
    if matrix.dtype.kind not in "biufc":
        raise UsageError(f"{path} holds {matrix.dtype}, which are no numbers.")
    return matrix


def _read_matrix_market(path: Path) -> Any:
    try:
        if _ends_its_last_line(path):
            return scipy.io.mmread(path, spmatrix=False)
        # SciPy's parser looks for the end of a damaged last line beyond the end of the file.
        with _open_text(path) as file:
            return scipy.io.mmread(io.BytesIO(file.read() + b"\n"), spmatrix=False)
    # It raises what its parts raise: ValueError, OverflowError, EOFError, zlib.error, ...
    except Exception as error:
        raise _unreadable(path, "a Matrix Market file", error) from None


def _open_text(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _ends_its_last_line(path: Path) -> bool:
    """Return that; raise ``ValueError`` for text on which SciPy's parser would crash or guess."""
    last = b""
    with _open_text(path) as file:
        while chunk := file.read(2**20):
            if b"\x00" in chunk:
                raise ValueError("it is no text: there are zero bytes in it")
            last = chunk[-1:]
    if last in (b"e", b"E", b"+", b"-"):
        raise ValueError("it ends in the middle of a number")
    return last == b"\n"


def _read_rhs(path: Path | None, n: int) -> np.ndarray:
    if path is None:
        return np.ones(n)
    _check_readable(path)
    if path.suffix == ".npy":
        try:
            b = load_npy(path)
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
    words = " ".join(str(error).split())[:300]
    return UsageError(f"{path} is not {what}: {words or type(error).__name__}")


def _relative_residual(matrix: Any, x: np.ndarray, b: np.ndarray) -> float:
    b = b.reshape(x.shape)
    # In units of the largest entries: squares would leave the range of the numbers.
    size = np.max(np.abs(b), axis=0, initial=0.0)
    size = np.where(size > 0, size, 1)
    norms = np.linalg.norm(b / size, axis=0)
    residuals = np.linalg.norm(b / size - matrix @ (x / size), axis=0)
    return float(np.max(residuals / np.where(norms > 0, norms, 1)))
