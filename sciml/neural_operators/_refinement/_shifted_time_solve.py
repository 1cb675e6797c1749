r"""Solve :math:`(D - h L(k)) x_k = h r_k` for all wavenumbers with one decomposition of ``D``.

``D`` differentiates in time and is the same for every wavenumber; only the shift differs. The
complex Schur form :math:`D = Q T Q^*` turns each system into a triangular one,

.. math:: (T - h L(k)) Q^* x_k = h Q^* r_k,

that back substitution solves for all wavenumbers at once. Unlike an eigendecomposition it loses
no digits, however far from normal ``D`` is.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from ...numerics import full_precision


@full_precision
def shifted_time_solve(
    derivative: np.ndarray,
    shift: Float[Array, "..."] | Complex[Array, "..."],
    rhs: Complex[Array, "time *modes"],
) -> Complex[Array, "time *modes"]:
    """Return ``x`` with ``derivative @ x - shift * x = rhs``.

    Parameters
    ----------
    derivative
        Square matrix over time, NumPy.
    shift
        Broadcastable to the trailing axes of ``rhs``.
    rhs
        Coefficients, time first.
    """
    unitary, triangular = _schur(derivative.tobytes(), len(derivative))
    dtype = rhs.dtype
    rotate = jnp.asarray(unitary.conj().T, dtype)
    rhs = jnp.tensordot(rotate, rhs, axes=1)
    rows = jnp.asarray(triangular, dtype)
    diagonal = jnp.diagonal(rows)
    above = rows - jnp.diag(diagonal)

    def substitute(i, x):
        i = len(derivative) - 1 - i
        # Entries of x above row i are still zero, so the whole row may be used.
        known = jnp.tensordot(above[i], x, axes=1)
        return x.at[i].set((rhs[i] - known) / (diagonal[i] - shift.astype(dtype)))

    x = jax.lax.fori_loop(0, len(derivative), substitute, jnp.zeros_like(rhs))
    return jnp.tensordot(jnp.asarray(unitary, dtype), x, axes=1)


@functools.lru_cache(maxsize=64)
def _schur(matrix: bytes, n: int) -> tuple[np.ndarray, np.ndarray]:
    import scipy.linalg  # slow to import, and needed by refinement only

    schur = scipy.linalg.schur(np.frombuffer(matrix).reshape(n, n), output="complex")
    return schur[1], schur[0]
