"""One small valid file of every format that sciml reads, how it is read, what matters in it."""

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import h5py
import jax
import numpy as np
import optax
import scipy.io
import scipy.sparse

import sciml
from sciml.cli._errors import UsageError
from sciml.cli._info_job import describe_path
from sciml.cli._saved_model import read_run_settings
from sciml.cli._solve_job import _read_matrix, _read_rhs
from sciml.core._folder import CONFIG, seal
from sciml.data import (
    DatasetSplits,
    FieldDataset,
    FlowCase,
    FlowProblem,
    Trajectory,
    load,
    load_lagrangebench,
    load_trajectories,
    load_tu_graphs,
    save_dataset,
    save_flow_case,
    save_trajectories,
)
from sciml.data._cfdbench import read_flow_case
from sciml.data._generation_file import GenerationFile
from sciml.data._own_format import checksum, seal_header, store_text
from sciml.data._spectral_file import read_spectral, write_spectral
from sciml.linear_solvers._hermitian_matrix import checked_hermitian
from sciml.natural_gradient._march_checkpoint import read_march, write_march
from sciml.train import read_metrics
from sciml.train._checkpoint import Progress, describe_model, restore_checkpoint, write_checkpoint
from sciml.train._run_folder import write_settings


@dataclasses.dataclass(frozen=True)
class Format:
    """A format, and its reader as a user or a command calls it.

    Parameters
    ----------
    name
        What the tables call it.
    make
        Writes the files into an empty folder.
    read
        Reads them from that folder.
    sign
        Puts checksums right again after an edit, as whoever forges a file would; None where the
        format has none, so that a changed number cannot be told from another measurement.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    sign: Callable[[Path], None] | None = None
    is_text: bool = False
    """Whether it is plain text, of which a line more or less is as good a file."""


class Net(eqx.Module):
    """A module with arguments of most kinds that a model file can hold."""

    size: int = eqx.field(static=True)
    widths: tuple = eqx.field(static=True)
    options: dict = eqx.field(static=True)
    activation: Callable
    weight: jax.Array
    bias: jax.Array

    def __init__(self, size, widths=(2, 3), options=None, activation=jax.nn.gelu, *, key):
        self.size, self.widths, self.options = size, tuple(widths), options or {"dt": 0.5}
        self.activation = activation
        self.weight = jax.random.normal(key, (size, size))
        self.bias = jax.numpy.zeros(size)


def _net() -> Net:
    return Net(3, key=jax.random.key(19))


def _rng() -> np.random.Generator:
    return np.random.default_rng(523)


def _fields(dtype: Any = np.float32) -> FieldDataset:
    return FieldDataset.from_array(
        _rng().normal(size=(3, 4, 2, 6, 6)).astype(dtype),
        dt=0.25,
        domain_extent=2.0,
        context=_rng().normal(size=(1, 1, 6, 6)).astype(dtype),
        attributes={"viscosity": 1e-3, "equation": "heat", "order": 2},
    )


def _hdf5(path: Path, arrays: dict[str, Any], attributes: dict[str, Any] | None = None) -> None:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            # Of both layouts one: chunks have an index that can break.
            chunks = {"chunks": True, "compression": "gzip"} if np.size(array) > 300 else {}
            file.create_dataset(key, data=array, **chunks)
        for where, value in (attributes or {}).items():
            place, _, name = where.rpartition("@")
            file[place or "/"].attrs[name] = value


def _normal(*shape: int) -> np.ndarray:
    return _rng().normal(size=shape).astype(np.float32)


def _line(n: int, step: float = 0.5) -> np.ndarray:
    return (step * np.arange(n)).astype(np.float32)


def _compressible(folder: Path) -> None:
    names = ("density", "pressure", "Vx", "Vy")
    grid = {"x-coordinate": _line(6), "y-coordinate": _line(5), "t-coordinate": _line(4)}
    _hdf5(folder / "d.h5", {name: _normal(2, 4, 6, 5) for name in names} | grid)


def _seeds(folder: Path) -> None:
    arrays = {}
    for seed in ("0000", "0001", "0002"):
        arrays[f"{seed}/data"] = _normal(4, 6, 5, 2)
        arrays |= {f"{seed}/grid/{a}": _line(n) for a, n in (("t", 4), ("x", 6), ("y", 5))}
    _hdf5(folder / "d.h5", arrays)


def _well(folder: Path) -> None:
    arrays = {
        "dimensions/time": _line(4),
        "dimensions/x": _line(6),
        "dimensions/y": _line(5),
        "t0_fields/pressure": _normal(2, 4, 6, 5),
        "t1_fields/velocity": _normal(2, 4, 6, 5, 2),
        "t0_fields/wall": _normal(6, 5),
        "scalars/Re": np.float32(100.0),
        "boundary_conditions/x_wall/mask": np.ones(6, bool),
    }
    attributes = {
        "@n_trajectories": 2,
        "@n_spatial_dims": 2,
        "@grid_type": "cartesian",
        "dimensions@spatial_dims": ["x", "y"],
        "t0_fields/wall@sample_varying": False,
        "t0_fields/wall@time_varying": False,
        "boundary_conditions/x_wall@bc_type": "PERIODIC",
        "boundary_conditions/x_wall@associated_dims": ["x"],
    }
    _hdf5(folder / "d.h5", arrays, attributes)


def _mat73(folder: Path) -> None:
    with h5py.File(folder / "d.mat", "w", userblock_size=512) as file:
        file["u"], file["a"] = _normal(4, 5, 6, 2), _normal(5, 6, 2)
        file["t"] = 0.5 * np.arange(1.0, 5.0)[:, None]
    with (folder / "d.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def _mat5(folder: Path, *, compressed: bool) -> None:
    content = {"u": _normal(2, 6, 5, 4), "a": _normal(2, 6, 5), "t": 0.5 * np.arange(1.0, 5.0)}
    scipy.io.savemat(folder / "d.mat", content, do_compression=compressed)


def _lagrangebench(folder: Path) -> None:
    facts = {"dt": 0.01, "write_every": 2, "bounds": [[0, 1], [0, 1]], "dim": 2, "case": "drop"}
    facts["periodic_boundary_conditions"] = [True, False]
    (folder / "metadata.json").write_text(json.dumps(facts))
    for name in ("train.h5", "test.h5"):
        arrays = {}
        for run in ("00000", "00001"):
            arrays[f"{run}/position"] = _normal(5, 7, 2) + (name == "test.h5")
            arrays[f"{run}/particle_type"] = np.array([0, 1, 0, 1, 0, 0, 9], np.int32)
        _hdf5(folder / name, arrays)


def _particles(folder: Path) -> None:
    runs = [
        Trajectory.from_array(
            _normal(4, n, 2), dt=0.02, bounds=[[0, 1], [0, 2]], attributes={"E": 2.0}
        )
        for n in (3, 5)
    ]
    save_trajectories(folder / "d.npz", runs)


def _flow(folder: Path) -> None:
    params = {"vel_top": 2.0, "density": 1.0, "viscosity": 0.01, "height": 0.5, "width": 0.5}
    case = FlowCase(FlowProblem.CAVITY, _normal(3, 5, 6), _normal(3, 5, 6), params, dt=0.1)
    save_flow_case(folder, "prop", 0, case)


def _graphs(folder: Path) -> None:
    texts = {
        "A": "1, 2\n2, 1\n2, 3\n3, 2\n4, 5\n5, 4\n",
        "graph_indicator": "1\n1\n1\n2\n2\n",
        "graph_labels": "-1\n1\n",
        "node_labels": "0\n1\n0\n2\n1\n",
        "node_attributes": "0.5, 1\n0.25, 2\n1e-3, 3\n-1, 4\n2, 5\n",
        "edge_labels": "0\n0\n1\n1\n0\n0\n",
    }
    for part, text in texts.items():
        (folder / f"DS_{part}.txt").write_text(text)


def _training() -> tuple[Any, ...]:
    model = _net()
    state = optax.adam(1e-3).init(eqx.filter(model, eqx.is_array))
    return describe_model(model), model, state, jax.random.key(5)


def _checkpoint(folder: Path) -> None:
    config = {"n_in": 4, "learning_rate": 1e-3}
    write_checkpoint(folder / "m", *_training(), Progress(7, 1.5, 0.25, 5), config)


def _march_state() -> dict[str, Any]:
    return {"theta": np.arange(6.0).reshape(2, 3), "t": np.float64(0.5)}


def _march(folder: Path) -> None:
    state = {"t": 0.5, "span": [0.0, 1.0], "rows": [[0.1, 2]], "control": {}, "tangent": None}
    write_march(folder / "m", _net(), _march_state(), state)


def _read_march(folder: Path) -> Any:
    found = read_march(folder / "m", _march_state())
    if found is None:  # a march that never wrote anything begins anew
        raise FileNotFoundError(f"{folder} holds no march")
    return found


def _run(folder: Path) -> None:
    (folder / "run").mkdir()
    settings = {"config": {"model": "sfno", "n_in": 4}, "versions": {"jax": "1"}, "n_steps": 9}
    write_settings(folder / "run", settings)
    lines = [{"step": k, "loss": 1 / k, "validation_loss": 0.5 / k} for k in range(1, 9)]
    (folder / "run/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _read_run(folder: Path) -> Any:
    describe_path(folder / "run")
    return read_run_settings(folder / "run"), read_metrics(folder / "run")


def _generation(folder: Path) -> GenerationFile:
    return GenerationFile(
        folder / "d.h5", {"train": 3, "test": 2}, (2, 1, 4, 4), {}, {"seed": 3, "recipe": "wave"}
    )


def _partial(folder: Path) -> None:
    with _generation(folder) as file:
        file.write("train", 0, np.ones((2, 2, 1, 4, 4), np.float32))


def _read_partial(folder: Path) -> Any:
    with _generation(folder) as file:
        return file.n_done()


def _matrix() -> Any:
    return scipy.sparse.diags_array([2.0, -1.0, -1.0], offsets=[0, 1, -1], shape=(8, 8))  # pyright: ignore[reportArgumentType]


def _read_spd(path: Path) -> Any:
    matrix = _read_matrix(path)
    try:
        return checked_hermitian(matrix)
    except ValueError as error:  # as the command does
        raise UsageError(f"{path}: {error}") from error


def _waves(folder: Path) -> None:
    data = FieldDataset.from_array(_normal(2, 3, 1, 8, 8), dt=0.5, domain_extent=1.0)
    write_spectral(folder / "d.npz", DatasetSplits(data), max_wavenumber=3, attributes={"e": 0.1})


def sign_folder(folder: Path) -> None:
    """Make ``config.json`` and the names of the arrays agree with the arrays, as a forger would."""
    where = folder / "m"
    config = json.loads((where / CONFIG).read_text())
    for entry in config["files"].values():
        path = where / entry["file"]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entry |= {"bytes": path.stat().st_size, "sha256": digest}
        entry["file"] = path.rename(where / f"arrays-{digest[:16]}.npz").name
    (where / CONFIG).write_text(json.dumps(seal(config)))


def _sign_header(path: Path) -> None:
    """Write the sums that the arrays and the header of a file of sciml have now."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            content = dict(archive)
        header = json.loads(str(content.pop("header")))
        header["sha256"] = {key: checksum(array) for key, array in content.items()}
        np.savez(path, header=np.array(seal_header(header)), **content)  # pyright: ignore[reportArgumentType]
        return
    with h5py.File(path, "r+") as file:
        header = json.loads(bytes(file.attrs["header"]))  # pyright: ignore[reportArgumentType]
        for key in header["sha256"]:
            entry = file.get(key)
            if isinstance(entry, h5py.Dataset):
                header["sha256"][key] = checksum(entry[()])
        store_text(file, "header", seal_header(header))


def _sign_npz(folder: Path) -> None:
    _sign_header(folder / "d.npz")


def _sign_h5(folder: Path) -> None:
    _sign_header(folder / "d.h5")


FORMATS = (
    Format(
        "fields, npz",
        lambda f: save_dataset(f / "d.npz", _fields()),
        lambda f: load(f / "d.npz"),
        _sign_npz,
    ),
    Format(
        "fields, HDF5",
        lambda f: save_dataset(f / "d.h5", _fields(np.float64)),
        lambda f: load(f / "d.h5"),
        _sign_h5,
    ),
    Format("Fourier series, npz", _waves, lambda f: read_spectral(f / "d.npz", 8), _sign_npz),
    Format("particles, npz", _particles, lambda f: load_trajectories(f / "d.npz"), _sign_npz),
    Format(
        "model",
        lambda f: sciml.save(f / "m", _net()),
        lambda f: sciml.load(f / "m", classes=(Net,)),
        sign_folder,
    ),
    Format(
        "training checkpoint",
        _checkpoint,
        lambda f: restore_checkpoint(
            f / "m", *_training(), config={"n_in": 4, "learning_rate": 1e-3}
        ),
        sign_folder,
    ),
    Format("march checkpoint", _march, _read_march, sign_folder),
    Format("run folder", _run, _read_run, is_text=True),
    Format("generation, partial", _partial, _read_partial),
    Format("FNO, MATLAB 5", lambda f: _mat5(f, compressed=False), lambda f: load(f / "d.mat")),
    Format(
        "FNO, MATLAB 5 zipped", lambda f: _mat5(f, compressed=True), lambda f: load(f / "d.mat")
    ),
    Format("FNO, MATLAB 7.3", _mat73, lambda f: load(f / "d.mat")),
    Format(
        "PDEBench, scalar",
        lambda f: _hdf5(
            f / "d.h5",
            {"tensor": _normal(3, 4, 32), "x-coordinate": _line(32), "t-coordinate": _line(5)},
        ),
        lambda f: load(f / "d.h5"),
    ),
    Format("PDEBench, compressible", _compressible, lambda f: load(f / "d.h5")),
    Format("PDEBench, seeds", _seeds, lambda f: load(f / "d.h5")),
    Format(
        "PDEBench, incompressible",
        lambda f: _hdf5(
            f / "d.h5",
            {
                "velocity": _normal(2, 4, 6, 5, 2),
                "particles": _normal(2, 4, 6, 5, 1),
                "force": _normal(2, 6, 5, 2),
                "t": np.tile(_line(4), (2, 1)),
            },
        ),
        lambda f: load(f / "d.h5", domain_extent=1.0),
    ),
    Format("The Well", _well, lambda f: load(f / "d.h5")),
    Format(
        "CFDBench",
        _flow,
        lambda f: read_flow_case(f / "cavity/prop/case0000", FlowProblem.CAVITY, mmap=False),
    ),
    Format(
        "CFDBench, mapped",
        _flow,
        lambda f: read_flow_case(f / "cavity/prop/case0000", FlowProblem.CAVITY),
    ),
    Format("LagrangeBench", _lagrangebench, load_lagrangebench),
    Format("TU graphs", _graphs, load_tu_graphs, is_text=True),
    Format(
        "matrix, Matrix Market",
        lambda f: scipy.io.mmwrite(f / "d.mtx", _matrix().tocoo(), symmetry="general"),
        lambda f: _read_spd(f / "d.mtx"),
    ),
    Format(
        "matrix, npz",
        lambda f: scipy.sparse.save_npz(f / "d.npz", _matrix().tocsr(), compressed=False),
        lambda f: _read_spd(f / "d.npz"),
    ),
    Format(
        "right-hand side, npy",
        lambda f: np.save(f / "d.npy", _normal(8)),
        lambda f: _read_rhs(f / "d.npy", 8),
    ),
    Format(
        "right-hand side, Matrix Market",
        lambda f: scipy.io.mmwrite(f / "d.mtx", _normal(8, 2)),
        lambda f: _read_rhs(f / "d.mtx", 8),
    ),
)


def facts(value: Any) -> tuple[list[Any], list[Any]]:
    """Return what a result consists of (names, shapes, kinds, counts) and the numbers in it."""
    structure, numbers = [], []
    for is_number, fact in _walk(value):
        (numbers if is_number else structure).append(fact)
    return structure, numbers


def _walk(value: Any) -> Iterator[tuple[bool, Any]]:
    if scipy.sparse.issparse(value):
        value = {"sparse": value.shape, "csr": value.toarray()}
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        array = np.asarray(value)
        yield False, ("array", array.shape, array.dtype.name)
        yield True, array.astype(array.dtype.newbyteorder("="), copy=False).tobytes()
    elif isinstance(value, float):
        yield False, "float"
        yield True, repr(value)
    elif isinstance(value, dict):
        yield False, tuple(map(str, value))
        for entry in value.values():
            yield from _walk(entry)
    elif isinstance(value, tuple | list):
        yield False, (type(value).__name__, len(value))
        for entry in value:
            yield from _walk(entry)
    elif isinstance(value, enum.Enum):
        yield False, value.name
    elif dataclasses.is_dataclass(value):
        yield False, type(value).__name__
        for field in dataclasses.fields(value):
            yield from _walk(getattr(value, field.name, None))
    else:
        yield False, getattr(value, "__qualname__", value)
