"""The log of a run: ``metrics.jsonl``, one JSON object a line, and how to read it."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core import PathLike

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends lines to ``metrics.jsonl`` and keeps them in memory for the history of the run.

    Parameters
    ----------
    path
        The file, or None to keep the lines in memory only.
    last_step
        Lines of later steps are cut off, and with them a line that a killed process left
        unfinished: the run goes on from a checkpoint of this step and writes them again.
    """

    def __init__(self, path: Path | None, last_step: int):
        self._path = path
        self._records = _truncate(path, last_step) if path is not None else []

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one line; numbers that JSON does not know become null."""
        record = {name: _json_number(value) for name, value in record.items()}
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record, allow_nan=False) + "\n")
        self._records.append(record)

    def flush_to_disk(self) -> None:
        """Wait until the lines are on the disk, before a checkpoint relies on them."""
        if self._path is not None and self._path.exists():
            with self._path.open("rb") as stream:
                os.fsync(stream.fileno())

    def history(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return for each figure the steps and the values."""
        return _columns(self._records)


def read_metrics(path: PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the log of a training run.

    Parameters
    ----------
    path
        The run folder, or the file ``metrics.jsonl`` itself. The run may still be going on.

    Returns
    -------
    dict
        For each figure (``loss``, ``gradient_norm``, ``seconds``, ``validation_loss``, what the
        loss returned beside its value) a pair of arrays: the steps, counted from 1, and the
        values. Values that were not finite are NaN.

    Raises
    ------
    FileNotFoundError
        If there is no log.
    ValueError
        If a line that is not the last one is not a JSON object with a step.
    """
    path = Path(path)
    if path.is_dir():
        path = path / METRICS
    if not path.is_file():
        raise FileNotFoundError(f"there is no log {str(path)!r}; has the run started?")
    lines = path.read_bytes().splitlines(keepends=True)
    records = []
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is None and number < len(lines):
            raise ValueError(f"{path}, line {number} is not a line of a training log.")
        if record is not None:
            records.append(record)
    return _columns(records)


def _truncate(path: Path, last_step: int) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    records, length = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        record = _parse(line)
        if record is None or record["step"] > last_step:
            break
        records.append(record)
        length += len(line)
    os.truncate(path, length)
    return records


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    # No number of a log is larger, and what is does not fit into an array.
    fits = all(abs(v) < 2**53 for v in record.values() if isinstance(v, int))
    return record if fits else None


def _columns(records: list[dict[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for record in records:
        for name, value in record.items():
            if name != "step" and (value is None or isinstance(value, float | int)):
                steps, values = columns.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(math.nan if value is None else float(value))
    return {name: (np.array(s), np.array(v)) for name, (s, v) in columns.items()}


def _json_number(value: Any) -> Any:
    if isinstance(value, str | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
