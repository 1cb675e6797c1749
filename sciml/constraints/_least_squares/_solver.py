"""What solves a least-squares problem, and the record of how it ended."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, Int

from ...core import RESULTS
from ._rows import NormalForm, RowProblem

(
    RUNNING,
    CONVERGED,
    MAX_STEPS,
    STALLED,
    NONFINITE,
    RANK_DEFICIENT,
    INCONSISTENT,
    NOT_A_MINIMUM,
) = range(8)


class Outcome(eqx.Module):
    """How one least-squares problem ended; arrays only, so that it passes any transformation.

    ``total`` is the summary of ``[J r]`` at the end, for the derivative.
    """

    status: Int[Array, ""]
    converged: Bool[Array, ""]
    n_steps: Int[Array, ""]
    n_newton_steps: Int[Array, ""]
    stationarity: Float[Array, ""]
    residual_norm: Float[Array, ""]
    condition_number: Float[Array, ""]
    total: Float[Array, "size size"]


class Measures(eqx.Module):
    """What the summary matrix of ``[J r]`` says."""

    cost: Float[Array, ""]
    gradient: Float[Array, " unknowns"]
    column_norms: Float[Array, " unknowns"]
    residual_norm: Float[Array, ""]
    stationarity: Float[Array, ""]
    floor: Float[Array, ""]
    finite: Bool[Array, ""]

    def is_stationary(self, gtol: float) -> Bool[Array, ""]:
        """Whether the gradient is zero to ``gtol`` or to what round-off of the rows leaves."""
        gtol = max(gtol, 10 * float(jnp.finfo(self.cost.dtype).eps))
        size = self.stationarity * self.residual_norm
        return self.finite & (size <= gtol * self.residual_norm + self.floor)


def measures(total: Float[Array, "size size"], w: Float[Array, " n"], form: NormalForm) -> Measures:
    """Return cost, gradient and stationarity from a summary."""
    n = w.shape[0]
    matrix, vector = total[:n, :n], total[:n, n]
    if form is NormalForm.gram:
        g, square = vector, total[n, n]
        norms = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 0))
    else:
        g, square = matrix.T @ vector, jnp.sum(total[:, n] ** 2)
        norms = jnp.sqrt(jnp.sum(matrix**2, axis=0))
    size = jnp.sqrt(jnp.maximum(square, 0))
    bottom = norms * size
    slopes = jnp.where(bottom > 0, jnp.abs(g) / jnp.where(bottom > 0, bottom, 1), 0)
    within = _within_range(matrix, vector, norms, size, form) / jnp.where(size > 0, size, 1)
    floor = 4 * jnp.finfo(w.dtype).eps * jnp.sum(norms * jnp.abs(w))
    finite = jnp.all(jnp.isfinite(total)) & jnp.all(jnp.isfinite(w))
    stationarity = jnp.maximum(jnp.max(slopes), jnp.where(size > 0, within, 0))
    return Measures(0.5 * square, g, norms, size, stationarity, floor, finite)


def _within_range(matrix, vector, norms, size, form):
    """Return how much of ``r`` lies in the range of ``J``, less what round-off makes of it.

    Column by column is not enough: the difference of two nearly parallel columns may point along
    ``r`` although neither does. Components of ``r`` in an orthonormal basis of the range see it;
    that of a column which its predecessors nearly span is known the less the nearer they come.
    """
    eps = jnp.finfo(matrix.dtype).eps
    live = norms > 0
    scale = jnp.where(live, norms, 1)
    if form is NormalForm.gram:
        unit = matrix / scale[:, None] / scale[None, :] + jnp.diag(jnp.where(live, 0.0, 1.0))
        triangle = jnp.linalg.cholesky(unit.astype(matrix.dtype))
        known = jnp.all(jnp.isfinite(triangle))
        triangle = jnp.where(known, triangle, jnp.eye(len(norms), dtype=matrix.dtype))
        components = solve_triangular(triangle, vector / scale, lower=True)
        share = jnp.where(known, jnp.diagonal(triangle), 0) ** 2
    else:
        components, share = vector, jnp.abs(jnp.diagonal(matrix)) / scale
    counts = live & (share > 10 * len(norms) * eps)
    noise = 10 * eps / jnp.where(counts, share, 1) * size
    return jnp.max(jnp.where(counts, jnp.abs(components) - noise, 0.0), initial=0.0)


def condition_number(
    total: Float[Array, "size size"], norms: Float[Array, " n"], form: NormalForm
) -> Float[Array, ""]:
    """Return the condition number of ``J`` with unit columns; columns of zeros do not count."""
    n = norms.shape[0]
    live = norms > 0
    unit = total[:n, :n] / jnp.where(live, norms, 1)[None, :]
    unit = jnp.where(jnp.isfinite(unit), unit, 0)
    if form is NormalForm.gram:
        unit = unit / jnp.where(live, norms, 1)[:, None]
        values = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(unit), 0))[::-1]
    else:
        values = jnp.linalg.svd(unit, compute_uv=False)
    last = values[jnp.maximum(jnp.sum(live) - 1, 0)]
    return jnp.where(last > 0, values[0] / jnp.where(last > 0, last, 1), jnp.inf)


class AbstractLeastSquaresSolver(eqx.Module):
    """Something that minimises half the sum of squares of a problem's rows."""

    form: eqx.AbstractVar[NormalForm]

    @abc.abstractmethod
    def run(self, problem: RowProblem, w0: Float[Array, " n"]) -> tuple[Any, Outcome]:
        """Return the minimiser and how it was found."""


@eqx.filter_jit
def as_result(status: Int[Array, "*batch"]) -> RESULTS:
    """Return the member of `RESULTS` for a status, also for batches of them."""
    if status.ndim > 0:
        return jax.vmap(as_result)(status)
    members: Any = RESULTS
    result: Any = members.successful
    for code, member in (
        (MAX_STEPS, RESULTS.nonlinear_max_steps_reached),
        (STALLED, RESULTS.least_squares_stalled),
        (NONFINITE, RESULTS.nonfinite_rows),
        (RANK_DEFICIENT, RESULTS.rank_deficient),
        (INCONSISTENT, RESULTS.inconsistent_constraints),
        (NOT_A_MINIMUM, RESULTS.least_squares_not_a_minimum),
    ):
        result = members.where(status == code, member, result)
    return result
