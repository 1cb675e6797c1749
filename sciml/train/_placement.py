"""Where the state of training and its batches lie: on one device, or over a mesh of them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

DATA, MODEL = "data", "model"

# A smaller array is on every device as a whole: parting it would cost more than it saves.
_LEAST_TO_PART = 2**12


class Placement:
    """One device, or a mesh whose axes ``"data"`` and ``"model"`` part batches and parameters.

    The compiled step is the program of one device, which XLA parts as its arguments are parted and
    completes by the collectives that this takes: numbers differ by rounding only, whatever the
    loss. All devices share the samples of a batch. Those along ``"model"`` share large parameters
    and their moments as well: each keeps a part between steps, has the whole parameters while it
    computes, and updates its part. Of several processes each hands over the share of the batch
    that its devices take.

    Parameters
    ----------
    mesh
        The devices (``jax.make_mesh``), or None for the default device.

    Raises
    ------
    ValueError
        If the mesh has an axis of another name.
    """

    def __init__(self, mesh: Mesh | None):
        if mesh is not None:
            unknown = sorted(set(mesh.axis_names) - {DATA, MODEL})
            if unknown:
                raise ValueError(
                    f"`mesh` has the axes {mesh.axis_names}; training knows {DATA!r}, which parts "
                    f"the batches, and {MODEL!r}, which parts large parameters as well."
                )
            # Whatever the types of the axes are: XLA is to find out what the inner arrays need.
            mesh = Mesh(mesh.devices, mesh.axis_names)
        self.mesh = mesh

    @property
    def writes(self) -> bool:
        """Whether this process keeps the folder of the run: of several, the first does."""
        return self.mesh is None or jax.process_index() == 0

    @property
    def n_processes(self) -> int:
        """How many processes train together."""
        return 1 if self.mesh is None else jax.process_count()

    def wait(self, what: str) -> None:
        """Wait until all processes have come here."""
        if self.n_processes > 1:
            from jax.experimental import multihost_utils  # not where there is one process

            multihost_utils.sync_global_devices(what)

    def any_process(self, said: bool) -> bool:
        """Return whether a process says so; all must ask together."""
        if self.n_processes == 1:
            return said
        from jax.experimental import multihost_utils

        return bool(np.any(multihost_utils.process_allgather(np.asarray(said))))

    def shardings(self, leaves: list[Array]) -> list[NamedSharding] | None:
        """Return how each array of the state is parted; None on one device."""
        if self.mesh is None:
            return None
        return [NamedSharding(self.mesh, self._spec(leaf)) for leaf in leaves]

    def state(self, leaves: list[Array]) -> list[Array]:
        """Return the arrays of the state where they belong."""
        wanted = self.shardings(leaves)
        if wanted is None:
            return leaves
        return [_spread(leaf, where) for leaf, where in zip(leaves, wanted, strict=True)]

    def during_step(self, tree: PyTree) -> PyTree:
        """Return the parameters as a whole on every device, inside a compiled step."""
        if self.mesh is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, self.whole)

    def between_steps(self, tree: PyTree) -> PyTree:
        """Return arrays parted as the state is, inside a compiled step.

        For gradients: XLA sums them over the devices, and each keeps the part that it updates.
        """
        if self.mesh is None:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        parted = jax.lax.with_sharding_constraint(leaves, self.shardings(leaves))
        return jax.tree.unflatten(structure, parted)

    def replicated(self, leaf: Array) -> Array:
        """Return an array as a whole on every device."""
        return leaf if self.mesh is None else _spread(leaf, self.whole)

    def parts_evenly(self, n_samples: int) -> bool:
        """Return whether a batch of so many samples can be parted."""
        return n_samples % self._n_groups == 0

    def batch(self, batch: PyTree) -> PyTree:
        """Return a batch with its samples parted over all devices.

        If their number is a multiple of the axis ``"data"`` only, the devices along ``"model"``
        compute the same. Arrays whose first axis is as long as that of the first array hold
        samples; the others belong to all. What `assembled` gave stays where it is.

        Raises
        ------
        ValueError
            If the samples cannot be parted evenly.
        """
        if self.mesh is None:
            return batch
        leaves, structure = jax.tree.flatten(batch)
        n_samples = count_samples(batch, self._n_groups)
        samples = self._samples(n_samples)
        placed = [
            leaf
            if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
            else _spread(leaf, samples if np.shape(leaf)[:1] == (n_samples,) else self.whole)
            for leaf in leaves
        ]
        return jax.tree.unflatten(structure, placed)

    def own_positions(self, n_samples: int) -> Int[np.ndarray, " part"]:
        """Return which samples of a batch the devices of this process take, ascending.

        Raises
        ------
        ValueError
            If so many samples cannot be parted evenly.
        """
        if self.mesh is None:
            return np.arange(n_samples)
        shares = self._samples(n_samples).addressable_devices_indices_map((n_samples,))
        return positions_of([share[0] for share in shares.values() if share], n_samples)

    def assembled(
        self, part: PyTree, positions: Int[np.ndarray, " part"], n_samples: int
    ) -> PyTree:
        """Return a batch of which this process has the samples at `own_positions`.

        All processes must assemble the same batches.

        Parameters
        ----------
        part
            Arrays whose first axis is that of the samples.
        positions
            Which samples of the batch they are.
        n_samples
            Those of the whole batch.

        Raises
        ------
        ValueError
            If an array has another number of samples.
        """
        samples = self._samples(n_samples)

        def assemble(leaf: Any) -> Array:
            own = np.asarray(leaf)
            if own.shape[:1] != positions.shape:
                raise ValueError(
                    f"the batches of a part must hold its {len(positions)} samples along the first "
                    f"axis of each array; one has the shape {own.shape}."
                )

            def share(index: Any) -> np.ndarray:
                return own[rows_of(index[0], positions, n_samples)].copy()

            return jax.make_array_from_callback((n_samples, *own.shape[1:]), samples, share)

        return jax.tree.map(assemble, part)

    def gathered(self, leaves: list[Array]) -> list[Array]:
        """Return the arrays as a whole on the default device; all processes must ask together."""
        if self.mesh is None:
            return leaves
        whole = jax.jit(lambda leaves: leaves, out_shardings=self.whole)(leaves)
        return [_at_home(leaf) for leaf in whole]

    @property
    def _n_groups(self) -> int:
        return 1 if self.mesh is None else self.mesh.shape.get(DATA, 1)

    def _samples(self, n_samples: int) -> NamedSharding:
        """Return how the samples of a batch are parted."""
        assert self.mesh is not None
        if not self.parts_evenly(n_samples):
            raise ValueError(
                f"a batch of {n_samples} samples cannot be parted evenly over the "
                f"{self._n_groups} devices of the axis {DATA!r}: take a multiple of "
                f"{self._n_groups}."
            )
        axes = self.mesh.axis_names
        if n_samples % self.mesh.size:
            axes = tuple(axis for axis in axes if axis == DATA)
        return NamedSharding(self.mesh, PartitionSpec(axes))

    @property
    def whole(self) -> NamedSharding:
        """How an array lies that every device has as a whole."""
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec())

    def _spec(self, leaf: Array) -> PartitionSpec:
        """Part a large array along its longest axis that can be parted, over ``"model"``."""
        assert self.mesh is not None
        n_parts = self.mesh.shape.get(MODEL, 1)
        even = [axis for axis, n in enumerate(leaf.shape) if n % n_parts == 0]
        if n_parts == 1 or leaf.size < _LEAST_TO_PART or not even:
            return PartitionSpec()
        longest = max(even, key=lambda axis: leaf.shape[axis])
        return PartitionSpec(*(MODEL if axis == longest else None for axis in range(leaf.ndim)))


def count_samples(batch: PyTree, default: int) -> int:
    """Return the length of the first axis of a batch's first array that has axes."""
    shapes = (np.shape(leaf) for leaf in jax.tree.leaves(batch))
    return next((shape[0] for shape in shapes if shape), default)


def positions_of(shares: Sequence[slice], n_samples: int) -> Int[np.ndarray, " part"]:
    """Return the samples that some shares hold together, ascending, each of them once."""
    taken = np.zeros(n_samples, bool)
    for share in shares:
        taken[share] = True
    return np.flatnonzero(taken)


def rows_of(share: slice, positions: Int[np.ndarray, " part"], n_samples: int) -> slice:
    """Return where a share of the batch lies among the samples at ``positions``, all of it."""
    first, end, _ = share.indices(n_samples)
    start = int(np.searchsorted(positions, first))
    return slice(start, start + end - first)


def _spread(leaf: Any, where: NamedSharding) -> Array:
    """Return an array that every process has, parted; each device takes its own share."""
    if _is_key(leaf):
        data = _spread(jax.random.key_data(leaf), where)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    # A copy for each device: they would share memory that a step overwrites.
    return jax.make_array_from_callback(host.shape, where, lambda index: host[index].copy())


def _at_home(leaf: Array) -> Array:
    """Return an array that is whole on every device on the default one."""
    if _is_key(leaf):
        data = _at_home(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.array(np.asarray(leaf), dtype=leaf.dtype, copy=True)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
