"""Matrices and preconditioners in the forms in which the SciPy doors pass them on."""

import weakref
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact
from scipy.sparse.linalg import LinearOperator

from ..numerics._stencil import StencilOperator


class DenseMatrix(eqx.Module):
    """A dense matrix with the interface of the sparse ones.

    Parameters
    ----------
    matrix
        Shape ``(n_rows, n_columns)``.
    """

    matrix: Inexact[Array, "n_rows n_columns"]

    def mv(self, x: Inexact[Array, " n_columns"]) -> Inexact[Array, " n_rows"]:
        """Return ``A x``."""
        dtype = np.promote_types(self.matrix.dtype, x.dtype)
        return jnp.matmul(
            self.matrix.astype(dtype), x.astype(dtype), precision=jax.lax.Precision.HIGHEST
        )


class Application(eqx.Module):
    """The map ``r -> operator.mv(r)``: an operator used as preconditioner.

    Parameters
    ----------
    operator
        Anything with ``mv``.
    """

    operator: Any

    def __call__(self, r: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the product."""
        return self.operator.mv(r)


class Reshaped(eqx.Module):
    """A preconditioner on arrays of one shape, applied to arrays of another.

    Parameters
    ----------
    preconditioner
        A map on arrays of shape ``shape``.
    shape
        The shape that it takes.
    """

    preconditioner: Any
    shape: tuple[int, ...] = eqx.field(static=True, converter=tuple)

    def __call__(self, r: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the preconditioned vector in the shape of ``r``."""
        return self.preconditioner(r.reshape(self.shape)).reshape(r.shape)


class OnParts(eqx.Module):
    """A real linear map, applied to real and imaginary part.

    Parameters
    ----------
    preconditioner
        The real map.
    """

    preconditioner: Any

    def __call__(self, r: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the map of both parts, as complex numbers."""
        return jax.lax.complex(self.preconditioner(r.real), self.preconditioner(r.imag))


class MatrixOnGrid:
    """What is known of a sparse matrix that was found to live on a grid.

    A preconditioner holds it, so that a solve with the same matrix need not find it all out again:
    the operator on the grid, that it is symmetric, its nullspace once that was asked for.

    Parameters
    ----------
    matrix
        The user's matrix in CSR.
    operator
        The same on its grid.
    """

    def __init__(self, matrix: Any, operator: StencilOperator) -> None:
        self.operator = operator
        self.nullspace: tuple[Any] | None = None
        self._matrix = weakref.ref(matrix)
        # Matrices can be changed in place.
        self._entries = matrix.data.copy()
        self._pattern = (matrix.indices.copy(), matrix.indptr.copy())

    def is_of(self, matrix: Any) -> bool:
        """Return whether this is that very matrix, and it has not changed."""
        if self._matrix() is not matrix or not np.array_equal(matrix.data, self._entries):
            return False
        pattern = (matrix.indices, matrix.indptr)
        return all(np.array_equal(*pair) for pair in zip(pattern, self._pattern, strict=True))


class PreconditionerOperator(LinearOperator):
    """A preconditioner that runs in JAX, for SciPy's solvers; sciml's keep it compiled.

    Parameters
    ----------
    preconditioner
        A callable pytree on arrays of shape ``n_points``.
    n_points
        The shape of the unknowns, numbered row-major; ``(n,)`` if there is no grid.
    dtype
        Precision in which it computes.
    kind
        What it is, for people: "learned multigrid".
    origin
        The matrix that it was made for, in the form that was found for it.

    Attributes
    ----------
    preconditioner, n_points, kind, origin
        As passed.
    """

    def __init__(
        self,
        preconditioner: Any,
        n_points: tuple[int, ...],
        dtype: Any,
        kind: str,
        origin: "MatrixOnGrid | None" = None,
    ) -> None:
        self.preconditioner = preconditioner
        self.n_points = tuple(int(n) for n in n_points)
        self.kind = kind
        self.origin = origin
        n = int(np.prod(self.n_points))
        super().__init__(np.dtype(dtype), (n, n))

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        if np.iscomplexobj(x) and np.dtype(self.dtype).kind != "c":
            return self._matvec(np.real(x)) + 1j * self._matvec(np.imag(x))
        wanted = np.result_type(x.dtype, np.float32)
        with jax.enable_x64(True):
            r = jnp.asarray(np.asarray(x).reshape(self.n_points), self.dtype)
            z = np.asarray(call_compiled(self.preconditioner, r))
        return z.reshape(x.shape).astype(wanted, copy=False)

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._matvec(x)

    def _adjoint(self) -> "PreconditionerOperator":
        return self

    def __repr__(self) -> str:
        return f"<PreconditionerOperator: {self.kind}, n_points={self.n_points}, {self.dtype}>"


class HostPreconditioner(LinearOperator):
    """A preconditioner that runs on the host.

    Parameters
    ----------
    apply
        The map on vectors of shape ``(n,)``; Hermitian.
    n
        Number of unknowns.
    dtype
        Precision of the result.
    kind
        What it is, for people.

    Attributes
    ----------
    kind
        As passed.
    """

    def __init__(self, apply: Any, n: int, dtype: Any, kind: str) -> None:
        self._apply = apply
        self.kind = kind
        super().__init__(np.dtype(dtype), (n, n))

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._apply(np.asarray(x).reshape(-1)).reshape(x.shape)

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._matvec(x)

    def _adjoint(self) -> "HostPreconditioner":
        return self

    def __repr__(self) -> str:
        return f"<HostPreconditioner: {self.kind}, shape={self.shape}, {self.dtype}>"


@eqx.filter_jit
def call_compiled(function: Any, r: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    """Return ``function(r)``, compiled once for each shape."""
    return function(r)
