"""Learned conjugate directions for SciPy users, in the manner of `scipy.sparse.linalg.cg`."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..core import Solution, check_count, cites
from ..numerics._stencil import StencilOperator
from ._bibliography import KANEDA_2023
from ._cg import cg
from ._conjugate_directions import conjugate_directions
from ._host_conjugate_directions import host_conjugate_directions
from ._host_conjugate_gradient import stacked_solutions
from ._nullspace import ConstantNullspace
from ._scipy_door import MOST_HISTORY, find_nullspace, scipy_answer, warn_if_not_hermitian
from ._scipy_inputs import LinearSystem, Reshaped, host_map, read_limits, read_system


@cites(KANEDA_2023)
def dcdm(
    A: Any,
    b: Any,
    x0: Any = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[..., object] | None = None,
    direction: Any = None,
    memory: int = 2,
    safeguard: bool = True,
    recompute_every: int = 10,
    full_output: bool = False,
) -> Any:
    """Solve ``A x = b`` for a symmetric positive definite ``A`` by (learned) conjugate directions.

    Neither ``direction`` nor ``M`` need be linear. With ``safeguard`` a step decreases the A-norm
    of the error at least as much as one with ``M`` alone. Without both, this is `cg`.

    Parameters
    ----------
    A, b, x0, rtol, atol, maxiter
        As in `cg`.
    M
        Approximate inverse of ``A``, of the kinds that `cg` takes; also one that is nonlinear, or
        of the wrong sign.
    callback
        Called after each iteration as ``callback(xk)`` with a copy, or, if it takes two arguments,
        as ``callback(xk, info)`` with a dictionary of ``num_steps`` and ``residual_norm``.
    direction
        ``q = direction(r)`` for ``||r||_2 = 1``: a callable pytree in the shape of the grid of
        ``A`` (an Equinox module such as `DirectionNetwork`, or `jax.tree_util.Partial`), which is
        compiled in, or a function on NumPy vectors of shape ``(n,)``. Only for real systems.
    memory
        How many directions a new one is made A-orthogonal to.
    safeguard
        Search in the span of ``direction(r)`` and ``M r`` (``r`` without ``M``); drop the
        direction when it stops helping. False: the published method, ``direction`` alone.
    recompute_every
        Iterations between two true residuals.
    full_output
        Return a third value, the record.

    Returns
    -------
    x : numpy.ndarray
        The answer, as from `cg`.
    info : int
        0: converged. Positive: not converged, the number of iterations done. -1: ``A`` is not
        positive definite. -2: a NaN or infinity. -3: stagnation; without ``safeguard`` also a
        direction that is zero or nothing new.
    record : dict
        With ``full_output`` only: as from `cg`, and ``n_rejected``, ``n_replaced``,
        ``direction_calls`` and ``dropped_at`` of `conjugate_directions`; from `cg` (without
        ``direction`` and ``M``) these are 0, 0, 0 and -1.

    Raises
    ------
    ValueError
        If shapes do not match, a tolerance is negative, a lineax operator lacks the tag, or a
        network for a grid meets a matrix without one (use `StencilOperator.from_scipy`).
    TypeError
        If an argument is of an unknown kind, or there is a ``direction`` for a complex system.

    References
    ----------
    .. [1] A. Kaneda, O. Akar, J. Chen, V. A. T. Kala, D. Hyde and J. Teran, "A deep conjugate
       direction method for iteratively solving linear systems", ICML 2023.

    Examples
    --------
    A nonlinear direction cannot do harm:

    >>> import numpy as np, scipy.sparse
    >>> A = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
    >>> x, info = dcdm(A, np.ones(50), direction=np.sign, rtol=1e-8)
    >>> info, bool(np.linalg.norm(A @ x - 1) < 1e-7)
    (0, True)
    """
    check_count("memory", memory, minimum=0)
    check_count("recompute_every", recompute_every)
    told = None if callback is None else _as_told(callback)
    if direction is None and M is None and not (callback is not None and _takes_two(callback)):
        answer = cg(
            A,
            b,
            x0,
            rtol=rtol,
            atol=atol,
            maxiter=maxiter,
            callback=callback,
            full_output=full_output,
        )
        return (*answer[:2], _with_counts(answer[2])) if full_output else answer
    system = read_system(A, b, x0, M)
    rtol, atol, maxiter = read_limits(rtol, atol, maxiter, system.n)
    if direction is not None and system.dtype.kind == "c":
        raise TypeError(
            "a `direction` works on real systems only; for complex Hermitian ones pass a linear "
            "`M`."
        )
    if callback is not None and system.has_many:
        raise ValueError("`callback` takes one right-hand side; solve column by column.")
    in_jax, on_host = _read_direction(direction, system)
    if not isinstance(A, StencilOperator):
        warn_if_not_hermitian(system)
    nullspace = find_nullspace(system)
    settings = (memory, bool(safeguard), rtol, atol, maxiter, recompute_every)
    if system.on_host or callback is not None or (direction is not None and in_jax is None):
        solution = _solve_on_host(system, on_host, nullspace, told, *settings)
    else:
        n_history = min(maxiter + 1, MOST_HISTORY) if full_output else 0
        solution = _solve_in_jax(system, in_jax, nullspace, n_history, *settings)
    return scipy_answer(solution, system, nullspace, rtol=rtol, atol=atol, full_output=full_output)


def _with_counts(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of `cg` with the counts of the safeguards, none of which fired."""
    none = 0 * record["num_steps"]
    counts = dict.fromkeys(("n_rejected", "n_replaced", "direction_calls"), none)
    return record | counts | {"dropped_at": none - 1}


def _read_direction(direction: Any, system: LinearSystem) -> tuple[Any, Any]:
    """Return the direction in JAX (None if it is foreign) and on the host."""
    if direction is None:
        return None, None
    if not callable(direction):
        raise TypeError(f"`direction` must be callable, got {direction!r}.")
    if not isinstance(direction, eqx.Module | jax.tree_util.Partial):

        def checked(r: np.ndarray) -> np.ndarray:
            q = np.asarray(direction(r.copy()))
            if q.size != system.n:
                raise ValueError(
                    f"`direction` returned shape {q.shape} for a vector of shape {r.shape}."
                )
            return q.reshape(system.n)

        return None, checked
    n_axes = getattr(direction, "n_axes", len(system.n_points))
    if n_axes != len(system.n_points):
        raise ValueError(
            f"`direction` acts on grids with {n_axes} axes, but the unknowns of `A` have the "
            f"shape {system.n_points}. Pass `StencilOperator.from_scipy(A, n_points)`."
        )
    n_points = getattr(direction, "n_points", system.n_points)
    if tuple(n_points) != system.n_points:
        direction = Reshaped(direction, tuple(n_points))
    return direction, host_map(direction, system.n_points, system.dtype)


def _takes_two(callback: Callable[..., object]) -> bool:
    try:
        inspect.signature(callback).bind(None, None)
    except (TypeError, ValueError):  # ValueError: a builtin without a signature
        return False
    return True


def _as_told(callback: Callable[..., object]) -> Callable[[np.ndarray, int, float], object]:
    if _takes_two(callback):
        return lambda x, step, norm: callback(x, {"num_steps": step, "residual_norm": norm})
    return lambda x, step, norm: callback(x)


def _solve_in_jax(
    system: LinearSystem,
    direction: Any,
    nullspace: ConstantNullspace | None,
    n_history: int,
    memory: int,
    safeguard: bool,
    rtol: float,
    atol: float,
    maxiter: int,
    recompute_every: int,
) -> Solution:
    with jax.enable_x64(True):
        b = jnp.asarray(system.rhs.reshape(-1, *system.n_points))
        real = jnp.finfo(b.dtype).dtype
        solution = _solve_columns(
            system.operator,
            b,
            None if system.x0 is None else jnp.asarray(system.x0.reshape(b.shape)),
            direction,
            system.preconditioner,
            jnp.asarray(rtol, real),
            jnp.asarray(atol, real),
            jnp.asarray(maxiter, jnp.int32),
            nullspace,
            memory,
            safeguard,
            system.preconditioner_dtype,
            recompute_every,
            n_history,
        )
        return jax.block_until_ready(solution)


@eqx.filter_jit
def _solve_columns(
    operator,
    b,
    x0,
    direction,
    preconditioner,
    rtol,
    atol,
    max_steps,
    nullspace,
    memory,
    safeguard,
    preconditioner_dtype,
    recompute_every,
    n_history,
) -> Solution:
    def one(columns):
        b, x0 = columns
        return conjugate_directions(
            operator,
            b,
            x0,
            direction=direction,
            preconditioner=preconditioner,
            memory=memory,
            safeguard=safeguard,
            rtol=rtol,
            atol=atol,
            max_steps=max_steps,
            nullspace=nullspace,
            preconditioner_dtype=preconditioner_dtype,
            recompute_every=recompute_every,
            n_history=n_history,
        )

    if len(b) == 1:
        return one((b[0], None if x0 is None else x0[0]))
    if direction is None:
        return jax.vmap(one)((b, x0))
    # In a vmap the network would be called for all columns until the last one drops it.
    return jax.lax.map(one, (b, x0))


def _solve_on_host(
    system: LinearSystem,
    direction: Any,
    nullspace: ConstantNullspace | None,
    told: Callable[[np.ndarray, int, float], object] | None,
    memory: int,
    safeguard: bool,
    rtol: float,
    atol: float,
    maxiter: int,
    recompute_every: int,
) -> Solution:
    callback = None
    if told is not None:
        callback = lambda x, step, norm: told(x.reshape(system.result_shape), step, norm)  # noqa: E731
    solutions = [
        host_conjugate_directions(
            system.matvec,
            b,
            None if system.x0 is None else system.x0[k],
            direction=direction,
            precondition=system.precondition,
            memory=memory,
            safeguard=safeguard,
            rtol=rtol,
            atol=atol,
            max_steps=maxiter,
            recompute_every=recompute_every,
            project=None if nullspace is None else nullspace.project_on_host,
            callback=callback,
        )
        for k, b in enumerate(system.rhs)
    ]
    return stacked_solutions(solutions) if system.has_many else solutions[0]
