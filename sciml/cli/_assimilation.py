"""What ``sciml train noda`` does differently from the training of forecasters."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..core import KeyArray, format_table
from ..data import DatasetSplits, FieldDataset, GaussianNormaliser
from ..neural_operators import (
    FNO,
    NODA,
    AbstractAssimilator,
    AssimilationLoss,
    GatedGain,
    Nudging,
    PointSensors,
    ResidualPredictor,
    simulate_measurements,
)
from ._errors import UsageError
from ._train import TrainNODA

_AVAILABILITIES = (0.0, 0.3, 1.0)
_NUDGING_GAIN = 0.5


def build_noda(options: TrainNODA, dataset: FieldDataset, key: KeyArray) -> NODA:
    """Return the untrained model, with sensors on a regular grid.

    Raises
    ------
    UsageError
        If the data have fields that differ from trajectory to trajectory, which the model does
        not see, or a number makes no sense.
    """
    if dataset.context is not None and np.ptp(dataset.context, axis=0).any():
        raise UsageError(
            f"the fields {', '.join(dataset.context_names)} differ between trajectories, and noda "
            "does not see them: it takes one equation with one forcing."
        )
    if options.sensor_stride < 1 or options.sensor_stride > min(dataset.n_points):
        raise UsageError(
            f"--sensor-stride must be between 1 and {min(dataset.n_points)}, the points of the "
            f"shortest axis; got {options.sensor_stride}."
        )
    if options.n_in != 1:
        raise UsageError(f"noda starts from one field: leave out --n-in, got {options.n_in}.")
    if not 0 <= options.noise < float("inf"):
        raise UsageError(f"--noise must be zero or positive, got {options.noise}.")
    network_key, gain_key = jax.random.split(key)
    channels = dataset.n_channels
    normaliser = GaussianNormaliser.fit(dataset)
    network = FNO(
        channels,
        channels,
        options.modes,
        hidden_channels=options.width,
        n_layers=options.layers,
        coordinates=dataset.context is not None,
        key=network_key,
    )
    gain = GatedGain(
        channels,
        options.modes,
        lengths=_lengths(options),
        hidden_channels=options.width,
        normaliser=normaliser,
        key=gain_key,
    )
    sensors = PointSensors.every(dataset.n_points, options.sensor_stride, n_channels=channels)
    return NODA(ResidualPredictor(network, normaliser=normaliser), sensors, gain)


def assimilation_loss(options: TrainNODA, dataset: FieldDataset) -> AssimilationLoss:
    """Return the unrolled loss with noise in units of the data's standard deviation."""
    return AssimilationLoss(options.noise * float(dataset.values.std()))


def assimilation_errors(options: TrainNODA, splits: DatasetSplits, model: NODA) -> str:
    """Return a table of errors: trajectories followed from zero, beside nudging."""
    noise_std = options.noise * float(splits.train.values.std())
    nudging = Nudging(model.predictor, model.observe, _NUDGING_GAIN, length=_lengths(options)[0])
    rows: list[dict[str, Any]] = []
    for name, part in splits.items()[1:]:
        for method, rival in ((f"nudging, gain {_NUDGING_GAIN:g}", nudging), ("noda", model)):
            errors = _errors(rival, part.values, noise_std, options.seed)
            shares = (f"availability {share:g}" for share in _AVAILABILITIES)
            rows.append({"part": name, "method": method, **dict(zip(shares, errors, strict=True))})
    if not rows:
        return "No validation or test trajectories: the error on new data is not known."
    table = format_table(rows, {column: column for column in rows[0]})
    return f"Relative L2 error over the second half, from a first guess of zero:\n{table}"


def _lengths(options: TrainNODA) -> tuple[float, float]:
    return 0.4 * options.sensor_stride, 0.8 * options.sensor_stride


def _errors(
    model: AbstractAssimilator, values: np.ndarray, noise_std: float, seed: int
) -> list[float]:
    arrays, static = eqx.partition(model, eqx.is_array)
    half = (values.shape[1] - 1) // 2

    @jax.jit
    def errors(arrays, truth, availability, keys):
        follower = eqx.combine(arrays, static)

        def one(truth, key):
            y, mask = simulate_measurements(
                follower.observe, truth[1:], availability=availability, noise_std=noise_std, key=key
            )
            analyses, _ = follower(jnp.zeros_like(truth[0]), y, mask)
            wrong = analyses[half:] - truth[1:][half:]
            return jnp.linalg.norm(wrong.reshape(-1)) / jnp.linalg.norm(
                truth[1:][half:].reshape(-1)
            )

        return jnp.mean(jax.vmap(one)(truth, keys))

    truth = jnp.asarray(values)
    keys = jax.random.split(jax.random.key(seed), len(values))
    return [
        float(errors(arrays, truth, jnp.asarray(share, truth.dtype), keys))
        for share in _AVAILABILITIES
    ]
