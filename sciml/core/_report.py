"""Result files of the demo and of the benchmarks: what was run, on what, and what came out."""

import dataclasses
import datetime
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ._atomic import atomic_write_text
from ._serialisation import versions
from ._types import PathLike

_CPU_INFO = Path("/proc/cpuinfo")


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure that was promised, and the one that was measured.

    A target that is missed is reported as one that does not hold; it is never left out.

    Parameters
    ----------
    name
        What is measured, in words.
    value
        What came out; None or NaN if nothing did, and then the target does not hold.
    at_most, at_least
        The bound; exactly one of the two is given.

    Raises
    ------
    ValueError
        If both bounds or neither are given.

    Examples
    --------
    >>> Target("error of the solver", 0.013, at_most=0.02).holds
    True
    >>> Target("speed over the solver", 2.5, at_least=4.0).as_record()["goal"]
    '>= 4'
    """

    name: str
    value: float | int | None
    at_most: float | int | None = None
    at_least: float | int | None = None

    def __post_init__(self):
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(
                f"the target {self.name!r} needs exactly one of `at_most` and `at_least`."
            )

    @property
    def holds(self) -> bool:
        """Whether the measured value keeps the bound."""
        if self.value is None or not math.isfinite(self.value):
            return False
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def as_record(self) -> dict[str, Any]:
        """Return name, goal, value and whether it holds, as JSON values."""
        goal = f">= {self.at_least:g}" if self.at_most is None else f"<= {self.at_most:g}"
        return {
            "name": self.name,
            "goal": goal,
            "value": _as_json(self.value),
            "holds": self.holds,
        }


def write_report(
    path: PathLike,
    *,
    command: str | None = None,
    rows: Sequence[Mapping[str, Any]],
    targets: Sequence[Target] = (),
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write a result file, all of it or nothing.

    Parameters
    ----------
    path
        A ``.json`` file; its folder is made if needed.
    command
        The command line that gives these results again; that of this process by default, with its
        options and without the folder.
    rows
        One record a method. Numbers that are not finite become null.
    targets
        What was promised.
    settings
        Facts that the rows share: sizes, seeds, learning rates.

    Returns
    -------
    Path
        Where the file is. It holds ``command``, ``date`` (UTC), ``machine``, ``versions``,
        ``settings``, ``rows`` and ``targets``.

    Raises
    ------
    TypeError
        If a value is nothing that JSON can say.

    Examples
    --------
    >>> import json, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "results.json"
    >>> rows = [{"method": "persistence", "relative_l2": 0.3}]
    >>> report = json.loads(write_report(path, command="example", rows=rows).read_text())
    >>> sorted(report)
    ['command', 'date', 'machine', 'rows', 'settings', 'targets', 'versions']
    """
    report = {
        "command": _command_line() if command is None else command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "settings": _as_json(settings or {}),
        "rows": _as_json(rows),
        "targets": [target.as_record() for target in targets],
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(report, indent=1, allow_nan=False) + "\n")
    return path


def _command_line() -> str:
    script = Path(sys.argv[0])
    # Of an absolute path only what lies below the working folder: no path of a machine is written.
    if script.is_absolute():
        below = script.is_relative_to(Path.cwd())
        script = script.relative_to(Path.cwd()) if below else Path(script.name)
    return shlex.join(["python", script.as_posix(), *sys.argv[1:]])


def machine() -> dict[str, Any]:
    """Return what a timing depends on, and nothing that names this machine or its user.

    Returns
    -------
    dict
        Operating system, processor, cores that this process may use, and the devices of JAX.

    Examples
    --------
    >>> sorted(machine())
    ['cores', 'devices', 'processor', 'system']
    """
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(affinity(0)) if affinity is not None else os.cpu_count() or 1,
        "devices": ", ".join(sorted({device.device_kind for device in jax.devices()})),
    }


def _processor() -> str:
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(entry) for entry in value]
    if isinstance(value, np.generic | jax.Array):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
