"""The work of ``sciml train``."""

import dataclasses
import os
import shlex
from typing import Any

import jax
from jax.sharding import Mesh

from ..core import format_table
from ..data import DatasetSplits, FieldDataset, Transform, VorticitySymmetries
from ..neural_operators import (
    NODA,
    AbstractForecaster,
    Persistence,
    TransformOnceForecaster,
    evaluate,
)
from ..train import fit, forecast_loss, one_cycle_adam, spectral_loss
from ._assimilation import assimilation_errors, assimilation_loss
from ._build_model import build_model
from ._errors import UsageError
from ._load_data import (
    SAMPLE,
    AnySplits,
    TrainingDataset,
    check_periodic,
    check_window,
    held_out,
    load_splits,
    open_splits,
)
from ._terminal import say, shows_progress
from ._train import AbstractTraining, TrainNODA, TrainT1
from ._training_devices import training_devices
from ._training_run import check_run, how_to_resume, tell_end
from ._transform_once import t1_batches

_SAMPLE_GRID = 16
# What does not change the weights that come out, so that a resumed run may have it otherwise.
_WHERE = ("run_dir", "resume", "overwrite", "validate_every", "checkpoint_every", "symmetries")
_AND_HOW = ("out_of_core", "placement")


def run_training(options: AbstractTraining) -> None:
    """Train, draw the curves, and print the errors beside persistence."""
    check_run(
        options, ("width", "layers", "steps", "batch_size", "validate_every", "checkpoint_every")
    )
    if options.n_points is not None and options.n_points < 2:
        raise UsageError(f"--n-points must be at least 2, got {options.n_points}.")
    grid = options.n_points
    if grid is None and options.data == SAMPLE:
        grid = _SAMPLE_GRID
    with training_devices(options.placement, options.batch_size) as mesh:
        _train(options, grid, mesh)


def _train(options: AbstractTraining, grid: int | None, mesh: Mesh | None) -> None:
    splits = _splits(options, grid)
    for part in (splits.train, *(part for _, part in held_out(splits))):
        check_window(part, options.n_in, options.n_out)
        # T1 has bases for both.
        if not isinstance(options, TrainT1) or options.basis == "fourier":
            check_periodic(options.data, part)
    symmetries = _symmetries(options, splits.train)
    batches = splits.train.windows(
        options.n_in,
        options.n_out,
        batch_size=options.batch_size,
        seed=options.seed,
        transform=symmetries,
    )
    model_key, training_key = jax.random.split(jax.random.key(options.seed))
    model = build_model(options, splits.train, model_key)
    if isinstance(model, TransformOnceForecaster) and isinstance(splits, DatasetSplits):
        assert isinstance(options, TrainT1)
        batches = t1_batches(options, model, splits.train)
    say(f"Training {options.NAME} on {splits.train}, {options.steps} steps, in {options.folder}")
    try:
        solution = fit(
            model,
            batches,
            loss=_loss(options, splits.train),
            optimizer=one_cycle_adam(options.learning_rate, options.steps),
            n_steps=options.steps,
            key=training_key,
            run_dir=options.folder,
            resume=options.resume,
            overwrite=options.overwrite,
            validation=_validation(options, splits, model),
            validate_every=options.validate_every,
            checkpoint_every=options.checkpoint_every,
            config=run_config(options, splits.train, symmetries is not None),
            mesh=mesh,
            progress=shows_progress(),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(how_to_resume(options)) from None
    if jax.process_index() > 0:
        return  # the first process evaluates and draws
    trained: AbstractForecaster | NODA = solution.value
    say(f"Trained for {solution.stats['seconds']:.0f} s.")
    tell_end(options, solution, _errors(options, splits, trained), _next(options))


def _splits(options: AbstractTraining, grid: int | None) -> AnySplits:
    cut = (options.n_validation, options.n_test)
    if not options.out_of_core:
        return load_splits(options.data, grid, *cut)
    if isinstance(options, TrainT1 | TrainNODA):
        reason = (
            "encodes all snapshots before the first step"
            if isinstance(options, TrainT1)
            else "takes the noise of its sensors from all values"
        )
        raise UsageError(
            f"--out-of-core is for sfno, fno3d and fno2d: {options.NAME} {reason}. Leave it out."
        )
    return open_splits(options.data, options.n_points, *cut)


def run_config(
    options: AbstractTraining, dataset: TrainingDataset, is_augmented: bool
) -> dict[str, Any]:
    """Return what defines the run, as JSON values; ``sciml predict`` reads some of it."""
    settings = {
        k: v for k, v in dataclasses.asdict(options).items() if k not in (*_WHERE, *_AND_HOW)
    }
    settings["modes"] = list(settings["modes"])
    # However the user spells the path; a name of a shipped sample stays as it is.
    settings["data"] = os.path.normpath(options.data)
    return {
        **settings,
        "model": options.NAME,
        "n_points": list(dataset.n_points),
        "channels": list(dataset.channels),
        "dt": dataset.dt,
        "domain_extent": list(dataset.domain_extent),
        "augmented": is_augmented,
    }


def _symmetries(options: AbstractTraining, dataset: TrainingDataset) -> Transform | None:
    choice = options.symmetries
    if isinstance(options, TrainT1):
        return None  # its batches are encoded before any step
    is_vorticity = dataset.channels == ("vorticity",) and len(set(dataset.n_points)) == 1
    has_fno_forcing = dataset.attributes.get("forcing") == "fno"
    if choice == "auto":
        choice = "fno-forcing" if is_vorticity and has_fno_forcing else "none"
    if choice == "none":
        return None
    if len(dataset.axes) != 2 or dataset.n_points[0] != dataset.n_points[1]:
        raise UsageError(
            f"--symmetries {choice} is for vorticity on a square with equal points along both "
            f"axes; the data have {' x '.join(map(str, dataset.n_points))} points."
        )
    if choice == "fno-forcing":
        return VorticitySymmetries.for_fno_forcing()
    return VorticitySymmetries()


def _validation(options: AbstractTraining, splits: AnySplits, model: Any) -> Any:
    if splits.validation is None:
        return None
    if isinstance(options, TrainT1):
        return t1_batches(options, model, splits.validation, shuffle=False)
    return splits.validation.windows(
        options.n_in,
        options.n_out,
        batch_size=min(options.batch_size, splits.validation.n_samples),
        seed=options.seed,
        shuffle=False,
    )


def _loss(options: AbstractTraining, dataset: TrainingDataset) -> Any:
    if isinstance(options, TrainT1):
        return spectral_loss
    if isinstance(options, TrainNODA) and isinstance(dataset, FieldDataset):
        return assimilation_loss(options, dataset)
    return forecast_loss


def _next(options: AbstractTraining) -> str:
    if isinstance(options, TrainNODA):
        return f'sciml.load("{options.folder / "checkpoint"}") in Python; call it on measurements'
    words = ["sciml", "predict", str(options.folder), options.data, "--out", "forecast.npz"]
    return shlex.join(words)


def _errors(options: AbstractTraining, splits: AnySplits, model: Any) -> str:
    if isinstance(options, TrainNODA) and isinstance(splits, DatasetSplits):
        return assimilation_errors(options, splits, model)
    rows = []
    for name, part in held_out(splits):
        models = {"persistence": Persistence(), options.NAME: model}
        for score in evaluate(models, part, options.n_in, options.n_out):
            rows.append({"part": name, **score.row()})
    if not rows:
        return "No validation or test trajectories: the error on new data is not known."
    columns = {
        "part": "part",
        "method": "method",
        "relative_l2": "relative L2",
        "relative_h1": "relative H1",
        "seconds": "s/forecast",
    }
    return format_table(rows, columns)
