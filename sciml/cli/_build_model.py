"""From the options of ``sciml train`` to an untrained model."""

from typing import Any

import jax

from ..core import KeyArray
from ..data import FieldDataset, GaussianNormaliser
from ..neural_operators import (
    NODA,
    AbstractForecaster,
    AutoregressiveFNO,
    SpaceTimeFNO,
    SpatiotemporalFNO,
)
from ._assimilation import build_noda
from ._errors import UsageError
from ._load_data import TrainingDataset
from ._train import AbstractTraining, TrainFNO3d, TrainNODA, TrainSFNO, TrainT1
from ._transform_once import build_t1


def build_model(
    options: AbstractTraining, dataset: TrainingDataset, key: KeyArray
) -> AbstractForecaster | NODA:
    """Return the model that the options describe, scaled to the training data.

    Raises
    ------
    UsageError
        If modes, grid and lengths do not fit one another. Everything that a first step of
        training would trip over is found here, before a run folder is made.
    """
    if isinstance(options, TrainT1) and isinstance(dataset, FieldDataset):
        model = build_t1(options, dataset, key)
        _try(model, dataset, options)
        return model
    n_space = len(dataset.axes)
    wanted = n_space if options.NAME in ("fno2d", "noda") else n_space + 1
    modes: tuple[int, ...] = options.modes  # type: ignore[attr-defined]
    if len(modes) != wanted:
        axes = ("" if wanted == n_space else "time, ") + ", ".join(dataset.axes)
        raise UsageError(f"--modes needs {wanted} numbers ({axes}) for this data, got {modes}.")
    for name, n, kept in zip(dataset.axes, dataset.n_points, modes[-n_space:], strict=True):
        if 2 * kept > n:
            raise UsageError(
                f"--modes keeps {kept} modes of axis {name!r}, which has {n} points and holds at "
                f"most {n // 2}: take fewer modes or a finer grid (--n-points)."
            )
    if isinstance(options, TrainNODA) and isinstance(dataset, FieldDataset):
        return build_noda(options, dataset, key)
    common: dict[str, Any] = {
        "hidden_channels": options.width,
        "n_layers": options.layers,
        "context_channels": len(dataset.context_names),
        "normaliser": GaussianNormaliser.fit(dataset),
        "key": key,
    }
    if isinstance(options, TrainSFNO):
        model: AbstractForecaster = SpatiotemporalFNO(
            dataset.n_channels,
            dt=dataset.dt,
            horizon=options.n_out * dataset.dt,
            n_modes=modes,
            latent_steps=options.latent_steps,
            **common,
        )
    elif isinstance(options, TrainFNO3d):
        model = SpaceTimeFNO(dataset.n_channels, options.n_in, modes, **common)
    else:
        model = AutoregressiveFNO(dataset.n_channels, options.n_in, modes, **common)
    _try(model, dataset, options)
    return model


def _try(model: AbstractForecaster, dataset: TrainingDataset, options: AbstractTraining) -> None:
    """Trace a forecast without computing it."""
    shape = (dataset.n_channels, *dataset.n_points)
    inputs = jax.ShapeDtypeStruct((options.n_in, *shape), dataset.values.dtype)
    context = None
    if dataset.context is not None:
        context = jax.ShapeDtypeStruct(dataset.context.shape[1:], dataset.values.dtype)
    jax.eval_shape(lambda u, c: model(u, options.n_out, context=c), inputs, context)
