r"""A mixture of experts: one constraint solve for each part of the domain.

:math:`u(x) = \ell(x) + \sum_k \varphi_k(x)\, b(x) \cdot w_k`, each :math:`w_k` from the points of
its own part and from the boundary and initial points of all. The experts share the network, know
nothing of each other, and so run on different devices without a word in between.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh
from jaxtyping import Array, Float, PyTree

from ..core import RESULTS, check_count, cites
from ..numerics import full_precision
from ._bibliography import CHALAPATHI_2024
from ._field import ConstrainedField
from ._hard_constraint import HardConstraint, as_field, check_start
from ._jet_rows import Coefficients, joint_tables, row_block, sound
from ._points import Points, as_points
from ._residual import Condition
from ._routers import AbstractRouter
from ._solve_experts import conditions_of, rows_of
from ._spread import solve_on_mesh, solve_together


class RoutedPoints(eqx.Module):
    """Points sorted by expert, as `Experts.route` makes them.

    Attributes
    ----------
    points
        Blocks by name, as they were given.
    local
        Positions and weights as the experts get them, the experts' axis first where they differ.
    split
        The names of blocks whose positions, and of those whose weights, have that axis.
    """

    points: dict[str, Points]
    local: dict[str, Points]
    split: tuple[frozenset[str], frozenset[str]] = eqx.field(static=True)

    def counts(self) -> dict[str, Array]:
        """Return how many points of each block have weight in each expert."""
        return {name: jnp.sum(points.weights > 0, axis=-1) for name, points in self.local.items()}


@cites(CHALAPATHI_2024)
class Experts(eqx.Module):
    """Several constraint solves over parts of the domain, mixed into one field.

    Exact conditions hold for the mixed field: after the solves its coefficients, of all experts
    together, are moved by the least amount that satisfies them.

    Parameters
    ----------
    layer
        What each expert solves.
    router
        Who is responsible where.
    mesh
        Spread the experts over devices. Each device runs the loop of its own experts; nothing is
        exchanged in it, unless points are split. None runs all on one device.
    expert_axis, point_axis, data_axis
        Names of the axes of ``mesh``, as far as it has them: experts; points of each expert (then
        each step sums a small matrix over that axis); problems of a batch. Axes of `jax.make_mesh`
        must be of the type ``AxisType.Auto``.

    References
    ----------
    .. [1] N. Chalapathi, Y. Du and A. S. Krishnapriyan, "Scaling physics-informed hard constraints
       with mixture-of-experts", ICLR, 2024.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.constraints import BoxRouter, CoordinateBasis, HardConstraint, Residual
    >>> powers = lambda x, p: jnp.stack([x[0] ** k for k in range(4)])
    >>> basis = CoordinateBasis(powers, coordinates=("x",))
    >>> fit = Residual(lambda jet, x, p: jet["u"] - jnp.abs(x[0] - 0.5), ("u",), name="fit")
    >>> experts = Experts(HardConstraint(basis, [fit]), BoxRouter((0.0,), (1.0,), (2,)))
    >>> field = experts(None, {"fit": jnp.linspace(0, 1, 40)[:, None]})
    >>> abs(float(field(jnp.array([0.25]))) - 0.25) < 1e-5
    True
    """

    layer: HardConstraint
    router: AbstractRouter
    mesh: Mesh | None = eqx.field(static=True)
    expert_axis: str = eqx.field(static=True)
    point_axis: str = eqx.field(static=True)
    data_axis: str = eqx.field(static=True)

    def __init__(
        self,
        layer: HardConstraint,
        router: AbstractRouter,
        *,
        mesh: Mesh | None = None,
        expert_axis: str = "expert",
        point_axis: str = "point",
        data_axis: str = "data",
    ):
        if not isinstance(layer, HardConstraint):
            raise TypeError(f"`layer` must be a HardConstraint, got {layer!r}.")
        if not isinstance(router, AbstractRouter):
            raise TypeError(f"`router` must be a router such as BoxRouter, got {router!r}.")
        if mesh is not None:
            known = (expert_axis, point_axis, data_axis)
            if not set(mesh.axis_names) <= set(known):
                raise ValueError(f"the axes of `mesh` must be among {known}: {mesh.axis_names}.")
            if any(kind != AxisType.Auto for kind in mesh.axis_types):
                raise ValueError(
                    "the axes of `mesh` must be of the type AxisType.Auto: make it with "
                    "`jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))`."
                )
        self.layer = layer
        self.router = router
        self.mesh = mesh
        self.expert_axis = expert_axis
        self.point_axis = point_axis
        self.data_axis = data_axis

    def route(self, points: Mapping[str, Any], *, capacity: int | None = None) -> RoutedPoints:
        """Sort points by expert, once for all calls with the same points.

        The weights of a `LearnedRouter` are made anew in every call all the same: it sorts nothing.

        Parameters
        ----------
        points
            For each block by name an array of positions, or `Points`.
        capacity
            How many points of a block an expert takes at most; by default as many as the fullest
            has. Under `jax.jit` that is unknown, and every expert carries all points, those of
            others at weight 0: route outside, or say the capacity.

        Returns
        -------
        RoutedPoints
            For calls in place of ``points``.
        """
        layer, router = self.layer, self.router
        checked = as_points(points, layer.residuals, layer.basis)
        local, positions_split, weights_split = {}, set(), set()
        for residual in layer.residuals:
            name, found = residual.name, checked[residual.name]
            if residual.everywhere:
                local[name] = found
                continue
            x = layer.basis.positions(found.positions)
            centre = x if x.ndim == 2 else jnp.mean(x, axis=1)
            weights = _fit_weights(router, centre, found.weights)
            weights_split.add(name)
            if not router.is_sparse:
                local[name] = Points(found.positions, weights, found.quadrature)
                continue
            positions_split.add(name)
            used = weights != 0
            size = found.weights.shape[0]
            if capacity is not None:
                size = min(size, check_count("capacity", capacity))
            elif not isinstance(used, Tracer):
                size = max(1, int(np.max(np.sum(np.asarray(used), axis=1))))
            order = jnp.argsort(~used, axis=1, stable=True)[:, :size]
            quadrature = None if found.quadrature is None else found.quadrature[order]
            local[name] = Points(
                found.positions[order], jnp.take_along_axis(weights, order, axis=1), quadrature
            )
        return RoutedPoints(checked, local, (frozenset(positions_split), frozenset(weights_split)))

    @full_precision
    def __call__(
        self,
        parameters: PyTree[Any],
        points: Mapping[str, Any] | RoutedPoints,
        *,
        w0: Float[Array, "experts n"] | None = None,
    ) -> ConstrainedField:
        """Solve all experts' problems and return the mixed field.

        Parameters
        ----------
        parameters
            As for `HardConstraint`.
        points
            As for `HardConstraint`, or what `route` made of them.
        w0
            Where to start, ``(experts, n)``.

        Returns
        -------
        ConstrainedField
            With results and figures of each expert.
        """
        batch = jax.tree.map(lambda a: jnp.asarray(a)[None], parameters)
        start = None if w0 is None else w0[None]
        solved, routed = self._solve(batch, points, start)
        return self._field(parameters, routed, jax.tree.map(lambda leaf: leaf[0], solved))

    @full_precision
    def batch(
        self,
        parameters: PyTree[Any],
        points: Mapping[str, Any] | RoutedPoints,
        *,
        w0: Float[Array, "batch experts n"] | None = None,
    ) -> ConstrainedField:
        """Solve for a batch of parameters at the same points, over the data axis of the mesh.

        Parameters
        ----------
        parameters
            A pytree of arrays with a leading batch axis.
        points
            As for a call.
        w0
            Where to start, ``(batch, experts, n)``.

        Returns
        -------
        ConstrainedField
            A batch of fields: ``jax.vmap(lambda field: ...)(fields)`` takes them apart.
        """
        solved, routed = self._solve(parameters, points, w0)
        return eqx.filter_vmap(lambda p, each: self._field(p, routed, each), in_axes=(0, 0))(
            parameters, solved
        )

    def _solve(self, parameters, points, w0):
        routed = points if isinstance(points, RoutedPoints) else self.route(points)
        if routed is points and not self.router.is_sparse:
            # Nothing was sorted, and the gate may have been trained since.
            routed = self.route(routed.points)
        one = jax.tree.map(lambda leaf: leaf[0], parameters)
        size = (self.router.n_experts, self.layer.basis.size(one))
        check_start(None if w0 is None else w0[0], size)
        solve = solve_together if self.mesh is None else solve_on_mesh
        return eqx.filter_jit(solve)(self, parameters, routed, w0), routed

    def _field(self, parameters, routed, solved) -> ConstrainedField:
        router = None if self.router.n_experts == 1 and self.router.is_sparse else self.router
        field = as_field(self.layer, router, parameters, solved)
        exact = [r for r in self.layer.residuals if r.condition is Condition.exact]
        if not exact or router is None:
            return field
        w, rows, holds = _on_mixed_field(
            self.layer.basis, router, exact, routed.points, parameters, field.w
        )
        defect = jax.lax.stop_gradient(jnp.max(jnp.abs(rows), initial=0.0))
        stats = field.stats | {"exact_defect": jnp.full(field.w.shape[:1], defect)}
        members: Any = RESULTS
        result = jax.vmap(
            lambda each: members.where(holds, each, RESULTS.inconsistent_constraints)
        )(field.result)
        return ConstrainedField(field.basis, router, parameters, w, result, stats)


@eqx.filter_jit
def _fit_weights(router, x, weights):
    return (weights[:, None] * jax.vmap(router.fit_weights)(x)).T


@eqx.filter_jit
def _on_mixed_field(basis, router, exact, points, parameters, w):
    """Return the nearest coefficients that satisfy the exact conditions, and whether they do."""
    basis = basis.windowed(router.weights)
    where = [sound(points[residual.name]) for residual in exact]
    wanted = [(each, r.needs) for each, r in zip(where, exact, strict=True)]
    tables = joint_tables(basis, wanted, parameters)
    blocks = [
        row_block(residual, basis, each, tables=table)
        for residual, each, table in zip(exact, where, tables, strict=True)
    ]
    plain = Coefficients(None, None, parameters)
    conditions, length = conditions_of(blocks, plain, w.size)
    flat = conditions.correct(conditions.correct(w.reshape(-1)))
    rows = rows_of(blocks, plain, flat)
    return flat.reshape(w.shape), rows, conditions.hold(flat, rows / length)
