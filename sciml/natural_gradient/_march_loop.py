"""A march under way: the loop on the host around one compiled step, and its state on disk."""

import math
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import RESULTS, PathLike, Solution
from ._boundary_ansatz import AbstractTimedField
from ._damped_factor import damped_factor
from ._energy_natural_gradient import GramForm
from ._function_space import FunctionSpace
from ._inner_solver import AbstractInnerSolver, DampedGaussNewton
from ._march_checkpoint import read_march, write_march
from ._march_progress import MarchStatus
from ._stage_map import StageMap
from ._time_stepper import AbstractStepper, Carry, Report, StepContext

# Above this part of the right-hand side outside the tangent space the start is refused.
_TANGENT_LIMIT = 0.01
# An adaptive march asks its fits for this part of what a step may miss.
_FIT_PART = 0.5
# A step whose residual between the points is this many times that on them is counted.
_OVERFITTING = 10.0
_NORMS = ("fit", "stage", "time_error", "off_grid", "boundary", "change")
# A fit has failed if it misses half of the step, or a tenth of the initial state.
_MISSED_STEP, _MISSED_STATE, _NEGLIGIBLE = 0.5, 0.1, 1e-3
_NAMES = {
    "fit": "fit_residual",
    "stage": "stage_residual",
    "time_error": "time_error",
    "off_grid": "off_grid_residual",
    "boundary": "boundary_residual",
    "dt": "dt",
}


class MarchLoop:
    """A march under way: the loop on the host around one compiled step."""

    def __init__(
        self, space, check, rhs, stepper, inner, sampler, key, span, control, certificate, ends
    ):
        self.space, self.check, self.rhs = space, check, rhs
        self.stepper, self.inner, self.sampler, self.key = stepper, inner, sampler, key
        self.span, self.control, self.certificate, self.ends = span, control, certificate, ends
        self.t, self.rows, self.ts, self.saved = span[0], [], [], []
        self.rejected, self.earlier_seconds, self.tangent = 0, 0.0, 0.0
        self.result: Any = RESULTS.successful
        self.began = self.written = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.earlier_seconds + time.perf_counter() - self.began

    def start(self, theta: Array, folder: PathLike | None) -> None:
        t = jnp.asarray(self.span[0])
        self.carry, tangent = _start(
            self.space, theta, self.rhs, t, self.inner, self.stepper.n_past
        )
        self.tangent = float(tangent)
        if not math.isfinite(self.tangent):
            self.result = RESULTS.march_not_finite
        elif self.tangent > _TANGENT_LIMIT:
            self.result = RESULTS.tangent_deficient
        self.scale = float(self.space.norm(self.space.values(theta, t)))
        found = None if folder is None else read_march(folder, self._packed())
        if found is not None:
            self._restore(*found)

    def go(self, max_steps, max_seconds, progress, folder, every) -> None:
        began, attempts = time.perf_counter(), 0
        while self.ends and bool(self.result == RESULTS.successful):
            if attempts >= max_steps:
                self.result = RESULTS.march_step_limit
            elif max_seconds is not None and time.perf_counter() - began > max_seconds:
                self.result = RESULTS.march_budget_spent
            else:
                attempts += 1
                if self._attempt() and progress is not None:
                    row = self.rows[-1]
                    progress(
                        MarchStatus(
                            self.t, self.span[0], self.span[1], len(self.rows), row["dt"],
                            row["fit"], self.certificate.bound, self.seconds,
                        )
                    )  # fmt: skip
                if folder is not None and time.perf_counter() - self.written > every:
                    self._write(folder)
        if folder is not None and self.rows:
            self._write(folder)

    def _attempt(self) -> bool:
        """Make one step; return whether it was accepted."""
        control = self.control
        if control.is_spent(self.t):
            self.result = RESULTS.march_step_too_short
            return False
        # A remainder shorter than round-off is no step.
        n_left = math.ceil((self.ends[0] - self.t) / control.dt * (1 - 1e-10))
        size = control.dt if n_left > 1 else self.ends[0] - self.t
        after, report = self._advance(size)
        row = {name: float(getattr(report, name)) for name in _NORMS}
        failure = self._failure(row)
        if failure is not None and not control.cuts(size):
            self.result = failure
            return False
        if failure is not None or not control.accepts(
            row["time_error"], row["fit"], size, n_left <= 1
        ):
            self.rejected += 1
            if control.is_spent(self.t):
                self.result = RESULTS.march_step_too_short if failure is None else failure
            return False
        self.carry = after
        self.t = self.ends[0] if n_left <= 1 else self.t + size
        self.certificate.add(row, size)
        self.rows.append({**row, "dt": size})
        if n_left <= 1:
            self.ends.pop(0)
            self.ts.append(self.t)
            self.saved.append(self.carry.theta)
        return True

    def _failure(self, row: dict[str, float]) -> Any:
        """Return why no step of this length can be taken, or None."""
        if not math.isfinite(sum(row.values())):
            return RESULTS.march_not_finite
        # A state that starts at zero is as large as its first change.
        part = row["fit"] / max(self.scale, row["change"], 1e-300)
        is_stuck = row["fit"] > _MISSED_STEP * row["change"] and part > _NEGLIGIBLE
        return RESULTS.fit_failed if part > _MISSED_STATE or is_stuck else None

    def _advance(self, size: float) -> tuple[Carry, Report]:
        stepper = self.stepper if len(self.rows) >= self.stepper.n_past else self.stepper.starter
        ctx = StepContext(
            self.space, self.check, self.rhs, jnp.asarray(self.t), jnp.asarray(size), self.inner,
            jnp.asarray(_FIT_PART * self.control.fit_limit),
        )  # fmt: skip
        if self.sampler is None:
            return _advance(stepper, ctx, self.carry)
        now = jax.random.fold_in(self.key, 1 + len(self.rows) + self.rejected)
        return _advance_resampled(stepper, ctx, self.carry, self.sampler, now)

    def _network(self, theta: Array, t: float) -> Any:
        network = self.space.network(theta)
        return network.at(t) if isinstance(network, AbstractTimedField) else network

    def solution(self) -> Solution:
        off = [
            row["off_grid"] > max(_OVERFITTING * row["fit"], row["time_error"]) for row in self.rows
        ]
        stats = {
            "t": self.t,
            "ts": self.ts,
            "networks": [self._network(th, t) for th, t in zip(self.saved, self.ts, strict=True)],
            **{_NAMES[name]: [row[name] for row in self.rows] for name in _NAMES},
            "n_steps": len(self.rows),
            "rejected": self.rejected,
            "overfitted": sum(off),
            "seconds": self.seconds,
            "tangent_residual": self.tangent,
            "fit_limit": self.control.fit_limit,
            "error_bound": self.certificate.bound,
        }
        return Solution(self._network(self.carry.theta, self.t), self.result, stats)

    def _packed(self) -> Any:
        carry = self.carry
        return (
            carry.theta, carry.slope, carry.velocity, carry.past, carry.past_times,
            self.inner.pack(carry.cache),
        )  # fmt: skip

    def _write(self, folder: PathLike) -> None:
        state = {
            "t": self.t,
            "span": list(self.span),
            "rows": self.rows,
            "ts": self.ts,
            "saved": [[float(v) for v in th] for th in self.saved],
            "rejected": self.rejected,
            "control": self.control.pack(),
            "seconds": self.seconds,
            "tangent": self.tangent,
            "interior": self.certificate.interior,
            "boundary": self.certificate.boundary,
        }
        network = self._network(self.carry.theta, self.t)
        write_march(folder, network, self._packed(), state)
        self.written = time.perf_counter()

    def _restore(self, packed: Any, state: dict[str, Any]) -> None:
        if state["span"][0] != self.span[0]:
            raise ValueError(
                f"the march in `checkpoint` began at t0 = {state['span'][0]}, not {self.span[0]}."
            )
        theta, slope, velocity, past, past_times, cache = packed
        self.t, self.rows, self.ts = state["t"], state["rows"], state["ts"]
        self.saved = [jnp.asarray(th) for th in state["saved"]]
        lost = [end for end in self.ends if end <= self.t and end not in self.ts]
        if lost or self.span[1] < self.t:
            raise ValueError(
                f"the march in `checkpoint` has passed {', '.join(map(str, lost or self.span[1:]))}"
                f" and is at t = {self.t}: networks of earlier times are gone. Take later times, "
                "or march anew without `resume`."
            )
        self.ends = [end for end in self.ends if end > self.t]
        self.rejected, self.tangent = state["rejected"], state["tangent"]
        fresh = self.control.dt
        self.control.unpack(state["control"])
        # Fixed steps are those of this call; another tolerance may go on where it ended.
        if self.control.atol is None or self.control.is_spent(self.t):
            self.control.restart(fresh)
        self.earlier_seconds = state["seconds"]
        self.certificate.interior = state["interior"]
        self.certificate.boundary = state["boundary"]
        self.result = RESULTS.successful
        stage = StageMap(self.space, jnp.asarray(self.t))
        cache = _unpack(self.inner, stage, cache)
        self.carry = Carry(theta, slope, cache, velocity, past, past_times)


@eqx.filter_jit
def _start(space: FunctionSpace, theta, rhs, t, inner: AbstractInnerSolver, n_past: int):
    slope = space.slopes(theta, rhs, t)
    if slope.shape != space.values(theta, t).shape:
        raise ValueError(
            "`rhs(t, x, u)` must have the shape of the network's value; on the points they are "
            f"{slope.shape} and {space.values(theta, t).shape}, flat."
        )
    stage = StageMap(space, t)
    cache = inner.prepare(stage, theta, None)
    # What the parameters must do: the slope, less what the network does by itself in time.
    own, drift = jax.jvp(lambda s: space.values(theta, s), (t,), (jnp.ones_like(t),))
    del own
    wanted = space.weigh(slope - drift)
    if isinstance(inner, DampedGaussNewton) and not space.boundary:
        factor = cache.factor
    else:
        columns = space.at(space.points).columns(theta, t)
        factor = damped_factor(columns, jnp.asarray(3e-5, theta.dtype), GramForm.smaller)
    missing = wanted - factor.direction(wanted) @ factor.columns
    length = jnp.linalg.norm(wanted)
    tangent = jnp.linalg.norm(missing) / jnp.where(length > 0, length, jnp.ones_like(length))
    past = jnp.broadcast_to(theta, (n_past, theta.size))
    # Distinct times: the first steps are made by another stepper, which does not look at them.
    times = t - 1.0 - jnp.arange(n_past, dtype=theta.dtype)
    return Carry(theta, slope, cache, jnp.zeros_like(theta), past, times), tangent


@eqx.filter_jit
def _unpack(inner, stage, packed):
    return inner.unpack(stage, packed)


@eqx.filter_jit
def _advance(stepper: AbstractStepper, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
    return stepper.step(ctx, carry)


@eqx.filter_jit
def _advance_resampled(stepper, ctx, carry, sampler, key):
    """Draw points for the fit and others to check it, and make the step there."""
    for_fit, for_check = jax.random.split(key)
    space = eqx.tree_at(lambda s: s.points, ctx.space, sampler.draw(for_fit))
    check = eqx.tree_at(lambda s: s.points, ctx.check, sampler.draw(for_check))
    ctx = eqx.tree_at(lambda c: (c.space, c.check), ctx, (space, check))
    cache = ctx.inner.prepare(ctx.stage(ctx.t), carry.theta, carry.cache)
    slope = space.slopes(carry.theta, ctx.rhs, ctx.t)
    carry = eqx.tree_at(lambda c: (c.slope, c.cache), carry, (slope, cache))
    return stepper.step(ctx, carry)
