"""What ``sciml train t1`` does in its own way: basis, modes, and batches that are encoded once."""

import numpy as np

from ..core import KeyArray
from ..data import EncodedWindows, FieldDataset, GaussianNormaliser, encode_windows
from ..neural_operators import ModeMixing, TransformOnceForecaster
from ..numerics import CosineBasis, FourierBasis, GridPoints
from ._errors import UsageError
from ._terminal import say
from ._train import TrainT1

_MIXING = {"grid": ModeMixing.GRID, "dense": ModeMixing.DENSE}
_FIELDS_FOR_THE_CHOICE = 256


def build_t1(options: TrainT1, dataset: FieldDataset, key: KeyArray) -> TransformOnceForecaster:
    """Return the model that the options describe, scaled to the training data.

    Raises
    ------
    UsageError
        If modes and grid do not fit one another.
    """
    if options.symmetries not in ("auto", "none"):
        raise UsageError(
            "--symmetries turns fields, but t1 trains on coefficients that are encoded once: "
            "leave it out."
        )
    normaliser = GaussianNormaliser.fit(dataset)
    return TransformOnceForecaster(
        dataset.n_channels,
        options.n_in,
        options.n_out,
        _basis(options, dataset),
        hidden_channels=options.width,
        n_layers=options.layers,
        mixing=_MIXING[options.mixing],
        context_channels=len(dataset.context_names),
        normaliser=normaliser,
        key=key,
    )


def t1_batches(
    options: TrainT1, model: TransformOnceForecaster, dataset: FieldDataset, *, shuffle: bool = True
) -> EncodedWindows:
    """Encode a data set once and return its windows."""
    return encode_windows(
        model.basis,
        dataset,
        options.n_in,
        options.n_out,
        batch_size=min(options.batch_size, dataset.n_samples),
        seed=options.seed,
        shuffle=shuffle,
        normaliser=model.normaliser,
    )


def _basis(options: TrainT1, dataset: FieldDataset) -> FourierBasis | CosineBasis:
    periodic = all(dataset.periodic)
    fourier = options.basis == "fourier" or (options.basis == "auto" and periodic)
    kind = FourierBasis if fourier else CosineBasis
    points = GridPoints.PERIODIC if periodic else GridPoints.CELLS
    if options.tolerance is not None:
        if not 0 < options.tolerance < 1:
            raise UsageError(f"--tolerance must lie between 0 and 1, got {options.tolerance}.")
        fields = dataset.values.reshape(-1, *dataset.values.shape[2:])
        chosen = fields[:: max(1, len(fields) // _FIELDS_FOR_THE_CHOICE)]
        chosen = chosen - np.mean(chosen, axis=(0, *range(2, chosen.ndim)), keepdims=True)
        basis = kind.from_energy(chosen, options.tolerance, points=points)
        say(f"Modes    {basis.n_modes}, which leave {options.tolerance:g} of the fields or less")
        return basis
    if len(options.modes) != len(dataset.axes):
        raise UsageError(
            f"--modes needs {len(dataset.axes)} numbers ({', '.join(dataset.axes)}) for this data, "
            f"got {options.modes}."
        )
    for name, n, m in zip(dataset.axes, dataset.n_points, options.modes, strict=True):
        if not 1 <= m <= n:
            raise UsageError(
                f"--modes keeps {m} coefficients of axis {name!r}, which has {n} points: take "
                f"1 to {n}, or a finer grid (--n-points)."
            )
    return kind(options.modes, points=points)
