"""Public calls under jit, vmap and differentiation, judged against the plain call.

The calls are those of the tables `property_*.py`, with sound arguments in float64. Their floating
arrays, also those inside modules, are traced, mapped over and differentiated: all at once, and one
argument at a time where that fails, since a solver may be differentiable in its right-hand side
and read its matrix on the host.
"""

import enum
import inspect
import re
import traceback
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import sciml
from sciml.core import Solution, is_successful

from . import apart
from .property_cases import Call, close, is_array
from .transform_modules import INNER, REMADE

_HERE = str(Path(sciml.__file__).parent)
_EPS = float(np.finfo(np.float64).eps)
_JIT_ROUNDING = 500 * _EPS  # XLA fuses and reorders sums
# Where an iteration stops, so that differences of its answers say something of its derivative.
_TIGHT = {"rtol": 1e-12, "_rtol": 1e-12, "atol": 1e-12, "tol": 1e-11}
_ENOUGH = {"max_steps": 4096, "maxiter": 4096}
_STEPS = (2e-4, 1e-4)  # of the central differences, relative to the direction
_SAYS_SO = re.compile(r"jit|trac(ed|er|ing)|outside|concrete|vmap|differentia|gradient", re.I)
_FORWARD_REFUSED = re.compile(r"forward-mode autodiff.*custom_vjp|jvp.*custom_vjp", re.I | re.S)
_REVERSE_REFUSED = re.compile(r"reverse-mode (differentiation|autodiff)", re.I)
_OF_HOST = re.compile(r"\bhost\b|SciPy|outside (of )?`*(jax\.)?jit|not under `*(jax\.)?jit", re.I)


class Verdict(enum.Enum):
    """What came of a transform of a call."""

    SAME = "what the plain call gives"
    RIGHT = "the derivative that differences give, forward and reverse"
    FORWARD_ONLY = "right forward; JAX says that there is no reverse mode through the loop"
    REVERSE_ONLY = "right in reverse; JAX says that there is no forward mode of a custom rule"
    REFUSED = "an error of sciml that says what works instead"
    HOST = "host work, as the documentation says"
    NATURE = "piecewise constant: the derivative and the differences are zero"
    INTEGERS = "no floating-point result"
    ROUGH = "the differences do not agree with each other"
    KINK = "right at a point beside the one drawn"
    NONE = "no floating-point array among the arguments"
    UNSOUND = "the plain call fails or is not finite"
    SLOW = "not finished in time"
    OBSCURE = "obscure error"
    DIFFERENT = "not what the plain call gives"
    WRONG = "not the derivative that differences give"
    ZERO = "zero, though the differences are not"
    NAN = "a derivative that is not finite"
    CRASH = "crash"


FINDINGS = (
    Verdict.OBSCURE,
    Verdict.DIFFERENT,
    Verdict.WRONG,
    Verdict.ZERO,
    Verdict.NAN,
    Verdict.CRASH,
)


_GOOD = {Verdict.SAME, Verdict.RIGHT, Verdict.REVERSE_ONLY}


class Judgement(NamedTuple):
    """What came of one transform.

    Attributes
    ----------
    transform
        "jit", "vmap", "derivative", or "vmap of gradient".
    arguments
        The names of the arguments that were traced.
    """

    transform: str
    arguments: str
    verdict: Verdict
    detail: str


class _Traced:
    """A call as a function of the floating arrays in some of its arguments."""

    def __init__(self, call: Call, arguments: dict[str, Any], names: Sequence[str]) -> None:
        chosen = {name: arguments[name] for name in names}
        self.arrays, self._rest = eqx.partition(chosen, eqx.is_inexact_array)
        self.call = call
        self.others = {name: v for name, v in arguments.items() if name not in names}
        self.compiled = jax.jit(self.plain)

    def plain(self, arrays: Any) -> list[jax.Array]:
        """Make the call as users do."""
        return _answer(self.call.function(**self.others, **eqx.combine(arrays, self._rest)))


def judge_transforms(
    call: Call, arguments: dict[str, Any], *, seconds: int | None = None
) -> list[Judgement]:
    """Judge jit, vmap and derivatives of a call with sound arguments.

    Parameters
    ----------
    call, arguments
        What is called. Arrays are NumPy's, and are made float64 here.
    seconds
        Limit for all of it; what is judged by then is returned.
    """
    found: list[Judgement] = []
    judge = None
    filtering = jax.config.jax_traceback_filtering  # pyright: ignore[reportAttributeAccessIssue]
    # Whose error it is can be seen by the frame that raised it, which JAX would hide.
    jax.config.update("jax_traceback_filtering", "off")
    try:
        with jax.enable_x64(True), warnings.catch_warnings(), apart.alarm(seconds):
            warnings.simplefilter("ignore")
            judge = _Judge(*_prepared(call, arguments), found)
            judge.run()
    except apart.TooSlowError:
        found.append(Judgement(judge.stage if judge else "jit", "", Verdict.SLOW, ""))
    finally:
        jax.config.update("jax_traceback_filtering", filtering)
    return found


class _Judge:
    """The transforms of one call; what is found is appended to ``found``."""

    def __init__(self, call: Call, arguments: dict[str, Any], found: list[Judgement]) -> None:
        self.call, self.arguments, self._found = call, arguments, found
        self.names = [name for name, x in arguments.items() if jax.tree.leaves(_inexact(x))]
        self.compiled: dict[str, _Traced] = {}  # by argument, which others are traced with it
        self.stage = "jit"
        self.gradients: dict[tuple[str, ...], Callable[[Any], Any]] = {}

    def run(self) -> None:
        """Judge all transforms."""
        if not self.names:
            self._add((), Verdict.NONE, "")
            return
        whole = _Traced(self.call, self.arguments, self.names)
        try:
            self.answer = whole.plain(whole.arrays)
        except Exception as error:
            self._add((), Verdict.UNSOUND, shortened(error))
            return
        if not _all_finite(self.answer):
            self._add((), Verdict.UNSOUND, "not finite, or a failed status")
            return
        good = [name for group in self._apart("jit", self.names, self._jit) for name in group]
        if 1 < len(good) < len(self.names):
            self._jit(tuple(good))  # those that may be traced, from here on in one program
        for name in self.names:
            self.stage = "vmap"
            self._add((name,), *self._vmap(name))
        alone = [[name] for name in self.names if name not in good]
        for names in ([good] if good else []) + alone:
            for group in self._apart("derivative", names, self._derivative):
                self.stage = "vmap of gradient"
                self._add(group, *self._vmap_of_gradient(group))

    def _add(self, names: Sequence[str], verdict: Verdict, detail: str) -> None:
        self._found.append(Judgement(self.stage, ", ".join(names), verdict, detail))

    def _apart(
        self,
        stage: str,
        names: Sequence[str],
        judge: Callable[[tuple[str, ...]], tuple[Verdict, str]],
    ) -> list[tuple[str, ...]]:
        """Judge arguments all at once, and one by one where that fails; return the good groups."""
        self.stage = stage
        names = tuple(names)
        verdict, detail = judge(names)
        if verdict in _GOOD or verdict is Verdict.FORWARD_ONLY or len(names) == 1:
            self._add(names, verdict, detail)
            return [names] if verdict in _GOOD else []
        single = {(name,): judge((name,)) for name in names}
        for one, outcome in single.items():
            self._add(one, *outcome)
        if all(outcome[0] in _GOOD for outcome in single.values()):  # only all at once fails
            self._add(names, verdict, detail)
        return [one for one, outcome in single.items() if outcome[0] in _GOOD]

    def _jit(self, names: tuple[str, ...]) -> tuple[Verdict, str]:
        traced = _Traced(self.call, self.arguments, names)
        try:
            found = traced.compiled(traced.arrays)
            jax.block_until_ready(found)
        except Exception as error:
            return _of_error(self.call, error)
        verdict, detail = _compared(found, self.answer, self.call)
        if verdict is Verdict.SAME:
            self.compiled |= dict.fromkeys(names, traced)
        return verdict, detail

    def _vmap(self, name: str) -> tuple[Verdict, str]:
        traced = _Traced(self.call, self.arguments, [name])
        copies = _copies(self.call, traced.arrays)
        known = self.compiled.get(name)
        try:
            if known is None:
                loop = [traced.plain(copy) for copy in copies]
            else:
                loop = [known.compiled(known.arrays | copy) for copy in copies]
        except Exception as error:
            return Verdict.UNSOUND, f"a perturbed copy: {shortened(error)}"
        if len({tuple(x.shape for x in one) for one in loop}) > 1:
            return Verdict.UNSOUND, "the shape of the answer depends on the values"
        expected = [np.stack(parts) for parts in zip(*loop, strict=True)]
        try:
            found = jax.jit(jax.vmap(traced.plain))(_stacked(copies))
            jax.block_until_ready(found)
        except Exception as error:
            return _of_error(self.call, error)
        if not _all_finite(expected):
            return Verdict.UNSOUND, "a perturbed copy is not finite"
        return _compared(found, expected, self.call)

    def _derivative(self, names: tuple[str, ...]) -> tuple[Verdict, str]:
        traced = _Traced(self.call, self.arguments, names)
        # A program is made where one can be: it costs less than operations one by one.
        in_program = len({id(self.compiled.get(name)) for name in names}) == 1 and (
            names[0] in self.compiled
        )
        wrap: Callable = jax.jit if in_program else lambda f: f
        if not any(_is_floating(x) for x in self.answer):
            return Verdict.INTEGERS, ""
        slopes = _Slopes(traced, self.answer, wrap)
        verdict, detail = slopes.judge(traced.arrays)
        self.gradients[names] = slopes.gradient
        if verdict in (Verdict.WRONG, Verdict.ZERO, Verdict.ROUGH):
            # A maximum, a sort, a list of neighbours may change its branch just where it was drawn.
            random = _random(self.call, 5)
            beside = _moved(traced.arrays, _direction(random, traced.arrays), 0.03)
            if slopes.judge(beside)[0] in _GOOD:
                return Verdict.KINK, detail
        return verdict, detail

    def _vmap_of_gradient(self, names: tuple[str, ...]) -> tuple[Verdict, str]:
        gradient = self.gradients[names]
        traced = _Traced(self.call, self.arguments, names)
        copies = _copies(self.call, traced.arrays)[:2]
        try:
            expected = _stacked([gradient(copy) for copy in copies])
        except Exception as error:
            return Verdict.UNSOUND, f"a perturbed copy: {shortened(error)}"
        try:
            found = jax.jit(jax.vmap(gradient))(_stacked(copies))
            jax.block_until_ready(found)
        except Exception as error:
            return _of_error(self.call, error)
        size = max(float(np.linalg.norm(x)) for x in jax.tree.leaves(expected))
        allowed = max(1e-10, 1e3 * _tolerance_of(traced)) * size
        for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            miss = float(np.linalg.norm(np.asarray(x) - np.asarray(y)))
            if not miss <= allowed:
                return Verdict.DIFFERENT, f"off by {miss:.3g} of {size:.3g}"
        return Verdict.SAME, ""


class _Slopes:
    """Directional derivatives of a smooth scalar of an answer, and differences."""

    def __init__(self, traced: _Traced, answer: list, wrap: Callable) -> None:
        scalar = _scalar(traced.plain, answer)
        self._traced = traced
        self._value = wrap(scalar)
        self._forward = wrap(lambda x, v: jax.jvp(scalar, (x,), (v,)))
        self.gradient = wrap(jax.grad(scalar))

    def judge(self, arrays: Any) -> tuple[Verdict, str]:
        """Judge the derivatives at a point."""
        call = self._traced.call
        direction = _direction(_random(call), arrays)
        forward, of_forward = _tried(lambda: float(self._forward(arrays, direction)[1]))
        reverse, of_reverse = _tried(lambda: self._along(arrays, direction))
        for error, refusal in ((of_forward, _FORWARD_REFUSED), (of_reverse, _REVERSE_REFUSED)):
            if error is not None and not refusal.search(str(error)):
                return _of_error(call, error)
        self._has_forward = forward is not None
        found = [d for d in (forward, reverse) if d is not None]
        if not found:
            return Verdict.OBSCURE, f"neither forward nor reverse: {shortened(of_reverse)}"
        if not np.isfinite(found).all():
            return Verdict.NAN, f"{found}"
        at = self._at(arrays, direction, 0.0)
        coarse, fine = (
            (self._at(arrays, direction, h) - self._at(arrays, direction, -h)) / (2 * h)
            for h in _STEPS
        )
        # Errors of the order h^2, and those of rounding and of the iteration's tolerance over h.
        noise = (100 * _EPS + 10 * _tolerance_of(self._traced)) * (1 + abs(at)) / _STEPS[1]
        doubt = abs(coarse - fine) + noise
        exact = (4 * fine - coarse) / 3
        size = max(abs(exact), *map(abs, found))
        detail = f"{found}, differences {exact:.8g} ± {doubt:.1g}"
        if size <= 2 * noise:
            return Verdict.NATURE, ""
        if not doubt <= 1e-2 * size:
            return Verdict.ROUGH, detail
        if any(abs(d - exact) > doubt + 1e-6 * size for d in found):
            return (Verdict.WRONG if np.any(found) else Verdict.ZERO), detail
        if of_forward is not None:
            return Verdict.REVERSE_ONLY, ""
        return (Verdict.RIGHT if of_reverse is None else Verdict.FORWARD_ONLY), ""

    def _at(self, arrays: Any, direction: Any, h: float) -> float:
        there = _moved(arrays, direction, h)
        if self._has_forward:  # which gives the value too, and is compiled already
            return float(self._forward(there, direction)[0])
        return float(self._value(there))

    def _along(self, arrays: Any, direction: Any) -> float:
        # JAX's gradient of a real function of complex numbers is the conjugate of the usual one.
        parts = jax.tree.map(
            lambda g, v: np.sum(np.asarray(g) * v).real, self.gradient(arrays), direction
        )
        return float(sum(jax.tree.leaves(parts)))


def _tried(compute: Callable[[], float]) -> tuple[float | None, Exception | None]:
    try:
        return compute(), None
    except Exception as error:
        return None, error


def _tolerance_of(traced: _Traced) -> float:
    given = [traced.others.get(name) for name in _TIGHT]
    tolerances = [x for x in given if isinstance(x, float)]
    return max([*tolerances, INNER.get(traced.call.name, 0.0)])


def _is_floating(x: jax.Array) -> bool:
    return bool(x.size) and jnp.issubdtype(x.dtype, jnp.inexact)


def _prepared(call: Call, arguments: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Return the call and its arguments as JAX arrays of float64, at a tight tolerance."""
    for name, value in (_TIGHT | _ENOUGH).items():
        if name in arguments and not (name == "atol" and arguments[name] == 0):
            arguments = arguments | {name: value}
    if call.name in REMADE:
        function, arguments = REMADE[call.name](arguments)
        call = Call(call.name, function, call.draw, call.check)
    return call, jax.tree.map(_wide, arguments)


def _wide(leaf: Any) -> Any:
    if not is_array(leaf) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    kind = np.dtype(leaf.dtype).kind
    if kind not in "fciub":
        return leaf
    return jnp.asarray(leaf, {"f": "float64", "c": "complex128"}.get(kind, leaf.dtype))


def _inexact(tree: Any) -> Any:
    return eqx.filter(tree, eqx.is_inexact_array)


def _answer(result: Any) -> list[jax.Array]:
    """Return the arrays of a result. A failed status makes them NaN."""

    def is_solution(x: Any) -> bool:
        return isinstance(x, Solution)

    found = []
    for leaf in jax.tree.leaves(result, is_leaf=is_solution):
        if is_solution(leaf):
            # Counts of steps may change with rounding: they are no part of the answer.
            good = jnp.all(is_successful(leaf.result))
            arrays = [x for x in jax.tree.leaves(leaf.value) if is_array(x)]
            found += [jnp.where(good, x, jnp.nan) for x in arrays]
        elif is_array(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            found.append(jnp.asarray(leaf))
    return found


def _compared(found: list, expected: list, call: Call) -> tuple[Verdict, str]:
    try:
        assert len(found) == len(expected), f"{len(found)} arrays, expected {len(expected)}"
        for x, y in zip(found, expected, strict=True):
            assert x.dtype == y.dtype, f"{x.dtype}, expected {y.dtype}"
            close(x, y, rtol=max(_JIT_ROUNDING, 10 * INNER.get(call.name, 0.0)))
    except AssertionError as error:
        return Verdict.DIFFERENT, " ".join(str(error)[:200].split())
    return Verdict.SAME, ""


def _all_finite(tree: Any) -> bool:
    return all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(tree))


def _random(call: Call, salt: int = 0) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(call.name.encode()), salt])


def _direction(random: np.random.Generator, arrays: Any) -> Any:
    """Return a random direction that keeps zeros of a pattern, signs, and symmetry."""

    def one(x: Any) -> np.ndarray:
        x = np.asarray(x)
        noise = random.normal(size=x.shape).clip(-2, 2)
        if np.iscomplexobj(x):
            noise = noise + 1j * random.normal(size=x.shape)
        if x.ndim == 2 and x.shape[0] == x.shape[1] and np.array_equal(x, x.T):
            noise = (noise + noise.T) / 2
        return (noise * x if np.any(x) else noise).astype(x.dtype)

    return jax.tree.map(one, arrays)


def _moved(arrays: Any, direction: Any, h: float) -> Any:
    # Here and below in NumPy: each shape would be another little program for JAX to compile.
    return jax.tree.map(lambda x, v: jnp.asarray(np.asarray(x) + h * v), arrays, direction)


def _copies(call: Call, arrays: Any) -> list:
    random = _random(call, 7)
    return [arrays, *(_moved(arrays, _direction(random, arrays), 0.01) for _ in range(2))]


def _stacked(copies: list) -> Any:
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *copies)


def _scalar(traced: Callable[[Any], list], plain: list) -> Callable[[Any], jax.Array]:
    """Return a smooth scalar of the floating leaves, each divided by its size at the start.

    The sine sees more than a sum would: the sum of a softmax is constant.
    """
    sizes = [max(1.0, float(np.sqrt(np.mean(np.abs(x) ** 2)))) for x in plain if x.size]

    def scalar(arrays: Any) -> jax.Array:
        leaves = [x for x in traced(arrays) if x.size]
        total = jnp.zeros(())
        for size, x in zip(sizes, leaves, strict=True):
            if jnp.issubdtype(x.dtype, jnp.inexact):
                parts = (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)
                total += sum(jnp.sum(jnp.sin(part / size)) for part in parts)
        return total

    return scalar


def _of_error(call: Call, error: Exception) -> tuple[Verdict, str]:
    frames = traceback.extract_tb(error.__traceback__)
    raised_by_us = frames[-1].filename.startswith(_HERE)
    is_ours = raised_by_us and not type(error).__module__.startswith("jax")
    if is_ours and isinstance(error, ValueError | TypeError) and _SAYS_SO.search(str(error)):
        return Verdict.REFUSED, shortened(error)
    if _is_of_host(call):
        return Verdict.HOST, shortened(error)
    return Verdict.OBSCURE, shortened(error)


def _is_of_host(call: Call) -> bool:
    """Return whether the documentation of what is called says that it works on the host."""
    found: Any = sciml
    texts = []
    for part in call.name.partition(",")[0].split("."):
        found = getattr(found, part, None)
        texts.append(inspect.getdoc(found) or "" if found is not None else "")
    return bool(_OF_HOST.search(" ".join(texts[1:])))


def shortened(error: BaseException) -> str:
    """Return an error in one line, with the last line of sciml on its way."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_HERE)] or [frames[-1]]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"{type(error).__name__} ({where}): {' '.join(str(error)[:200].split())}"
