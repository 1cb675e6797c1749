"""Approximate eigenpairs of an operator by Lanczos, and right-hand sides made of them.

They are the training data of the deep conjugate direction method: mixtures of Ritz vectors in
which the low modes, which simple preconditioners leave behind, weigh more.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, check_key, check_positive, cites
from ..numerics._power_of_two import power_of_two_below
from ._bibliography import KANEDA_2023
from ._conjugate_gradient import check_has_product


def ritz_pairs(
    operator: Any,
    n_vectors: int,
    *,
    key: KeyArray,
    dtype: DTypeLike | None = None,
) -> tuple[Float[Array, " k"], Float[Array, "k *space"]]:
    """Return Ritz values and vectors of a symmetric positive semidefinite operator.

    Lanczos with full reorthogonalisation starts from ``A`` times white noise and stays in the
    range of ``A``: of a Neumann problem there is no constant, in solid cells all vectors are zero.
    The cost is ``n_vectors**2`` times the number of unknowns, in time, and ``2 n_vectors`` vectors
    of memory.

    Parameters
    ----------
    operator
        `StencilOperator`, `SparseMatrix`, or a lineax operator on one array.
    n_vectors
        Steps of Lanczos, at most the number of unknowns.
    key
        For the noise.
    dtype
        Precision; that of the operator by default.

    Returns
    -------
    values
        Ascending. Those below 1e-8 of the largest (the nullspace) are left out.
    vectors
        Orthonormal, one for each value.

    Raises
    ------
    ValueError
        If there are more vectors than unknowns, or if no pair is found.

    Examples
    --------
    With as many steps as unknowns they are the eigenpairs:

    >>> import jax, jax.numpy as jnp, lineax as lx
    >>> operator = lx.DiagonalLinearOperator(jnp.array([4.0, 1.0, 0.0, 2.0]))
    >>> values, vectors = ritz_pairs(operator, 4, key=jax.random.key(3))
    >>> [round(float(v), 4) for v in values]
    [1.0, 2.0, 4.0]
    """
    check_key(key)
    check_has_product(operator)
    shape, own_dtype = vector_of(operator)
    size = 1
    for n in shape:
        size *= n
    if check_count("n_vectors", n_vectors) > size:
        raise ValueError(f"`n_vectors` must be at most the {size} unknowns, got {n_vectors}.")
    dtype = own_dtype if dtype is None else jnp.dtype(dtype)
    for name, kind in (("operator", own_dtype), ("dtype", dtype)):
        if not jnp.issubdtype(kind, jnp.floating):
            raise TypeError(f"`{name}` must be real and floating-point, got {kind}.")
    diagonal, beside, basis, scale = _lanczos(operator, shape, dtype, n_vectors, key)
    tridiagonal = jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1)
    values, mixing = jnp.linalg.eigh(tridiagonal)
    # Steps past the end of the range have a zero basis vector; they count as nullspace.
    keep = values > jnp.asarray(1e-8, dtype) * jnp.max(values)
    values, mixing = values[keep] * scale, mixing[:, keep]
    if values.size == 0:
        raise ValueError(
            "`operator` must be finite, positive semidefinite and not zero; Lanczos found no "
            "positive eigenvalue."
        )
    vectors = jnp.matmul(
        mixing.T, basis.reshape(n_vectors, size), precision=jax.lax.Precision.HIGHEST
    )
    return values, vectors.reshape(-1, *shape)


@cites(KANEDA_2023)
def ritz_rhs(
    operator: Any,
    n_vectors: int,
    count: int,
    *,
    low_fraction: float = 0.55,
    low_weight: float = 9.0,
    key: KeyArray,
    dtype: DTypeLike | None = None,
) -> Float[Array, "count *space"]:
    """Return right-hand sides of unit norm, mixed from Ritz vectors with weight on low modes.

    ``b = sum_i c_i w_i v_i`` with normal ``c_i``, and ``w_i = low_weight`` for the lowest
    ``low_fraction`` of the Ritz vectors, 1 for the others.

    Parameters
    ----------
    operator
        As in `ritz_pairs`.
    n_vectors
        Steps of Lanczos. Published: 10 000 for 64^3 unknowns.
    count
        How many right-hand sides. Published: 20 000.
    low_fraction, low_weight
        See above; the published values are the defaults.
    key
        For all random numbers.
    dtype
        Precision; that of the operator by default.

    Raises
    ------
    ValueError
        If ``low_fraction`` does not lie between 0 and 1, or if no Ritz pair is found.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, lineax as lx
    >>> operator = lx.DiagonalLinearOperator(jnp.arange(1.0, 9.0))
    >>> rhs = ritz_rhs(operator, 8, 5, key=jax.random.key(4))
    >>> rhs.shape, bool(jnp.allclose(jnp.linalg.norm(rhs, axis=1), 1.0))
    ((5, 8), True)
    """
    check_count("count", count)
    check_positive("low_weight", low_weight)
    if not 0 <= low_fraction <= 1:
        raise ValueError(f"`low_fraction` must be between 0 and 1, got {low_fraction}.")
    lanczos_key, mixing_key = jax.random.split(key)
    values, vectors = ritz_pairs(operator, n_vectors, key=lanczos_key, dtype=dtype)
    n_low = round(low_fraction * values.size)
    is_low = jnp.arange(values.size) < n_low
    weights = jnp.where(is_low, low_weight, 1.0).astype(vectors.dtype)
    noise = jax.random.normal(mixing_key, (count, values.size), vectors.dtype)
    flat = vectors.reshape(values.size, -1)
    rhs = jnp.matmul(noise * weights[None], flat, precision=jax.lax.Precision.HIGHEST)
    rhs = rhs / jnp.linalg.norm(rhs, axis=1, keepdims=True)
    return rhs.reshape(count, *vectors.shape[1:])


def vector_of(operator: Any) -> tuple[tuple[int, ...], jnp.dtype]:
    """Return shape and dtype of what ``operator`` acts on."""
    if hasattr(operator, "in_structure"):
        structure = operator.in_structure()
        return tuple(structure.shape), jnp.dtype(structure.dtype)
    if hasattr(operator, "n_points"):
        return tuple(operator.n_points), jnp.dtype(operator.dtype)
    return (operator.shape[1],), jnp.dtype(operator.dtype)


@eqx.filter_jit
def _lanczos(
    operator: Any, shape: tuple[int, ...], dtype: jnp.dtype, n_vectors: int, key: KeyArray
) -> tuple[Array, Array, Array, Array]:
    """Return diagonal, off-diagonal, basis and the scale by which the first two are divided.

    Where the range is used up, basis vectors are zero.
    """
    eps = float(jnp.finfo(dtype).eps)

    def product(v):
        return operator.mv(v).astype(dtype)

    first = product(jax.random.normal(jax.random.fold_in(key, n_vectors), shape, dtype))
    # Of an operator in a very small or large unit, squares would leave the range of float32.
    scale = power_of_two_below(jnp.max(jnp.abs(first)))

    def fresh(key):
        return product(jax.random.normal(key, shape, dtype)) / scale

    def orthogonalised(u, basis):
        for _ in range(2):
            overlaps = jnp.sum(basis * u[None], axis=tuple(range(1, basis.ndim)), keepdims=True)
            u = u - jnp.sum(overlaps * basis, axis=0)
        return u

    def unit(u, reference):
        """Return ``u`` of size one, or zero if only rounding is left of it."""
        norm = jnp.linalg.norm(u.reshape(-1))
        there = norm > jnp.asarray(n_vectors * 10 * eps, dtype) * reference
        safe = jnp.where(there, norm, jnp.ones_like(norm))
        return jnp.where(there, u / safe, jnp.zeros_like(u)), jnp.where(there, norm, 0 * norm)

    def body(k, carry):
        basis, diagonal, beside, largest = carry
        v = basis[k]
        w = product(v) / scale
        largest = jnp.maximum(largest, jnp.linalg.norm(w.reshape(-1)))
        diagonal = diagonal.at[k].set(jnp.sum(v * w))
        following, beta = unit(orthogonalised(w, basis), largest)

        def restart():
            # An invariant subspace is complete; go on with another vector of the range.
            u = fresh(jax.random.fold_in(key, k))
            return unit(orthogonalised(u, basis), jnp.linalg.norm(u.reshape(-1)))[0]

        following = jax.lax.cond(beta > 0, lambda: following, restart)
        basis = basis.at[k + 1].set(following, mode="drop")
        return basis, diagonal, beside.at[k].set(beta, mode="drop"), largest

    zeros = jnp.zeros((n_vectors,), dtype)
    start, _ = unit(first / scale, jnp.zeros((), dtype))
    basis = jnp.zeros((n_vectors, *shape), dtype).at[0].set(start)
    basis, diagonal, beside, _ = jax.lax.fori_loop(
        0, n_vectors, body, (basis, zeros, zeros, jnp.zeros((), dtype))
    )
    return diagonal, beside[:-1], basis, scale
