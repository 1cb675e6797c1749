"""Generate sets of particle trajectories with the material point method.

The key of a trajectory is ``fold_in(fold_in(key(seed), split), sample)``: the splits are disjoint,
and a longer set of the same seed begins with the trajectories of a shorter one.
"""

import dataclasses
import math
from pathlib import Path
from typing import overload

import jax
import numpy as np
from tqdm.auto import tqdm

from ..core import (
    RESULTS,
    KeyArray,
    PathLike,
    check_count,
    check_non_negative,
    check_positive,
)
from ..problems import (
    AbstractMaterial,
    ElasticSolid,
    MaterialPointMethod,
    Sand,
    Wall,
    Water,
    march_particles,
    random_blocks,
)
from ._trajectory import Trajectory, TrajectorySplits
from ._trajectory_file import save_trajectories

_SPLITS = ("train", "validation", "test")
# Particles along a cell's edge, and the part of the box that they fill at rest.
_A_CELL = 2
_FILLED = 0.125


@dataclasses.dataclass(frozen=True)
class ParticleRecipe:
    """How one trajectory of particles is made: blocks fall, slide and splash in the unit box.

    `ParticleRecipe.water`, `elastic` and `sand` have stiffnesses that go with the default times.

    Parameters
    ----------
    material
        What the particles are made of; its class names their type.
    n_particles
        In all; they fill an eighth of the box.
    dt
        Time between frames.
    n_frames
        Frames of a trajectory, the first included.
    most_blocks
        Trajectories start from 1, 2, ... blocks in turn, up to this many.
    speed
        Standard deviation of the blocks' first velocity along each axis.
    dim
        2 or 3.
    sticky_floor
        Nothing slides on the floor; it is smooth otherwise, as the walls are.

    Examples
    --------
    >>> recipe = ParticleRecipe.water(n_particles=200, n_frames=3)
    >>> recipe.make(jax.random.key(3), n_blocks=1).position.shape
    (3, 200, 2)
    """

    material: AbstractMaterial
    n_particles: int = 2025
    dt: float | int = 3.2e-3
    n_frames: int = 151
    most_blocks: int = 2
    speed: float | int = 0.7
    dim: int = 2
    sticky_floor: bool = False

    def __post_init__(self):
        if not isinstance(self.material, AbstractMaterial):
            raise TypeError(f"`material` must be one, such as Water(); got {self.material!r}.")
        check_count("n_particles", self.n_particles, minimum=self.most_blocks)
        check_positive("dt", self.dt)
        check_count("n_frames", self.n_frames, minimum=2)
        check_count("most_blocks", self.most_blocks)
        check_non_negative("speed", self.speed)
        if self.dim not in (2, 3):
            raise ValueError(f"`dim` must be 2 or 3, got {self.dim!r}.")

    @classmethod
    def water(
        cls, n_particles: int = 2025, *, n_frames: int = 151, dim: int = 2
    ) -> "ParticleRecipe":
        """Return water in a smooth box.

        Parameters
        ----------
        n_particles, n_frames, dim
            As in the class.
        """
        return cls(Water(400.0), n_particles, n_frames=n_frames, dim=dim)

    @classmethod
    def elastic(
        cls, n_particles: int = 2025, *, n_frames: int = 151, dim: int = 2
    ) -> "ParticleRecipe":
        """Return soft elastic blocks in a smooth box.

        Parameters
        ----------
        n_particles, n_frames, dim
            As in the class.
        """
        return cls(ElasticSolid(300.0), n_particles, n_frames=n_frames, dim=dim)

    @classmethod
    def sand(
        cls, n_particles: int = 2025, *, n_frames: int = 151, dim: int = 2
    ) -> "ParticleRecipe":
        """Return sand on a rough floor.

        Parameters
        ----------
        n_particles, n_frames, dim
            As in the class.
        """
        return cls(Sand(1200.0), n_particles, n_frames=n_frames, dim=dim, sticky_floor=True)

    @property
    def n_cells(self) -> int:
        """Cells of the grid along each axis."""
        return max(4, round((self.n_particles / _FILLED) ** (1 / self.dim) / _A_CELL))

    @property
    def spacing(self) -> float:
        """Distance of neighbouring particles at rest."""
        return 1 / (_A_CELL * self.n_cells)

    def method(self) -> MaterialPointMethod:
        """Return the simulator."""
        return MaterialPointMethod(
            [self.material],
            cell_size=1 / self.n_cells,
            bounds=((0.0, 1.0),) * self.dim,
            floor=Wall.STICKY if self.sticky_floor else Wall.SLIP,
        )

    def make(self, key: KeyArray, *, n_blocks: int) -> Trajectory:
        """Simulate one trajectory.

        Parameters
        ----------
        key
            PRNG key of the scene; the simulation has no chance in it.
        n_blocks
            Blocks at the start.

        Raises
        ------
        RuntimeError
            If the particles blow up.
        """
        method = self.method()
        scene = random_blocks(
            self.n_particles,
            spacing=self.spacing,
            bounds=method.bounds,
            n_blocks=n_blocks,
            speed=self.speed,
            key=key,
        )
        state = method.state(
            scene.position.astype(np.float32),
            spacing=self.spacing,
            velocity=scene.velocity.astype(np.float32),
        )
        # Splashes are faster than what sets the sound: halve the step where one passes a cell.
        substeps = max(1, math.ceil(self.dt / method.largest_step()))
        for halvings in range(4):
            run = march_particles(
                method,
                state,
                dt=self.dt,
                n_frames=self.n_frames - 1,
                substeps=substeps * 2**halvings,
                throw=halvings == 3,
            )
            if run.result == RESULTS.successful:
                break
        position = np.clip(np.asarray(run.value), 0.0, 1.0)  # walls are kept up to rounding
        return Trajectory.from_array(
            position,
            dt=self.dt,
            bounds=method.bounds,
            type_names=(type(self.material).__name__,),
            attributes={
                "spacing": self.spacing,
                "gravity": float(method.gravity),
                "sticky_floor": self.sticky_floor,
                "n_blocks": n_blocks,
                "n_cells": self.n_cells,
                "substeps": int(run.stats["substeps"]),
            },
        )


@overload
def generate_particles(
    path: None,
    *,
    recipe: ParticleRecipe,
    n_train: int,
    n_validation: int = ...,
    n_test: int = ...,
    seed: int,
    progress: bool = ...,
) -> TrajectorySplits: ...
@overload
def generate_particles(
    path: PathLike,
    *,
    recipe: ParticleRecipe,
    n_train: int,
    n_validation: int = ...,
    n_test: int = ...,
    seed: int,
    progress: bool = ...,
) -> Path: ...
def generate_particles(
    path: PathLike | None,
    *,
    recipe: ParticleRecipe,
    n_train: int,
    n_validation: int = 0,
    n_test: int = 0,
    seed: int,
    progress: bool = True,
) -> TrajectorySplits | Path:
    """Simulate trajectories of particles for training, validation and test.

    Parameters
    ----------
    path
        An ``.npz`` file to make, which `load_trajectories` reads, or None.
    recipe
        Material, sizes, times.
    n_train, n_validation, n_test
        Trajectories of each split. None stands in two of them: that is checked.
    seed
        A non-negative integer. Equal seeds give equal trajectories whatever the counts.
    progress
        Show a bar with rate and time left.

    Returns
    -------
    Path or TrajectorySplits
        The path, or the set itself if ``path`` is None.

    Raises
    ------
    ValueError
        If an argument is out of range.
    FileExistsError
        If ``path`` is there already.
    RuntimeError
        If a simulation blows up; the message says which one.

    Examples
    --------
    >>> recipe = ParticleRecipe.sand(n_particles=100, n_frames=3)
    >>> splits = generate_particles(
    ...     None, recipe=recipe, n_train=2, n_test=1, seed=7, progress=False)
    >>> len(splits.train), splits.test[0].type_names
    (2, ('Sand',))
    """
    counts = {
        "train": check_count("n_train", n_train),
        "validation": check_count("n_validation", n_validation, minimum=0),
        "test": check_count("n_test", n_test, minimum=0),
    }
    check_count("seed", seed, minimum=0)
    if path is not None:
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"`path` must end in .npz, got {path.name!r}.")
        if path.exists():
            raise FileExistsError(f"{path} is there already; remove it or choose another path.")
    parts: dict[str, list[Trajectory]] = {name: [] for name in counts}
    with tqdm(total=sum(counts.values()), unit="trajectory", disable=not progress) as bar:
        for index, name in enumerate(_SPLITS):
            key = jax.random.fold_in(jax.random.key(seed), index)
            for k in range(counts[name]):
                try:
                    run = recipe.make(
                        jax.random.fold_in(key, k), n_blocks=1 + k % recipe.most_blocks
                    )
                except RuntimeError as error:
                    raise RuntimeError(f"trajectory {k} of {name}: {error}") from error
                parts[name].append(run)
                bar.update()
    splits = TrajectorySplits(**parts)
    return splits if path is None else save_trajectories(path, splits)
