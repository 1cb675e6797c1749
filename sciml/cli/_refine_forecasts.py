"""What ``sciml refine`` starts from: forecasts of a model in float64, or those of a file."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..data import DatasetSplits, FieldDataset, load
from ..neural_operators import AbstractForecaster
from ._errors import UsageError
from ._load_data import same_physics
from ._predict_job import check_match, forecast, lengths
from ._refine import Refine
from ._saved_model import SavedModel

_BATCH = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Forecasts:
    """Forecasts of all trajectories, and the model that made them where it is at hand."""

    name: str
    values: np.ndarray
    n_in: int
    model: AbstractForecaster | None
    reach: int
    """Snapshots that a call of the model predicts."""

    @property
    def n_steps(self) -> int:
        """Snapshots of a forecast."""
        return self.values.shape[1]


def forecasts_of_model(saved: SavedModel, dataset: FieldDataset, options: Refine) -> Forecasts:
    """Return the forecasts of a model, as `sciml predict` makes them but in JAX's precision."""
    check_match(saved, dataset, options)
    n_in, n_steps, reach = lengths(saved, dataset, options, None)
    model = jax.tree.map(_to_default_precision, saved.forecaster)
    values = forecast(model, dataset, n_in, n_steps, reach, _BATCH, "forecasting")
    return Forecasts(type(model).__name__, values, n_in, model, reach)


def forecasts_of_file(dataset: FieldDataset, options: Refine) -> Forecasts:
    """Return the forecasts of a file that `sciml predict` wrote.

    Raises
    ------
    UsageError
        If it holds something else, or does not continue the trajectories of the data.
    """
    path = options.model
    for name in ("n_steps", "n_in"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} is for a model; {path} holds forecasts that are made."
            )
    held = load(str(path))
    attributes: dict[str, Any] = {} if isinstance(held, DatasetSplits) else held.attributes
    n_in = attributes.get("forecast_from_snapshots")
    if isinstance(held, DatasetSplits) or not isinstance(n_in, int) or n_in < 1:
        raise UsageError(
            f"{path} is not a file of forecasts that `sciml predict` wrote. Pass such a file, a "
            "run folder or a saved model, and the data behind it."
        )
    start = dataset.start_time + n_in * dataset.dt
    is_next = abs(held.start_time - start) <= 1e-3 * dataset.dt
    facts = (
        ("points", held.n_points, dataset.n_points, held.n_points == dataset.n_points),
        ("channels", held.channels, dataset.channels, held.channels == dataset.channels),
        ("trajectories", held.n_samples, dataset.n_samples, held.n_samples == dataset.n_samples),
        ("first time", held.start_time, start, is_next),
    )
    for name, found, wanted, same in facts:
        if not same:
            raise UsageError(
                f"{path} does not continue {options.data}: {name} {found}, where {wanted} was "
                "expected. --split and --n-points must be those of `sciml predict`."
            )
    if not same_physics(dataset, held.dt, held.domain_extent):
        raise UsageError(
            f"{path} has snapshots every {held.dt:g} on {held.domain_extent}, {options.data} every "
            f"{dataset.dt:g} on {dataset.domain_extent}."
        )
    name = str(attributes.get("forecast_by", "forecast"))
    values = held.values[: options.n_samples].astype(dataset.values.dtype)
    return Forecasts(name, values, n_in, None, held.n_times)


def _to_default_precision(leaf: Any) -> Any:
    return leaf.astype(jnp.result_type(float)) if eqx.is_inexact_array(leaf) else leaf
