"""``sciml train giorom``: the options; `_train_particles_job` does the work."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import tyro


@dataclasses.dataclass(frozen=True)
class TrainGIOROM:
    """GIOROM: motion of sampled particles of water, elastic bodies or sand."""

    NAME: ClassVar[str] = "giorom"

    data: tyro.conf.Positional[Path]
    """A file of particles: .npz of `sciml data particles` or `sciml.data.save_trajectories`."""
    samples: tuple[int, ...] = (150,)
    """Particles that are moved; several numbers make a model for all of them."""
    radius: float | None = None
    """How far particles see each other; by default 2.5 times their distance in the samples."""
    window: int = 5
    """Velocities that the model looks at."""
    width: int = 48
    """Channels at each particle."""
    layers: int = 2
    """Interaction operators before the latent grid, and as many behind it."""
    grid: int = 16
    """Nodes of the latent grid along the longest edge of the box; 0 leaves it out."""
    noise: float = 0.5
    """Noise of training, in units of what acceleration does to a velocity between two frames."""
    mirror: bool = False
    """Mirror windows at random along the first axis: the walls are alike and gravity is across."""
    steps: int = 2000
    """Training steps."""
    particles_per_batch: int = 600
    """Particles a step, over all windows of the batch."""
    learning_rate: float = 3e-3
    """Peak of the one-cycle learning rate."""
    seed: int = 20263
    """Seed of the weights, the samples and the order of the windows."""
    n_test: int | None = None
    """Trajectories kept for the test if the file has no parts; a fifth by default."""
    test_steps: int = 100
    """Frames of the rollouts of the test."""
    checkpoint_every: int = 250
    """Steps between checkpoints, from which --resume goes on."""
    run_dir: Path | None = None
    """Folder of the run; runs/giorom by default."""
    resume: bool = False
    """Go on from the checkpoint of the run; the other options must be the same."""
    overwrite: bool = False
    """Replace an earlier run in the folder."""

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        return Path("runs") / self.NAME if self.run_dir is None else self.run_dir

    def run(self) -> None:
        """Train the model."""
        from ._train_particles_job import run_particle_training

        run_particle_training(self)
