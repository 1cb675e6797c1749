r"""Rows of a least-squares problem, summed over chunks of points.

A problem is :math:`\min_w \tfrac12 \sum_i \omega_i |r(w; x_i)|^2`. What a step needs of its
Jacobian :math:`J` fits into a matrix of :math:`(N+1)^2` numbers, however many points there are:
either the triangle of a QR factorisation of :math:`[J \; r]`, updated chunk by chunk, or
:math:`[J \; r]^T [J \; r]`.
"""

import abc
import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from ...core._constant import constant
from ...numerics._power_of_two import power_of_two_below


class NormalForm(enum.Enum):
    """How the rows of a least-squares problem are condensed.

    Attributes
    ----------
    qr
        A triangle by Householder reflections: errors grow with the condition number.
    gram
        The normal equations: several times cheaper where rows are many; errors grow with the
        square of the condition number.
    """

    qr = "qr"
    gram = "gram"


class AbstractRowFunction(eqx.Module):
    """Rows that know a cheaper way to their Jacobian than one tangent for each unknown."""

    @abc.abstractmethod
    def __call__(self, w: Float[Array, " n"], points: PyTree[Any], args: PyTree[Any]) -> Array:
        """Return the rows, with the leading axis of the points."""

    @abc.abstractmethod
    def linearise(
        self, w: Float[Array, " n"], points: PyTree[Any], args: PyTree[Any]
    ) -> tuple[Float[Array, "m rows"], Float[Array, "m rows n"]]:
        """Return the rows and their Jacobian."""


class RowBlock(eqx.Module):
    """Rows of one residual: ``residual(w, points, args)`` has the points' leading axis.

    They are multiplied by ``factor``, a power of two.
    """

    residual: Callable[..., Any]
    points: PyTree[Any]
    weights: Float[Array, " points"]
    chunk: int | None = eqx.field(static=True)
    factor: Float[Array, ""] | None = None


class RowProblem(eqx.Module):
    """Blocks that share their unknowns; ``axis_name`` names a mesh axis that splits the points."""

    blocks: tuple[RowBlock, ...]
    args: PyTree[Any]
    free: Bool[Array, " unknowns"] | None = None
    axis_name: str | None = eqx.field(static=True, default=None)


def summary(
    problem: RowProblem, w: Float[Array, " unknowns"], form: NormalForm
) -> Float[Array, "size size"]:
    """Return the triangle, or the Gram matrix, of ``[J r]`` at ``w``."""
    size = w.shape[0] + 1

    def add(total, w, block, points, weights):
        r, jacobian = _linearised(block, w, points, weights, problem.args)
        both = jnp.concatenate([jacobian, r[:, None]], axis=1)
        if form is NormalForm.gram:
            return total + both.T @ both
        return jnp.linalg.qr(jnp.concatenate([total, both]), mode="r")

    total = _over_chunks(problem, w, jnp.zeros((size, size), w.dtype), add)
    if problem.axis_name is not None:
        if form is NormalForm.gram:
            total = jax.lax.psum(total, problem.axis_name)
        else:
            # The triangles of all devices, each in a place of its own: a sum gathers them.
            n = jax.lax.axis_size(problem.axis_name)
            mine = jax.nn.one_hot(jax.lax.axis_index(problem.axis_name), n, dtype=w.dtype)
            stacked = jax.lax.psum(mine[:, None, None] * total[None], problem.axis_name)
            total = jnp.linalg.qr(stacked.reshape(n * size, size), mode="r")
    if problem.free is not None:
        kept = jnp.append(problem.free, True)
        total = jnp.where(kept[None, :], total, 0)
        if form is NormalForm.gram:
            return jnp.where(kept[:, None], total, 0)
        # Rows of the columns that were dropped hold parts of the others: made a triangle again
        # with those last, and put back, so that each column has its component in its own row.
        order = jnp.append(jnp.argsort(~problem.free, stable=True), size - 1)
        back = jnp.argsort(order)
        total = jnp.linalg.qr(total[:, order], mode="r")[back][:, back]
    return total


def gradient(problem: RowProblem, w: Float[Array, " unknowns"]) -> Float[Array, " unknowns"]:
    """Return ``J^T r``; its derivatives need no more memory than one chunk."""

    def add(total, w, block, points, weights):
        return total + jax.grad(_half_square(block, points, weights, problem.args))(w)

    total = _summed(problem, _over_chunks(problem, w, jnp.zeros_like(w), add, remat=True))
    return total if problem.free is None else jnp.where(problem.free, total, 0)


def hessian(
    problem: RowProblem, w: Float[Array, " unknowns"], *, gauss_newton: bool = False
) -> Float[Array, "unknowns unknowns"]:
    """Return the second derivative of half the sum of squares, or ``J^T J``."""
    identity = jnp.eye(w.shape[0], dtype=w.dtype)

    def add(total, w, block, points, weights):
        if gauss_newton:
            _, jacobian = _linearised(block, w, points, weights, problem.args)
            return total + jacobian.T @ jacobian
        slope = jax.grad(_half_square(block, points, weights, problem.args))
        product = jax.vmap(jax.linearize(slope, w)[1])(vary(identity, varying_axes(w)))
        return total + 0.5 * (product + product.T)

    total = _over_chunks(problem, w, jnp.zeros_like(identity), add, remat=True)
    total = _summed(problem, total)
    if problem.free is None:
        return total
    return jnp.where(problem.free[:, None] & problem.free[None, :], total, 0)


def curvature(
    problem: RowProblem, w: Float[Array, " unknowns"]
) -> Float[Array, "unknowns unknowns"]:
    r"""Return :math:`\sum_i \omega_i r_i \nabla^2 r_i`, what `hessian` has besides ``J^T J``.

    By itself: as their difference it would drown in the rounding of both.
    """
    identity = jnp.eye(w.shape[0], dtype=w.dtype)

    def add(total, w, block, points, weights):
        held = weights[:, None] * _values(block, w, points, weights, problem.args)

        def slope(y):
            return jax.grad(
                lambda z: jnp.sum(held * _values(block, z, points, weights, problem.args))
            )(y)

        product = jax.vmap(jax.linearize(slope, w)[1])(vary(identity, varying_axes(w)))
        return total + 0.5 * (product + product.T)

    total = _summed(problem, _over_chunks(problem, w, jnp.zeros_like(identity), add))
    if problem.free is None:
        return total
    return jnp.where(problem.free[:, None] & problem.free[None, :], total, 0)


def all_rows(problem: RowProblem, w: Float[Array, " unknowns"]) -> Float[Array, " rows"]:
    """Return the weighted rows of all blocks, without chunks and in the user's unit."""
    parts = []
    for b in problem.blocks:
        rows = _weighted_rows(b, b.points, b.weights, problem.args)(w)
        parts.append(rows if b.factor is None else rows / b.factor.astype(rows.dtype))
    return jnp.concatenate(parts)


def row_factor(problem: RowProblem, w: Float[Array, " unknowns"]) -> Float[Array, ""]:
    """Return a power of two by which rows are multiplied before their squares are summed.

    It brings the product of rows and Jacobian at ``w`` near 1, so that neither's squares leave
    the range of the numbers.
    """
    problem, w = constant((problem, w))
    # Unequal entries: rows are often differences of unknowns.
    along = jnp.linspace(1.0, 2.0, w.shape[0], dtype=w.dtype)
    if problem.free is not None:
        along = jnp.where(problem.free, along, 0)

    def add(total, w, block, points, weights):
        rows = _weighted_rows(block, points, weights, problem.args)
        both = jax.jvp(rows, (w,), (vary(along, varying_axes(w)),))
        sizes = [jnp.max(jnp.abs(leaf), initial=0.0).astype(w.dtype) for leaf in both]
        return jnp.maximum(total, jnp.stack(sizes))

    sizes = _over_chunks(problem, w, jnp.zeros(2, w.dtype), add)
    if problem.axis_name is not None:
        sizes = jax.lax.pmax(sizes, problem.axis_name)
    both = jnp.prod(jnp.sqrt(sizes))
    unit = power_of_two_below(jnp.where(jnp.all(sizes > 0), both, jnp.max(sizes)))
    # Behind a barrier: of two divisions in a row XLA makes one, by a square that underflows.
    return jax.lax.optimization_barrier(1 / unit)


def least_margin(
    problem: RowProblem, w: Float[Array, " unknowns"], force: Float[Array, ""]
) -> Float[Array, ""]:
    """Return how far the inequality that is nearest to its kink is from it.

    A slack row by its size over that of the terms of its sum. A broken one is small if its weight
    is large; it is near only if what it pulls with is small, too, beside ``force``.
    """

    def add(total, w, block, points, weights):
        # With unit weights: a weight scales row and terms alike.
        kept = jnp.where(weights > 0, 1, 0).astype(w.dtype)
        rows, jacobian = _linearised(block, w, points, kept, problem.args)
        terms = jnp.abs(jacobian) @ jnp.abs(w)
        size = jnp.abs(rows) / jnp.where(terms > 0, terms, 1)
        weights = jnp.repeat(weights, rows.shape[0] // weights.shape[0])
        pull = weights * jnp.abs(rows) * jnp.sqrt(jnp.sum(jacobian**2, axis=1)) / force
        margin = jnp.where(rows > 0, jnp.maximum(pull, size), size)
        return jnp.minimum(total, jnp.min(jnp.where(weights > 0, margin, jnp.inf), initial=jnp.inf))

    least = _over_chunks(problem, w, jnp.asarray(jnp.inf, w.dtype), add)
    return least if problem.axis_name is None else jax.lax.pmin(least, problem.axis_name)


def _summed(problem, total):
    return total if problem.axis_name is None else jax.lax.psum(total, problem.axis_name)


def _values(block, w, points, weights, args):
    rows = block.residual(w, points, args)
    rows = rows.reshape(weights.shape[0], -1)
    # Selected, not multiplied: a row of weight 0 may be anything. A weight that is no number stays.
    rows = jnp.where(weights[:, None] != 0, rows, 0)
    return rows if block.factor is None else rows * block.factor.astype(rows.dtype)


def _weighted_rows(block, points, weights, args):
    root = jnp.sqrt(jax.lax.stop_gradient(weights))[:, None]
    return lambda w: (root * _values(block, w, points, weights, args)).reshape(-1)


def _linearised(block, w, points, weights, args):
    if isinstance(block.residual, AbstractRowFunction):
        rows, jacobian = block.residual.linearise(w, points, args)
        root = jnp.sqrt(weights)[:, None]
        if block.factor is not None:
            root = root * block.factor.astype(root.dtype)
        kept = weights[:, None] != 0
        rows = jnp.where(kept, root * rows, 0)
        jacobian = jnp.where(kept[..., None], root[..., None] * jacobian, 0)
        return rows.reshape(-1), jacobian.reshape(-1, w.shape[0])
    rows = _weighted_rows(block, points, weights, args)
    r, derivative = jax.linearize(rows, w)
    identity = vary(jnp.eye(w.shape[0], dtype=w.dtype), varying_axes(w))
    return r, jax.vmap(derivative, out_axes=1)(identity)


def _half_square(block, points, weights, args):
    # Linear in the weights: the derivative of their root would be infinite at 0.
    return lambda w: 0.5 * jnp.sum(weights[:, None] * _values(block, w, points, weights, args) ** 2)


def _over_chunks(problem, w, total, add, *, remat=False):
    # Inside `jax.shard_map`: what is differentiated is the share of this device.
    axes = varying_axes((problem, w))
    w, total = vary((w, total), axes)
    for block in problem.blocks:
        m, chunk = block.weights.shape[0], block.chunk
        if m == 0:
            continue
        if chunk is None or m <= chunk:
            total = add(total, w, block, block.points, block.weights)
            continue
        n_chunks = -(-m // chunk)
        split = jax.tree.map(
            lambda leaf, n=n_chunks, c=chunk: _padded(leaf, n * c).reshape(n, c, *leaf.shape[1:]),
            block.points,
        )
        weights = jnp.pad(block.weights, (0, n_chunks * chunk - m)).reshape(n_chunks, chunk)

        def step(carry, each, block=block):
            return add(carry, w, block, *each), None

        body = jax.checkpoint(step) if remat else step  # pyright: ignore[reportPrivateImportUsage]
        total, _ = jax.lax.scan(body, total, (split, weights))
    return total


def _padded(leaf: Array, size: int) -> Array:
    # With the first point, at weight 0: a residual that is defined there stays defined.
    filler = jnp.broadcast_to(leaf[:1], (size - leaf.shape[0], *leaf.shape[1:]))
    return jnp.concatenate([leaf, filler])


def sound_points(points: PyTree[Any], weights: Float[Array, " m"]) -> PyTree[Any]:
    """Return points in which those of weight 0 are copies of one that counts.

    Their rows are left out in any case; so that their derivatives are finite, too.
    """
    if weights.shape[0] == 0:
        return points
    used = weights != 0
    # Behind a barrier: if the weights are constants, XLA would search them when it compiles, a
    # million for 18 seconds.
    first = jnp.argmax(jax.lax.optimization_barrier(jax.lax.stop_gradient(weights)) != 0)

    def replace(leaf):
        kept = used.reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(kept, leaf, leaf[first][None])

    return jax.tree.map(replace, points)


def varying_axes(tree: PyTree[Any]) -> frozenset[str]:
    """Return the mesh axes of `jax.shard_map` along which any leaf differs between devices."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]
    return frozenset().union(*(_varying(jax.typeof(leaf)) for leaf in leaves))


def _varying(aval: Any) -> frozenset[str]:
    # jax renamed the attribute.
    if hasattr(aval, "vma"):
        return frozenset(aval.vma)
    return frozenset(aval.manual_axis_type.varying)


def replicated(tree: PyTree[Any], axis_name: str | None) -> PyTree[Any]:
    """Mark leaves that are equal along a mesh axis as such."""
    if axis_name is None:
        return tree

    def mark(leaf):
        if axis_name not in varying_axes(leaf):
            return leaf
        if leaf.dtype == bool:
            return jax.lax.psum(leaf.astype(int), axis_name) > 0
        first = jax.lax.axis_index(axis_name) == 0
        return jax.lax.psum(jnp.where(first, leaf, 0), axis_name)

    return jax.tree.map(mark, tree)


def vary(tree: PyTree[Any], axes: frozenset[str]) -> PyTree[Any]:
    """Mark leaves as differing along ``axes``, as the carries of loops must be."""

    def mark(leaf):
        missing = tuple(sorted(axes - varying_axes(leaf)))
        if not missing or not eqx.is_array(leaf):
            return leaf
        return jax.lax.pcast(leaf, missing, to="varying")

    return jax.tree.map(mark, tree)
