"""Reader of LagrangeBench: ``metadata.json`` beside ``train.h5``, ``valid.h5``, ``test.h5``.

A file has a group a trajectory, ``00000``, ``00001``, ..., with ``position`` (time, particle, dim)
and ``particle_type`` (particle). The pickled neighbour statistics of some sets are not read.
"""

import json
import math
from pathlib import Path
from typing import Any

from ..core import PathLike, check_count
from ._file_errors import file_error
from ._hdf5 import checked_group, open_hdf5, read_array, read_numbers
from ._trajectory import Trajectory, TrajectorySplits

_FILES = {"train": "train.h5", "validation": "valid.h5", "test": "test.h5"}
# What that benchmark fills its padding with.
_PADDING_TYPE = 9


def load_lagrangebench(
    folder: PathLike, *, n_trajectories: int | None = None, frames: slice = slice(None)
) -> TrajectorySplits:
    """Read a set in the layout of LagrangeBench.

    Parameters
    ----------
    folder
        Where the files are; ``valid.h5`` and ``test.h5`` may be missing.
    n_trajectories
        Read the first ones of each file only.
    frames
        Read these frames only.

    Returns
    -------
    TrajectorySplits
        The time between frames is ``dt * write_every`` of the metadata. Particles of type 9,
        that benchmark's padding, are masked.

    Raises
    ------
    FileNotFoundError
        If ``metadata.json`` or ``train.h5`` is missing.
    DataFileError
        If an entry is missing or does not fit; the message names file and key.
    ImportError
        Without the extra ``data``.
    """
    folder = Path(folder)
    for name in ("metadata.json", _FILES["train"]):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing; a set of LagrangeBench is a folder with "
                "metadata.json and train.h5."
            )
    if n_trajectories is not None:
        check_count("n_trajectories", n_trajectories)
    facts = _read_metadata(folder / "metadata.json")
    parts = {}
    for name, file in _FILES.items():
        if (folder / file).is_file():
            parts[name] = _read_file(folder / file, facts, n_trajectories, frames)
    try:
        return TrajectorySplits(**parts)
    except ValueError as error:
        raise file_error(folder, str(error)) from error


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise file_error(path, f"this is not JSON ({error}).") from error
    if not isinstance(found, dict):
        raise file_error(path, "expected an object with names.")
    # A set that does not say so is not taken for one in a box with walls.
    for key in ("dt", "bounds", "periodic_boundary_conditions"):
        if key not in found:
            raise file_error(path, f"the entry is missing; there are {sorted(found)}.", key=key)
    every = found.get("write_every", 1)
    dt = found["dt"]
    for key, value in (("dt", dt), ("write_every", every)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and value > 0):
            raise file_error(path, f"expected a positive number, got {value!r}.", key=key)
    attributes = {
        key: value
        for key, value in found.items()
        if isinstance(value, str | int | float) and key not in ("dt", "write_every")
    }
    periodic = found["periodic_boundary_conditions"]
    if not isinstance(periodic, list) or not all(isinstance(p, bool) for p in periodic):
        raise file_error(
            path,
            f"expected a list of booleans, got {periodic!r}.",
            key="periodic_boundary_conditions",
        )
    return {
        "dt": dt * every,
        "bounds": found["bounds"],
        "periodic": tuple(periodic),
        "attributes": attributes,
    }


def _read_file(
    path: Path, facts: dict[str, Any], n_trajectories: int | None, frames: slice
) -> list[Trajectory]:
    runs = []
    facts = facts | {"dt": facts["dt"] * (frames.step or 1)}
    with open_hdf5(path) as file:
        keys = sorted(file)
        if not keys:
            raise file_error(path, "there is no trajectory.")
        for key in keys[:n_trajectories]:
            group = checked_group(path, file, key)
            axes = ("time", "particle", "dim")
            position = read_array(path, group, "position", axes, index=frames)
            types = read_numbers(path, group, "particle_type")
            try:
                runs.append(
                    Trajectory.from_array(
                        position, particle_type=types, mask=types != _PADDING_TYPE, **facts
                    )
                )
            except (TypeError, ValueError) as error:
                raise file_error(path, str(error), key=key) from error
    return runs
