"""Conjugate gradients for SciPy users: the signature of `scipy.sparse.linalg.cg`, compiled."""

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.sparse
from jax.sharding import Mesh

from ..core import RealScalar, Solution, cites, warn_caller
from ..numerics._stencil import StencilOperator
from ._algebraic_multigrid import AlgebraicMultigridPreconditioner
from ._conjugate_gradient import HESTENES_1952, conjugate_gradient
from ._host_conjugate_gradient import host_conjugate_gradient, stacked_solutions
from ._linearity_probe import linearity_complaint
from ._multigrid import MultigridPreconditioner
from ._nullspace import ConstantNullspace
from ._preconditioner_operator import HostPreconditioner, PreconditionerOperator
from ._scipy_door import MOST_HISTORY, find_nullspace, scipy_answer, warn_if_not_hermitian
from ._scipy_inputs import LinearSystem, read_limits, read_system

# Preconditioners that were tried on random vectors, by identity: modules cannot be hashed.
_TRIED: dict[int, weakref.ref] = {}


@cites(HESTENES_1952)
def cg(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: RealScalar = 1e-5,
    atol: RealScalar = 0.0,
    maxiter: Any = None,
    M: Any = None,
    callback: Callable[[np.ndarray], object] | None = None,
    full_output: bool = False,
    mesh: Mesh | None = None,
) -> Any:
    """Solve ``A x = b`` for a Hermitian positive definite ``A``; replaces SciPy's ``cg``.

    The iterates are those of SciPy. The differences: a solution is reported only if its
    recomputed residual satisfies the tolerance; failures have codes of their own; singular
    Neumann problems are projected; several right-hand sides are solved at once. The whole
    iteration is one compiled program (compiled once for each shape), unless ``A`` or ``M`` is a
    foreign host object or there is a ``callback``: then it runs in NumPy.

    Parameters
    ----------
    A
        Square matrix: array, scipy.sparse of any format, scipy LinearOperator, JAX BCOO or BCSR,
        lineax operator tagged positive semidefinite, `StencilOperator`, `SparseMatrix`. Passing
        one of the last two saves the conversion in repeated calls.
    b
        Right-hand side: ``(n,)``, ``(n, 1)``, the shape of the grid, or ``(n, k)`` for ``k`` of
        them.
    x0
        Where to start, or ``"Mb"`` for ``M b``; zero by default, and where ``b`` would vanish
        beside its residual (1e-14 of it in float32).
    rtol, atol
        Converged when ``||b - A x||_2 <= max(rtol ||b||_2, atol)``.
    maxiter
        The most iterations; ``10 n`` by default.
    M
        Linear Hermitian positive definite approximation of the inverse of ``A``: a matrix, a
        scipy LinearOperator, a callable pytree (an Equinox module), or what `aspreconditioner`
        returns. Of the last two, one in float32 is called in float32 inside a float64 solve.
    callback
        Called as ``callback(xk)`` after each iteration, with a copy.
    full_output
        Return a third value, the record.
    mesh
        Devices that share the grid of a `StencilOperator`, or of a matrix with
        ``M=aspreconditioner(A, mesh=mesh)``, see `MultigridPreconditioner`; by default those of
        ``M``. ``A``, ``b`` and ``x`` are on the host as a whole.

    Returns
    -------
    x : numpy.ndarray
        The answer in the shape of ``b``; ``(n,)`` for ``(n, 1)``, as in SciPy. It has the
        precision of ``A`` and ``b``: float32 if both are, otherwise float64 (or complex).
    info : int
        0: converged. Positive: not converged, the number of iterations done (1 for
        ``maxiter=0``, where SciPy reports 0). -1: ``A`` or ``M`` is not positive definite. -2: a
        NaN or infinity. -3: stagnation: rounding, an answer below the range of the precision, or a
        part of ``b`` that no ``x`` can reach, keeps the true residual above the tolerance. An
        array of ``k`` for several right-hand sides.
    record : dict
        With ``full_output`` only: ``num_steps``, ``residual_norm`` (true), ``residual_history``
        (the first 131 072, one row for each of several right-hand sides), ``matvecs``,
        ``incompatible_norm`` and ``message``.

    Raises
    ------
    ValueError
        If shapes do not match, a tolerance is negative, a lineax operator lacks the tag, the mesh
        does not divide the grid or is another one than that of ``M``, or there is a mesh where the
        iteration runs in NumPy.
    TypeError
        If an argument is of an unknown kind, or there is a mesh and no grid.

    Warns
    -----
    RuntimeWarning
        If ``A`` is not Hermitian, ``M`` is not linear or not Hermitian (tried on two random
        vectors, once for each object), or a singular system is incompatible with ``b``.

    Notes
    -----
    If each row of a connected component of ``A`` adds up to zero (Neumann conditions all around),
    constants on it are in the nullspace: right-hand side and solution are projected, and ``x`` has
    zero mean there. An operator whose entries are not at hand (a scipy LinearOperator, one of
    lineax) is tried with one constant on all unknowns only, so that of several closed components
    none is found. The precision does not depend on ``jax_enable_x64``.

    On failure the answer is the iterate of least true residual among those for which one was
    computed, ``x0`` (or zero) included: never worse than the start; zero where ``x0`` or the answer
    is not finite. Only where ``maxiter < n`` was not enough it is the last iterate, as in SciPy.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> from sciml.linear_solvers import cg
    >>> A = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
    >>> x, info = cg(A, np.ones(50), rtol=1e-8)
    >>> info, bool(np.linalg.norm(A @ x - 1) < 1e-7)
    (0, True)
    """
    system = read_system(A, b, x0, M)
    rtol, atol, maxiter = read_limits(rtol, atol, maxiter, system.n)
    if callback is not None and system.has_many:
        raise ValueError("`callback` takes one right-hand side; solve column by column.")
    if mesh is not None and (system.on_host or callback is not None):
        raise ValueError(
            "`mesh` is for iterations that are compiled: leave out `callback`, and pass `A` and "
            "`M` as a `StencilOperator` and `MultigridPreconditioner`, or a matrix and its "
            "`aspreconditioner`."
        )
    if not isinstance(A, StencilOperator):
        warn_if_not_hermitian(system)
    _warn_if_not_linear(M, system)
    nullspace = find_nullspace(system)
    if system.on_host or callback is not None:
        solution = _solve_on_host(system, rtol, atol, maxiter, nullspace, callback)
    else:
        n_history = _history_length(maxiter) if full_output else 0
        solution = _solve_in_jax(system, rtol, atol, maxiter, nullspace, n_history, mesh)
    return scipy_answer(solution, system, nullspace, rtol=rtol, atol=atol, full_output=full_output)


def _history_length(maxiter: int) -> int:
    # Powers of two, so that few lengths are compiled.
    return 1 << (min(maxiter, MOST_HISTORY - 1)).bit_length()


def _solve_in_jax(
    system: LinearSystem,
    rtol: float,
    atol: float,
    maxiter: int,
    nullspace: ConstantNullspace | None,
    n_history: int,
    mesh: Mesh | None,
) -> Solution:
    with jax.enable_x64(True):
        # Arrays of NumPy go to the device within the compiled call, which is where it is cheapest.
        b = system.rhs.reshape(-1, *system.n_points)
        x0 = None if system.x0 is None else system.x0.reshape(b.shape)
        real = np.finfo(b.dtype).dtype
        solution = _solve_columns(
            system.operator,
            b,
            x0,
            system.preconditioner,
            np.asarray(rtol, real),
            np.asarray(atol, real),
            np.asarray(maxiter, np.int32),
            nullspace,
            system.preconditioner_dtype,
            n_history,
            mesh,
        )
        return jax.block_until_ready(solution)


@eqx.filter_jit
def _solve_columns(
    operator, b, x0, preconditioner, rtol, atol, max_steps, nullspace, dtype, n_history, mesh
) -> Solution:
    def one(b, x0):
        return conjugate_gradient(
            operator,
            b,
            x0,
            preconditioner=preconditioner,
            rtol=rtol,
            atol=atol,
            max_steps=max_steps,
            nullspace=nullspace,
            preconditioner_dtype=dtype,
            n_history=n_history,
            mesh=mesh,
        )

    if len(b) == 1:
        return one(b[0], None if x0 is None else x0[0])
    return jax.vmap(one, in_axes=(0, None if x0 is None else 0))(b, x0)


def _solve_on_host(
    system: LinearSystem,
    rtol: float,
    atol: float,
    maxiter: int,
    nullspace: ConstantNullspace | None,
    callback: Callable[[np.ndarray], object] | None,
) -> Solution:
    project = None if nullspace is None else nullspace.project_on_host
    told = None
    if callback is not None:
        told = lambda x: callback(x.reshape(system.result_shape))  # noqa: E731
    solutions = [
        host_conjugate_gradient(
            system.matvec,
            b,
            None if system.x0 is None else system.x0[k],
            precondition=system.precondition,
            rtol=rtol,
            atol=atol,
            max_steps=maxiter,
            project=project,
            callback=told,
        )
        for k, b in enumerate(system.rhs)
    ]
    return stacked_solutions(solutions) if system.has_many else solutions[0]


def _was_tried(M: Any) -> bool:
    """Return whether this very object was asked about before."""
    if isinstance(M, np.ndarray) or scipy.sparse.issparse(M):
        return False  # its entries may have been changed since
    key = id(M)
    known = _TRIED.get(key)
    if known is not None and known() is M:
        return True
    with contextlib.suppress(TypeError):  # a list
        _TRIED[key] = weakref.ref(M, lambda _: _TRIED.pop(key, None))
    return False


def _warn_if_not_linear(M: Any, system: LinearSystem) -> None:
    """Try a foreign preconditioner, which may be a network, on two vectors; once for each."""
    known = (
        PreconditionerOperator
        | HostPreconditioner
        | MultigridPreconditioner
        | AlgebraicMultigridPreconditioner
    )
    if system.precondition is None or isinstance(M, known):
        return
    if _was_tried(M):
        return
    # A plain function does not say in which precision it computes.
    precision = np.dtype(np.float32) if system.preconditioner is None else None
    complaint = linearity_complaint(
        system.precondition,
        system.n,
        system.dtype,
        precision=system.preconditioner_dtype or precision,
    )
    if complaint is not None:
        warn_caller(
            f"`M` {complaint}. Conjugate gradients need a linear Hermitian preconditioner; for a "
            "nonlinear one there is `dcdm`.",
        )
