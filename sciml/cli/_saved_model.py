"""A trained model with what its run says about it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ..core import load
from ..neural_operators import AbstractForecaster, SpatiotemporalFNO
from ._errors import UsageError


@dataclasses.dataclass(frozen=True, eq=False)
class SavedModel:
    """A forecaster and the settings of its run (empty for a model saved by hand)."""

    forecaster: AbstractForecaster
    settings: dict[str, Any]

    @property
    def n_in(self) -> int | None:
        """Snapshots that the model was trained with, if known."""
        for found in (self.settings.get("n_in"), getattr(self.forecaster, "n_in", None)):
            if found is not None:
                return int(found)
        return None

    @property
    def n_out(self) -> int | None:
        """Snapshots that a call of the model predicts, if known."""
        if (found := self.settings.get("n_out")) is not None:
            return int(found)
        if isinstance(self.forecaster, SpatiotemporalFNO):
            return int(self.forecaster.horizon * (1 + 1e-6) / self.forecaster.dt)
        return None

    @property
    def dt(self) -> float | None:
        """Time between the snapshots that the model knows, if known."""
        return self.settings.get("dt", getattr(self.forecaster, "dt", None))


def is_run_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder that training made."""
    return "config" in read_run_settings(path)


def read_run_settings(path: Path) -> dict[str, Any]:
    """Return the config.json of a run folder; empty if it is not one.

    Raises
    ------
    UsageError
        If the file is there and is not JSON.
    """
    config = path / "config.json"
    if not config.is_file():
        return {}
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{config} is damaged: {error}") from None
    is_ours = isinstance(settings, dict) and all(
        isinstance(settings.get(key), dict) for key in ("config", "versions")
    )
    return settings if is_ours else {}


def load_any_model(path: Path) -> tuple[Any, dict[str, Any]]:
    """Load the model of a run folder, or one that was saved by itself, and the run's settings.

    Raises
    ------
    UsageError
        If there is no such folder, or the run has no checkpoint yet.
    """
    if not path.exists():
        raise UsageError(f"no such run or model: {path}. `sciml train sfno` makes runs/sfno.")
    if not path.is_dir():
        raise UsageError(f"{path} is a file; a run and a saved model are folders.")
    settings = read_run_settings(path)
    folder = path
    if settings:
        folder = path / "checkpoint"
        if not (folder / "config.json").exists():
            raise UsageError(f"the run {path} has no checkpoint yet.")
    else:
        settings = read_run_settings(path.parent)
    return load(folder), settings.get("config", {})


def load_saved_model(path: Path) -> SavedModel:
    """Load a forecaster of fields with the settings of its run.

    Raises
    ------
    UsageError
        If there is no such folder, the run has no checkpoint yet, or the model is no forecaster.
    """
    return as_saved_model(path, *load_any_model(path))


def as_saved_model(path: Path, model: Any, settings: dict[str, Any]) -> SavedModel:
    """Return what `load_any_model` gave as a forecaster of fields.

    Raises
    ------
    UsageError
        If it is none.
    """
    if not isinstance(model, AbstractForecaster):
        raise UsageError(
            f"{path} holds a {type(model).__name__}, which does not forecast trajectories."
        )
    return SavedModel(model, settings)
