"""All experts of a batch of problems: in one program, or each device its own."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from ._least_squares._rows import replicated, vary
from ._points import Points
from ._residual import Condition
from ._solve_experts import ExpertOutcome, solve_expert


def solve_together(experts: Any, parameters: Any, routed: Any, w0: Any) -> ExpertOutcome:
    """Solve by `jax.vmap` over the batch and the experts; leaves are ``(batch, experts, ...)``."""
    problem = experts.layer.expert_problem()
    return _solve(problem, parameters, routed.local, routed.split, w0, experts.router.n_experts)


def solve_on_mesh(experts: Any, parameters: Any, routed: Any, w0: Any) -> ExpertOutcome:
    """Solve by `jax.shard_map`, each device the experts, points and problems of its place."""
    mesh, k = experts.mesh, experts.router.n_experts
    has = {name: name in mesh.axis_names for name in mesh.axis_names}
    expert = experts.expert_axis if has.get(experts.expert_axis) else None
    point = experts.point_axis if has.get(experts.point_axis) else None
    data = experts.data_axis if has.get(experts.data_axis) else None
    n_expert = mesh.shape[expert] if expert else 1
    n_point = mesh.shape[point] if point else 1
    n_data = mesh.shape[data] if data else 1

    positions_split, weights_split = routed.split
    # All blocks get the experts' axis in their weights, so that experts without points can fill
    # up the devices.
    whole = {r.name for r in experts.layer.residuals if r.condition is Condition.exact}
    size = -(-k // n_expert) * n_expert
    local, specs = {}, {}
    for name, points in routed.local.items():
        weights = points.weights
        if name not in weights_split:
            weights = jnp.broadcast_to(weights, (k, *weights.shape))
        split = name in positions_split
        along = None if name in whole else point
        length = weights.shape[1]
        length = length if along is None else -(-length // n_point) * n_point
        axis = 1 if split else 0

        def fill(leaf, axis=axis, length=length, split=split):
            leaf = _extended(leaf, axis, length)
            return _extended(leaf, 0, size) if split else leaf

        weights = _zero_padded(_zero_padded(weights, 1, length), 0, size)
        local[name] = Points(
            fill(points.positions),
            weights,
            None if points.quadrature is None else fill(points.quadrature),
        )
        place = P(expert, along) if split else P(along)
        specs[name] = _placed(local[name], place, P(expert, along))
    batch = jax.tree.leaves(parameters)[0].shape[0] if jax.tree.leaves(parameters) else 1
    if batch % n_data:
        raise ValueError(
            f"the batch has {batch} problems, which {n_data} devices of the axis {data!r} cannot "
            "share evenly."
        )
    if w0 is not None:
        w0 = _zero_padded(w0, 1, size)
    arrays, static = eqx.partition(experts.layer.expert_problem(), eqx.is_array)
    split = (frozenset(positions_split), frozenset(local))

    def on_device(arrays, parameters, local, w0):
        # What all devices share is marked as each one's own: users' functions may then mix it
        # with their points as they like. Going backwards this is the sum over the devices.
        everywhere = frozenset(mesh.axis_names)
        arrays, parameters, local, w0 = vary((arrays, parameters, local, w0), everywhere)
        problem = eqx.combine(arrays, static)
        n = size // n_expert
        found = _solve(problem, parameters, local, split, w0, n, axis_name=point)
        # Axes of the mesh that nothing is split over.
        return jax.tree.map(lambda leaf: leaf, replicated(found, point))

    found = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(P(), P(data), specs, P(data, expert)),
        out_specs=P(data, expert),
    )(arrays, parameters, local, w0)
    return jax.tree.map(lambda leaf: leaf[:, :k], found)


def _solve(problem, parameters, local, split, w0, n_experts, *, axis_name=None):
    positions_split, weights_split = split
    axes = {
        name: _placed(
            points,
            0 if name in positions_split else None,
            0 if name in weights_split else None,
        )
        for name, points in local.items()
    }

    def one_problem(parameters, start):
        def one_expert(points, w0):
            return solve_expert(problem, parameters, points, w0, axis_name=axis_name)

        return jax.vmap(
            one_expert, in_axes=(axes, None if start is None else 0), axis_size=n_experts
        )(local, start)

    batched = jax.tree.map(lambda _: 0, parameters)
    size = jax.tree.leaves(parameters)[0].shape[0] if jax.tree.leaves(parameters) else 1
    return jax.vmap(one_problem, in_axes=(batched, None if w0 is None else 0), axis_size=size)(
        parameters, w0
    )


def _placed(points, positions, weights):
    """Return the tree of a set of points with marks in the place of its arrays."""
    marked = eqx.tree_at(lambda p: (p.positions, p.weights), points, (positions, weights))
    if points.quadrature is None:
        return marked
    return eqx.tree_at(lambda p: p.quadrature, marked, positions)


def _zero_padded(leaf, axis, size):
    widths = [(0, 0)] * leaf.ndim
    widths[axis] = (0, size - leaf.shape[axis])
    return jnp.pad(leaf, widths)


def _extended(leaf, axis, size):
    """Repeat the first entry along an axis: where residuals are defined they stay defined."""
    first = jax.lax.slice_in_dim(leaf, 0, 1, axis=axis)
    shape = list(leaf.shape)
    shape[axis] = size - leaf.shape[axis]
    return jnp.concatenate([leaf, jnp.broadcast_to(first, shape)], axis=axis)
