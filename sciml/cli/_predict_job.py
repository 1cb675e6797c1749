"""The work of ``sciml predict``."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ..core import format_table, import_optional
from ..data import FieldDataset, save_dataset
from ..neural_operators import (
    AbstractForecaster,
    AbstractParticleStepper,
    Persistence,
    TransformOnceForecaster,
    rollout,
)
from ..numerics import FourierBasis, relative_h1, relative_l2
from ..plot import plot_fields, save_figure
from ._errors import UsageError
from ._load_data import check_periodic, load_part, same_physics
from ._predict import Predict
from ._predict_particles_job import run_particle_prediction
from ._refine import Refine
from ._saved_model import SavedModel, as_saved_model, load_any_model
from ._terminal import say, shows_progress

_FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def run_prediction(options: Predict) -> None:
    """Forecast, write the file, print errors where the truth is known, and draw."""
    _check_options(options)
    model, settings = load_any_model(options.model)
    if isinstance(model, AbstractParticleStepper):
        run_particle_prediction(options, model, settings)
        return
    for name in ("animation", "n_samples"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for models of particles.")
    saved = as_saved_model(options.model, model, settings)
    dataset = load_part(options.data, options.split, options.n_points)
    t1 = saved.forecaster if isinstance(saved.forecaster, TransformOnceForecaster) else None
    if t1 is None or isinstance(t1.basis, FourierBasis):
        check_periodic(options.data, dataset)
    check_match(saved, dataset, options)
    n_in, n_steps, window = lengths(saved, dataset, options, options.window)
    truth = None
    if dataset.n_times >= n_in + n_steps:
        truth = dataset.values[:, n_in : n_in + n_steps]
    elif options.figure is not None:
        raise UsageError(
            f"--figure compares with the truth, but the file has {dataset.n_times} snapshots and "
            f"{n_in} + {n_steps} are needed: leave it out or lower --n-steps."
        )
    forecasts = forecast(
        saved.forecaster, dataset, n_in, n_steps, window, options.batch_size, "forecasting"
    )
    if not np.isfinite(forecasts).all():
        sample, step = (int(i) for i in np.argwhere(~np.isfinite(forecasts))[0][:2])
        raise RuntimeError(
            f"the forecast of trajectory {sample} is not finite from step {step + 1} on; nothing "
            "was written. Forecast fewer steps."
        )
    result = dataset.replace(
        values=forecasts,
        start_time=dataset.start_time + n_in * dataset.dt,
        attributes=dataset.attributes
        | {"forecast_by": type(saved.forecaster).__name__, "forecast_from_snapshots": n_in},
    )
    save_dataset(options.out, result)
    say(f"Forecasts  {options.out}: {result}")
    if truth is None:
        say("The file does not hold the snapshots that were predicted: no errors to tell.")
        return
    say()
    say(_errors(saved, dataset, n_in, forecasts, truth))
    if options.figure is not None:
        figure = plot_fields(
            truth[0],
            forecasts[0],
            times=dataset.dt * np.arange(1, n_steps + 1),
            domain_extent=dataset.domain_extent,
            quantity=dataset.channels[0],
            prediction_name=type(saved.forecaster).__name__,
        )
        say(f"\nFigure     {save_figure(figure, options.figure)}")


def _check_options(options: Predict) -> None:
    for name in ("n_steps", "n_in", "window", "n_points", "batch_size", "n_samples"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
    check_output(options.out, options.overwrite)
    check_figure(options.figure)


def check_figure(path: Path | None) -> None:
    """Raise unless a figure, if one is asked for, can be drawn into ``path``."""
    if path is None:
        return
    if path.suffix not in _FIGURE_SUFFIXES:
        raise UsageError(f"--figure must end in one of {', '.join(_FIGURE_SUFFIXES)}, got {path}.")
    import_optional("matplotlib", "Drawing the figure")


def check_output(path: Path, overwrite: bool) -> None:
    """Raise unless a data file can go to ``path``: before hours of work, not after."""
    if path.suffix not in (".npz", ".h5", ".hdf5"):
        raise UsageError(
            f"the output file must end in .npz, .h5 or .hdf5, which choose the format; got {path}."
        )
    if path.suffix != ".npz":
        import_optional("h5py", f"Writing the HDF5 file {path}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file.")
    if not path.parent.is_dir():
        raise UsageError(f"the folder of {path} does not exist.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} is there already; add --overwrite to replace it.")


def check_match(saved: SavedModel, dataset: FieldDataset, options: Predict | Refine) -> None:
    """Raise unless the data have the time step and the periods that the model was trained on."""
    extent = tuple(saved.settings.get("domain_extent", dataset.domain_extent))
    dt = dataset.dt if saved.dt is None else saved.dt
    if not same_physics(dataset, dt, extent):
        raise UsageError(
            f"{options.model} was trained with snapshots every {dt:g} on a domain of {extent}; "
            f"{options.data} has {dataset.dt:g} and {dataset.domain_extent}."
        )


def lengths(
    saved: SavedModel, dataset: FieldDataset, options: Predict | Refine, window: int | None
) -> tuple[int, int, int]:
    """Return the snapshots to start from, to predict, and of a call of the model."""
    n_in = options.n_in or saved.n_in
    window = window or saved.n_out
    n_steps = options.n_steps or window
    if n_in is None or n_steps is None:
        raise UsageError(
            f"{options.model} does not say how many snapshots it takes and predicts: pass --n-in "
            "and --n-steps."
        )
    # A model of unknown horizon is called once.
    window = min(window or n_steps, n_steps)
    if n_in > dataset.n_times:
        raise UsageError(
            f"the model starts from {n_in} snapshots, but {options.data} has {dataset.n_times}."
        )
    return n_in, n_steps, window


def forecast(
    model: AbstractForecaster,
    dataset: FieldDataset,
    n_in: int,
    n_steps: int,
    window: int,
    batch_size: int,
    title: str,
) -> np.ndarray:
    """Return the forecasts of all trajectories, ``(sample, n_steps, channels, *space)``."""
    arrays, static = eqx.partition(model, eqx.is_array)

    @jax.jit
    def run(arrays, inputs, context):
        forecaster = eqx.combine(arrays, static)

        def one(inputs, context):
            return rollout(forecaster, inputs, n_steps, window=window, context=context)

        return jax.vmap(one, (0, None if context is None else 0))(inputs, context)

    n_samples = dataset.n_samples
    batch_size = min(batch_size, n_samples)
    done = []
    with tqdm(total=n_samples, desc=title, unit="trajectory", disable=not shows_progress()) as bar:
        for first in range(0, n_samples, batch_size):
            # The last batch is filled up, so that one compiled program serves all of them.
            samples = np.minimum(np.arange(first, first + batch_size), n_samples - 1)
            context = dataset.context
            if context is not None:
                context = context[samples if len(context) > 1 else np.zeros_like(samples)]
            values = run(
                arrays,
                jnp.asarray(dataset.values[samples, :n_in]),
                None if context is None else jnp.asarray(context),
            )
            count = min(batch_size, n_samples - first)
            done.append(np.asarray(values)[:count])
            bar.update(count)
    return np.concatenate(done)


def _errors(
    saved: SavedModel, dataset: FieldDataset, n_in: int, forecasts: np.ndarray, truth: np.ndarray
) -> str:
    n_steps = truth.shape[1]
    persistence = forecast(
        Persistence(), dataset, n_in, n_steps, n_steps, len(truth), "persistence"
    )

    @jax.jit
    def errors(prediction, truth):
        l2 = relative_l2(prediction, truth)
        if not all(dataset.periodic):  # the Sobolev norm is a sum over Fourier modes
            return l2, jnp.nan
        return l2, relative_h1(prediction, truth, dataset.domain_extent)

    rows = []
    named = (("persistence", persistence), (type(saved.forecaster).__name__, forecasts))
    for name, values in named:
        pairs = np.array([errors(v, t) for v, t in zip(values, truth, strict=True)])
        l2, h1 = (float(mean) for mean in pairs.mean(axis=0))
        known = h1 if all(dataset.periodic) else None
        rows.append({"method": name, "relative_l2": l2, "relative_h1": known})
    columns = {"method": "method", "relative_l2": "relative L2", "relative_h1": "relative H1"}
    return format_table(rows, columns)
