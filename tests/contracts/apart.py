"""Run cases in child processes with limits on memory and time: one that dies is one outcome."""

import contextlib
import json
import os
import resource
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_FIRST_CASE = 60  # seconds for imports and the start of JAX


class TooSlowError(BaseException):
    """Not an Exception: nothing that is tried must catch it."""


class Ended(NamedTuple):
    """How a case ended.

    Attributes
    ----------
    number
        Which.
    record
        What the case said; None where its process hung or died.
    hung
        Whether it had to be killed.
    status
        Exit status of its process.
    """

    number: int
    record: Any
    hung: bool = False
    status: int = 0


@contextlib.contextmanager
def alarm(seconds: int | None) -> Iterator[None]:
    """Interrupt Python code after some seconds with `TooSlowError`; None sets no alarm."""
    if seconds is None:
        yield
        return

    def ring(*_: Any) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run_apart(
    start: Callable[[], contextlib.AbstractContextManager[Callable[[int], Any]]],
    n_cases: int,
    *,
    memory: int,
    seconds: int,
) -> Iterator[Ended]:
    """Try cases in child processes with limits.

    Parameters
    ----------
    start
        Prepares a child; the function that it gives tries the case of a number and returns what
        JSON can say.
    n_cases
        How many.
    memory
        Bytes that a child may take beyond what it has when it begins.
    seconds
        For a case. Python code should be interrupted then (`alarm`); the child is killed a little
        later.
    """
    first = 0
    while first < n_cases:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _work(start, range(first, n_cases), memory, writer)
        os.close(writer)
        done, hung = yield from _listen(reader, seconds)
        os.close(reader)
        if hung:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 1 and not hung:
            raise RuntimeError(f"the bench itself failed in case {first + done}")
        first += done
        if first < n_cases:
            yield Ended(first, None, hung, status)
            first += 1


def _listen(reader: int, seconds: int) -> Iterator[Any]:
    """Yield what the child tells until it ends; return how much, and whether it hung."""
    done, rest = 0, b""
    while True:
        limit = seconds + (5 if done else _FIRST_CASE)
        if not select.select([reader], [], [], limit)[0]:
            return done, True
        chunk = os.read(reader, 2**16)
        if not chunk:
            return done, False
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number, record = json.loads(line)
            yield Ended(number, record)
            done += 1


def _work(start: Callable, numbers: range, memory: int, writer: int) -> None:
    status = 1
    try:
        with start() as try_case:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            for number in numbers:
                os.write(writer, json.dumps([number, try_case(number)]).encode() + b"\n")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
