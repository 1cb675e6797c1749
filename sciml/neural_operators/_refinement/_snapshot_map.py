"""Apply a function of one snapshot to all of them, on one device or spread over several."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

SnapshotMap = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]
"""Turns a function of one snapshot into a function of all; `jax.vmap` is one."""


def snapshot_map(mesh: Mesh | None) -> SnapshotMap:
    """Return `jax.vmap`, or a map that gives each device of ``mesh`` its share of the snapshots.

    Parameters
    ----------
    mesh
        Snapshots are spread over its first axis; a number that it does not divide is filled up.
    """
    if mesh is None:
        return jax.vmap
    axis = mesh.axis_names[0]
    n_shards = mesh.shape[axis]
    spec = PartitionSpec(axis)

    def over_snapshots(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        mapped = jax.shard_map(jax.vmap(function), mesh=mesh, in_specs=spec, out_specs=spec)

        def call(snapshots: Array) -> Array:
            n = len(snapshots)
            missing = -n % n_shards
            # Filled up with the last snapshot, so that no function meets a made-up state.
            filled = jnp.concatenate([snapshots, jnp.repeat(snapshots[-1:], missing, axis=0)])
            return mapped(filled)[:n]

        return call

    return over_snapshots
