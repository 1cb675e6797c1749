"""What SciPy users pass to a linear solver, checked and turned into one form.

`read_system` takes the matrix, right-hand side, first guess and preconditioner of a call in SciPy's
manner. If all of them can live in JAX, a solver runs as one compiled program; if one is a foreign
host object (a `scipy.sparse.linalg.LinearOperator`, a plain function), it iterates in NumPy with
`LinearSystem.matvec` and `LinearSystem.precondition`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from ..core import RESULTS, Solution, check_count, check_non_negative, check_not_traced
from ..numerics._sparse_matrix import SparseMatrix
from ..numerics._stencil import StencilOperator
from ._hermitian_matrix import known_to_scipy
from ._multigrid import MultigridPreconditioner
from ._preconditioner_operator import (
    Application,
    DenseMatrix,
    MatrixOnGrid,
    OnParts,
    PreconditionerOperator,
    Reshaped,
    call_compiled,
)

HostMap = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class LinearSystem:
    """A linear system in one form, whatever it was passed as.

    Attributes
    ----------
    dtype
        Precision of the solve.
    n_points
        Shape of one vector in JAX: that of the grid, or ``(n,)``.
    rhs
        Right-hand sides, shape ``(k, n)``.
    x0
        First guesses, shape ``(k, n)``, or None for zero.
    result_shape
        Shape that the answer is to have.
    operator
        In JAX, with ``mv`` on arrays of shape ``n_points``; None for a foreign object.
    preconditioner
        In JAX, a callable on arrays of shape ``n_points``; None if there is none or it is foreign.
    preconditioner_dtype
        Precision in which it computes; None for that of the solve.
    matvec
        ``A`` on host arrays of shape ``(n,)``.
    precondition
        ``M`` on such arrays; None if there is none.
    matrix
        ``A`` as SciPy's CSR or a dense array where it is known entry by entry, otherwise None.
    on_host
        Whether something foreign is in it, so that the iteration must run in NumPy.
    known
        What a preconditioner made for this very matrix knows of it.
    """

    dtype: np.dtype
    n_points: tuple[int, ...]
    rhs: np.ndarray
    x0: np.ndarray | None
    result_shape: tuple[int, ...]
    operator: Any
    preconditioner: Any
    preconditioner_dtype: np.dtype | None
    matvec: HostMap
    precondition: HostMap | None
    matrix: Any
    on_host: bool
    known: MatrixOnGrid | None = None

    @property
    def n(self) -> int:
        """The number of unknowns."""
        return self.rhs.shape[1]

    @property
    def has_many(self) -> bool:
        """Whether there are several right-hand sides, as columns of ``b``."""
        return len(self.rhs) > 1

    def restore(self, x: np.ndarray) -> np.ndarray:
        """Return solutions of shape ``(k, n)`` in the shape that the caller expects."""
        x = x.T if self.has_many else x
        return np.ascontiguousarray(x.reshape(self.result_shape))


def read_system(A: Any, b: Any, x0: Any = None, M: Any = None) -> LinearSystem:
    """Check and convert what a SciPy user passes.

    Parameters
    ----------
    A
        Square: array, scipy.sparse matrix of any format, `scipy.sparse.linalg.LinearOperator`,
        JAX BCOO or BCSR, lineax operator tagged positive semidefinite, `StencilOperator`,
        `SparseMatrix`.
    b
        Shape ``(n,)``, ``(n, 1)``, the shape of the grid, or ``(n, k)``.
    x0
        Shape ``(n,)`` or that of ``b``; ``"Mb"`` for ``M b``; None for zero.
    M
        Approximate inverse of ``A``: what SciPy takes, a callable pytree, an operator of sciml.

    Returns
    -------
    LinearSystem
        The system, in float32 if ``A`` and ``b`` are, otherwise in float64 (or complex). A lineax
        operator sets its own precision.

    Raises
    ------
    ValueError
        If shapes do not match, or a lineax operator is not tagged.
    TypeError
        If an argument is of a kind that is not known.
    """
    A = known_operator(A)
    n_points, a_dtype, matrix = _structure(A)
    n = int(np.prod(n_points))
    if n == 0:
        raise ValueError("`A` must have at least one row, got shape (0, 0).")
    b = _numbers("b", b)
    if b.shape in ((n,), (n, 1)):
        result_shape, rhs = (n,), b.reshape(1, n)
    elif b.shape == n_points:
        result_shape, rhs = b.shape, b.reshape(1, n)
    elif b.ndim == 2 and b.shape[0] == n and b.shape[1] > 0:
        result_shape, rhs = b.shape, b.T
    else:
        grid = f", {n_points}" if len(n_points) > 1 else ""
        raise ValueError(
            f"`b` must have shape ({n},), ({n}, 1){grid} or ({n}, k) for `A` of shape ({n}, {n}), "
            f"got {b.shape}."
        )
    if isinstance(A, lx.AbstractLinearOperator):
        dtype = np.dtype(a_dtype)
        if np.iscomplexobj(b) and dtype.kind != "c":
            raise ValueError(f"`b` is complex, but the lineax operator `A` has dtype {dtype}.")
    else:
        dtype = _solve_dtype(a_dtype, b.dtype)
    rhs = np.ascontiguousarray(rhs, dtype)
    known = M.origin if isinstance(M, PreconditionerOperator) else None
    if known is not None and (known.operator.dtype != dtype or not known.is_of(A)):
        known = None
    if known is not None:
        n_points = known.operator.n_points

    preconditioner, precondition, m_dtype = _read_preconditioner(M, n_points, dtype)
    foreign_a = isinstance(A, LinearOperator)
    on_host = foreign_a or (precondition is not None and preconditioner is None)
    if known is not None:
        operator = known.operator
    else:
        operator = None if foreign_a else _jax_operator(A, dtype)
    system = LinearSystem(
        dtype,
        n_points,
        rhs,
        None,
        result_shape,
        operator,
        preconditioner,
        _narrower(m_dtype, dtype),
        host_map(_host_product(A, operator, matrix, dtype), n_points),
        precondition,
        matrix,
        on_host,
        known,
    )
    return dataclasses.replace(system, x0=_first_guess(x0, system))


def read_limits(rtol: Any, atol: Any, maxiter: Any, n: int) -> tuple[float, float, int]:
    """Check tolerances and the number of iterations (10 n by default, as in SciPy).

    Raises
    ------
    ValueError
        If one is negative or not finite.
    TypeError
        If ``maxiter`` is not an integer.
    """
    check_non_negative("rtol", rtol)
    check_non_negative("atol", atol)
    maxiter = 10 * n if maxiter is None else check_count("maxiter", maxiter, minimum=0)
    return float(rtol), float(atol), min(maxiter, 2**31 - 2)


def scipy_info(solution: Solution, *, exact: bool = False) -> np.ndarray:
    """Return the ``info`` of SciPy's solvers for each right-hand side.

    Parameters
    ----------
    solution
        What a solver of sciml returned; ``stats`` must have ``num_steps``.
    exact
        Whether no tolerance was given: then rounding is where the iteration has to end, and no
        failure of its own.

    Returns
    -------
    numpy.ndarray
        0 for success, the number of iterations (1 at least) where their limit was reached, -1 for
        a breakdown (not positive definite), -2 for non-finite numbers, -3 for stagnation.
    """
    steps = np.maximum(np.asarray(solution.stats["num_steps"]), 1)
    code = np.asarray(ending(solution.result))
    if exact:
        code = np.where(code == -3, 1, code)
    return np.where(code > 0, steps, code)


@eqx.filter_jit
def ending(result: Any) -> Any:
    """Return 0 for success, 1 for the limit of iterations, or the code of another failure."""
    code = jnp.where(result == RESULTS.successful, 0, 1)
    failures = ((RESULTS.breakdown, -1), (RESULTS.nonfinite_input, -2), (RESULTS.stagnation, -3))
    for member, failure in failures:
        code = jnp.where(result == member, failure, code)
    return code


def known_operator(A: Any) -> Any:
    """Return ``A`` as one of the kinds that the functions below tell apart."""
    if isinstance(A, StencilOperator | SparseMatrix | LinearOperator):
        return A
    if isinstance(A, lx.AbstractLinearOperator):
        if not lx.is_positive_semidefinite(A):
            raise ValueError(
                "`A` is a lineax operator without the tag `lineax.positive_semidefinite_tag`: "
                "conjugate gradients need a positive definite operator. If it is one, add the tag "
                "with `lineax.TaggedLinearOperator`."
            )
        return A
    from jax.experimental.sparse import BCOO, BCSR  # here: it is slow to import

    if isinstance(A, BCOO):
        entries = (_numbers("A", A.data), np.asarray(A.indices).T)
        return scipy.sparse.coo_array(entries, shape=A.shape).tocsr()
    if isinstance(A, BCSR):
        entries = (_numbers("A", A.data), np.asarray(A.indices), np.asarray(A.indptr))
        return scipy.sparse.csr_array(entries, shape=A.shape)
    if scipy.sparse.issparse(A):
        _check_kind("A", A.dtype)
        return known_to_scipy(A)
    if isinstance(A, list | tuple | np.ndarray | jax.Array):
        return _numbers("A", A)
    if hasattr(A, "shape") and hasattr(A, "matvec"):
        return aslinearoperator(A)
    raise TypeError(
        "`A` must be an array, a scipy.sparse matrix, a scipy LinearOperator, a JAX BCOO or BCSR, "
        f"a lineax operator, a StencilOperator or a SparseMatrix, got {type(A).__name__}."
    )


def _structure(A: Any) -> tuple[tuple[int, ...], Any, Any]:
    """Return shape of a vector, dtype, and the matrix where its entries are known."""
    if isinstance(A, StencilOperator):
        return A.n_points, np.dtype(A.dtype), None
    if isinstance(A, lx.AbstractLinearOperator):
        into, out = A.in_structure(), A.out_structure()
        if not isinstance(into, jax.ShapeDtypeStruct):
            raise ValueError("the lineax operator `A` must act on one array, not on a tree.")
        if not isinstance(out, jax.ShapeDtypeStruct) or into.shape != out.shape:
            raise ValueError(f"`A` must be square; it maps {into} to {out}.")
        return tuple(into.shape), into.dtype, None
    if len(A.shape) != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"`A` must be a square matrix, got shape {tuple(A.shape)}.")
    dtype = np.dtype(A.dtype) if A.dtype is not None else np.dtype(float)
    if isinstance(A, LinearOperator):
        matrix = None
    elif isinstance(A, SparseMatrix):
        matrix = A.to_scipy()
    else:
        matrix = scipy.sparse.csr_array(A) if scipy.sparse.issparse(A) else A
    return (int(A.shape[0]),), dtype, matrix


def _host_product(A: Any, operator: Any, matrix: Any, dtype: np.dtype) -> Any:
    """Return what applies ``A`` on the host with least trouble."""
    if isinstance(A, LinearOperator):
        return A.matvec
    if matrix is None:
        return operator
    return matrix.astype(dtype, copy=False).__matmul__


def _jax_operator(A: Any, dtype: np.dtype) -> Any:
    if isinstance(A, StencilOperator | SparseMatrix | lx.AbstractLinearOperator):
        return A
    with jax.enable_x64(True):
        if scipy.sparse.issparse(A):
            return SparseMatrix.from_scipy(A, dtype)
        return DenseMatrix(jnp.asarray(A, dtype))


def _read_preconditioner(
    M: Any, n_points: tuple[int, ...], solve_dtype: np.dtype
) -> tuple[Any, HostMap | None, np.dtype | None]:
    """Return the preconditioner in JAX (if it can be there), on the host, and its dtype."""
    if M is None:
        return None, None, None
    n = int(np.prod(n_points))
    if hasattr(M, "aspreconditioner"):  # pyamg's hierarchies
        M = M.aspreconditioner()
    shape = getattr(M, "shape", None)
    if shape is not None and tuple(shape) != (n, n):
        raise ValueError(f"`M` has shape {tuple(shape)}, `A` has shape ({n}, {n}).")
    if isinstance(M, PreconditionerOperator):
        _check_not_complex(M.dtype, solve_dtype)
        inner = M.preconditioner
        if M.n_points != n_points:
            inner = Reshaped(inner, M.n_points)
        if solve_dtype.kind == "c" and np.dtype(M.dtype).kind != "c":
            inner = OnParts(inner)
        return inner, M.matvec, np.dtype(M.dtype)
    if isinstance(M, LinearOperator):
        return None, functools.partial(_checked_call, M.matvec, solve_dtype), None
    if isinstance(M, list | tuple | np.ndarray | jax.Array) or scipy.sparse.issparse(M):
        matrix: Any = known_to_scipy(M) if scipy.sparse.issparse(M) else _numbers("M", M)
        if matrix.shape != (n, n):
            raise ValueError(f"`M` has shape {matrix.shape}, `A` has shape ({n}, {n}).")
        _check_not_complex(matrix.dtype, solve_dtype)
        M = _jax_operator(matrix, np.result_type(matrix.dtype, np.float32))
    if hasattr(M, "mv") and not callable(M):
        inner_points = _points_of(M, (n,))
        M = Application(M)
    else:
        inner_points = _points_of(M, n_points)
    if isinstance(M, eqx.Module | jax.tree_util.Partial) and callable(M):
        if int(np.prod(inner_points)) != n:
            raise ValueError(f"`M` acts on a grid of {inner_points}, `A` has shape ({n}, {n}).")
        inner = M if inner_points == n_points else Reshaped(M, inner_points)
        dtype = _dtype_of_leaves(M)
        return inner, host_map(inner, n_points, dtype), dtype
    if callable(M):
        return None, functools.partial(_checked_call, M, solve_dtype), None
    raise TypeError(
        "`M` must be a scipy LinearOperator, an array, a scipy.sparse matrix, a callable, or a "
        f"preconditioner of sciml, got {type(M).__name__}."
    )


def _points_of(M: Any, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a preconditioner takes, as far as it says so."""
    if isinstance(M, lx.AbstractLinearOperator):
        return tuple(M.in_structure().shape)
    n_points = getattr(M, "n_points", None)
    if n_points is None:
        n_points = getattr(getattr(M, "operator", None), "n_points", default)
    return tuple(n_points)


def _dtype_of_leaves(tree: Any) -> np.dtype | None:
    if isinstance(tree, MultigridPreconditioner):
        tree = tree.operator  # it scales what it gets before it takes it to its own precision
    dtype = getattr(tree, "dtype", None)
    if dtype is not None:
        return np.dtype(dtype)
    leaves = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    return np.dtype(np.result_type(*(leaf.dtype for leaf in leaves))) if leaves else None


def _narrower(dtype: np.dtype | None, than: np.dtype) -> np.dtype | None:
    """Return the precision of a preconditioner if it is below that of the solve."""
    if dtype is None or np.finfo(dtype).eps <= np.finfo(than).eps:
        return None
    return np.result_type(dtype, np.complex64) if than.kind == "c" else dtype


def _checked_call(M: Callable[[Any], Any], dtype: np.dtype, r: np.ndarray) -> np.ndarray:
    z = np.asarray(M(r))
    if z.size != r.size:
        raise ValueError(f"`M` returned shape {z.shape} for a vector of shape {r.shape}.")
    _check_not_complex(z.dtype, dtype)
    return z.reshape(r.shape)


def _check_not_complex(dtype: Any, solve_dtype: np.dtype) -> None:
    if np.dtype(dtype).kind == "c" and solve_dtype.kind != "c":
        raise ValueError("`M` returned complex numbers, but `A` and `b` are real.")


def _first_guess(x0: Any, system: LinearSystem) -> np.ndarray | None:
    if x0 is None:
        return None
    n, k = system.n, len(system.rhs)
    if isinstance(x0, str):
        if x0 != "Mb":
            raise ValueError(f"`x0` must be an array, None or 'Mb', got {x0!r}.")
        apply = system.precondition
        if apply is None:
            return system.rhs.copy()
        guess = np.stack([np.asarray(apply(row)).reshape(n) for row in system.rhs])
        return guess.astype(system.dtype)
    x0 = _numbers("x0", x0)
    if np.iscomplexobj(x0) and system.dtype.kind != "c":
        raise ValueError("`x0` is complex, but `A` and `b` are real.")
    if x0.shape in ((n,), (n, 1), system.n_points):
        x0 = np.broadcast_to(x0.reshape(1, n), (k, n))
    elif system.has_many and x0.shape == (n, k):
        x0 = x0.T
    else:
        raise ValueError(f"`x0` must have the shape of `b`, {system.result_shape}, got {x0.shape}.")
    return np.array(x0, system.dtype, order="C")


def _numbers(name: str, value: Any) -> np.ndarray:
    if scipy.sparse.issparse(value):
        raise TypeError(f"`{name}` must be a dense array, got a sparse one.")
    check_not_traced(name, value, "solvers with SciPy's interface read it")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` is not an array: {error}") from None
    _check_kind(name, array.dtype)
    return known_to_scipy(array)


def _check_kind(name: str, dtype: np.dtype) -> None:
    if dtype.kind not in "biufc":
        raise TypeError(f"`{name}` must hold numbers, got dtype {dtype}.")


def _solve_dtype(*dtypes: Any) -> np.dtype:
    """Return the precision of the solve: integers count as float64, halves as float32."""
    wide = [d if np.dtype(d).kind in "fc" else np.dtype(float) for d in dtypes]
    dtype = np.result_type(*wide, np.float32)
    # JAX has no extended precision.
    widest = np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    return widest if dtype.itemsize > widest.itemsize else dtype


def host_map(function: Any, n_points: tuple[int, ...], dtype: np.dtype | None = None) -> HostMap:
    """Return a map on host vectors of shape ``(n,)`` from a JAX object or a host function."""
    if not isinstance(function, eqx.Module | jax.tree_util.Partial):

        def on_host(x: np.ndarray) -> np.ndarray:
            return np.asarray(function(x)).reshape(x.shape)

        return on_host
    if not callable(function):
        function = Application(function)

    def through_jax(x: np.ndarray) -> np.ndarray:
        wanted = dtype
        if dtype is not None and np.iscomplexobj(x):
            wanted = np.result_type(dtype, np.complex64)
        with jax.enable_x64(True):
            result = call_compiled(function, jnp.asarray(x.reshape(n_points), wanted))
            return np.asarray(result).reshape(x.shape)

    return through_jax
