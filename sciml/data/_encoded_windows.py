"""Random time windows of a data set whose snapshots were encoded once into a spectral basis."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core import check_count
from ..numerics import AbstractSpectralBasis
from ._batch_part import BatchPart
from ._dataset import FieldDataset
from ._encoded_fields import EncodedBatch, in_blocks
from ._normalisers import AbstractNormaliser, IdentityNormaliser
from ._windows import WindowBatches


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedWindows:
    """Training batches of windows as coefficients; `encode_windows` makes them.

    Batch ``step`` holds the samples and times of batch ``step`` of ``windows``.

    Parameters
    ----------
    windows
        The windows of the fields.
    coefficients
        Every snapshot, normalised, ``(sample, time, channels, *modes)``.
    tail
        Its energy outside the basis, ``(sample, time)``.
    context
        Static fields, ``(one or sample, context_channels, *modes)``, or None.
    """

    windows: WindowBatches
    coefficients: Float[np.ndarray, "sample time channels *modes"]
    tail: Float[np.ndarray, "sample time"]
    context: Float[np.ndarray, "one_or_sample context_channels *modes"] | None

    @property
    def batch_size(self) -> int:
        """Samples of a batch."""
        return self.windows.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every sample has been used, rounded up."""
        return self.windows.steps_per_epoch

    def describe(self, step: int) -> str:
        """Say which samples and start times batch ``step`` holds, for error messages."""
        return self.windows.describe(step)

    def __getitem__(self, step: int) -> EncodedBatch:
        return self._gather(*self.windows.sources(step))

    def part(self, step: int, positions: Int[np.ndarray, " part"]) -> EncodedBatch:
        """Return the samples of batch ``step`` at these positions, see `WindowBatches.part`."""
        samples, starts = self.windows.sources(step)
        return self._gather(samples[positions], starts[positions])

    def for_positions(self, positions: Int[np.ndarray, " part"]) -> BatchPart:
        """Return the batches of which only these positions are gathered."""
        return BatchPart(self, positions)

    def _gather(self, samples: np.ndarray, starts: np.ndarray) -> EncodedBatch:
        n_in, n_out = self.windows.n_in, self.windows.n_out
        times = starts[:, None] + np.arange(n_in + n_out)
        z = self.coefficients[samples[:, None], times]
        inputs, targets = (
            part.reshape(len(part), -1, *part.shape[3:]) for part in (z[:, :n_in], z[:, n_in:])
        )
        if self.context is not None:
            shared = len(self.context) == 1
            context = self.context[np.zeros_like(samples) if shared else samples]
            inputs = np.concatenate([inputs, context], axis=1)
        tail = np.sum(self.tail[samples[:, None], times[:, n_in:]], axis=1)
        return EncodedBatch(inputs, targets, tail)


def encode_windows(
    basis: AbstractSpectralBasis,
    dataset: FieldDataset,
    n_in: int,
    n_out: int,
    *,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    normaliser: AbstractNormaliser | None = None,
    block_size: int = 32,
) -> EncodedWindows:
    """Encode all snapshots of a data set and return its windows as coefficients.

    Parameters
    ----------
    basis, normaliser
        Those of the model.
    dataset
        Trajectories.
    n_in, n_out
        Snapshots that the model sees and predicts.
    batch_size, seed, shuffle
        As in `WindowBatches`.
    block_size
        Snapshots that are encoded together.

    Returns
    -------
    EncodedWindows
        For `sciml.train.fit` with `sciml.train.spectral_loss`; the error that is minimised is that
        of the normalised fields.

    Examples
    --------
    >>> from sciml.numerics import FourierBasis
    >>> values = np.random.default_rng(7).normal(size=(4, 9, 2, 16)).astype(np.float32)
    >>> data = FieldDataset.from_array(values, dt=0.5, domain_extent=1.0)
    >>> windows = encode_windows(FourierBasis((5,)), data, 3, 4, batch_size=2, seed=11)
    >>> windows[0].inputs.shape, windows[0].targets.shape, windows[0].tail.shape
    ((2, 6, 5), (2, 8, 5), (2,))
    """
    check_count("block_size", block_size)
    windows = WindowBatches(dataset, n_in, n_out, batch_size=batch_size, seed=seed, shuffle=shuffle)
    scale = IdentityNormaliser() if normaliser is None else normaliser

    def encode(u: Array) -> tuple[Array, Array]:
        u = scale.encode(u[None])[0]
        return basis.encode(u), basis.tail_energy(u)

    values = dataset.values
    snapshots = values.reshape(-1, *values.shape[2:])
    z, tail = in_blocks(eqx.filter_jit(jax.vmap(encode)), snapshots, block_size)
    context = None
    if dataset.context is not None:
        context = np.stack([np.asarray(basis.encode(jnp.asarray(c))) for c in dataset.context])
    shape = values.shape[:2]
    return EncodedWindows(windows, z.reshape(*shape, *z.shape[1:]), tail.reshape(shape), context)
