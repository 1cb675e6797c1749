"""``sciml predict``: the options; `_predict_job` does the work."""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Predict:
    """Forecast the trajectories of a data file with a trained model."""

    model: tyro.conf.Positional[Path]
    """A run folder (runs/demo) or a saved model (runs/demo/best)."""
    data: tyro.conf.Positional[str]
    """A data file, or "navier-stokes" for the shipped sample."""
    out: Path
    """File for the forecasts: .npz, or .h5 (needs the extra `data`)."""
    n_steps: int | None = None
    """Snapshots to predict; by default as many as the model was trained for."""
    n_in: int | None = None
    """Snapshots to start from; by default as many as the model was trained with."""
    window: int | None = None
    """Snapshots a call of the model predicts; longer forecasts chain such windows."""
    n_points: int | None = None
    """Forecast on a grid of this many points along each axis; by default that of the data."""
    split: Literal["train", "validation", "test"] = "test"
    """Which part of the data. Of particles in a file without parts "test" is what the model was
    not trained on."""
    batch_size: int = 4
    """Trajectories that are forecast together."""
    figure: Path | None = None
    """Draw the first forecast beside the truth into this file (.png, .pdf or .svg)."""
    animation: Path | None = None
    """Particles only: write a film of the first forecast (.gif, or .mp4 with ffmpeg)."""
    n_samples: int | None = None
    """Particles only: how many are moved; by default as many as the model was trained on."""
    all_particles: bool = False
    """Particles only: carry all particles of the file along with those that are moved."""
    overwrite: bool = False
    """Replace what is at --out."""

    def run(self) -> None:
        """Write the forecasts and print their errors."""
        from ._predict_job import run_prediction

        run_prediction(self)
