"""One least-squares problem for each expert, all at once or spread over devices."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from ..core._constant import constant
from ._basis import AbstractBasis
from ._jet_rows import Coefficients, JetRows, joint_tables, row_block, sound
from ._least_squares._implicit_adjoint import ImplicitAdjoint, minimise
from ._least_squares._rows import (
    NormalForm,
    RowBlock,
    RowProblem,
    least_margin,
    replicated,
    summary,
)
from ._least_squares._solver import (
    CONVERGED,
    INCONSISTENT,
    NONFINITE,
    RANK_DEFICIENT,
    AbstractLeastSquaresSolver,
    Outcome,
)
from ._linear_conditions import LinearConditions, linear_conditions, whitening
from ._points import Points
from ._residual import AbstractResidual, Condition, Residual

_AT_BOUND = 1e-6
"""An inequality this near to its bound is at a kink."""


class ExpertProblem(eqx.Module):
    """What all experts share."""

    basis: AbstractBasis
    residuals: tuple[AbstractResidual, ...]
    solver: AbstractLeastSquaresSolver
    adjoint: ImplicitAdjoint
    ridge: float = eqx.field(static=True)
    whiten: bool = eqx.field(static=True)
    chunk: int | None = eqx.field(static=True)
    tabulate: bool = eqx.field(static=True)


class ExpertOutcome(eqx.Module):
    """Coefficients of an expert and how they were found."""

    w: Float[Array, " n"]
    outcome: Outcome
    exact_defect: Float[Array, ""]
    basis_rank: Array
    degenerate: Bool[Array, ""]


def solve_expert(
    problem: ExpertProblem,
    parameters: PyTree[Any],
    points: Mapping[str, Points],
    w0: Float[Array, " n"] | None,
    *,
    axis_name: str | None = None,
) -> ExpertOutcome:
    """Solve for the coefficients of one expert from its points."""
    basis = problem.basis
    n = basis.size(parameters)
    blocks = _blocks(problem, parameters, points, axis_name)
    fitted = [blocks[r.name] for r in problem.residuals if r.condition is not Condition.exact]
    dtype = points[problem.residuals[0].name].weights.dtype
    plain = Coefficients(None, None, parameters)
    coefficients = Coefficients(jnp.zeros(n, dtype), jnp.eye(n, dtype=dtype), parameters)

    exact = [blocks[r.name] for r in problem.residuals if r.condition is Condition.exact]
    conditions, length = None, jnp.ones((), dtype)
    offset = jnp.zeros(n, dtype)
    null_space = jnp.eye(n, dtype=dtype)
    if exact:
        conditions, length = conditions_of(exact, plain, n)
        null_space = conditions.projected_null_space()
        offset = conditions.least_norm(conditions.target)
        coefficients = Coefficients(offset, null_space, parameters)
    rank = jnp.sum(jnp.any(null_space != 0, axis=0))
    inverse = null_space.T
    if problem.whiten and fitted:
        form = problem.solver.form
        total = _values(problem, fitted, parameters, axis_name)
        transform, inverse, rank = whitening(total, jax.lax.stop_gradient(null_space), form)
        coefficients = Coefficients(offset, null_space @ transform, parameters)

    start = jnp.zeros(n, dtype)
    if w0 is not None:
        start = jax.lax.stop_gradient(inverse @ (w0 - offset))
    live = jnp.any(jax.lax.stop_gradient(coefficients.matrix) != 0, axis=0)
    given = coefficients
    if problem.tabulate:
        given = plain
        fitted = [
            eqx.tree_at(lambda b: b.points["tables"], b, coefficients.tables(b.points["tables"]))
            for b in fitted
        ]
    v, outcome = minimise(
        RowProblem(tuple(fitted), given, replicated(live, axis_name), axis_name),
        replicated(start, axis_name),
        solver=problem.solver,
        adjoint=problem.adjoint,
    )
    degenerate = _at_bound(problem, fitted, given, v, axis_name)
    # Whitening left out what the points do not see, which is much if there are few points.
    wanted = jnp.sum(jnp.any(null_space != 0, axis=0), dtype=jnp.int32)
    few = _n_rows(fitted, v, given, axis_name) < wanted
    outcome = eqx.tree_at(
        lambda o: o.status,
        outcome,
        jnp.where(few & (outcome.status == CONVERGED), RANK_DEFICIENT, outcome.status),
    )
    w = coefficients(v)
    defect = jnp.zeros((), dtype)
    if conditions is not None:
        w = conditions.correct(w)
        rows = rows_of(exact, plain, w)
        status = jnp.where(conditions.hold(w, rows / length), outcome.status, INCONSISTENT)
        outcome = eqx.tree_at(lambda o: o.status, outcome, status)
        defect = jnp.max(jnp.abs(rows), initial=0.0)
    # Coefficients that are no numbers would spoil the field of the neighbours: 0 NaN is NaN.
    is_finite = jnp.all(jnp.isfinite(w))
    w = jnp.where(is_finite, w, 0)
    status = jnp.where(is_finite, outcome.status, NONFINITE)
    outcome = eqx.tree_at(lambda o: o.status, outcome, status)
    solved = ExpertOutcome(w, outcome, jax.lax.stop_gradient(defect), rank, degenerate)
    return replicated(solved, axis_name)


def conditions_of(
    exact: list[RowBlock], coefficients: Coefficients, n: int
) -> tuple[LinearConditions, Float[Array, " p"]]:
    """Return the linear conditions that the rows of exact blocks are at zero coefficients."""
    matrices, targets = [], []
    for block in exact:
        rows, jacobian = _exact_rows(block, coefficients, jnp.zeros(n, block.weights.dtype))
        matrices.append(jacobian)
        targets.append(-rows)
    return linear_conditions(jnp.concatenate(matrices), jnp.concatenate(targets))


def rows_of(
    exact: list[RowBlock], coefficients: Coefficients, w: Float[Array, " n"]
) -> Float[Array, " p"]:
    """Return the rows of exact blocks at ``w``."""
    parts = []
    for block in exact:
        rows = block.residual(w, block.points, coefficients)
        parts.append(jnp.where(block.weights[:, None] > 0, rows, 0).reshape(-1))
    return jnp.concatenate(parts)


def _exact_rows(block, coefficients, w):
    rows, jacobian = block.residual.linearise(w, block.points, coefficients)
    kept = block.weights[:, None] != 0
    rows = jnp.where(kept, rows, 0)
    jacobian = jnp.where(kept[..., None], jacobian, 0)
    return rows.reshape(-1), jacobian.reshape(-1, w.shape[0])


def _blocks(problem, parameters, points, axis_name):
    """Return all blocks by name, those of exact conditions without ridge and chunks."""
    options, groups = {}, {True: [], False: []}
    for residual in problem.residuals:
        name, is_exact = residual.name, residual.condition is Condition.exact
        options[name] = {
            "root_ridge": 0.0 if is_exact else problem.ridge**0.5,
            "chunk": None if is_exact else problem.chunk,
            "axis_name": None if is_exact else axis_name,
        }
        if problem.tabulate or is_exact:
            # What all experts have in common is tabulated once for all.
            groups[residual.everywhere].append(residual)
    # Whitening needs values; every table has them on its way to the derivatives.
    fields = problem.basis.fields if problem.whiten else ()
    points = {name: sound(each) for name, each in points.items()}
    tables = {}
    for group in filter(None, groups.values()):
        wanted = [
            (
                points[r.name],
                tuple({*JetRows(r, problem.basis, options[r.name]["root_ridge"]).needs(), *fields}),
            )
            for r in group
        ]
        found = joint_tables(problem.basis, wanted, parameters)
        tables |= {r.name: table for r, table in zip(group, found, strict=True)}
    return {
        r.name: row_block(
            r, problem.basis, points[r.name], tables=tables.get(r.name), **options[r.name]
        )
        for r in problem.residuals
    }


def _values(problem, fitted, parameters, axis_name):
    """Return the triangle, or the Gram matrix, of the functions on the points of fitted blocks."""
    basis = problem.basis
    n = basis.size(parameters)

    def values(jet, x, parameters):
        return jnp.stack([jet[name] for name in basis.fields])

    value = JetRows(Residual(values, basis.fields, name="values"), basis, 0.0)
    blocks = []
    for block in fitted:
        data, weights = block.points, block.weights
        if data["quadrature"] is not None:
            # Each quadrature point counts for its cell.
            m, q = basis.positions(data["positions"]).shape[:2]

            def flat(leaf, m=m, q=q):
                return leaf.reshape(m * q, *leaf.shape[2:])

            data = jax.tree.map(flat, data | {"quadrature": None})
            weights = jnp.repeat(weights, q) / q
        blocks.append(RowBlock(value, data, weights, problem.chunk))
    dtype = fitted[0].weights.dtype
    rows = RowProblem(tuple(blocks), Coefficients(None, None, parameters), None, axis_name)
    return summary(constant(rows), jnp.zeros(n, dtype), problem.solver.form)[:n, :n]


def _n_rows(fitted, v, args, axis_name):
    """Return how many rows there are at points that count."""
    total = jnp.zeros((), jnp.int32)
    for block in fitted:
        one = jax.tree.map(lambda leaf: leaf[:1], block.points)
        each = eqx.filter_eval_shape(block.residual, v, one, args).size
        total = total + each * jnp.sum(block.weights > 0, dtype=jnp.int32)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def _at_bound(problem, fitted, args, v, axis_name):
    """Say whether an inequality is neither broken nor slack: the derivative is then one-sided."""
    parts = {True: [], False: []}
    for block in fitted:
        parts[block.residual.residual.condition is Condition.inequality].append(block)
    kept = [
        eqx.tree_at(
            lambda b: b.residual, block, JetRows(block.residual.residual, problem.basis, 0.0, True)
        )
        for block in parts[True]
    ]
    if not kept:
        return jnp.asarray(False)
    v = jax.lax.stop_gradient(v)
    others = constant(RowProblem(tuple(parts[False]), args, None, axis_name))
    total = summary(others, v, NormalForm.gram)
    n = v.shape[0]
    jacobian, rows = jnp.sqrt(jnp.trace(total[:n, :n])), jnp.sqrt(total[n, n])
    floor = jnp.finfo(v.dtype).eps * jacobian * jnp.linalg.norm(v)
    force = jnp.maximum(jacobian * (rows + floor), jnp.finfo(v.dtype).tiny)
    inequalities = constant(RowProblem(tuple(kept), args, None, axis_name))
    return least_margin(inequalities, v, force) < _AT_BOUND
