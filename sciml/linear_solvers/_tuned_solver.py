"""A bandit over whole solver configurations: which one is cheapest is learned on the job."""

import enum
import math
import time
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Num
from scipy.linalg import blas

from ..core import (
    RESULTS,
    KeyArray,
    RealScalar,
    Solution,
    check_count,
    check_non_negative,
    check_positive,
    cites,
)
from ._bandit import AbstractBandit, BanditState
from ._lower_bound_bandit import LowerBoundBandit
from ._solver_arms import AbstractSolverArm, Attempt
from ._sor import Matrix, as_csr, as_vector
from ._tsallis_inf import KHODAK_2024

_KIND = "TunedSolver"
# Steps and the processor's time do not count what others do to the machine (`LowerBoundBandit`).
_DISTURBANCE_WITHIN = 0.3
# A first look at an arm is over at this multiple of what the cheapest one takes: to learn by how
# much it is dearer is not worth the time.
_FIRST_PATIENCE = 1.5
# Of BLAS, in which tiny and huge entries neither vanish nor overflow, without a search for it.
_NORMS: dict[str, Any] = {char: blas.get_blas_funcs("nrm2", dtype=char) for char in "fdFD"}
# What solvers raise when a matrix is not for them. Wrong types and missing libraries are passed on.
_NUMERICAL_ERRORS = (ArithmeticError, np.linalg.LinAlgError, RuntimeError)


class SolveCost(enum.Enum):
    """What a solve costs: ``SECONDS`` of wall time, ``CPU_SECONDS``, or ``STEPS`` of the iteration.

    Steps can only be compared between arms of one kind, for instance SSOR with several ``omega``.
    Seconds of the processor, of all threads of this process together, do not count what other
    processes take on a shared machine.

    Examples
    --------
    >>> SolveCost.STEPS.value
    'steps'
    """

    SECONDS = "seconds"
    CPU_SECONDS = "cpu_seconds"
    STEPS = "steps"


@cites(KHODAK_2024)
class TunedSolver(eqx.Module):
    """Solve a sequence of systems, learning which solver configuration is cheapest.

    Each call asks a bandit for an arm, lets it set up and solve, judges the answer by its true
    residual, and tells the bandit what it took. An arm that fails, or takes more than ``patience``
    times what the cheapest arm takes on average (one and a half times where it is tried for the
    first time), is cut off. The cheapest arm that never failed goes on from there, and after it the
    backstop, if needed; the bandit is told the cost of all.

    Parameters
    ----------
    arms
        The configurations, for instance ``(ConjugateGradientArm(), SSORArm(1.5))``. Put first what
        is probably cheap: the others' first looks are then short.
    backstop
        Index of the arm that helps when others fail. It has no time limit then.
    cost
        What is to become small.
    bandit
        Who chooses; its grid has one entry for each arm. By default
        `LowerBoundBandit`. With one that looks at contexts, such as `ChebyshevBandit`, pass
        ``context=`` with each system.
    patience
        An arm is cut off at this multiple of the least mean cost of an arm so far, 1 at least.
        Raise it if the systems differ much in size.

    Notes
    -----
    The state is JSON: what was learned in one run can be kept for the next. Setting an arm up is
    part of its cost, and cannot be cut off; nor can a `FunctionArm` or `DirectArm`.

    References
    ----------
    .. [1] M. Khodak, E. Chow, M.-F. Balcan and A. Talwalkar, "Learning to relax: setting solver
       parameters across a sequence of linear system instances", ICLR 2024, arXiv 2310.02246.

    Examples
    --------
    >>> import jax, numpy as np, scipy.sparse
    >>> from sciml.linear_solvers import ConjugateGradientArm, SSORArm, TunedSolver
    >>> solver = TunedSolver((ConjugateGradientArm(), SSORArm(1.0), SSORArm(1.6)))
    >>> A = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
    >>> state = solver.init(key=jax.random.key(3))
    >>> for _ in range(5):
    ...     state, solution = solver.solve(state, A, np.ones(50), rtol=1e-8)
    >>> bool(np.linalg.norm(A @ solution.value - 1) <= 1e-8 * 50**0.5)
    True
    """

    arms: tuple[AbstractSolverArm, ...]
    backstop: int = eqx.field(static=True)
    cost: SolveCost = eqx.field(static=True)
    bandit: AbstractBandit
    patience: float = eqx.field(static=True)

    __getattribute__ = object.__getattribute__  # as in `AbstractBandit`

    def __init__(
        self,
        arms: Sequence[AbstractSolverArm],
        *,
        backstop: int = 0,
        cost: SolveCost = SolveCost.SECONDS,
        bandit: AbstractBandit | None = None,
        patience: float = 3.0,
    ):
        self.arms = tuple(arms)
        if not self.arms:
            raise ValueError("`arms` must hold at least one solver, got none.")
        self.backstop = check_count("backstop", backstop, minimum=0)
        if self.backstop >= len(self.arms):
            raise ValueError(
                f"`backstop` must be the index of one of {len(self.arms)} arms, got {backstop}."
            )
        self.cost = cost
        if cost is SolveCost.STEPS:
            for arm in self.arms:
                if not arm.counts_steps:
                    raise ValueError(
                        f"{type(arm).__name__} counts no steps: use SolveCost.SECONDS with it."
                    )
        if bandit is None:
            disturbance = 0.9 if cost is SolveCost.SECONDS else _DISTURBANCE_WITHIN
            grid = [float(i) for i in range(len(self.arms))]
            bandit = LowerBoundBandit(grid, disturbance=disturbance)
        self.bandit = bandit
        if len(self.bandit.grid) != len(self.arms):
            raise ValueError(
                f"the grid of `bandit` must have one entry for each of {len(self.arms)} arms, got "
                f"{len(self.bandit.grid)}."
            )
        check_positive("patience", patience)
        if patience < 1:
            raise ValueError(f"`patience` must be at least 1, got {patience!r}.")
        self.patience = float(patience)

    def init(self, *, key: KeyArray) -> BanditState:
        """Return the state before anything is known; ``key`` fixes all later draws.

        Beside the state of the bandit it holds, for each arm, how often it was tried, how often it
        failed, and what it cost in total.
        """
        n = len(self.arms)
        return {
            "kind": _KIND,
            "n_arms": n,
            "bandit": self.bandit.init(key=key),
            "tries": [0] * n,
            "failures": [0] * n,
            "total_cost": [0.0] * n,
        }

    def solve(
        self,
        state: BanditState,
        A: Matrix,
        b: Num[np.ndarray, "..."],
        *,
        rtol: RealScalar = 1e-5,
        atol: RealScalar = 0.0,
        max_steps: int | None = None,
        context: RealScalar | None = None,
    ) -> tuple[BanditState, Solution]:
        """Solve ``A x = b`` with the arm that the bandit chooses, and learn from it.

        Parameters
        ----------
        state
            From `init` or the last call.
        A
            A symmetric (Hermitian) positive definite matrix of shape ``(n, n)``, dense or sparse.
        b
            Right-hand side, shape ``(n,)`` or ``(n, 1)``.
        rtol, atol
            Solved means ``||b - A x|| <= max(rtol ||b||, atol)``, computed from ``x``.
        max_steps
            The most steps of an iteration, ``10 n`` by default.
        context
            What the bandit may look at, for instance a shift of the diagonal.

        Returns
        -------
        state
            To pass to the next call. It is the old one if ``b`` is zero or not finite.
        solution
            ``value`` of shape ``(n,)``. ``stats`` has ``arm`` (its index; -1 if none was needed),
            ``helped`` (whether others were called), ``cost``, ``seconds``, ``num_steps`` (-1
            if not counted) and ``residual_norm``. ``result`` is ``breakdown`` if even the backstop
            failed; `sciml.core.throw_if_failed` makes an exception of it.
        """
        if state.get("kind") != _KIND or state.get("n_arms") != len(self.arms):
            raise ValueError(f"the state must come from a TunedSolver with {len(self.arms)} arms.")
        matrix = as_csr(A)
        vector = as_vector("b", b, matrix)
        # Not all arms take a matrix and a vector of different dtypes.
        matrix = matrix.astype(vector.dtype, copy=False)
        check_non_negative("rtol", rtol)
        check_non_negative("atol", atol)
        if max_steps is None:
            max_steps = 10 * len(vector)
        max_steps = check_count("max_steps", max_steps)
        if not (np.isfinite(matrix.data).all() and np.isfinite(vector).all()):
            result: Any = RESULTS.nonfinite_input
            return state, Solution(np.zeros_like(vector), result, _stats(residual=math.nan))
        if not vector.any():
            result = RESULTS.successful
            return state, Solution(np.zeros_like(vector), result, _stats())
        judge = _Judge(matrix, vector, float(rtol), float(atol))
        asked, arm, _ = self.bandit.ask(state["bandit"], context)
        limits = {"rtol": rtol, "atol": atol, "max_steps": max_steps}
        # This clock is read only where it is asked for: on some systems that takes milliseconds.
        of_processor = self.cost is SolveCost.CPU_SECONDS
        begin = time.process_time() if of_processor else 0.0
        spent = [_attempt(self.arms[arm], judge, _limited(self, state, arm, limits))]
        failed = not judge.solved
        helpers = _helpers(self, state, arm) if failed else []
        for helper in helpers:
            if not judge.solved:
                spent.append(_attempt(self.arms[helper], judge, limits))
        helped = len(spent) > 1
        seconds = sum(entry[0] for entry in spent)
        steps = -1 if any(entry[1] is None for entry in spent) else sum(e[1] or 0 for e in spent)
        if self.cost is SolveCost.STEPS:
            # A failed try that counted no step is not free.
            cost = float(max(steps, 1))
        else:
            cost = time.process_time() - begin if of_processor else seconds
        new = state | {
            "bandit": self.bandit.tell(asked, cost),
            "tries": _raised(state["tries"], arm, 1),
            "failures": _raised(state["failures"], arm, int(failed)),
            "total_cost": _raised(state["total_cost"], arm, cost),
        }
        result = RESULTS.successful if judge.solved else RESULTS.breakdown
        return new, Solution(
            judge.x, result, _stats(arm, helped, cost, seconds, steps, judge.residual)
        )


def _mean_costs(state: BanditState) -> dict[int, float]:
    """Return what the arms that were tried took, helpers included, by index."""
    pairs = enumerate(zip(state["total_cost"], state["tries"], strict=True))
    return {i: total / tries for i, (total, tries) in pairs if tries}


def _limited(
    solver: TunedSolver, state: BanditState, arm: int, limits: dict[str, Any]
) -> dict[str, Any]:
    known = _mean_costs(state)
    if not known:
        return limits
    patience = solver.patience if arm in known else min(solver.patience, _FIRST_PATIENCE)
    most = patience * min(known.values())
    if solver.cost is SolveCost.STEPS:
        return {**limits, "max_steps": max(min(math.ceil(most), limits["max_steps"]), 1)}
    within = solver.cost is SolveCost.CPU_SECONDS
    clock = time.process_time if within else time.perf_counter
    return {**limits, "deadline": clock() + most, "clock": clock}


def _helpers(solver: TunedSolver, state: BanditState, arm: int) -> list[int]:
    """Return who goes on where ``arm`` failed: the cheapest that never did, then the backstop."""
    known = _mean_costs(state)
    proven = [i for i in known if not state["failures"][i] and i != arm]
    first = [min(proven, key=known.__getitem__)] if proven else []
    return [i for i in dict.fromkeys([*first, solver.backstop]) if i != arm]


def _attempt(
    arm: AbstractSolverArm, judge: "_Judge", limits: dict[str, Any]
) -> tuple[float, int | None]:
    begin = time.perf_counter()
    try:
        tried = arm.solve(judge.A, judge.b, judge.start, **limits)
    except _NUMERICAL_ERRORS:
        steps = 0 if arm.counts_steps else None
    else:
        steps = tried.num_steps
        judge.look_at(tried)
    return time.perf_counter() - begin, steps


class _Judge:
    """Keeps the best answer so far, by its true residual."""

    def __init__(self, A, b: np.ndarray, rtol: float, atol: float):
        self.A, self.b = A, b
        self.x = np.zeros_like(b)
        self.norm = _NORMS.get(b.dtype.char, np.linalg.norm)
        self.residual = float(self.norm(b))
        self.tolerance = max(rtol * self.residual, atol)
        self.start: np.ndarray | None = None

    @property
    def solved(self) -> bool:
        return self.residual <= self.tolerance

    def look_at(self, tried: Attempt) -> None:
        if tried.x.shape != self.b.shape:
            raise ValueError(f"the arm must return x of shape {self.b.shape}, got {tried.x.shape}.")
        x = tried.x if self.b.dtype.kind == "c" else np.real(tried.x)
        with np.errstate(over="ignore", invalid="ignore"):
            # A copy, for the arm may use its array again; and what is judged is what is returned.
            x = x.astype(self.b.dtype)
            residual = float(self.norm(self.b - self.A @ x))
        if residual < self.residual:
            self.x, self.residual = x, residual
            self.start = self.x


def _raised(values: list[Any], index: int, by: float | int) -> list[Any]:
    return [*values[:index], values[index] + by, *values[index + 1 :]]


def _stats(
    arm: int = -1,
    helped: bool = False,
    cost: float = 0.0,
    seconds: float = 0.0,
    steps: int = 0,
    residual: float = 0.0,
) -> dict[str, Any]:
    return {
        "arm": arm,
        "helped": helped,
        "cost": cost,
        "seconds": seconds,
        "num_steps": steps,
        "residual_norm": residual,
    }
