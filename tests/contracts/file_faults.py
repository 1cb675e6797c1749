"""Read damaged and forged files, and say what came of it."""

import contextlib
import enum
import json
import random
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import apart
from .file_formats import FORMATS as FORMATS
from .file_formats import Format, facts
from .file_mutations import BYTES, HOSTILE, mutate, prepare_outside, unpickled

_LONGEST_MESSAGE = 2000
_CLEAR = (ValueError, TypeError, OSError)
_NEVER_CLEAR = (UnicodeError, json.JSONDecodeError)


class Verdict(enum.Enum):
    """What came of reading a changed file."""

    REFUSED = "refused with a clear error"
    EQUAL = "read, equal in all that matters"
    VALUES = "other numbers, format has no checksum"
    EDITED = "edited into another valid file, checksums made anew or none in the format"
    STRUCTURE = "damaged, other structure, format has no checksum"
    SILENT = "read and differs in spite of checksums"
    HOSTILE = "followed a link out of the file, or unpickled"
    OBSCURE = "obscure error"
    MEMORY = "out of memory"
    HANG = "hang"
    CRASH = "crash"


class Outcome(NamedTuple):
    """One case.

    Attributes
    ----------
    format, number, mutation
        Which.
    verdict
        What came of it.
    detail
        The error, shortened.
    """

    format: str
    number: int
    mutation: str
    verdict: Verdict
    detail: str


class Bench:
    """A folder with valid files of one format, and copies of it that are spoiled and read.

    Parameters
    ----------
    fmt
        The format.
    root
        An empty folder of its own.
    seconds
        Limit for a case; None where another owns the alarm clock.
    """

    def __init__(self, fmt: Format, root: Path, *, seconds: int | None = None):
        self.format, self.root, self.seconds = fmt, root, seconds
        self._valid = root / "valid"
        self._valid.mkdir()
        fmt.make(self._valid)
        prepare_outside(self._valid)

    def read_valid(self) -> Any:
        """Return what the reader makes of the files before they are spoiled."""
        work = self._copy()
        return facts(self.format.read(work))

    def try_case(self, seed: int, number: int, original: Any) -> Outcome:
        """Spoil a copy of the files and read it."""
        rng = random.Random(f"{seed} {self.format.name} {number}")
        work = self._copy()
        mutation = mutate(work, rng)
        signed = self.format.sign is not None and rng.random() < 0.3
        if signed and self.format.sign is not None:
            with contextlib.suppress(Exception):  # some are too far gone to be signed
                self.format.sign(work)
            mutation += ", signed"
        is_damage = mutation in {change.__name__ for change in BYTES}
        verdict, detail = self._read(work, original, signed=signed, is_damage=is_damage)
        taken = verdict not in (Verdict.REFUSED, Verdict.EQUAL)
        read = taken or verdict is Verdict.EQUAL
        if unpickled(work) or (read and mutation.removesuffix(", signed") in HOSTILE):
            verdict = Verdict.HOSTILE
        return Outcome(self.format.name, number, mutation, verdict, detail)

    def _copy(self) -> Path:
        work = self.root / "case"
        shutil.rmtree(work, ignore_errors=True)
        return Path(shutil.copytree(self._valid, work))

    def _read(
        self, work: Path, original: Any, *, signed: bool, is_damage: bool
    ) -> tuple[Verdict, str]:
        try:
            with apart.alarm(self.seconds), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = facts(self.format.read(work))
        except apart.TooSlowError:
            return Verdict.HANG, ""
        except MemoryError as error:
            return Verdict.MEMORY, _shortened(error)
        except Exception as error:
            return (Verdict.REFUSED if is_clear(error, work) else Verdict.OBSCURE), _shortened(
                error
            )
        if found == original:
            return Verdict.EQUAL, ""
        if signed:
            return Verdict.EDITED, ""
        if self.format.sign is not None:
            return Verdict.SILENT, ""
        if found[0] == original[0]:
            return Verdict.VALUES, ""
        return (Verdict.STRUCTURE if is_damage else Verdict.EDITED), ""


def is_clear(error: Exception, folder: Path) -> bool:
    """Return whether an error is of a foreseen kind and tells, at readable length, which file."""
    message = str(error)
    return (
        isinstance(error, _CLEAR)
        and not isinstance(error, _NEVER_CLEAR)
        and str(folder) in message
        and len(message) < _LONGEST_MESSAGE
    )


def _shortened(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error)[:400].split())}"


def run_apart(
    fmt: Format, *, seed: int, n_cases: int, memory: int, seconds: int
) -> Iterator[Outcome]:
    """Try cases in child processes with limits; a child that dies or hangs is one outcome.

    Parameters
    ----------
    fmt
        The format.
    seed, n_cases
        Which cases.
    memory
        Bytes that a child may take beyond what it has when it begins.
    seconds
        For a case. Python code is interrupted then, and any other killed a little later.
    """

    @contextlib.contextmanager
    def start() -> Iterator[Any]:
        root = Path(tempfile.mkdtemp())
        try:
            bench = Bench(fmt, root, seconds=seconds)
            original = bench.read_valid()

            def try_case(number: int) -> list[str]:
                outcome = bench.try_case(seed, number, original)
                return [outcome.mutation, outcome.verdict.value, outcome.detail]

            yield try_case
        finally:
            shutil.rmtree(root, ignore_errors=True)

    for ended in apart.run_apart(start, n_cases, memory=memory, seconds=seconds):
        if ended.record is None:
            verdict = Verdict.HANG if ended.hung else Verdict.CRASH
            detail = f"exit status {ended.status}"
            yield Outcome(fmt.name, ended.number, "", verdict, detail)
        else:
            mutation, verdict, detail = ended.record
            yield Outcome(fmt.name, ended.number, mutation, Verdict(verdict), detail)
