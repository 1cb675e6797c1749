"""Rows of a residual block as a function of the coefficients, by tables of derivatives."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._basis import AbstractBasis, Tables
from ._least_squares._rows import AbstractRowFunction, RowBlock, sound_points, vary, varying_axes
from ._points import Points
from ._residual import AbstractResidual


class Coefficients(eqx.Module):
    """The map from unknowns to coefficients, ``w = offset + matrix v``, and the parameters.

    Without offset and matrix the tables that go with it are already those of the unknowns.
    """

    offset: Float[Array, " n"] | None
    matrix: Float[Array, "n n"] | None
    parameters: PyTree[Any]

    def __call__(self, v: Float[Array, " n"]) -> Float[Array, " n"]:
        if self.offset is None or self.matrix is None:
            return v
        return self.offset + self.matrix @ v

    def tables(self, tables: Tables) -> Tables:
        """Return tables of the unknowns' own basis functions.

        Rounding is then that of unknowns of moderate size: the network's functions may cancel each
        other with coefficients of a million, once and not anew in every step.
        """
        if self.offset is None or self.matrix is None:
            return tables
        return Tables(
            {name: table @ self.matrix for name, table in tables.basis.items()},
            tables.lift,
            {name: table @ self.offset for name, table in tables.basis.items()},
        )


class JetRows(AbstractRowFunction):
    """``residual`` of the field with coefficients ``args(v)``; a ridge adds values as rows.

    ``signed`` asks for inequalities with what is below zero, too.
    """

    residual: AbstractResidual
    basis: AbstractBasis
    root_ridge: float = eqx.field(static=True)
    signed: bool = eqx.field(static=True, default=False)

    def __call__(self, w: Float[Array, " n"], points: PyTree[Any], args: PyTree[Any]) -> Array:
        """Return the rows of each point or cell."""
        tables = self._tables(points, args)
        combined, jets = self._jets(tables, w)
        rows = self._items(jets, points, args)
        if self.root_ridge > 0:
            values = [self.root_ridge * combined[f] for f in self.basis.fields]
            rows = jnp.concatenate([rows, *(v.reshape(len(rows), -1) for v in values)], axis=1)
        return rows

    def linearise(
        self, w: Float[Array, " n"], points: PyTree[Any], args: PyTree[Any]
    ) -> tuple[Float[Array, "m rows"], Float[Array, "m rows n"]]:
        """Return rows and Jacobian: a few numbers a point times the tables."""
        tables = self._tables(points, args)
        combined, jets = self._jets(tables, w)
        rows = self._items(jets, points, args)
        slopes = self._slopes(jets, points, args)
        jacobian = jnp.zeros((*rows.shape, w.shape[0]), rows.dtype)
        for name, slope in slopes.items():
            table = tables.basis[name]
            if table.ndim == 2:
                jacobian = jacobian + slope[:, :, None] * table[:, None, :]
            else:
                jacobian = jacobian + jnp.einsum("mrq,mqn->mrn", slope, table)
        if self.root_ridge > 0:
            m = len(rows)
            for field in self.basis.fields:
                value = self.root_ridge * combined[field]
                table = self.root_ridge * tables.basis[field]
                rows = jnp.concatenate([rows, value.reshape(m, -1)], axis=1)
                jacobian = jnp.concatenate([jacobian, table.reshape(m, -1, w.shape[0])], axis=1)
        return rows, jacobian

    def needs(self) -> tuple[str, ...]:
        """Return the derivatives to tabulate."""
        fields = self.basis.fields if self.root_ridge > 0 else ()
        return tuple(sorted({*self.residual.needs, *fields}))

    def _tables(self, points, args) -> Tables:
        if points["tables"] is not None:
            return points["tables"]
        raw = self.basis.tables(points["positions"], args.parameters, self.needs())
        return args.tables(raw)

    def _jets(self, tables, v):
        """Return the combination of the basis, and with the lift, by name."""
        combined = {name: table @ v for name, table in tables.basis.items()}
        if tables.offset is not None:
            combined = {name: value + tables.offset[name] for name, value in combined.items()}
        return combined, {name: tables.lift[name] + value for name, value in combined.items()}

    def _items(self, jets, points, args) -> Array:
        x = self.basis.positions(points["positions"])
        jets = {name: jets[name] for name in self.residual.needs}

        def item(jet, x, quadrature):
            return self._item()(jet, x, quadrature, args.parameters)

        return jax.vmap(item)(jets, x, points["quadrature"])

    def _item(self):
        return self.residual.signed if self.signed else self.residual.item

    def _slopes(self, jets, points, args) -> dict[str, Array]:
        """Return the derivative of each point's rows by each of its few derivatives."""
        x = self.basis.positions(points["positions"])
        jets = {name: jets[name] for name in self.residual.needs}

        def slopes(jet, x, quadrature):
            derivative = jax.linearize(
                lambda j: self._item()(j, x, quadrature, args.parameters), jet
            )[1]
            zero = jax.tree.map(jnp.zeros_like, jet)
            found = {}
            for name, value in jet.items():
                units = jnp.eye(value.size, dtype=value.dtype).reshape(value.size, *value.shape)
                units = vary(units, varying_axes(value))
                each = jax.vmap(lambda unit, n=name: derivative(zero | {n: unit}))(units)
                found[name] = jnp.moveaxis(each, 0, -1)
            return found

        found = jax.vmap(slopes)(jets, x, points["quadrature"])
        # At a point there is one value a name, in a cell one for each quadrature point.
        is_cell = points["quadrature"] is not None
        return {name: slope if is_cell else slope[..., 0] for name, slope in found.items()}


def row_block(
    residual: AbstractResidual,
    basis: AbstractBasis,
    points: Points,
    *,
    tables: Tables | None = None,
    root_ridge: float = 0.0,
    chunk: int | None = None,
    axis_name: str | None = None,
) -> RowBlock:
    """Return the block whose weights sum to that of the residual.

    Without tables they are made chunk by chunk, whenever the rows are evaluated.
    """
    total = jnp.sum(points.weights)
    total = total if axis_name is None else jax.lax.psum(total, axis_name)
    share = points.weights / jnp.where(total == 0, 1, total)
    share = share * jnp.asarray(residual.weight, points.weights.dtype)
    data = {"positions": points.positions, "quadrature": points.quadrature, "tables": tables}
    return RowBlock(JetRows(residual, basis, root_ridge), data, share, chunk)


def sound(points: Points) -> Points:
    """Return points without what is not a number where the weight is zero."""
    positions, quadrature = sound_points((points.positions, points.quadrature), points.weights)
    return Points(positions, points.weights, quadrature)


def joint_tables(
    basis: AbstractBasis,
    blocks: list[tuple[Points, tuple[str, ...]]],
    parameters: PyTree[Any],
) -> list[Tables]:
    """Return the tables of several blocks from one pass through the network.

    That is a fraction of the time to compile, for a few derivatives that not all blocks need.
    """
    needs = tuple(sorted({name for _, names in blocks for name in names}))
    # Cells and their quadrature points become one list.
    counts = [basis.positions(points.positions).shape[:-1] for points, _ in blocks]
    flat = [
        points.positions.reshape(-1, *points.positions.shape[len(shape) :])
        for (points, _), shape in zip(blocks, counts, strict=True)
    ]
    joint = basis.tables(jnp.concatenate(flat), parameters, needs)
    found, begin = [], 0
    for (_, names), shape in zip(blocks, counts, strict=True):
        end = begin + math.prod(shape)
        part = slice(begin, end)
        found.append(
            Tables(
                {n: joint.basis[n][part].reshape(*shape, -1) for n in names},
                {n: joint.lift[n][part].reshape(shape) for n in names},
            )
        )
        begin = end
    return found
