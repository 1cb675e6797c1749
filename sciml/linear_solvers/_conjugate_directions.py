"""Conjugate directions for any search direction, a network's included, in one compiled loop.

This is truncated flexible CG with ``memory`` pairs. The directions are stored with unit A-norm,

    q = f(r / ||r||),   p = q - sum_j (q . A p_j) p_j,   p <- p / sqrt(p . A p),
    x <- x + (p . r) p,   r <- r - (p . r) A p ,

so the A-norm of the error never grows, whatever ``f`` returns. The residual is orthogonal to what
is in the memory; hence the minimum over the span of two new directions and the last one is found by
orthogonalising the second also against the first: an exact solve that notices dependence.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact, Int

from ..core import RESULTS, RealScalar, Solution, check_count, check_non_negative, cites
from ._bibliography import KANEDA_2023, NOTAY_2000
from ._conjugate_gradient import (
    LEAST_RESIDUAL,
    MOST_FAILURES,
    Verified,
    best_at_hand,
    check_sides,
    in_dtype_of,
    lesser,
    step_limit,
    unscaled,
)
from ._nullspace import ConstantNullspace
from ._scaled_start import scaled_start

RUNNING, CONVERGED, BREAKDOWN, NONFINITE, STAGNATION = range(5)

# The network is dropped after this many steps in a row in which its share of the decrease of the
# squared A-norm stays below LEAST_SHARE.
WEAK_STEPS = 5
LEAST_SHARE = 0.1
# Steps without any change of the iterate, up to rounding, that count as stagnation.
STILL_STEPS = 50
# A direction of which orthogonalisation leaves less than this many roundings is no new one.
DEPENDENT = 64.0


@cites(KANEDA_2023, NOTAY_2000)
def conjugate_directions(
    operator: Any,
    b: Inexact[Array, "..."],
    x0: Inexact[Array, "..."] | None = None,
    *,
    direction: Callable[[Any], Any] | None = None,
    preconditioner: Callable[[Any], Any] | None = None,
    memory: int = 2,
    safeguard: bool = True,
    rtol: RealScalar = 1e-5,
    atol: RealScalar = 0.0,
    max_steps: int | Int[Array, ""] | None = None,
    nullspace: ConstantNullspace | None = None,
    preconditioner_dtype: DTypeLike | None = None,
    recompute_every: int = 10,
    n_history: int = 0,
    n_residuals: int = 0,
) -> Solution:
    """Solve ``A x = b`` for a Hermitian positive (semi)definite operator.

    With ``safeguard`` each step minimises the A-norm of the error over the span of
    ``direction(r)``, ``preconditioner(r)`` and the directions in the memory: the decrease is never
    less than that of the preconditioner alone. A network that has a share below 10 % in it for
    five steps in a row is called no more. Without ``safeguard`` this is the published DCDM. It may
    be called under ``jax.jit`` and ``jax.vmap``; for gradients use `DeepConjugateDirection`.

    Parameters
    ----------
    operator
        Anything with ``mv(x)`` on arrays of the shape of ``b``, of the dtype of ``x``.
    b
        Right-hand side, of any shape.
    x0
        Where to start; zero by default, and where ``b`` would vanish beside its residual.
    direction
        ``q = direction(r)``, called with ``||r||_2 = 1``: any callable, also nonlinear, only for
        real systems. By default there is none: flexible conjugate gradients.
    preconditioner
        ``z = preconditioner(r)``, the safeguard; also called with ``||r||_2 = 1``, may be
        nonlinear; its sign does not matter. The identity by default.
    memory
        How many directions a new one is made A-orthogonal to. One suffices for a linear
        preconditioner alone; then the iterates are those of conjugate gradients.
    safeguard
        See above; without ``direction`` it makes no difference.
    rtol, atol
        Converged when ``||b - A x||_2 <= max(rtol ||b||_2, atol)``, by the recomputed residual.
    max_steps
        The most steps; ten times the number of unknowns by default. It may be traced.
    nullspace
        Constants and empty rows to project out (all-Neumann problems, solid cells).
    preconditioner_dtype
        Precision in which the preconditioner is called; that of ``b`` by default.
    recompute_every
        Steps between two true residuals.
    n_history
        How many residual norms to keep, the first of them before any step.
    n_residuals
        How many residuals to keep as the direction sees them, ``r / ||r||``: data for training.

    Returns
    -------
    Solution
        ``value`` is the answer, the best at hand on failure, as in `conjugate_gradient`.
        ``result`` is ``RESULTS.successful``, ``max_steps_reached``, ``breakdown`` (``p.Ap <= 0``:
        the operator is not positive definite), ``nonfinite_input`` (a NaN or infinity came up), or
        ``stagnation`` (rounding, a part of ``b`` in the nullspace, an answer below the range of the
        precision, or a direction that is none keeps the true
        residual above the tolerance). ``stats`` has ``num_steps``, ``residual_norm`` (true),
        ``matvecs``, ``incompatible_norm``, and the counts of the safeguards: ``n_rejected``
        (directions of the network that were zero, not finite or not new), ``n_replaced``
        (the same of the preconditioner, replaced by ``r``), ``direction_calls`` and
        ``dropped_at`` (the step after which the network was dropped, or -1). If asked for,
        ``residual_history``, NaN behind the last step, and ``residuals``, zero behind it.

    Raises
    ------
    ValueError
        If shapes do not match or a tolerance is negative.
    TypeError
        If ``b`` holds integers, or is complex and there is a ``direction``.

    References
    ----------
    .. [1] A. Kaneda, O. Akar, J. Chen, V. A. T. Kala, D. Hyde and J. Teran, "A deep conjugate
       direction method for iteratively solving linear systems", ICML 2023.
    .. [2] Y. Notay, "Flexible conjugate gradients", SIAM Journal on Scientific Computing 22 (2000),
       1444-1460.

    Examples
    --------
    A direction that is far from linear, on a diagonal matrix:

    >>> import jax.numpy as jnp, lineax as lx
    >>> operator = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0, 3.0, 4.0]))
    >>> solution = conjugate_directions(
    ...     operator, jnp.ones(4), direction=lambda r: jnp.tanh(5 * r), memory=4
    ... )
    >>> bool(jnp.allclose(solution.value, 1 / jnp.array([1.0, 2.0, 3.0, 4.0]), atol=1e-4))
    True
    """
    value, status, stats = _iterate_compiled(
        operator,
        *check_arguments(
            operator, b, x0, direction, memory, rtol, atol, max_steps, recompute_every
        ),
        direction=direction,
        preconditioner=preconditioner,
        memory=memory,
        safeguard=safeguard,
        nullspace=nullspace,
        preconditioner_dtype=(
            None if preconditioner_dtype is None else jnp.dtype(preconditioner_dtype)
        ),
        recompute_every=recompute_every,
        n_history=check_count("n_history", n_history, minimum=0),
        n_residuals=check_count("n_residuals", n_residuals, minimum=0),
    )
    return Solution(value, as_result(status, RESULTS), stats)


def check_arguments(
    operator, b, x0, direction, memory, rtol, atol, max_steps, recompute_every
) -> tuple[Array, Array | None, Array, Array, Array]:
    """Raise for what cannot be meant; return right-hand side, start, tolerances and limit."""
    check_sides(operator, b, x0)
    check_non_negative("rtol", rtol)
    check_non_negative("atol", atol)
    check_count("memory", memory, minimum=0)
    check_count("recompute_every", recompute_every)
    if direction is not None and jnp.iscomplexobj(b):
        raise TypeError(
            "a `direction` works on real systems only; for complex Hermitian ones pass a linear "
            "`preconditioner`."
        )
    real = jnp.finfo(b.dtype).dtype
    return (
        b,
        None if x0 is None else x0.astype(b.dtype),
        jnp.asarray(rtol, real),
        jnp.asarray(atol, real),
        step_limit(max_steps, b.size),
    )


def as_result(status: Int[Array, ""], members: Any) -> Any:
    """Return the member of an enumeration (that of lineax or an extension) for a status."""
    result: Any = members.max_steps_reached
    for code, member in (
        (CONVERGED, members.successful),
        (BREAKDOWN, members.breakdown),
        (NONFINITE, members.nonfinite_input),
        (STAGNATION, members.stagnation),
    ):
        result = members.where(status == code, member, result)
    return result


class _Inner(NamedTuple):
    x: Array
    r: Array
    rr: Array
    directions: Array  # (memory, *shape), of unit A-norm; zero where there is none yet
    images: Array  # A times these
    step: Array
    status: Array
    weak: Array
    dropped_at: Array
    n_rejected: Array
    n_replaced: Array
    direction_calls: Array
    matvecs: Array
    history: Array
    residuals: Array


class _Outer(NamedTuple):
    inner: _Inner
    best: Array
    failures: Array
    still: Array
    least: Verified


def iterate(
    operator: Any,
    b: Inexact[Array, "..."],
    x0: Inexact[Array, "..."] | None,
    rtol: Array,
    atol: Array,
    max_steps: Array,
    *,
    direction: Callable[[Any], Any] | None,
    preconditioner: Callable[[Any], Any] | None,
    memory: int,
    safeguard: bool,
    nullspace: ConstantNullspace | None,
    preconditioner_dtype: Any,
    recompute_every: int,
    n_history: int = 0,
    n_residuals: int = 0,
) -> tuple[Array, Array, dict[str, Array]]:
    """Return answer, status and stats of `conjugate_directions`, whose checks are done."""
    real = rtol.dtype
    eps = float(jnp.finfo(real).eps)
    zero, half, one = (jnp.asarray(v, real) for v in (0.0, 0.5, 1.0))
    project = (lambda u: u) if nullspace is None else nullspace.project
    b_is_zero = jnp.all(b == 0)
    scale, b, start = scaled_start(operator, b, x0, project)
    projected_b = project(b)
    norm_b = _norm(b)
    incompatible = zero if nullspace is None else _norm(b - projected_b)
    tolerance = jnp.maximum(rtol * norm_b, atol / scale)
    passing = jnp.maximum(tolerance, jnp.asarray(LEAST_RESIDUAL * eps, real) * norm_b) ** 2
    uses_network = direction is not None and safeguard

    def true_residual(x):
        return project(projected_b - operator.mv(x))

    def precondition(unit):
        if preconditioner is None:
            return unit
        dtype = unit.dtype if preconditioner_dtype is None else preconditioner_dtype
        z = preconditioner(unit.astype(dtype))
        return project(in_dtype_of(unit, z, "the preconditioner"))

    def call_direction(unit):
        assert direction is not None  # for the type checker
        return project(in_dtype_of(unit, direction(unit), "`direction`"))

    def orthogonalise(q, directions, images):
        """Return what is new in ``q``, and whether that is anything but rounding."""
        largest = jnp.max(jnp.abs(q), initial=0)
        finite = jnp.isfinite(largest)
        unit = jnp.where(finite & (largest > 0), largest, one).astype(q.dtype)
        q = jnp.where(finite, q / unit, jnp.zeros_like(q))
        size = _norm(q)
        axes = tuple(range(1, images.ndim))
        lengths = jnp.sqrt(jnp.sum(jnp.abs(directions) ** 2, axis=axes))
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            c = jnp.sum(jnp.conj(images) * q[None], axis=axes, keepdims=True)
            size = size + jnp.sum(jnp.abs(c).reshape(-1) * lengths)
            q = q - jnp.sum(c * directions, axis=0)
        return q, finite & (_norm(q) > jnp.asarray(DEPENDENT * eps, real) * size), finite

    def moves(u, r, rr):
        """Return whether a step along ``u`` would change anything."""
        return jnp.abs(_dot(u, r)) > jnp.asarray(eps, real) * _norm(u) * jnp.sqrt(rr)

    def take(u, image, x, r):
        """Return the step along ``u``: its unit, how far it goes, and where it leads."""
        curvature = _dot(u, image).real
        size = jnp.sqrt(jnp.where(curvature > 0, curvature, one)).astype(u.dtype)
        p, image = u / size, image / size
        a = _dot(p, r)
        return curvature, p, image, a, x + a * p, r - a * image

    def step(carry: _Inner) -> _Inner:
        unit = carry.r / jnp.sqrt(carry.rr).astype(carry.r.dtype)
        if n_residuals:
            kept = carry.residuals.at[carry.step].set(unit, mode="drop")
            carry = carry._replace(residuals=kept)
        stored = carry.directions, carry.images
        is_plain = direction is not None and not safeguard
        q = call_direction(unit) if is_plain else precondition(unit)
        u, usable, finite = orthogonalise(q, *stored)
        usable = usable & moves(u, carry.r, carry.rr)
        n_replaced = carry.n_replaced
        status = jnp.int32(RUNNING)
        if is_plain:
            unusable = jnp.where(finite, STAGNATION, NONFINITE).astype(jnp.int32)
            status = jnp.where(usable, status, unusable)
        elif preconditioner is not None:
            u = jax.lax.cond(usable, lambda: u, lambda: orthogonalise(unit, *stored)[0])
            n_replaced = n_replaced + (~usable).astype(jnp.int32)
        image = operator.mv(u)
        curvature, p, image, a, x, r = take(u, image, carry.x, carry.r)
        status = jnp.where((status == RUNNING) & ~(curvature > 0), BREAKDOWN, status)
        status = jnp.where(jnp.isfinite(curvature), status, NONFINITE).astype(jnp.int32)
        carry = carry._replace(n_replaced=n_replaced, matvecs=carry.matvecs + 1)
        if is_plain:
            carry = carry._replace(direction_calls=carry.direction_calls + 1)

        if uses_network:
            new = (p, image)

            def with_network(x, r):
                q = call_direction(unit)
                known = (jnp.concatenate([s, n[None]]) for s, n in zip(stored, new, strict=True))
                v, usable, _ = orthogonalise(q, *known)
                usable = usable & moves(v, carry.r, carry.rr)
                curvature, p_2, image_2, a_2, x_2, r_2 = take(v, operator.mv(v), x, r)
                usable = usable & (curvature > 0) & jnp.isfinite(curvature)
                gain = jnp.where(usable, a_2, zero)
                # One stored direction for the step: the sum of both, of unit A-norm.
                total = a**2 + gain**2
                size = jnp.sqrt(jnp.where(total > 0, total, one))
                sums = ((a * p + gain * p_2) / size, (a * image + gain * image_2) / size)
                chosen = jax.tree.map(
                    lambda new, old: jnp.where(usable, new, old),
                    (*sums, x_2, r_2),
                    (p, image, x, r),
                )
                indefinite = (curvature < -(eps**0.5) * _norm(v) * _norm(image_2)) & (curvature < 0)
                is_weak = gain**2 < jnp.asarray(LEAST_SHARE, real) * total
                return *chosen, is_weak, ~usable, indefinite

            def without(x, r):
                no = jnp.zeros((), bool)
                return p, image, x, r, no, no, no

            active = carry.dropped_at < 0
            p, image, x, r, is_weak, rejected, indefinite = jax.lax.cond(
                active, with_network, without, x, r
            )
            status = jnp.where(indefinite & (status == RUNNING), BREAKDOWN, status)
            called = active.astype(jnp.int32)
            weak = jnp.where(is_weak, carry.weak + 1, 0).astype(jnp.int32)
            dropped = active & (weak >= WEAK_STEPS)
            # From here on the preconditioner alone: its conjugacy starts afresh.
            keep = (~dropped).astype(real)
            p, image = p * keep, image * keep
            carry = carry._replace(
                directions=carry.directions * keep,
                images=carry.images * keep,
                weak=weak,
                dropped_at=jnp.where(dropped, carry.step + 1, carry.dropped_at),
                n_rejected=carry.n_rejected + rejected.astype(jnp.int32),
                direction_calls=carry.direction_calls + called,
                matvecs=carry.matvecs + called,
            )

        rr = _dot(r, r).real
        good = status == RUNNING
        finite = jnp.isfinite(rr)
        status = jnp.where(good & ~finite, NONFINITE, status).astype(jnp.int32)
        good = good & finite
        x = jnp.where(good, x, carry.x)
        r = jnp.where(good, r, carry.r)
        rr = jnp.where(good, rr, carry.rr)
        if memory:
            slot = carry.step % memory
            carry = carry._replace(
                directions=carry.directions.at[slot].set(p),
                images=carry.images.at[slot].set(image),
            )
        number = carry.step + good.astype(jnp.int32)
        history = carry.history
        if n_history:
            history = history.at[number].set(jnp.sqrt(rr), mode="drop")
        return carry._replace(x=x, r=r, rr=rr, step=number, status=status, history=history)

    def block(carry: _Outer) -> _Outer:
        end = jnp.minimum(carry.inner.step + recompute_every, max_steps)

        def goes_on(inner: _Inner):
            return (inner.status == RUNNING) & (inner.rr > passing) & (inner.step < end)

        inner = jax.lax.while_loop(goes_on, step, carry.inner)
        r = true_residual(inner.x)
        rr = _dot(r, r).real
        norm = jnp.sqrt(rr)
        # The recursion is of no more use: it claims success, or is mostly rounding.
        rounded = (inner.rr <= passing) | (_norm(r - inner.r) > half * norm)
        stuck = rounded & ~(norm < half * carry.best)
        failures = jnp.where(stuck, carry.failures + 1, 0).astype(jnp.int32)
        moved = _norm(inner.x - carry.inner.x) > jnp.asarray(eps, real) * _norm(inner.x)
        taken = inner.step - carry.inner.step
        still = jnp.where(moved, 0, carry.still + taken).astype(jnp.int32)
        stagnates = (failures >= MOST_FAILURES) | (still >= STILL_STEPS)
        status = jnp.where((inner.status == RUNNING) & stagnates, STAGNATION, inner.status)
        status = jnp.where(jnp.isfinite(rr), status, NONFINITE)
        status = jnp.where(norm <= tolerance, CONVERGED, status).astype(jnp.int32)
        keep = (~rounded).astype(b.dtype)
        inner = inner._replace(
            r=r,
            rr=rr,
            status=status,
            directions=inner.directions * keep,
            images=inner.images * keep,
            matvecs=inner.matvecs + 1,
        )
        least = lesser(carry.least, Verified(inner.x, norm))
        return _Outer(inner, jnp.minimum(norm, carry.best), failures, still, least)

    r = projected_b if x0 is None else true_residual(start)
    rr = _dot(r, r).real
    status = jnp.where(jnp.isfinite(rr) & jnp.isfinite(norm_b), RUNNING, NONFINITE)
    # An infinite right-hand side has an infinite tolerance.
    status = jnp.where((status == RUNNING) & (jnp.sqrt(rr) <= tolerance), CONVERGED, status)
    status = jnp.where(b_is_zero, CONVERGED, status).astype(jnp.int32)
    history = jnp.full((n_history,), jnp.nan, real)
    if n_history:
        history = history.at[0].set(jnp.where(b_is_zero, zero, jnp.sqrt(rr)))
    pairs = jnp.zeros((memory, *b.shape), b.dtype)
    kept = jnp.zeros((n_residuals, *b.shape), b.dtype)
    none = jnp.zeros((), jnp.int32)
    matvecs = none + (0 if x0 is None else 2)
    counts = (none, status, none, none - 1, none, none, none, matvecs)
    first = _Inner(start, r, rr, pairs, pairs, *counts, history, kept)
    outer = jax.lax.while_loop(
        lambda carry: (carry.inner.status == RUNNING) & (carry.inner.step < max_steps),
        block,
        _Outer(first, jnp.asarray(jnp.inf, real), none, none, Verified(start, jnp.sqrt(rr))),
    )
    inner = outer.inner
    last = Verified(inner.x, jnp.sqrt(inner.rr))
    x, norm = best_at_hand(last, outer.least, inner.status, inner.step)
    x = project(x)
    residual = jnp.sqrt(norm**2 + incompatible**2)
    # What no x can reach is no success, however well the rest is solved.
    unreachable = (inner.status == CONVERGED) & ~(residual <= tolerance) & ~b_is_zero
    status = jnp.where(unreachable, STAGNATION, inner.status)
    value, finite, in_range, gone = unscaled(jnp.where(b_is_zero, jnp.zeros_like(x), x), scale)
    status = jnp.where((status == CONVERGED) & ~in_range, STAGNATION, status)
    status = jnp.where(finite, status, NONFINITE)
    residual = jnp.where(gone, norm_b, residual)
    stats = {
        "num_steps": inner.step,
        "residual_norm": jnp.where(b_is_zero, zero, residual * scale),
        "matvecs": inner.matvecs,
        "incompatible_norm": incompatible * scale,
        "n_rejected": inner.n_rejected,
        "n_replaced": inner.n_replaced,
        "direction_calls": inner.direction_calls,
        "dropped_at": inner.dropped_at,
    }
    if n_history:
        stats["residual_history"] = inner.history * scale
    if n_residuals:
        stats["residuals"] = inner.residuals
    return value, status, stats


_iterate_compiled = eqx.filter_jit(iterate)


def _dot(u: Array, v: Array) -> Array:
    """Return the inner product, by a sum: see `_conjugate_gradient`."""
    return jnp.sum((jnp.conj(u) if jnp.iscomplexobj(u) else u) * v)


def _norm(u: Array) -> Array:
    return jnp.sqrt(_dot(u, u).real)
