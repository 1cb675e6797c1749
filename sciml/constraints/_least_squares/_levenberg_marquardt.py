r"""Levenberg-Marquardt for many small problems at once, inside any transformation of JAX.

Each step minimises :math:`\|J p + r\|^2 + \mu \|D p\|^2` with :math:`D` the largest column norms
of :math:`J` met so far. It is taken when the sum of squares falls by a part of what the linear
model promised; at round-off, where sums of squares no longer tell points apart, when the gradient
falls. Newton steps on :math:`J^T r = 0` with the whole second derivative end the solve: they reach
the accuracy in :math:`w` that implicit derivatives need.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Bool, Float, Int

from ...core import check_count, check_non_negative, check_positive, cites
from .._bibliography import MARQUARDT_1963, NIELSEN_1999
from ._pseudo_inverse import symmetric_pseudo_inverse
from ._rows import NormalForm, RowProblem, hessian, summary, vary, varying_axes
from ._solver import (
    CONVERGED,
    MAX_STEPS,
    NONFINITE,
    NOT_A_MINIMUM,
    RANK_DEFICIENT,
    RUNNING,
    STALLED,
    AbstractLeastSquaresSolver,
    Outcome,
    condition_number,
    measures,
)

_MOST_DAMPING = 1e16
_LEAST_DAMPING = 1e-20


@cites(MARQUARDT_1963, NIELSEN_1999)
class LevenbergMarquardt(AbstractLeastSquaresSolver):
    r"""Levenberg-Marquardt with column scaling, stopped by stationarity and by nothing else.

    A solve has converged when no column of the Jacobian, and no vector of an orthonormal basis of
    their span, has a part of the rows along it that exceeds :math:`\tau \|r\|`, or when what
    remains is round-off: of the rows, or of the basis where columns are nearly dependent. A short
    step, or a sum of squares that hardly falls, is no convergence here.

    Parameters
    ----------
    gtol
        The bound :math:`\tau`. In float32 no less than 1.2e-6 is asked.
    max_steps
        Steps at most, rejected ones included.
    form
        `NormalForm.qr` or `NormalForm.gram`.
    damping
        The first :math:`\mu`, without unit. With 0 the first step is that of Gauss and Newton:
        it solves linear problems at once.
    newton_steps
        Newton steps at most after the last step. With 0 a start that happens to be stationary is
        not looked at either: whether it is a maximum.
    rank_tolerance
        A Jacobian with unit columns whose condition number exceeds ``1 / rank_tolerance`` is
        called rank deficient. By default ``10 N`` rounding units; their root for the Gram form.

    Notes
    -----
    Under `jax.vmap` one loop runs until the slowest problem has ended; those that have are frozen,
    so that values and step counts are those of each problem alone. Under `jax.shard_map` each
    device runs a loop of its own.

    References
    ----------
    .. [1] D. W. Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters",
       Journal of SIAM 11, 1963.
    .. [2] H. B. Nielsen, "Damping Parameter in Marquardt's Method", IMM-REP-1999-05, 1999.

    Examples
    --------
    >>> from sciml.constraints import LevenbergMarquardt, NormalForm
    >>> LevenbergMarquardt(form=NormalForm.gram).max_steps
    100
    """

    gtol: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    form: NormalForm = eqx.field(static=True)
    damping: float = eqx.field(static=True)
    newton_steps: int = eqx.field(static=True)
    rank_tolerance: float | None = eqx.field(static=True)

    def __init__(
        self,
        *,
        gtol: float = 1e-8,
        max_steps: int = 100,
        form: NormalForm = NormalForm.qr,
        damping: float = 1e-3,
        newton_steps: int = 3,
        rank_tolerance: float | None = None,
    ):
        check_positive("gtol", gtol)
        check_non_negative("damping", damping)
        if not isinstance(form, NormalForm):
            raise TypeError(f"`form` must be a member of NormalForm, got {form!r}.")
        if rank_tolerance is not None:
            check_positive("rank_tolerance", rank_tolerance)
        self.gtol = float(gtol)
        self.max_steps = check_count("max_steps", max_steps)
        self.form = form
        self.damping = float(damping)
        self.newton_steps = check_count("newton_steps", newton_steps, minimum=0)
        self.rank_tolerance = None if rank_tolerance is None else float(rank_tolerance)

    def run(self, problem: RowProblem, w0: Float[Array, " n"]) -> tuple[Array, Outcome]:
        """Return the minimiser and how it was found."""
        end = jax.lax.while_loop(
            self._goes_on, lambda s: self._step(problem, s), self._start(problem, w0)
        )
        w, total, n_newton = end.w, end.total, jnp.zeros_like(end.n_steps)
        is_minimum = jnp.asarray(True)
        if self.newton_steps > 0:
            polished = self._newton(problem, end)
            w, total, n_newton = polished.w, polished.total, polished.count
            is_minimum = polished.is_minimum | (end.n_steps > 0)
        return w, self._outcome(problem, w, total, end, n_newton, is_minimum)

    def _start(self, problem, w0):
        # The first pass through the loop evaluates at w0: compiled once, the rows are the same
        # in every pass. Its damping makes the step zero.
        axes = varying_axes((problem, w0))
        axes -= {problem.axis_name}
        n = w0.shape[0]
        state = _State(
            w=w0,
            total=jnp.full((n + 1, n + 1), jnp.inf, w0.dtype),
            scale=jnp.zeros_like(w0),
            damping=jnp.asarray(self.damping, w0.dtype),
            factor=jnp.asarray(2.0, w0.dtype),
            n_steps=jnp.asarray(-1, jnp.int32),
            status=jnp.asarray(RUNNING, jnp.int32),
        )
        return vary(state, axes)

    def _goes_on(self, state):
        return state.status == RUNNING

    def _step(self, problem, state):
        is_first = state.n_steps < 0
        n = state.w.shape[0]
        total = jnp.where(is_first, jnp.eye(n + 1, dtype=state.w.dtype), state.total)
        here = measures(total, state.w, self.form)
        step, predicted = _damped_step(total, state.damping, state.scale, self.form)
        trial = jnp.where(is_first, state.w, state.w + step)
        new_total = summary(problem, trial, self.form)
        there = measures(new_total, trial, self.form)
        gain = (here.cost - there.cost) / jnp.where(predicted > 0, predicted, 1)
        gain = jnp.where(jnp.isfinite(gain), gain, -1.0)
        eps = jnp.finfo(state.w.dtype).eps
        # As far as the rounding of the rows lets sums of squares tell.
        noise = 16 * eps * here.cost + here.floor * here.residual_norm
        level = jnp.abs(here.cost - there.cost) <= noise
        falls = level & (there.stationarity < 0.9 * here.stationarity)
        accept = is_first | (there.finite & ((gain > 1e-4) | falls))
        # Nielsen's update; ten times less at best instead of three.
        less = jnp.maximum(0.1, 1 - (2 * jnp.where(falls, 1.0, gain) - 1) ** 3)
        damping = jnp.where(
            accept,
            jnp.maximum(state.damping * less, jnp.minimum(state.damping, _LEAST_DAMPING)),
            jnp.maximum(state.damping * state.factor, 1e-12),
        )
        damping = jnp.where(is_first, state.damping, damping)
        factor = jnp.where(accept, 2.0, 2 * state.factor)
        w = jnp.where(accept, trial, state.w)
        total = jnp.where(accept, new_total, state.total)
        n_steps = state.n_steps + 1
        now = measures(total, w, self.form)
        stuck = ~accept & ((damping > _MOST_DAMPING) | jnp.all(trial == state.w))
        status = jnp.full_like(state.status, RUNNING)
        status = jnp.where(n_steps >= self.max_steps, MAX_STEPS, status)
        status = jnp.where(stuck, STALLED, status)
        status = jnp.where(now.is_stationary(self.gtol), CONVERGED, status)
        status = jnp.where(~now.finite, NONFINITE, status)
        return _State(
            w=w,
            total=total,
            scale=jnp.maximum(state.scale, jnp.where(accept, there.column_norms, 0)),
            damping=damping,
            factor=factor,
            n_steps=n_steps,
            status=status,
        )

    def _newton(self, problem, end):
        """Take Newton steps on the gradient while the stationarity falls.

        Steps of Levenberg and Marquardt go down, and so end at a minimum. A solve that took none
        may be at a maximum; one look at the second derivative tells.
        """

        def goes_on(state):
            now = measures(state.total, state.w, self.form)
            eps = jnp.finfo(state.w.dtype).eps
            resolved = now.is_stationary(10 * float(eps))
            improves = state.falls & ~resolved & (state.count < self.newton_steps)
            doubtful = (end.n_steps == 0) & (now.residual_norm > now.floor) & ~state.is_looked_at
            return now.finite & (improves | doubtful)

        def step(state):
            w, total = state.w, state.total
            now = measures(total, w, self.form)
            inverse = symmetric_pseudo_inverse(hessian(problem, w))
            trial = w - inverse.solve(now.gradient)
            new_total = summary(problem, trial, self.form)
            there = measures(new_total, trial, self.form)
            falls = there.finite & (there.stationarity < now.stationarity)
            # A saddle or a maximum is stationary, too.
            eps = jnp.finfo(w.dtype).eps
            falls = falls & (there.cost <= now.cost * (1 + 1e3 * eps))
            return _Polish(
                w=jnp.where(falls, trial, w),
                total=jnp.where(falls, new_total, total),
                count=state.count + falls.astype(state.count.dtype),
                falls=falls,
                is_looked_at=jnp.ones_like(falls),
                is_minimum=inverse.is_definite,
            )

        start = _Polish(
            w=end.w,
            total=end.total,
            count=jnp.zeros_like(end.n_steps),
            falls=end.status != NONFINITE,
            is_looked_at=end.status == RUNNING,
            is_minimum=end.status != RUNNING,
        )
        return jax.lax.while_loop(goes_on, step, start)

    def _outcome(self, problem, w, total, end, n_newton, is_minimum):
        now = measures(total, w, self.form)
        converged = now.is_stationary(self.gtol)
        status = jnp.where(converged, CONVERGED, end.status)
        condition = condition_number(total, now.column_norms, self.form)
        tolerance = self.rank_tolerance
        if tolerance is None:
            tolerance = 10 * w.shape[0] * float(jnp.finfo(w.dtype).eps)
            tolerance = tolerance if self.form is NormalForm.qr else tolerance**0.5
        dead = now.column_norms == 0
        if problem.free is not None:
            dead = dead & problem.free
        deficient = jnp.any(dead) | (condition > 1 / tolerance)
        status = jnp.where(converged & deficient, RANK_DEFICIENT, status)
        status = jnp.where(converged & ~is_minimum, NOT_A_MINIMUM, status)
        return Outcome(
            status=status,
            converged=converged & is_minimum,
            n_steps=end.n_steps,
            n_newton_steps=n_newton,
            stationarity=now.stationarity,
            residual_norm=now.residual_norm,
            condition_number=condition,
            total=total,
        )


class _State(NamedTuple):
    w: Float[Array, " n"]
    total: Float[Array, "size size"]
    scale: Float[Array, " n"]
    damping: Float[Array, ""]
    factor: Float[Array, ""]
    n_steps: Int[Array, ""]
    status: Int[Array, ""]


class _Polish(NamedTuple):
    w: Float[Array, " n"]
    total: Float[Array, "size size"]
    count: Int[Array, ""]
    falls: Bool[Array, ""]
    is_looked_at: Bool[Array, ""]
    is_minimum: Bool[Array, ""]


def _damped_step(total, damping, scale, form):
    """Return the step, and by how much the linear model says half the squares fall."""
    n = scale.shape[0]
    matrix, vector = total[:n, :n], total[:n, n]
    # Columns of zeros hold their unknowns where they are.
    dead = jnp.where(scale > 0, 0.0, 1.0).astype(scale.dtype)
    if form is NormalForm.gram:
        damped = matrix + jnp.diag(damping * scale**2 + dead)
        p = -cho_solve((jnp.linalg.cholesky(damped), True), vector)
        model = p @ (matrix @ p)
    else:
        below = jnp.diag(jnp.sqrt(damping) * scale + dead)
        stacked = jnp.concatenate([matrix, below])
        right = jnp.concatenate([-vector, jnp.zeros_like(vector)])[:, None]
        triangle = jnp.linalg.qr(jnp.concatenate([stacked, right], axis=1), mode="r")
        p = solve_triangular(triangle[:n, :n], triangle[:n, n])
        model = jnp.sum((matrix @ p) ** 2)
    return p, 0.5 * model + damping * jnp.sum((scale * p) ** 2)
