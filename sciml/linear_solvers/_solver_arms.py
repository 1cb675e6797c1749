"""Whole solver configurations as small objects, for `TunedSolver` to choose from."""

import abc
import math
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np
import scipy.sparse
from scipy.linalg import norm
from scipy.sparse.linalg import splu

from ..core import RealScalar, import_optional
from ._host_conjugate_gradient import host_conjugate_gradient
from ._sor import check_omega, ssor_preconditioner


class Attempt(NamedTuple):
    """What an arm made of a system: the last iterate, and its number of steps if it counts."""

    x: np.ndarray
    num_steps: int | None


class AbstractSolverArm(eqx.Module):
    """One configuration of a linear solver, set up anew for each matrix."""

    counts_steps: eqx.AbstractClassVar[bool]

    __getattribute__ = object.__getattribute__  # as in `AbstractBandit`

    @abc.abstractmethod
    def solve(
        self,
        A: scipy.sparse.csr_array,
        b: np.ndarray,
        x0: np.ndarray | None,
        *,
        rtol: float,
        atol: float,
        max_steps: int,
        deadline: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Attempt:
        """Try to solve ``A x = b``; give up when ``clock`` shows ``deadline``, in seconds.

        The answer is judged by ``A`` and ``b``, which the arm must not change.
        """


class AbstractConjugateGradientArm(AbstractSolverArm):
    """Conjugate gradients with the preconditioner that the final class sets up."""

    counts_steps: ClassVar[bool] = True

    @abc.abstractmethod
    def set_up(self, A: scipy.sparse.csr_array) -> Callable[[np.ndarray], np.ndarray] | None:
        """Return the action of the preconditioner on a vector; None for none."""

    def solve(
        self,
        A: scipy.sparse.csr_array,
        b: np.ndarray,
        x0: np.ndarray | None,
        *,
        rtol: float,
        atol: float,
        max_steps: int,
        deadline: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Attempt:
        """Set the preconditioner up and iterate, looking at the clock in each step."""
        limit = _Limit(deadline, clock)
        precondition = self.set_up(A)
        try:
            solution = host_conjugate_gradient(
                lambda u: A @ u,
                b,
                x0,
                precondition=precondition,
                rtol=rtol,
                atol=atol,
                max_steps=max_steps,
                callback=limit,
            )
        except _OutOfTime as stop:
            return Attempt(stop.x, limit.steps)
        return Attempt(np.asarray(solution.value), int(solution.stats["num_steps"]))


class ConjugateGradientArm(AbstractConjugateGradientArm):
    """Conjugate gradients as they are.

    Examples
    --------
    >>> ConjugateGradientArm()
    ConjugateGradientArm()
    """

    def set_up(self, A: scipy.sparse.csr_array) -> None:
        """Return None: nothing to set up."""


class JacobiArm(AbstractConjugateGradientArm):
    """Conjugate gradients, preconditioned by the diagonal.

    Examples
    --------
    >>> JacobiArm()
    JacobiArm()
    """

    def set_up(self, A: scipy.sparse.csr_array) -> Callable[[np.ndarray], np.ndarray]:
        """Return the product with the inverse diagonal."""
        diagonal = A.diagonal()
        if not np.all(diagonal):
            raise ArithmeticError("the diagonal has zeros.")
        inverse = (1 / diagonal).astype(A.dtype)
        return lambda r: inverse * r


class SSORArm(AbstractConjugateGradientArm):
    """Conjugate gradients, preconditioned by symmetric over-relaxation.

    Parameters
    ----------
    omega
        Relaxation parameter, strictly between 0 and 2.

    Examples
    --------
    >>> SSORArm(1.5)
    SSORArm(omega=1.5)
    """

    omega: float = eqx.field(static=True)

    def __init__(self, omega: RealScalar):
        check_omega(omega)
        self.omega = float(omega)

    def set_up(self, A: scipy.sparse.csr_array) -> Callable[[np.ndarray], np.ndarray]:
        """Return the action of `ssor_preconditioner`."""
        if not np.all(A.diagonal()):
            raise ArithmeticError("the diagonal has zeros.")
        return ssor_preconditioner(A, self.omega).matvec


class IncompleteCholeskyArm(AbstractConjugateGradientArm):
    """Conjugate gradients, preconditioned by IC(0) of ilupp (the extra ``ilu``); real matrices.

    Examples
    --------
    >>> IncompleteCholeskyArm()
    IncompleteCholeskyArm()
    """

    def set_up(self, A: scipy.sparse.csr_array) -> Callable[[np.ndarray], np.ndarray]:
        """Return two triangular solves with the incomplete factor."""
        if A.dtype.kind == "c" and np.any(np.imag(A.data)):
            raise ArithmeticError("incomplete Cholesky is for real matrices.")
        ilupp = import_optional("ilupp", "The incomplete Cholesky arm")
        # It knows double precision and the old sparse classes only.
        factor = ilupp.IChol0Preconditioner(scipy.sparse.csr_matrix(A.real, dtype=np.float64))

        def apply(r: np.ndarray) -> np.ndarray:
            if r.dtype.kind == "c":
                return apply(np.real(r)) + 1j * apply(np.imag(r))
            z = r.astype(np.float64)  # a copy: `apply` works in place
            factor.apply(z)
            return z.astype(r.dtype)

        return apply


class SmoothedAggregationArm(AbstractConjugateGradientArm):
    """Conjugate gradients, preconditioned by smoothed aggregation of pyamg (the extra ``amg``).

    Examples
    --------
    >>> SmoothedAggregationArm()
    SmoothedAggregationArm()
    """

    def set_up(self, A: scipy.sparse.csr_array) -> Callable[[np.ndarray], np.ndarray]:
        """Return one V-cycle with symmetric Gauss-Seidel smoothing."""
        pyamg = import_optional("pyamg", "The algebraic multigrid arm")
        hierarchy = pyamg.smoothed_aggregation_solver(scipy.sparse.csr_matrix(A))
        return hierarchy.aspreconditioner(cycle="V").matvec


class DirectArm(AbstractSolverArm):
    """A sparse LU factorisation (SuperLU): dear on large grids, but it always ends; a backstop.

    Examples
    --------
    >>> DirectArm()
    DirectArm()
    """

    counts_steps: ClassVar[bool] = False

    def solve(
        self,
        A: scipy.sparse.csr_array,
        b: np.ndarray,
        x0: np.ndarray | None,
        *,
        rtol: float,
        atol: float,
        max_steps: int,
        deadline: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Attempt:
        """Factorise and solve, with one step of iterative refinement."""
        factor = splu(
            scipy.sparse.csc_array(A), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
        )
        x = factor.solve(b)
        return Attempt(x + factor.solve(b - A @ x), None)


class FunctionArm(AbstractSolverArm):
    """Any function ``(A, b, rtol) -> (x, info)`` as an arm.

    It cannot be cut off: a limit of time only counts against it afterwards. Whether it succeeded
    is judged by the residual of ``x``, not by ``info``.

    Parameters
    ----------
    function
        Called with copies of the matrix (``scipy.sparse.csr_array``) and of the right-hand side,
        which it may overwrite, and ``rtol``.
    name
        What it is called in ``stats`` and tables.

    Examples
    --------
    >>> import numpy as np
    >>> arm = FunctionArm(lambda A, b, rtol: (np.linalg.solve(A.toarray(), b), 0), "dense")
    >>> arm.name
    'dense'
    """

    function: Callable[..., Any] = eqx.field(static=True)
    name: str = eqx.field(static=True)
    counts_steps: ClassVar[bool] = False

    def solve(
        self,
        A: scipy.sparse.csr_array,
        b: np.ndarray,
        x0: np.ndarray | None,
        *,
        rtol: float,
        atol: float,
        max_steps: int,
        deadline: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Attempt:
        """Call the function."""
        # It knows no absolute tolerance: the same bound, said relatively.
        size = float(norm(b)) if atol else 0.0
        # Copies: LAPACK writes to read-only arrays, too, if it is told to overwrite them.
        x, _ = self.function(A.copy(), b.copy(), max(rtol, atol / size if size else 0.0))
        return Attempt(np.asarray(x).reshape(-1), None)


class _OutOfTime(Exception):  # noqa: N818 - a signal, not an error
    def __init__(self, x: np.ndarray):
        self.x = x


class _Limit:
    """Callback that stops an iteration at the deadline."""

    def __init__(self, deadline: float, clock: Callable[[], float]):
        self.deadline, self.clock = deadline, clock
        self.steps = 0

    def __call__(self, x: np.ndarray) -> None:
        self.steps += 1
        if self.deadline < math.inf and self.clock() > self.deadline:
            raise _OutOfTime(x)
