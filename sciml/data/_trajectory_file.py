"""Trajectories of particles in one npz file: arrays, one JSON header, a SHA-256 sum of each.

The arrays of number ``k`` of a part are ``<part>/<k>/position``, ``particle_type``, ``mask``,
``bounds``. The parts are ``train``, ``validation``, ``test``, or a single ``trajectories``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import PathLike, atomic_path
from ._file_errors import file_error
from ._npz import NpzFile, open_npz
from ._own_format import VERSION, checksum, parse_header, seal_header, verify_checksum
from ._sniff import FileKind, sniff
from ._trajectory import Trajectory, TrajectorySplits

FORMAT = "sciml particles"
_ARRAYS = ("position", "particle_type", "mask", "bounds")
_FACTS = ("dt", "periodic", "type_names", "attributes")


def save_trajectories(
    path: PathLike, trajectories: Trajectory | Sequence[Trajectory] | TrajectorySplits
) -> Path:
    """Write trajectories, or splits of them, to one npz file that `load_trajectories` reads.

    The file is written aside and renamed: an interrupted call leaves what was there before.

    Parameters
    ----------
    path
        Ends in ``.npz``.
    trajectories
        One, several, or splits; sizes may differ.

    Returns
    -------
    Path
        Where the file is.

    Raises
    ------
    ValueError
        If the suffix is another one, or there is no trajectory.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from sciml.data import Trajectory, load_trajectories, save_trajectories
    >>> run = Trajectory.from_array(np.zeros((5, 3, 2)), dt=0.01, bounds=[[0, 1], [0, 1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (back,) = load_trajectories(save_trajectories(f"{folder}/run.npz", run))
    >>> back.position.shape, back.dt
    ((5, 3, 2), 0.01)
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz, got {path.name!r}.")
    if isinstance(trajectories, TrajectorySplits):
        parts = dict(trajectories.items())
    else:
        single = isinstance(trajectories, Trajectory)
        parts = {"trajectories": (trajectories,) if single else tuple(trajectories)}
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, list[dict[str, Any]]] = {}
    for part, runs in parts.items():
        if not runs:
            raise ValueError("there is no trajectory to save.")
        facts[part] = []
        for k, run in enumerate(runs):
            if not isinstance(run, Trajectory):
                raise TypeError(f"expected objects of the class Trajectory, got {type(run)}.")
            arrays |= {f"{part}/{k}/{name}": getattr(run, name) for name in _ARRAYS}
            facts[part].append({name: getattr(run, name) for name in _FACTS})
    header = {
        "format": FORMAT,
        "version": VERSION,
        "parts": facts,
        "sha256": {key: checksum(array) for key, array in arrays.items()},
    }
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, header=np.array(seal_header(header)), **arrays)
    return path


def load_trajectories(path: PathLike) -> tuple[Trajectory, ...] | TrajectorySplits:
    """Read a file that `save_trajectories` or `generate_particles` wrote; never unpickles.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    tuple of Trajectory, or TrajectorySplits
        What was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataFileError
        If it is another kind of file, or was changed or damaged after it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}.")
    kind = sniff(path)
    if kind is not FileKind.NPZ:
        raise file_error(
            path,
            f"expected an npz file of particles, this is {kind.value}. `load` reads files of "
            "fields, `load_lagrangebench` those of LagrangeBench.",
        )
    with open_npz(path) as file:
        return _read(path, file)


def _read(path: Path, file: NpzFile) -> tuple[Trajectory, ...] | TrajectorySplits:
    header = parse_header(path, str(file.read("header")), FORMAT)
    found = {}
    for part, facts in header["parts"].items():
        if not isinstance(facts, list):
            raise file_error(path, f"part {part!r} is no list of trajectories.", key="header")
        runs = []
        for k, own in enumerate(facts):
            arrays = {}
            for name in _ARRAYS:
                key = f"{part}/{k}/{name}"
                arrays[name] = file.read(key)
                verify_checksum(path, key, arrays[name], header)
            try:
                runs.append(Trajectory(**arrays, **_facts(own)))
            except (TypeError, ValueError) as error:
                raise file_error(path, str(error), key=f"{part}/{k}") from error
        found[part] = tuple(runs)
    if set(found) == {"trajectories"}:
        return found["trajectories"]
    try:
        return TrajectorySplits(**found)
    except (TypeError, ValueError) as error:
        raise file_error(path, str(error), key="header") from error


def _facts(own: Any) -> dict[str, Any]:
    if not isinstance(own, dict) or set(own) != set(_FACTS):
        raise ValueError(f"expected the facts {_FACTS} of a trajectory, got {own!r}.")
    return own | {name: tuple(own[name]) for name in ("periodic", "type_names")}
