"""Generate Navier-Stokes sets of any size, in memory or streamed to a file.

The key of a trajectory is ``fold_in(fold_in(key(seed), split), sample)``: the splits are
disjoint, and a longer set of the same seed begins with the trajectories of a shorter one.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Key
from tqdm.auto import tqdm

from ..core import PathLike, check_count, check_mesh, real_dtype
from ..problems import ETDRK4, NavierStokes2D, solve
from ._dataset import DatasetSplits, FieldDataset
from ._generation_file import GenerationFile
from ._recipe import NavierStokesRecipe

_SPLITS = ("train", "validation", "test")


@overload
def generate_navier_stokes(
    path: None,
    *,
    n_train: int,
    n_validation: int = ...,
    n_test: int = ...,
    seed: int,
    recipe: NavierStokesRecipe = ...,
    batch_size: int = ...,
    mesh: Mesh | None = ...,
    progress: bool = ...,
) -> DatasetSplits: ...
@overload
def generate_navier_stokes(
    path: PathLike,
    *,
    n_train: int,
    n_validation: int = ...,
    n_test: int = ...,
    seed: int,
    recipe: NavierStokesRecipe = ...,
    batch_size: int = ...,
    mesh: Mesh | None = ...,
    progress: bool = ...,
) -> Path: ...
def generate_navier_stokes(
    path: PathLike | None,
    *,
    n_train: int,
    n_validation: int = 0,
    n_test: int = 0,
    seed: int,
    recipe: NavierStokesRecipe = NavierStokesRecipe(),  # noqa: B008 - frozen
    batch_size: int = 16,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> DatasetSplits | Path:
    """Generate train, validation and test trajectories of two-dimensional Navier-Stokes.

    With a path the trajectories are streamed to ``<path>.partial``, so that the memory does not
    grow with the set, and the file is renamed when it is whole. If the run is interrupted, the
    same call goes on where it stopped.

    Parameters
    ----------
    path
        An HDF5 file to make (``.h5`` or ``.hdf5``), or None for a small set in memory.
    n_train, n_validation, n_test
        Trajectories of each split.
    seed
        A non-negative integer. Equal seeds give equal trajectories whatever the counts, and
        whatever the batch size up to rounding.
    recipe
        Equation, initial fields and times.
    batch_size
        Trajectories that are solved together, by `jax.vmap`, on all devices of a mesh.
    mesh
        Devices of this process (``jax.make_mesh``), whatever the names of its axes: they share
        the trajectories of a batch, and exchange nothing. A number of trajectories that they
        cannot share evenly is filled up. Each computes what one device would that is given its
        share of a batch. A run that was interrupted goes on with any number of devices.
    progress
        Show a bar with rate and time left.

    Returns
    -------
    Path or DatasetSplits
        The path, or the set itself if ``path`` is None. Values are stored in float32; they are
        computed in JAX's default precision (float64 where it is enabled).

    Raises
    ------
    ValueError
        If an argument is out of range, ``<path>.partial`` was begun with other parameters, or the
        mesh has devices of other processes.
    TypeError
        If ``mesh`` is none.
    FileExistsError
        If ``path`` is there already.
    RuntimeError
        If a trajectory blows up; the message says which one and when.

    Examples
    --------
    >>> recipe = NavierStokesRecipe(n_points=16, n_snapshots=4, warm_up=1.0)
    >>> splits = generate_navier_stokes(
    ...     None, n_train=2, n_test=1, seed=7, recipe=recipe, batch_size=3, progress=False)
    >>> splits.train.values.shape, splits.train.start_time
    ((2, 4, 1, 16, 16), 1.0)
    """
    counts = {
        "train": check_count("n_train", n_train),
        "validation": check_count("n_validation", n_validation, minimum=0),
        "test": check_count("n_test", n_test, minimum=0),
    }
    check_count("seed", seed, minimum=0)
    check_count("batch_size", batch_size)
    if mesh is not None:
        mesh = check_mesh(mesh)
        if mesh.is_multi_process:
            raise ValueError(
                "`mesh` has devices of several processes, and one of them writes the data: make "
                "it of `jax.local_devices()`."
            )
    blocks = functools.partial(_blocks, recipe, counts, seed, batch_size, mesh)
    counts = {split: count for split, count in counts.items() if count}
    facts = recipe.as_attributes() | {
        "solver": "ETDRK4",
        "solver_precision": str(np.dtype(real_dtype())),
        "seed": seed,
        "jax_version": jax.__version__,
    }
    templates = {split: _describe(recipe, facts, split) for split in counts}
    total = sum(counts.values())
    shape = (recipe.n_snapshots, 1, *recipe.grid)
    if path is None:
        arrays = {s: np.empty((n, *shape), np.float32) for s, n in counts.items()}
        with tqdm(total=total, unit="trajectory", disable=not progress) as bar:
            for split, first, block in blocks({}):
                arrays[split][first : first + len(block)] = block
                bar.update(len(block))
        return DatasetSplits(**{s: FieldDataset(arrays[s], **templates[s]) for s in counts})
    path = Path(path)
    parameters = dataclasses.asdict(recipe) | recipe.as_attributes()
    parameters |= counts | {"seed": seed, "solver_precision": facts["solver_precision"]}
    with GenerationFile(path, counts, shape, templates, parameters) as storage:
        done = storage.n_done()
        bar = tqdm(total=total, initial=sum(done.values()), unit="trajectory", disable=not progress)
        try:
            with bar:
                for split, first, block in blocks(done):
                    storage.write(split, first, block)
                    bar.update(len(block))
        except RuntimeError:
            # A blow-up: no call with these parameters could finish the file.
            storage.discard()
            raise
        storage.finish()
    return path


def _describe(recipe: NavierStokesRecipe, facts: dict[str, Any], split: str) -> dict[str, Any]:
    """Return all arguments of the dataset but its values."""
    context = recipe.context()
    return {
        "channels": ("vorticity",),
        "axes": ("x", "y"),
        "domain_extent": (recipe.domain_extent, recipe.domain_extent),
        "dt": recipe.dt,
        "start_time": recipe.warm_up,
        "context": None if context is None else context.astype(np.float32),
        "context_names": () if context is None else ("forcing",),
        "periodic": (True, True),
        "attributes": facts | {"split": split},
    }


def _blocks(
    recipe: NavierStokesRecipe,
    counts: dict[str, int],
    seed: int,
    batch_size: int,
    mesh: Mesh | None,
    done: dict[str, int],
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield ``(split, first sample, (sample, time, 1, x, y) in float32)`` until all are made."""
    problem = recipe.problem()
    n_devices = 1 if mesh is None else mesh.size
    batch_size = n_devices * math.ceil(min(batch_size, max(counts.values())) / n_devices)
    for split, count in counts.items():
        key = jax.random.fold_in(jax.random.key(seed), _SPLITS.index(split))
        for first in range(done.get(split, 0), count, batch_size):
            last = min(first + batch_size, count)
            # The last batch is filled up, so that one compiled program serves all of them, and
            # devices have equal shares.
            samples = jnp.minimum(jnp.arange(first, first + batch_size), last - 1)
            keys = jax.vmap(functools.partial(jax.random.fold_in, key))(samples)
            if mesh is None:
                values, failures = _solve_batch(problem, recipe, keys)
            else:
                values, failures = _solve_on_mesh(problem, recipe, keys, mesh)
            _check_finite(recipe, split, first, np.asarray(failures))
            yield split, first, np.asarray(values)[: last - first]


@eqx.filter_jit
def _solve_batch(
    problem: NavierStokes2D, recipe: NavierStokesRecipe, keys: Key[Array, " batch"]
) -> tuple[Float[Array, "batch time 1 x y"], Float[Array, " batch"]]:
    """Return the trajectories in float32, and when each blew up (infinity: it did not)."""

    def one(key):
        state = recipe.initial_field.draw(recipe.grid, recipe.domain_extent, key)
        failure = jnp.asarray(jnp.inf, state.dtype)
        options = {"dt": recipe.solver_dt, "stepper": ETDRK4(), "throw": False}
        if recipe.warm_up_steps:
            n = recipe.warm_up_steps
            warm = solve(problem, state, n_steps=n, save_every=n, **options)
            state, failure = warm.value[-1], warm.stats["time_of_failure"]
        if recipe.n_snapshots == 1:
            return state[None].astype(jnp.float32), failure
        n = recipe.steps_per_snapshot
        run = solve(problem, state, n_steps=n * (recipe.n_snapshots - 1), save_every=n, **options)
        failure = jnp.minimum(failure, recipe.warm_up + run.stats["time_of_failure"])
        return run.value.astype(jnp.float32), failure

    return jax.vmap(one)(keys)


@eqx.filter_jit
def _solve_on_mesh(
    problem: NavierStokes2D, recipe: NavierStokesRecipe, keys: Key[Array, " batch"], mesh: Mesh
) -> tuple[Float[Array, "batch time 1 x y"], Float[Array, " batch"]]:
    """Return `_solve_batch`, of which each device of the mesh does its share."""
    # XLA by itself would put together on each device what Fourier transforms take.
    share = PartitionSpec(mesh.axis_names)
    solve_share = functools.partial(_solve_batch, problem, recipe)
    solve_all = jax.shard_map(
        solve_share, mesh=mesh, in_specs=share, out_specs=share, check_vma=False
    )
    return solve_all(keys)


def _check_finite(recipe: NavierStokesRecipe, split: str, first: int, failures: np.ndarray) -> None:
    bad = np.isfinite(failures)
    if bad.any():
        i = int(np.argmax(bad))
        raise RuntimeError(
            f"sample {first + i} of {split} blew up at time {failures[i]:g} (the warm-up ends at "
            f"{recipe.warm_up:g}). Take a smaller `solver_dt` than {recipe.solver_dt:g}, or more "
            f"points than {recipe.n_points}."
        )
