"""A preconditioner for a given matrix, as a SciPy ``LinearOperator``."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.sharding import Mesh
from jaxtyping import Array, Inexact
from scipy.sparse.linalg import LinearOperator

from ..core import check_count, import_optional, warn_caller
from ..numerics._sparse_matrix import SparseMatrix
from ..numerics._stencil import StencilOperator
from ._algebraic_multigrid import AlgebraicMultigridPreconditioner
from ._grid_detection import detect_grid, plain_grid_operator, wrapping_axes
from ._hermitian_matrix import checked_hermitian as checked_hermitian
from ._hermitian_matrix import with_unit_rows
from ._multigrid import MultigridPreconditioner
from ._preconditioner_operator import HostPreconditioner, MatrixOnGrid, PreconditionerOperator
from ._scipy_inputs import known_operator
from ._sor import ssor_preconditioner

# From here on symmetric Gauss-Seidel needs hundreds of iterations on a Poisson problem.
_LARGE = 50_000


class DiagonalPreconditioner(eqx.Module):
    """Jacobi's preconditioner: division by the diagonal.

    Parameters
    ----------
    inverse_diagonal
        One over the diagonal; 1 in empty rows.
    """

    inverse_diagonal: Inexact[Array, "*shape"]

    def __call__(self, r: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
        """Return the preconditioned vector."""
        return self.inverse_diagonal.astype(r.dtype) * r


def aspreconditioner(
    A: Any, *, n_points: Sequence[int] | None = None, mesh: Mesh | None = None
) -> LinearOperator:
    """Return a linear, Hermitian, positive definite approximation of the inverse of ``A``.

    It is valid as ``M=`` of `cg` and of SciPy's own ``cg``. Which one it is depends on ``A``, and
    its attribute ``kind`` says so:

    - on a structured grid (a `StencilOperator`, or a real matrix whose diagonals show the grid)
      the learned multigrid cycle, which runs in JAX: `cg` keeps the whole iteration compiled;
    - otherwise `AlgebraicMultigridPreconditioner`, smoothed aggregation with learned smoothing, if
      PyAMG is installed (``pip install 'sciml[amg]'``); it runs on the host, in single precision;
    - otherwise symmetric Gauss-Seidel, which is classical; the number of iterations grows with the
      size of the matrix, for which there is a warning.

    Parameters
    ----------
    A
        Hermitian positive definite: `StencilOperator`, `SparseMatrix`, scipy.sparse, array, JAX
        BCOO or BCSR.
    n_points
        Points along each axis of the grid, unknowns numbered row-major; found from the diagonals
        by default.
    mesh
        Devices that share the grid, see `MultigridPreconditioner`; `cg` parts its vectors alike.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        With the attribute ``kind``.

    Raises
    ------
    ValueError
        If ``A`` is not square, not finite, not Hermitian, visibly not positive definite, or does
        not fit ``n_points``; if there is a mesh that does not divide the grid, or no grid.
    TypeError
        If the entries of ``A`` are not known (a LinearOperator).

    Warns
    -----
    RuntimeWarning
        If nothing better than symmetric Gauss-Seidel is at hand for a large matrix.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> A = scipy.sparse.csr_array([[4.0, 0.0, -1.0], [0.0, 5.0, 0.0], [-1.0, 0.0, 3.0]])
    >>> aspreconditioner(A).shape
    (3, 3)
    """
    if n_points is not None:
        n_points = tuple(check_count("n_points", n) for n in n_points)
    if isinstance(A, StencilOperator):
        if n_points is not None and tuple(n_points) != A.n_points:
            raise ValueError(f"`A` is on a grid of {A.n_points}, `n_points` says {n_points}.")
        return _multigrid(A, mesh=mesh)
    A = known_operator(A)
    if isinstance(A, SparseMatrix):
        A = A.to_scipy()
    if not isinstance(A, np.ndarray) and not scipy.sparse.issparse(A):
        raise TypeError(
            "`aspreconditioner` needs the entries of `A`: pass a matrix, not an operator; got "
            f"{type(A).__name__}."
        )
    with jax.enable_x64(True):
        operator = plain_grid_operator(A, n_points)
    if operator is not None:
        return _multigrid(operator, A, mesh)
    matrix = checked_hermitian(A)
    if matrix.dtype.kind != "c":
        grid = _grid(matrix, n_points)
        if grid is not None:
            with jax.enable_x64(True):
                # Without stored zeros and the like it may be a plain one.
                operator = plain_grid_operator(matrix, grid[0])
                if operator is None:
                    operator = StencilOperator.from_scipy(matrix, *grid)
            return _multigrid(operator, A, mesh)
    elif n_points is not None:
        raise ValueError("`n_points` is for real matrices: the multigrid cycle is real.")
    if mesh is not None:
        raise ValueError(
            "`mesh` parts the grid of the multigrid cycle, and `A` is "
            + ("complex." if matrix.dtype.kind == "c" else "on no structured grid.")
            + " Leave it out."
        )
    if importlib.util.find_spec("pyamg") is not None:
        return AlgebraicMultigridPreconditioner(matrix)
    if matrix.shape[0] > _LARGE:
        warn_caller(
            f"`A` ({matrix.shape[0]} unknowns) is on no structured grid and PyAMG is not "
            "installed: symmetric Gauss-Seidel is what is left, and needs many iterations on a "
            "large matrix. Install PyAMG (`pip install 'sciml[amg]'`).",
        )
    return symmetric_gauss_seidel(matrix)


def jacobi(matrix: Any) -> PreconditionerOperator:
    """Return Jacobi's preconditioner of a CSR matrix."""
    diagonal = with_unit_rows(matrix).diagonal().real
    with jax.enable_x64(True):
        inverse = DiagonalPreconditioner(jnp.asarray(1 / diagonal))
    return PreconditionerOperator(inverse, (diagonal.size,), diagonal.dtype, "Jacobi")


def symmetric_gauss_seidel(matrix: Any) -> HostPreconditioner:
    """Return symmetric Gauss-Seidel, SSOR with factor 1, of a Hermitian CSR matrix."""
    matrix = with_unit_rows(matrix)
    operator = ssor_preconditioner(matrix, 1.0)
    return HostPreconditioner(
        operator.matvec, matrix.shape[0], matrix.dtype, "symmetric Gauss-Seidel"
    )


def smoothed_aggregation(matrix: Any) -> HostPreconditioner:
    """Return a V-cycle of PyAMG's smoothed aggregation for a Hermitian CSR matrix."""
    pyamg = import_optional("pyamg", "Smoothed aggregation")
    # PyAMG wants the older class.
    matrix = scipy.sparse.csr_matrix(with_unit_rows(matrix))
    hierarchy = pyamg.smoothed_aggregation_solver(matrix, symmetry="hermitian")
    cycle = hierarchy.aspreconditioner(cycle="V")
    return HostPreconditioner(
        cycle.matvec, matrix.shape[0], matrix.dtype, "smoothed aggregation (PyAMG)"
    )


def _multigrid(
    operator: StencilOperator, matrix: Any = None, mesh: Mesh | None = None
) -> PreconditionerOperator:
    with jax.enable_x64(True):
        preconditioner = MultigridPreconditioner(operator, mesh=mesh)
        # The coarsest operator inherits definiteness.
        definite = bool(preconditioner.hierarchy.coarse_solve.is_definite)
    if not definite:
        raise ValueError(
            "`A` is not positive definite: its Galerkin operator on a coarse grid is not. "
            "For a symmetric indefinite matrix use `scipy.sparse.linalg.minres`."
        )
    is_csr = scipy.sparse.issparse(matrix) and matrix.format == "csr"
    return PreconditionerOperator(
        preconditioner,
        operator.n_points,
        # It scales what it gets before it takes it to float32, and back after.
        operator.dtype,
        "learned multigrid",
        MatrixOnGrid(matrix, operator) if is_csr else None,
    )


def _grid(
    matrix: Any, n_points: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[bool, ...]] | None:
    if n_points is None:
        return detect_grid(matrix)
    n_points = tuple(n_points)
    if int(np.prod(n_points)) != matrix.shape[0]:
        raise ValueError(
            f"a grid of {n_points} has {int(np.prod(n_points))} unknowns, `A` has shape "
            f"{matrix.shape}."
        )
    rows, columns = matrix.tocoo().coords
    periodic = wrapping_axes(rows, columns, n_points)
    if periodic is None:
        raise ValueError(
            f"`A` couples points that are no neighbours on a grid of {n_points}; only neighbours "
            "(diagonal ones too) fit a stencil."
        )
    return n_points, periodic
