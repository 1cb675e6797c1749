"""What both front doors check and fill in before they solve."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree

from ..core import check_shape, warn_caller
from ._forwarding_solver import innermost
from ._initial_step import initial_step
from ._step_regularizer import state_dtype


def error_scale(
    controller: diffrax.AbstractStepSizeController,
) -> tuple[Any, Any, Callable[[PyTree], Any] | None]:
    """Return rtol, atol and norm of a step size controller; None three times if it has none."""
    while isinstance(controller, diffrax.ClipStepSizeController):
        controller = controller.controller
    if isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        return controller.rtol, controller.atol, controller.norm
    return None, None, None


def check_problem(terms: PyTree, y0: PyTree, rtol: Any, atol: Any) -> Any:
    """Return the dtype of the state; raise or warn where no regulariser can be had."""

    def is_unsafe(x):
        return isinstance(x, diffrax.UnsafeBrownianPath)

    if any(is_unsafe(leaf) for leaf in jax.tree.leaves(terms, is_leaf=is_unsafe)):
        raise ValueError(
            "`UnsafeBrownianPath` allows neither adaptive steps nor reverse-mode gradients. Take "
            "`diffrax.VirtualBrownianTree`."
        )
    dtype = state_dtype(y0)
    known = [x for x in (rtol, atol) if x is not None and not isinstance(x, Tracer)]
    eps = float(jnp.finfo(dtype).eps)
    if len(known) == 2 and max(known) < 10 * eps:
        warn_caller(
            f"The tolerances {known} are below ten units of rounding of {dtype} ({eps:.1e}): the "
            "error estimate is mostly rounding. Compute in float64, or loosen them.",
            UserWarning,
        )
    return dtype


def save_times(ts: Any, t0: Any) -> tuple[Any, Any]:
    """Return ``t0`` and ``ts`` in one dtype; raise unless ``ts`` goes on from ``t0`` in order.

    Traced values pass: ``diffeqsolve`` checks their order at run time.
    """
    check_shape("ts", ts, ("time",))
    if len(ts) == 0:
        raise ValueError("`ts` must hold one time at least, got none.")
    is_known = not isinstance(ts, Tracer) and not isinstance(t0, Tracer)
    ts = np.asarray(ts) if is_known else jnp.asarray(ts)
    # A float64 `t0` and its rounding to float32 are one time.
    dtype = jnp.asarray(ts).dtype if jnp.issubdtype(ts.dtype, jnp.floating) else float
    if is_known:
        steps = np.diff(ts.astype(dtype), prepend=np.asarray(t0, dtype))
        if not ((steps >= 0).all() or (steps <= 0).all()):
            raise ValueError(f"`ts` must go on from `t0` = {t0} in order, one way; got {ts}.")
    ts = jnp.asarray(ts, dtype)
    return jnp.asarray(t0, ts.dtype), ts


def forward_times(ts: Any) -> Any:
    """Return ``ts``; raise if it decreases, at run time where it is traced."""
    if isinstance(ts, Tracer):
        return eqx.error_if(
            ts, ~jnp.all(jnp.diff(ts) >= 0), "`ts` must not decrease. Sort the series."
        )
    known = np.asarray(ts)
    if not (np.diff(known) >= 0).all():
        raise ValueError(f"`ts` must not decrease, got {known}. Sort the series by time.")
    return ts


def first_step(dt0, terms, solver, t0, t1, y0, args, scale) -> Any:
    """Return ``dt0``, or one from the field itself where it is left out."""
    rtol, atol, norm = scale
    if dt0 is not None or rtol is None:
        return dt0
    if not isinstance(terms, diffrax.ODETerm):
        raise ValueError(
            "`dt0=None` chooses a first step for ordinary differential equations only (one "
            "`diffrax.ODETerm`). Pass `dt0`."
        )
    return initial_step(terms, solver, t0, t1, y0, args, rtol=rtol, atol=atol, norm=norm)


def with_tolerances(solver: diffrax.AbstractSolver, scale: tuple) -> diffrax.AbstractSolver:
    """Return ``solver`` with the tolerances of its root finder, if it has one, filled in.

    ``diffeqsolve`` does so for implicit solvers, but neither outside a solve nor through two
    wrappers.
    """
    inner = innermost(solver)
    if not isinstance(inner, diffrax.AbstractImplicitSolver) or scale[0] is None:
        return solver
    known: dict[str, Any] = dict(zip(("rtol", "atol", "norm"), scale, strict=True))
    names = [
        name
        for name in known
        if not _is_given(getattr(inner.root_finder, name, 0.0))  # pyright: ignore
    ]
    return eqx.tree_at(
        lambda s: [getattr(innermost(s).root_finder, name) for name in names],
        solver,
        [known[name] for name in names],
    )


def _is_given(x: Any) -> bool:
    return callable(x) or eqx.is_array_like(x)
