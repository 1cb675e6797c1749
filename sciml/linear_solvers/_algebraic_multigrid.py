"""Algebraic multigrid with learned scalars: a preconditioner for matrices that are on no grid.

The hierarchy is PyAMG's smoothed aggregation (Vanek, Mandel, Brezina 1996); smoother, cycle and
coarse solve are those of `MultigridPreconditioner`, with SciPy's sparse products on the host. With
``W`` half the absolute row sums of ``A``, the eigenvalues of ``W^-1 A`` lie in ``[0, 2]``, and for
``S = p(W^-1 A)`` with the smoother's polynomial ``p`` and the cycle ``M_c`` of the next level

    M = (I - S^2) A^-1  +  scale S P M_c P^H S^H ,

Hermitian, and positive definite for every value of the weights.
"""

import dataclasses
import functools
import importlib.resources
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse
from jax.typing import DTypeLike
from jaxtyping import Inexact
from scipy.sparse.linalg import LinearOperator

from ..core import check_floating, check_non_negative, cites, import_optional, load
from ..numerics import full_precision
from ._bibliography import LAN_2024, VANEK_1996
from ._hermitian_matrix import checked_hermitian, with_unit_rows
from ._host_system import host_power_of_two_below
from ._multigrid_weights import MultigridWeights

# Up to this size the last level is inverted; a larger one, where PyAMG could not coarsen any
# further (a diagonal matrix), is smoothed only.
_MOST_INVERTED = 1000
# Levels are added until one is this small.
_COARSE = 100
_MOST_LEVELS = 20
# Damping of the Jacobi step that smooths the prolongation: 4/3 over the largest eigenvalue, for
# which the row sums stand.
_PROLONGATION = 4 / 3


@dataclasses.dataclass(frozen=True)
class AlgebraicLevel:
    """A level: its matrix, ``1 / W``, and the way to the next level and back.

    All in units of the unknowns in which the matrix has a diagonal near one: in the cycle's
    precision nothing overflows or vanishes then, however far apart the entries are. The units are
    powers of two, so that nothing is rounded.

    On the last level ``prolongation`` and ``restriction`` are None, and ``inverse`` is the dense
    inverse, or None if the level is too large for one.
    """

    matrix: Any
    inverse_scale: np.ndarray
    prolongation: Any = None
    restriction: Any = None
    inverse: np.ndarray | None = None


@cites(VANEK_1996, LAN_2024)
class AlgebraicMultigridPreconditioner(LinearOperator):
    """One V-cycle on PyAMG's smoothed aggregation, with a Chebyshev smoother of learned scalars.

    A SciPy ``LinearOperator``, valid as ``M=`` of `cg` and of SciPy's own ``cg``: linear, Hermitian
    and positive definite for every value of the weights. It needs the extra ``amg``. If ``A`` is
    singular with constants in its nullspace, the solver must project them out, as `cg` does.

    Parameters
    ----------
    A
        Hermitian positive (semi)definite: scipy.sparse or a dense array, shape ``(n, n)``. Empty
        rows are passed through.
    weights
        The learned numbers; those that ship with sciml by default, see `algebraic_weights`.
        ``MultigridWeights()`` is the classical cycle; `fit_algebraic_preconditioner` trains others.
    strength
        Threshold of PyAMG's symmetric strength of connection: couplings below ``strength`` times
        the geometric mean of the two diagonal entries do not aggregate.
    dtype
        Real precision of the cycle. The default, float32, costs no iterations in a float64 solve;
        for a complex matrix it means complex64.

    Attributes
    ----------
    kind
        What it is, for people.

    Raises
    ------
    ImportError
        Without PyAMG.
    ValueError
        If ``A`` is not square, not finite, not Hermitian, or visibly not positive definite.

    References
    ----------
    .. [1] P. Vanek, J. Mandel, M. Brezina, "Algebraic multigrid by smoothed aggregation for second
       and fourth order elliptic problems", Computing 56 (1996), 179-196.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> A = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(500, 500))
    >>> M = AlgebraicMultigridPreconditioner(A)
    >>> x, info = scipy.sparse.linalg.cg(A, np.ones(500), M=M)
    >>> info
    0
    """

    def __init__(
        self,
        A: Any,
        weights: MultigridWeights | None = None,
        *,
        strength: float = 0.08,
        dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_non_negative("strength", strength)
        check_floating("dtype", np.zeros((), dtype))
        matrix = with_unit_rows(checked_hermitian(A))
        self.weights = algebraic_weights() if weights is None else weights
        self.strength = float(strength)
        self.kind = "smoothed aggregation (PyAMG) with learned smoothing"
        precision = np.dtype(dtype)
        if matrix.dtype.kind == "c":
            precision = np.result_type(precision, np.complex64)
        # One power of two keeps the set-up away from the limits of its precision.
        self._size = _power_of_two(np.abs(matrix.diagonal()).max())
        matrix = matrix / self._size
        self._units = _units(matrix)
        self.levels = _build_levels(matrix, self.strength, precision)
        self._numbers = _numbers(self.weights, len(self.levels))
        super().__init__(precision, matrix.shape)

    def with_weights(self, weights: MultigridWeights) -> "AlgebraicMultigridPreconditioner":
        """Return the same hierarchy with other numbers.

        Parameters
        ----------
        weights
            The numbers.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.weights = weights
        other._numbers = _numbers(weights, len(self.levels))
        return other

    def _matvec(self, x: Any) -> Inexact[np.ndarray, "..."]:
        x = np.asarray(x)
        if np.iscomplexobj(x) and np.dtype(self.dtype).kind != "c":
            return self._matvec(x.real) + 1j * self._matvec(x.imag)
        wanted = np.result_type(x.dtype, np.float32)
        if np.dtype(self.dtype).kind == "c":
            wanted = np.result_type(wanted, np.complex64)
        r = x.reshape(-1) * self._units
        size = _power_of_two(np.abs(r).max(initial=0))
        z = self._cycle(0, (r / size).astype(self.dtype)) * self._units
        return (z * (size / self._size)).astype(wanted).reshape(x.shape)

    def _rmatvec(self, x: np.ndarray) -> Inexact[np.ndarray, "..."]:
        return self._matvec(x)

    def _adjoint(self) -> "AlgebraicMultigridPreconditioner":
        return self

    def __repr__(self) -> str:
        sizes = [level.matrix.shape[0] for level in self.levels]
        return f"<AlgebraicMultigridPreconditioner: {self.kind}, levels of {sizes}, {self.dtype}>"

    @full_precision
    def _cycle(self, depth: int, r: np.ndarray) -> np.ndarray:
        level = self.levels[depth]
        if level.inverse is not None:
            return level.inverse @ r
        lower, upper, scale = self._numbers[depth]
        n_sweeps = self.weights.n_sweeps
        z: Any = _smooth(level, r, lower, upper, n_sweeps)
        if level.prolongation is not None:
            coarse = self._cycle(depth + 1, level.restriction @ (r - level.matrix @ z))
            coarse *= scale
            z += level.prolongation @ coarse
        z += _smooth(level, r - level.matrix @ z, lower, upper, n_sweeps)
        return z


@functools.cache
def algebraic_weights() -> MultigridWeights:
    """Return the weights that ship with sciml for matrices on no grid.

    They were trained on small matrices of five families: finite elements on random triangulations,
    with constant and variable coefficient, a graph Laplacian, anisotropic diffusion, elasticity
    (``benchmarks/algebraic_multigrid.py --ship``). On larger members of these they save about a
    tenth of the iterations of the classical cycle; on two families that they had not seen, graphs
    with hubs and Poisson in three dimensions, they cost a twentieth more.

    Examples
    --------
    >>> from sciml.linear_solvers import algebraic_weights
    >>> algebraic_weights().n_sweeps
    2
    """
    folder = Path(str(importlib.resources.files("sciml.linear_solvers")))
    return load(folder / "weights" / "algebraic_multigrid")


def _smooth(
    level: AlgebraicLevel, r: np.ndarray, lower: float, upper: float, n_sweeps: int
) -> np.ndarray:
    """Chebyshev iteration from zero, see `chebyshev_smooth`; the numbers are Python floats."""
    centre, radius = (upper + lower) / 2, (upper - lower) / 2
    sigma = radius / centre
    step = level.inverse_scale * r
    step *= 1 / centre
    z = step
    for k in range(n_sweeps - 1):
        r = r - level.matrix @ step
        gain = 1 / (2 * centre - radius * sigma)
        update = level.inverse_scale * r
        update *= 2 * gain
        step = step * (gain * radius * sigma)
        step += update
        z = z + step if k == 0 else np.add(z, step, out=z)
        sigma = gain * radius
    return z


def _build_levels(matrix: Any, strength: float, dtype: np.dtype) -> tuple[Any, ...]:
    """Coarsen with PyAMG's strength and aggregation; the products are SciPy's, on CSR.

    PyAMG's own driver goes through block rows, which takes longer than all the products, and
    estimates a spectral radius from random numbers; row sums make the hierarchy reproducible.
    """
    amg = import_optional("pyamg.strength", "Algebraic multigrid")
    aggregation = import_optional("pyamg.aggregation.aggregate", "Algebraic multigrid")
    # 32-bit indices are all that PyAMG takes.
    matrix.indices, matrix.indptr = matrix.indices.astype("i4"), matrix.indptr.astype("i4")
    candidate = np.ones(matrix.shape[0])
    levels = []
    units = _units(matrix)
    while matrix.shape[0] > _COARSE and len(levels) < _MOST_LEVELS:
        connections = amg.symmetric_strength_of_connection(matrix, strength)
        members: Any = scipy.sparse.csr_array(aggregation.standard_aggregation(connections)[0])
        if members.nnz == 0 or members.shape[1] > 0.9 * matrix.shape[0]:
            break
        norms = np.sqrt(members.T @ candidate**2)
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(members.indptr))
        values = candidate[rows] / norms[members.indices]
        tentative = scipy.sparse.csr_array(
            (values.astype(matrix.dtype), members.indices, members.indptr), shape=members.shape
        )
        scale = _inverse_scale(matrix)
        product = matrix @ tentative
        product.data *= np.repeat(_PROLONGATION / 2 * scale, np.diff(product.indptr))
        prolongation = (tentative - product).tocsr()
        restriction = prolongation.conj().T.tocsr()
        coarse = (restriction @ (matrix @ prolongation)).tocsr()
        coarse.sort_indices()
        coarse_units = _units(coarse)
        levels.append(
            AlgebraicLevel(
                _in_units(matrix, units, units, dtype),
                (scale / units**2).astype(_real(dtype)),
                _in_units(prolongation, 1 / units, coarse_units, dtype),
                _in_units(restriction, coarse_units, 1 / units, dtype),
            )
        )
        matrix, units, candidate = coarse, coarse_units, norms
    scale = (_inverse_scale(matrix) / units**2).astype(_real(dtype))
    inverse = None
    if matrix.shape[0] <= _MOST_INVERTED:
        dense = units[:, None] * matrix.toarray() * units[None, :]
        inverse = _dense_inverse(dense, dtype)
    matrix = _in_units(matrix, units, units, dtype)
    return (*levels, AlgebraicLevel(matrix, scale, inverse=inverse))


def _units(matrix: Any) -> np.ndarray:
    """Return ``s`` of powers of two for which ``s_i A_ii s_i`` lies between 1/2 and 2."""
    diagonal = matrix.diagonal().real.astype(np.float64)
    exponent = np.frexp(np.where(diagonal > 0, diagonal, 1))[1]
    return np.ldexp(1.0, -(exponent // 2))


def _in_units(matrix: Any, left: np.ndarray, right: np.ndarray, dtype: np.dtype) -> Any:
    """Return ``diag(left) A diag(right)`` of a CSR matrix in another precision."""
    factor = np.repeat(left, np.diff(matrix.indptr)) * right[matrix.indices]
    entries = (matrix.data * factor).astype(dtype)
    return scipy.sparse.csr_array((entries, matrix.indices, matrix.indptr), shape=matrix.shape)


def _real(dtype: np.dtype) -> np.dtype:
    return np.finfo(dtype).dtype


def _inverse_scale(matrix: Any) -> np.ndarray:
    total = abs(matrix) @ np.ones(matrix.shape[1])
    used = total > 0
    # A coarse row of zeros would be an unused unknown: nothing is to reach it.
    return np.where(used, 2 / np.where(used, total, 1), 0)


def _dense_inverse(matrix: Any, dtype: np.dtype) -> np.ndarray:
    """Invert, after scaling to a unit diagonal, with eigenvalues held above the rounding level.

    That keeps it definite, and bounded where ``A`` is singular.
    """
    diagonal = matrix.diagonal().real
    root = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1))
    scaled = root[:, None] * ((matrix + matrix.conj().T) / 2) * root[None, :]
    values, vectors = scipy.linalg.eigh(scaled)
    floor = 50 * np.finfo(dtype).eps * max(float(values[-1]), 1.0)
    vectors = root[:, None] * vectors
    return ((vectors / np.maximum(values, floor)) @ vectors.conj().T).astype(dtype)


def _numbers(weights: MultigridWeights, n_levels: int) -> list[tuple[float, float, float]]:
    """Return `MultigridWeights.at` of all levels in NumPy: thousands of them while training."""
    raw = [np.asarray(v, float) for v in (weights.raw_lower, weights.raw_upper, weights.raw_scale)]
    result = []
    for level in range(n_levels):
        low, high, scale = (float(v[min(level, weights.n_levels - 1)]) for v in raw)
        lower = 2 * _sigmoid(low)
        result.append((lower, 2 - lower * _sigmoid(high), float(np.exp(scale))))
    return result


def _sigmoid(x: float) -> float:
    # Never 0 or 1: the ends of the range are not allowed.
    return float(1 / (1 + np.exp(-np.clip(x, -14, 14))))


def _power_of_two(size: float) -> float:
    return float(host_power_of_two_below(size, np.dtype(np.float64)))
