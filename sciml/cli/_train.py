"""``sciml train``: the options of each model; `_train_job` does the work."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from ._device_options import DeviceOptions
from ._train_particles import TrainGIOROM


@dataclasses.dataclass(frozen=True)
class AbstractTraining:
    """What the training of every model takes."""

    NAME: ClassVar[str]

    data: str = "navier-stokes"
    """A data file, or "navier-stokes" for the shipped sample."""
    n_in: int = 10
    """Snapshots that the model is given."""
    n_out: int = 40
    """Snapshots that it learns to predict."""
    n_points: int | None = None
    """Train on a grid of this many points an axis; the model can be used on any other.
    By default 16 for the shipped sample, whose flows are smooth, otherwise that of the data."""
    width: int = 8
    """Channels of the hidden layers."""
    layers: int = 4
    """Number of spectral layers."""
    steps: int = 1000
    """Training steps."""
    batch_size: int = 4
    """Windows a step."""
    learning_rate: float = 1e-2
    """Peak of the one-cycle learning rate."""
    seed: int = 20263
    """Seed of the weights and of the order of the batches."""
    symmetries: Literal["auto", "none", "vorticity", "fno-forcing"] = "auto"
    """Exact symmetries of 2-D flow as augmentation.
    "vorticity" rotates and reflects the fields together with the forcing,
    "fno-forcing" does so about the points that leave that forcing as it is,
    "auto" is "fno-forcing" where the data say that they have it, otherwise "none"."""
    n_validation: int | None = None
    """Trajectories kept for validation if the file has no parts; a tenth by default."""
    n_test: int | None = None
    """Trajectories kept for the final test if the file has no parts; a tenth by default."""
    validate_every: int = 250
    """Steps between validations; the best model is kept in <run-dir>/best."""
    checkpoint_every: int = 250
    """Steps between checkpoints, from which --resume goes on."""
    run_dir: Path | None = None
    """Folder of the run; runs/<model> by default."""
    resume: bool = False
    """Go on from the checkpoint of the run; the other options must be the same, but for those of
    data in memory or not, and of devices."""
    overwrite: bool = False
    """Replace an earlier run in the folder."""
    out_of_core: bool = False
    """Leave the training data in their file, an HDF5 file of sciml, and read batches ahead while
    the model trains. Validation and test data are read into memory."""
    placement: DeviceOptions = dataclasses.field(default_factory=DeviceOptions)
    """Devices and processes."""

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        return Path("runs") / self.NAME if self.run_dir is None else self.run_dir

    def run(self) -> None:
        """Train the model."""
        from ._train_job import run_training

        run_training(self)


@dataclasses.dataclass(frozen=True)
class TrainSFNO(AbstractTraining):
    """Spatiotemporal FNO: the whole forecast at once, at any times; trains fast."""

    NAME = "sfno"

    modes: tuple[int, ...] = (6, 6, 6)
    """Modes of latent time and of each space axis."""
    latent_steps: int = 12
    """Nodes of latent time; at least twice its modes less one."""


@dataclasses.dataclass(frozen=True)
class TrainFNO3d(AbstractTraining):
    """FNO in space and time (Li et al. 2021): the whole forecast at once."""

    NAME = "fno3d"

    modes: tuple[int, ...] = (8, 6, 6)
    """Modes of time and of each space axis."""


@dataclasses.dataclass(frozen=True)
class TrainFNO2d(AbstractTraining):
    """FNO in space (Li et al. 2021): one snapshot after the other; forecasts of any length."""

    NAME = "fno2d"

    modes: tuple[int, ...] = (6, 6)
    """Modes of each space axis."""


@dataclasses.dataclass(frozen=True)
class TrainNODA(AbstractTraining):
    """Neural operator with data assimilation: follows a system by sparse, noisy sensors."""

    NAME = "noda"

    n_in: int = 1
    """Always 1: the first guess."""
    n_out: int = 8
    """Steps that are unrolled in training."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle learning rate."""
    modes: tuple[int, ...] = (6, 6)
    """Modes of each space axis."""
    sensor_stride: int = 4
    """A sensor stands at every so many points of each axis."""
    noise: float = 0.1
    """Error of a measurement, in standard deviations of the data."""


@dataclasses.dataclass(frozen=True)
class TrainT1(AbstractTraining):
    """Transform once (T1): works on coefficients; a step costs the same on every grid."""

    NAME = "t1"

    width: int = 24
    """Channels of the hidden layers."""
    batch_size: int = 16
    """Windows a step."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle learning rate."""
    modes: tuple[int, ...] = (13, 13)
    """Coefficients of each space axis."""
    tolerance: float | None = None
    """Choose the modes instead, so that they leave at most this part of the data, for instance
    0.01; the rest is a floor of the error."""
    basis: Literal["auto", "fourier", "cosine"] = "auto"
    """Which coefficients; auto is Fourier if all axes are periodic, and cosine otherwise."""
    mixing: Literal["grid", "dense"] = "grid"
    """How modes interact: by an activation on a small grid, or by dense matrices as published."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a neural operator on your data or on the shipped sample."""

    model: Annotated[
        Annotated[TrainSFNO, tyro.conf.subcommand("sfno")]
        | Annotated[TrainFNO3d, tyro.conf.subcommand("fno3d")]
        | Annotated[TrainFNO2d, tyro.conf.subcommand("fno2d")]
        | Annotated[TrainT1, tyro.conf.subcommand("t1")]
        | Annotated[TrainNODA, tyro.conf.subcommand("noda")]
        | Annotated[TrainGIOROM, tyro.conf.subcommand("giorom")],
        tyro.conf.arg(name=""),
    ]
    """Which model."""

    def run(self) -> None:
        """Train the chosen model."""
        self.model.run()
