"""Public calls with drawn arguments, sound or spoiled in one place, and what comes of each.

A table of calls (the modules ``property_*.py`` beside this one) says how to draw the arguments of a
call and what must hold for its result. One argument of most cases is then spoiled: another dtype,
a NaN, an axis more, an empty axis, a string. A spoiled case must end like a sound one, with an
answer for which the same properties hold, or be refused with an error that names the argument, or
end with a failed status.
"""

import dataclasses
import enum
import re
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

import sciml
from sciml.core import Solution, is_successful

from . import apart
from .property_spoils import spoils_of

_HERE = str(Path(sciml.__file__).parent)
_SMALL = ("zeros", "tiny", "as integers", "as booleans", "empty first axis", "empty last axis")
_FRAMES = {np.dtype("float32"), np.dtype("float64"), np.dtype("complex64"), np.dtype("complex128")}


class Verdict(enum.Enum):
    """What came of a case."""

    ANSWER = "an answer with the properties that the table states"
    SHOWN = "NaN or infinity of the arguments, or overflow, shows in the answer"
    REFUSED = "refused with an error that names the argument"
    STATUS = "ended with a failed status"
    WRONG = "an answer without the stated properties"
    SILENT = "no finite answer for finite arguments, or success in spite of NaN"
    OBSCURE = "obscure error"
    MEMORY = "out of memory"
    HANG = "hang"
    CRASH = "crash"


FINE = {Verdict.ANSWER, Verdict.SHOWN, Verdict.REFUSED, Verdict.STATUS}


@dataclasses.dataclass(frozen=True)
class Call:
    """A public call.

    Attributes
    ----------
    name
        As users write it, without ``sciml.``.
    function
        Takes the arguments by name.
    draw
        Draws sound arguments with the function that it is given. A name that begins with ``_`` is
        not spoiled (seeds).
    check
        Asserts what must hold of ``(result, **arguments)``.
    follows
        The argument whose precision the result has; None where another rule holds.
    words
        Other names by which errors may call arguments.
    divides
        Arguments by whose size the result is divided: it may overflow where they are all but zero.
    """

    name: str
    function: Callable[..., Any]
    draw: Callable[[Callable[[st.SearchStrategy], Any]], dict[str, Any]]
    check: Callable[..., None]
    follows: str | None = None
    words: tuple[str, ...] = ()
    divides: tuple[str, ...] = ()


CALLS: dict[str, Call] = {}


def add(name: str, function: Callable[..., Any], **fields: Any) -> Callable[[Any], Any]:
    """Return a decorator that enters a call into the table with the way to draw its arguments."""

    def enter(draw: Any) -> Any:
        CALLS[name] = Call(name, function, draw, **fields)
        return draw

    return enter


class Case(NamedTuple):
    """A call with arguments.

    Attributes
    ----------
    call, arguments
        What is called. Arrays are NumPy's.
    spoil
        Which argument was spoiled and how; empty for sound ones.
    in_jax
        Whether arrays are handed over as JAX arrays.
    double
        Whether float64 is on.
    """

    call: Call
    arguments: dict[str, Any]
    spoil: str
    in_jax: bool
    double: bool


class Outcome(NamedTuple):
    """What came of a case, and the error, shortened."""

    verdict: Verdict
    detail: str


@st.composite
def cases(draw: Any, call: Call) -> Case:
    """Draw a case of a call: one in four is sound."""
    arguments = call.draw(draw)
    spoil = ""
    names = [name for name in arguments if not name.startswith("_")]
    if names and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(names))
        how, value = draw(st.sampled_from(spoils_of(arguments[name])))
        arguments = arguments | {name: value()}
        spoil = f"{name}: {how}"
    return Case(call, arguments, spoil, draw(st.booleans()), draw(st.booleans()))


def run_case(case: Case, *, seconds: int | None = None) -> Outcome:
    """Make the call and judge what comes of it."""
    with jax.enable_x64(case.double), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with apart.alarm(seconds):
                arguments = case.arguments
                if case.in_jax:
                    arguments = {name: _in_jax(value) for name, value in arguments.items()}
                result = case.call.function(**arguments)
                jax.block_until_ready([x for x in jax.tree.leaves(result) if is_array(x)])
        except apart.TooSlowError:
            return Outcome(Verdict.HANG, "")
        except MemoryError as error:
            return Outcome(Verdict.MEMORY, _shortened(error))
        except Exception as error:
            return Outcome(_verdict_of_error(case, error), _shortened(error))
        return _judge(case, result)


def is_array(leaf: Any) -> bool:
    """Return whether a leaf of a result is an array."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _in_jax(value: Any) -> Any:
    is_array_of_numbers = isinstance(value, np.ndarray) and value.dtype.kind in "fciub"
    return jnp.asarray(value) if is_array_of_numbers and value.dtype.isnative else value


def _verdict_of_error(case: Case, error: Exception) -> Verdict:
    kind = type(error).__name__
    message = str(error)
    if "RESOURCE_EXHAUSTED" in message or "out of memory" in message.lower():
        return Verdict.MEMORY
    frames = traceback.extract_tb(error.__traceback__)
    raised_by_us = frames[-1].filename.startswith(_HERE)
    if isinstance(error, RuntimeError):
        is_status = raised_by_us or kind == "EquinoxRuntimeError"
        return Verdict.STATUS if is_status else Verdict.OBSCURE
    if not isinstance(error, ValueError | TypeError):
        return Verdict.OBSCURE
    if kind == "TypeCheckError":  # of beartype, which only the tests switch on
        return Verdict.REFUSED
    words = [*(name for name in case.arguments if not name.startswith("_")), *case.call.words]
    names_it = any(re.search(rf"\b{re.escape(word)}\b", message) for word in words)
    return Verdict.REFUSED if raised_by_us and names_it else Verdict.OBSCURE


def _shortened(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} ({where}): {' '.join(str(error)[:300].split())}"


def _judge(case: Case, result: Any) -> Outcome:
    solutions = _solutions(result)
    success = [bool(jnp.all(is_successful(solution.result))) for solution in solutions]
    if not all(success):
        return Outcome(Verdict.STATUS, "")
    all_finite = _is_finite(list(case.arguments.values()))
    leaves = [solution.value for solution in solutions] if solutions else result
    if not _is_finite(leaves):
        if solutions:
            return Outcome(Verdict.SILENT, "a success whose value is not finite")
        name, _, how = case.spoil.partition(": ")
        vanishes = name in case.call.divides and how in _SMALL
        if not all_finite or vanishes or "huge" in how:
            return Outcome(Verdict.SHOWN, "")
        return Outcome(Verdict.SILENT, "not finite for finite arguments")
    try:
        case.call.check(result, **_for_check(case))
        if case.call.follows is not None:
            _check_dtype(result, case.arguments[case.call.follows], case.double)
    except AssertionError as error:
        kind = Verdict.WRONG if all_finite else Verdict.SILENT
        return Outcome(kind, " ".join(str(error)[:300].split()))
    except Exception as error:
        return Outcome(Verdict.WRONG, f"taken, cannot be checked: {_shortened(error)}")
    return Outcome(Verdict.ANSWER, "")


def _for_check(case: Case) -> dict[str, Any]:
    """Return the arguments with arrays where a list or an array of objects was handed over."""
    name, _, how = case.spoil.partition(": ")
    if how in ("as a list", "as objects"):
        return case.arguments | {name: np.asarray(np.asarray(case.arguments[name]).tolist())}
    return case.arguments


def _solutions(result: Any) -> list[Solution]:
    leaves = jax.tree.leaves(result, is_leaf=lambda x: isinstance(x, Solution))
    return [leaf for leaf in leaves if isinstance(leaf, Solution)]


def _is_finite(tree: Any) -> bool:
    numeric = [leaf for leaf in jax.tree.leaves(tree) if _is_inexact(leaf)]
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in numeric)


def _is_inexact(leaf: Any) -> bool:
    is_number = isinstance(leaf, float | complex)
    return is_number or (is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact))


def _check_dtype(result: Any, source: Any, double: bool) -> None:
    dtype = np.asarray(source).dtype
    if dtype not in _FRAMES:
        return
    bits = np.finfo(dtype).bits if double else 32
    for leaf in jax.tree.leaves(result):
        if is_array(leaf) and leaf.dtype in _FRAMES:
            found = np.finfo(leaf.dtype).bits
            assert found == bits, f"{leaf.dtype} from {dtype}"


def close(found: Any, expected: Any, *, rtol: float | None = None) -> None:
    """Assert that arrays have one shape and agree to the precision of ``found``, in the 2-norm."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    if rtol is None:
        rtol = 3e3 * float(np.finfo(found.dtype).eps) if found.dtype.kind in "fc" else 0.0
    elif found.dtype.kind in "fc":
        rtol = max(rtol, 16 * float(np.finfo(found.dtype).eps))
    wide = np.complex128 if np.iscomplexobj(expected) else np.float64
    found, expected = found.astype(wide), expected.astype(wide)
    miss, size = np.linalg.norm(found - expected), np.linalg.norm(expected)
    assert miss <= rtol * (size + (size == 0)), f"off by {miss:.3g} of {size:.3g}"


def numbers(draw: Any, *shape: int, dtype: Any = None) -> np.ndarray:
    """Draw an array of normal numbers, float32 or float64."""
    dtype = dtype or draw(st.sampled_from(("float32", "float64")))
    seed = draw(st.integers(0, 2**16))
    return np.asarray(np.random.default_rng(seed).normal(size=shape)).astype(dtype)
