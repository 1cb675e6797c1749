"""The work of ``sciml data``."""

import math
import shlex
from pathlib import Path

import jax
from jax.sharding import AxisType

from ..core import format_table
from ..data import (
    DataFileError,
    DatasetSplits,
    FieldDataset,
    Forcing,
    InitialField,
    NavierStokesRecipe,
    ParticleRecipe,
    Trajectory,
    TrajectorySplits,
    generate_navier_stokes,
    generate_particles,
    load,
    load_trajectories,
    save_dataset,
)
from ._data import Convert, DataInfo, Generate, GenerateParticles, ReadOptions
from ._errors import UsageError
from ._predict_job import check_output
from ._terminal import say, shows_progress
from ._training_devices import first_devices

_INITIAL_FIELDS = {
    "gaussian": InitialField.GAUSSIAN_RANDOM_FIELD,
    "mcwilliams": InitialField.MCWILLIAMS,
    "kolmogorov": InitialField.KOLMOGOROV,
}


def generate(options: Generate) -> None:
    """Generate a Navier-Stokes set."""
    for name in ("n_train", "n_validation", "n_test", "seed", "batch_size", "devices"):
        least = 1 if name in ("n_train", "batch_size", "devices") else 0
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, got {value}.")
    if options.out.suffix not in (".h5", ".hdf5"):
        raise UsageError(f"--out must end in .h5 or .hdf5, got {options.out}.")
    if not options.out.parent.is_dir():
        raise UsageError(f"the folder of {options.out} does not exist.")
    mesh = None
    if options.devices is not None:
        found = first_devices(options.devices)
        mesh = jax.make_mesh((len(found),), ("data",), (AxisType.Auto,), devices=found)
    recipe = NavierStokesRecipe(
        n_points=options.n_points,
        viscosity=options.viscosity,
        dt=options.dt,
        n_snapshots=options.n_snapshots,
        solver_dt=options.solver_dt,
        warm_up=options.warm_up,
        forcing=Forcing(options.forcing),
        initial_field=_INITIAL_FIELDS[options.initial_field],
        drag=options.drag,
        domain_extent=options.domain_extent,
    )
    numbers = options.n_points**2 * options.n_snapshots
    total = options.n_train + options.n_validation + options.n_test
    say(f"Solving {total} trajectories, {total * numbers * 4 / 1e6:.0f} MB, into {options.out}")
    try:
        generate_navier_stokes(
            options.out,
            n_train=options.n_train,
            n_validation=options.n_validation,
            n_test=options.n_test,
            seed=options.seed,
            recipe=recipe,
            batch_size=options.batch_size,
            mesh=mesh,
            progress=shows_progress(),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("The same command goes on where it stopped.") from None
    words = ["--data", str(options.out), "--run-dir", f"runs/{options.out.stem}"]
    say(f"Next     sciml train sfno {shlex.join(words)}")


def generate_particle_set(options: GenerateParticles) -> None:
    """Simulate a set of particles."""
    for name, least in (
        ("n_train", 1), ("n_validation", 0), ("n_test", 0), ("seed", 0), ("n_particles", 2),
        ("n_frames", 2),
    ):  # fmt: skip
        if getattr(options, name) < least:
            raise UsageError(
                f"--{name.replace('_', '-')} must be at least {least}, got "
                f"{getattr(options, name)}."
            )
    if options.out.suffix != ".npz":
        raise UsageError(f"--out must end in .npz, got {options.out}.")
    if not options.out.parent.is_dir():
        raise UsageError(f"the folder of {options.out} does not exist.")
    recipes = {
        "water": ParticleRecipe.water,
        "elastic": ParticleRecipe.elastic,
        "sand": ParticleRecipe.sand,
    }
    recipe = recipes[options.material](
        n_particles=options.n_particles, n_frames=options.n_frames, dim=options.dim
    )
    total = options.n_train + options.n_validation + options.n_test
    say(f"Simulating {total} trajectories of {options.n_particles} particles into {options.out}")
    generate_particles(
        options.out,
        recipe=recipe,
        n_train=options.n_train,
        n_validation=options.n_validation,
        n_test=options.n_test,
        seed=options.seed,
        progress=shows_progress(),
    )
    words = [str(options.out), "--run-dir", f"runs/{options.out.stem}"]
    say(f"Next     sciml train giorom {shlex.join(words)}")


def describe(options: DataInfo) -> str:
    """Return the description of a data file."""
    if Path(options.path).suffix == ".npz" and Path(options.path).is_file():
        try:
            trajectories = load_trajectories(options.path)
        except DataFileError as error:
            # Another npz: the reader of fields has the word.
            if "format 'sciml particles'" not in str(error) and "'header'" not in str(error):
                raise
        else:
            if options != type(options)(path=options.path):
                raise UsageError(
                    f"{options.path} holds particles, and says all about itself: leave out --dt, "
                    "--domain-extent, --periodic and --samples."
                )
            return describe_particles(trajectories)
    return describe_data(read(options.path, options))


def describe_particles(data: TrajectorySplits | tuple[Trajectory, ...]) -> str:
    """Return a table of trajectories by part, for people."""
    parts = data.items() if isinstance(data, TrajectorySplits) else [("trajectories", data)]
    rows = [
        {
            "part": name,
            "trajectories": len(runs),
            "particles": max(int(run.mask.sum()) for run in runs),
            "frames": max(run.n_times for run in runs),
            "dt": runs[0].dt,
            "types": ", ".join(runs[0].type_names) or str(int(runs[0].particle_type.max()) + 1),
        }
        for name, runs in parts
    ]
    return format_table(rows, {key: key for key in rows[0]})


def describe_data(data: FieldDataset | DatasetSplits) -> str:
    """Return a table of the parts, then what they share, for people."""
    if isinstance(data, FieldDataset):
        return data.describe()
    rows = [
        {
            "part": name,
            "trajectories": part.n_samples,
            "snapshots": part.n_times,
            "standard deviation": float(part.values.std()),
        }
        for name, part in data.items()
    ]
    table = format_table(rows, {key: key for key in rows[0]})
    return f"{table}\n\n[train]\n{data.train.describe()}"


def convert(options: Convert) -> None:
    """Read a file of any known layout and write it in sciml's own."""
    check_output(options.out, options.overwrite)
    data = read(options.source, options, options.n_points)
    save_dataset(options.out, data)
    say(f"{options.out}: {data.train if isinstance(data, DatasetSplits) else data}")


def read(
    source: str, options: ReadOptions, n_points: int | None = None
) -> FieldDataset | DatasetSplits:
    """Load a file with what the user says about it."""
    if options.samples is not None and options.samples < 1:
        raise UsageError(f"--samples must be at least 1, got {options.samples}.")
    for name, numbers in (("--dt", (options.dt,)), ("--domain-extent", options.domain_extent)):
        if any(x is not None and not (x > 0 and math.isfinite(x)) for x in numbers or ()):
            raise UsageError(f"{name} must be positive and finite.")
    extent: float | tuple[float, ...] | None = options.domain_extent
    if extent is not None and len(extent) == 1:
        extent = extent[0]
    return load(
        source,
        n_points=n_points,
        samples=slice(None) if options.samples is None else slice(0, options.samples),
        dt=options.dt,
        domain_extent=extent,
        periodic=None if options.periodic is None else options.periodic == "yes",
    )
