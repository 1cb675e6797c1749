"""Read and write the folders of CFDBench (Luo, Chen and Zhang 2023)."""

import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import PathLike, atomic_path, atomic_write_text, check_count, cites
from ..core._npy import load_npy
from ._cfdbench_bibliography import LUO_2023
from ._file_errors import file_error
from ._flow_case import FlowCase, FlowProblem

# The order in which the published code lists the subsets, whatever was asked for.
_SUBSETS = ("prop", "bc", "geo")
_LARGEST = sys.float_info.max
_CASE = re.compile(r"case(\d+)")


@cites(LUO_2023)
def load_cfdbench(
    root: PathLike,
    problem: FlowProblem,
    subsets: Sequence[str] = _SUBSETS,
    *,
    seed: int = 0,
    dt: float | int | None = None,
    mmap: bool = True,
) -> dict[str, list[FlowCase]]:
    """Read the cases of a problem and split them into train, validation and test.

    The layout is ``<root>/<problem>/<subset>/case0000/{case.json,u.npy,v.npy}``. Cases are split
    8:1:1, never frames, by the shuffle of the published code, except that cases with equal
    parameters (the baseline stands in several subsets) are one case. Nothing is unpickled.

    Parameters
    ----------
    root
        The folder that holds the problems' folders.
    problem
        Which of them.
    subsets
        ``"prop"`` varies density and viscosity, ``"bc"`` the velocity, ``"geo"`` lengths.
    seed
        Of the shuffle.
    dt
        Seconds between frames; by default what ``case.json`` says under ``dt`` (files that sciml
        wrote), otherwise that of the benchmark.
    mmap
        Map the arrays from the files, so that only frames in use are in memory.

    Returns
    -------
    dict
        Lists of `FlowCase` under ``"train"``, ``"validation"`` and ``"test"``.

    Raises
    ------
    FileNotFoundError
        If the folder of the problem or of a subset is missing.
    ValueError
        If a subset is unknown, or the cases are fewer than three.
    DataFileError
        If a file of a case is missing or not what it should be.

    References
    ----------
    .. [1] Y. Luo, Y. Chen and Z. Zhang, "CFDBench: A Large-Scale Benchmark for Machine Learning
       Methods in Fluid Dynamics", 2023.

    Examples
    --------
    >>> import tempfile
    >>> from sciml.data import generate_cavity, save_flow_case
    >>> root = tempfile.mkdtemp()
    >>> for number, viscosity in enumerate((1e-4, 2e-4, 3e-4)):
    ...     case = generate_cavity(
    ...         lid=0.1, density=1.0, viscosity=viscosity, size=0.1, n=14, dt=0.1, n_frames=2)
    ...     path = save_flow_case(root, "prop", number, case)
    >>> splits = load_cfdbench(root, FlowProblem.CAVITY, ("prop",))
    >>> {part: len(cases) for part, cases in splits.items()}
    {'train': 1, 'validation': 1, 'test': 1}
    """
    if not isinstance(problem, FlowProblem):
        known = ", ".join(f"FlowProblem.{p.name}" for p in FlowProblem)
        raise TypeError(f"`problem` must be one of {known}; got {problem!r}.")
    check_count("seed", seed, minimum=0)
    chosen = [name for name in _SUBSETS if name in tuple(subsets)]
    if not chosen or set(subsets) - set(_SUBSETS):
        raise ValueError(f"`subsets` must be some of {_SUBSETS}, got {tuple(subsets)}.")
    folders = [folder for name in chosen for folder in _case_folders(Path(root), problem, name)]
    if len(folders) < 3:
        raise ValueError(
            f"{Path(root) / problem.value} has {len(folders)} cases in {tuple(chosen)}; a split "
            "into train, validation and test needs three."
        )
    random.Random(seed).shuffle(folders)
    groups: dict[Any, list[FlowCase]] = {}
    for folder in folders:
        case = read_flow_case(folder, problem, dt=dt, mmap=mmap)
        groups.setdefault(tuple(sorted(case.params.items())), []).append(case)
    different = list(groups.values())
    n = len(different)
    if n < 3:
        raise ValueError(f"there are only {n} different cases; a split needs three.")
    n_held = max(1, round(0.1 * n))
    n_train = round(0.8 * n) if problem is FlowProblem.CAVITY else int(0.8 * n)
    n_train = max(1, min(n_train, n - 2 * n_held))
    bounds = {"train": (0, n_train), "validation": (n_train, n_train + n_held)}
    bounds["test"] = (n_train + n_held, n)
    return {
        part: [case for group in different[start:stop] for case in group]
        for part, (start, stop) in bounds.items()
    }


def read_flow_case(
    folder: PathLike, problem: FlowProblem, *, dt: float | int | None = None, mmap: bool = True
) -> FlowCase:
    """Read one case and return it.

    Parameters
    ----------
    folder
        The folder with ``case.json``, ``u.npy`` and ``v.npy``.
    problem
        Which flow it is.
    dt, mmap
        As in `load_cfdbench`.

    Raises
    ------
    DataFileError
        If a file is missing or not what it should be; the message names it.
    """
    folder = Path(folder)
    params = _read_params(folder / "case.json")
    step = params.pop("dt", problem.dt)
    u, v = (_read_array(folder / name, mmap) for name in ("u.npy", "v.npy"))
    name = f"{folder.parent.name}/{folder.name}"
    try:
        return FlowCase(problem, u, v, params, dt=step if dt is None else dt, name=name)
    except (ValueError, TypeError) as error:
        raise file_error(folder, str(error)) from error


def save_flow_case(root: PathLike, subset: str, number: int, case: FlowCase) -> Path:
    """Write a case in the layout that `load_cfdbench` reads; return its folder.

    Parameters
    ----------
    root
        The folder of the data set. Call it ``cfdbench_like``: only the published files are
        CFDBench.
    subset, number
        The case goes to ``<problem>/<subset>/case<number>``.
    case
        The case.

    Raises
    ------
    FileExistsError
        If there is such a case already.
    """
    if subset not in _SUBSETS:
        raise ValueError(f"`subset` must be one of {_SUBSETS}, got {subset!r}.")
    number = check_count("number", number, minimum=0)
    folder = Path(root) / case.problem.value / subset / f"case{number:04d}"
    if (folder / "case.json").exists():
        raise FileExistsError(f"{folder} holds a case already.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("u", case.u), ("v", case.v)):
        with atomic_path(folder / f"{name}.npy") as path, path.open("wb") as file:
            np.save(file, np.asarray(array, np.float32), allow_pickle=False)
    params = {key: float(value) for key, value in case.params.items()}
    text = json.dumps(params | {"dt": float(case.dt)}, indent=1, allow_nan=False)
    atomic_write_text(folder / "case.json", text + "\n")
    return folder


def _case_folders(root: Path, problem: FlowProblem, subset: str) -> list[Path]:
    folder = root / problem.value / subset
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no such folder: {folder}. Expected <root>/{problem.value}/{subset}/case0000 with "
            "case.json, u.npy and v.npy."
        )
    numbered = [(match, path) for path in folder.iterdir() if (match := _CASE.fullmatch(path.name))]
    if not numbered:
        raise file_error(folder, "this subset is empty: there is no folder case0000, case0001, ...")
    return [path for match, path in sorted(numbered, key=lambda pair: int(pair[0].group(1)))]


def _read_params(path: Path) -> dict[str, float]:
    if not path.is_file():
        raise file_error(path, "the file is missing.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise file_error(path, f"this is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise file_error(path, "expected an object of names and numbers.")
    for key, value in content.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Compared, since an integer may be too large for a float.
        if not is_number or not -_LARGEST <= value <= _LARGEST:
            raise file_error(path, f"expected a finite number, got {value!r:.100}.", key=key)
    return {key: float(value) for key, value in content.items()}


def _read_array(path: Path, mmap: bool) -> np.ndarray:
    if not path.is_file():
        raise file_error(path, "the file is missing.")
    try:
        return load_npy(path, mmap=mmap)
    except (ValueError, EOFError, OSError) as error:
        raise file_error(path, f"cannot be read as a .npy array of numbers: {error}.") from error
