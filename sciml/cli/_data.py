"""``sciml data``: generate, describe and convert data files; `_data_job` does the work."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Generate:
    """Make a data set of any size with the reference solver, as an HDF5 file."""

    equation: tyro.conf.Positional[Literal["navier-stokes"]]
    """Two-dimensional Navier-Stokes in vorticity form on a periodic square."""
    out: Path
    """The file to make (.h5)."""
    n_train: int = 128
    """Training trajectories."""
    n_validation: int = 16
    """Validation trajectories."""
    n_test: int = 16
    """Test trajectories."""
    seed: int = 7151
    """Seed; the splits of one seed never share a trajectory."""
    n_points: int = 64
    """Points along each of the two axes."""
    viscosity: float = 1e-3
    """Kinematic viscosity."""
    drag: float = 0.0
    """Linear drag."""
    dt: float = 0.2
    """Time between snapshots."""
    n_snapshots: int = 64
    """Snapshots of a trajectory."""
    solver_dt: float = 0.1
    """Time step of the solver; it divides --dt and --warm-up."""
    warm_up: float = 10.0
    """Time before the first snapshot, in which random noise becomes a flow."""
    forcing: Literal["none", "fno", "kolmogorov"] = "fno"
    """Steady forcing; "fno" is that of the Fourier neural operator's benchmark."""
    initial_field: Literal["gaussian", "mcwilliams", "kolmogorov"] = "gaussian"
    """Random field at the start."""
    domain_extent: float = 1.0
    """Side of the periodic square."""
    batch_size: int = 16
    """Trajectories that are solved together."""
    devices: int | None = None
    """Part them over so many devices of this machine; by default one solves all."""

    def run(self) -> None:
        """Generate the file."""
        from ._data_job import generate

        generate(self)


@dataclasses.dataclass(frozen=True)
class GenerateParticles:
    """Simulate trajectories of water, elastic bodies or sand, as an npz file of particles."""

    material: tyro.conf.Positional[Literal["water", "elastic", "sand"]]
    """What falls, slides and splashes in the unit box."""
    out: Path
    """The file to make (.npz)."""
    n_train: int = 24
    """Training trajectories."""
    n_validation: int = 6
    """Validation trajectories."""
    n_test: int = 6
    """Test trajectories."""
    seed: int = 7151
    """Seed; the splits of one seed never share a trajectory."""
    n_particles: int = 2025
    """Particles of a trajectory."""
    n_frames: int = 151
    """Frames of a trajectory, 3.2 ms apart."""
    dim: Literal[2, 3] = 2
    """Dimensions of the box."""

    def run(self) -> None:
        """Generate the file."""
        from ._data_job import generate_particle_set

        generate_particle_set(self)


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """What a file may not say about itself."""

    dt: float | None = None
    """Time between snapshots, if the file does not say."""
    domain_extent: tuple[float, ...] | None = None
    """Length of each space axis (or one for all), if the file does not say."""
    periodic: Literal["yes", "no"] | None = None
    """Whether the space axes are periodic, if the file does not say (PDEBench)."""
    samples: int | None = None
    """Read the first samples only."""


@dataclasses.dataclass(frozen=True)
class DataInfo(ReadOptions):
    """Describe a data file: sizes, grid, times, channels, attributes."""

    path: tyro.conf.Positional[str] = dataclasses.field(kw_only=True)
    """A file of fields or particles, a folder of The Well, or "navier-stokes" (shipped sample)."""

    def run(self) -> None:
        """Print the description."""
        from ._data_job import describe

        print(describe(self))


@dataclasses.dataclass(frozen=True)
class Convert(ReadOptions):
    """Read a file of any known layout and write it in sciml's own (.h5 or .npz)."""

    source: tyro.conf.Positional[str] = dataclasses.field(kw_only=True)
    """What to read: FNO .mat, PDEBench, The Well, or sciml's own."""
    out: tyro.conf.Positional[Path] = dataclasses.field(kw_only=True)
    """What to write."""
    n_points: int | None = None
    """Points along each axis of the new grid (periodic data)."""
    overwrite: bool = False
    """Replace what is at the place of the new file."""

    def run(self) -> None:
        """Write the file."""
        from ._data_job import convert

        convert(self)


@dataclasses.dataclass(frozen=True)
class Data:
    """Generate, describe or convert data files."""

    action: Annotated[
        Annotated[Generate, tyro.conf.subcommand("generate")]
        | Annotated[GenerateParticles, tyro.conf.subcommand("particles")]
        | Annotated[DataInfo, tyro.conf.subcommand("info")]
        | Annotated[Convert, tyro.conf.subcommand("convert")],
        tyro.conf.arg(name=""),
    ]
    """What to do."""

    def run(self) -> None:
        """Run the chosen action."""
        self.action.run()
