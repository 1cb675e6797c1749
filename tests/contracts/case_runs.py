"""Draw cases of the tables of calls, and run them in child processes."""

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from .apart import Ended, run_apart
from .property_cases import CALLS


def packages() -> list[str]:
    """Return the packages of the calls in the tables."""
    return sorted({name.partition(".")[0] for name in CALLS})


def drawn(strategy: st.SearchStrategy, name: str, *, seed: int, n_cases: int) -> list[Any]:
    """Return what a strategy draws, in a stream of its own for each name.

    Nothing of JAX runs here: the process is to be forked.
    """
    found: list[Any] = []

    @hypothesis_seed(seed + zlib.crc32(name.encode()))
    @settings(
        max_examples=n_cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(case: Any) -> None:
        found.append(case)

    collect()
    return found


def run_cases(
    cases: Sequence[Any], run: Callable[[Any], Any], *, memory: int, seconds: int
) -> Iterator[tuple[Any, Ended]]:
    """Run cases, each with a ``call``, in one process for as long as it lives: JAX starts once.

    ``run`` gives what JSON can say of a case; the limits are those of `apart.run_apart`.
    """

    @contextlib.contextmanager
    def start() -> Iterator:
        def try_case(number: int) -> Any:
            if number and cases[number].call is not cases[number - 1].call:
                jax.clear_caches()  # the limit on memory is for a call, not for all compiled ones
            return run(cases[number])

        yield try_case

    for ended in run_apart(start, len(cases), memory=memory, seconds=seconds):
        yield cases[ended.number], ended
