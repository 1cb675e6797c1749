"""Pairs of fields, encoded once into a spectral basis: training then costs the same on any grid."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ..core import check_count, check_floating, check_not_traced
from ..numerics import AbstractSpectralBasis
from ._field_checks import require_finite


class EncodedBatch(NamedTuple):
    """A batch of encoded pairs, as `sciml.train.spectral_loss` takes them.

    Attributes
    ----------
    inputs, targets
        Coefficients ``(batch, channels, *modes)``.
    tail
        Energy of each target that the basis does not hold, ``(batch,)``.
    """

    inputs: Float[np.ndarray, "batch in_channels *modes"]
    targets: Float[np.ndarray, "batch out_channels *modes"]
    tail: Float[np.ndarray, " batch"]


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedFields:
    """Pairs of fields as coefficients; `encode_fields` makes them.

    Parameters
    ----------
    inputs, targets
        Coefficients ``(sample, channels, *modes)``.
    tail
        Energy of each target outside the basis, ``(sample,)``.
    """

    inputs: Float[np.ndarray, "sample in_channels *modes"]
    targets: Float[np.ndarray, "sample out_channels *modes"]
    tail: Float[np.ndarray, " sample"]

    @property
    def n_samples(self) -> int:
        """Number of pairs."""
        return len(self.tail)

    @property
    def floor(self) -> float:
        """Mean over the targets of the relative L2 error that no model in this basis avoids."""
        kept = np.sum(self.targets**2, axis=tuple(range(1, self.targets.ndim)))
        total = kept + self.tail
        share = np.divide(self.tail, total, out=np.zeros_like(total), where=total > 0)
        return float(np.mean(np.sqrt(share)))

    def batches(self, *, batch_size: int, seed: int, shuffle: bool = True) -> "EncodedBatches":
        """Return the endless, resumable sequence of training batches."""
        return EncodedBatches(self, batch_size=batch_size, seed=seed, shuffle=shuffle)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedBatches:
    """Batches of encoded pairs; ``batches[step]`` depends on the seed alone.

    Every pair is used once an epoch, in an order drawn anew.

    Parameters
    ----------
    fields
        Where the batches come from.
    batch_size
        Pairs a batch; at most their number.
    seed
        A non-negative integer.
    shuffle
        If False the pairs come in order.

    Examples
    --------
    >>> from sciml.numerics import CosineBasis
    >>> u = np.random.default_rng(7).normal(size=(6, 1, 16)).astype(np.float32)
    >>> fields = encode_fields(CosineBasis((4,)), u, u)
    >>> batches = fields.batches(batch_size=2, seed=11)
    >>> batches[0].inputs.shape, batches.steps_per_epoch
    ((2, 1, 4), 3)
    """

    fields: EncodedFields
    _: dataclasses.KW_ONLY
    batch_size: int
    seed: int
    shuffle: bool = True

    def __post_init__(self):
        check_count("seed", self.seed, minimum=0)
        check_count("batch_size", self.batch_size)
        if self.batch_size > self.fields.n_samples:
            raise ValueError(
                f"`batch_size` {self.batch_size} is larger than the number of samples "
                f"{self.fields.n_samples}: a batch would repeat samples. Take a smaller one."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every sample has been used, rounded up."""
        return -(-self.fields.n_samples // self.batch_size)

    def __getitem__(self, step: int) -> EncodedBatch:
        step = check_count("step", step, minimum=0)
        position = step * self.batch_size + np.arange(self.batch_size)
        epochs, offsets = np.divmod(position, self.fields.n_samples)
        samples = np.array([self._order(int(e))[o] for e, o in zip(epochs, offsets, strict=True)])
        fields = self.fields
        return EncodedBatch(fields.inputs[samples], fields.targets[samples], fields.tail[samples])

    def _order(self, epoch: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.fields.n_samples)
        sequence = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
        return np.random.default_rng(sequence).permutation(self.fields.n_samples)


def encode_fields(
    basis: AbstractSpectralBasis,
    inputs: Shaped[np.ndarray | Array, "..."],
    targets: Shaped[np.ndarray | Array, "..."],
    *,
    batch_size: int = 32,
) -> EncodedFields:
    """Encode pairs of fields once, with the energy that the basis leaves out of the targets.

    Parameters
    ----------
    basis
        The basis of the model that is to be trained.
    inputs, targets
        Fields ``(sample, channels, *space)``.
    batch_size
        Fields that are encoded together.

    Returns
    -------
    EncodedFields
        On the host, in the dtype of the fields.

    Raises
    ------
    ValueError
        If the numbers of samples differ, an entry is not finite (the message names it), or the
        grid cannot hold the modes.
    TypeError
        If the fields are not real floating-point.
    """
    check_count("batch_size", batch_size)
    arrays = []
    for name, array in (("inputs", inputs), ("targets", targets)):
        check_floating(name, array)
        check_not_traced(name, array, "the fields of a dataset are encoded")
        array = np.asarray(array)
        if array.ndim < 3 or not array.size:
            raise ValueError(
                f"`{name}` must hold fields (sample, channels, *space), got shape {array.shape}."
            )
        axes = ("sample", "channel", *(f"space_{i}" for i in range(array.ndim - 2)))
        require_finite(name, array, axes)
        arrays.append(array)
    if len(arrays[0]) != len(arrays[1]):
        raise ValueError(
            "`inputs` and `targets` must hold equally many samples, "
            f"got {len(arrays[0])} and {len(arrays[1])}."
        )
    z = in_blocks(eqx.filter_jit(jax.vmap(basis.encode)), arrays[0], batch_size)
    both = eqx.filter_jit(jax.vmap(lambda u: (basis.encode(u), basis.tail_energy(u))))
    coefficients, tail = in_blocks(both, arrays[1], batch_size)
    return EncodedFields(z, coefficients, tail)


def in_blocks(function: Callable[[Array], Any], array: np.ndarray, batch_size: int) -> Any:
    """Apply a function of a batch to all entries in blocks of one shape; return host arrays."""
    blocks = []
    size = min(batch_size, len(array))
    for first in range(0, len(array), size):
        # The last block is filled up, so that one compiled program serves all of them.
        samples = np.minimum(np.arange(first, first + size), len(array) - 1)
        block = function(jnp.asarray(array[samples]))
        blocks.append(jax.tree.map(np.asarray, block))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(array)], *blocks)
