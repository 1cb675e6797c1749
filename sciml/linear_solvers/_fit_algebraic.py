"""Training the numbers of an algebraic multigrid cycle, without derivatives."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from ..core import RESULTS, KeyArray, Solution, check_count, check_finite
from ..numerics import full_precision
from ._algebraic_multigrid import AlgebraicMultigridPreconditioner
from ._host_conjugate_gradient import host_conjugate_gradient
from ._multigrid_weights import MultigridWeights
from ._nullspace import ConstantNullspace, constant_components

# Iterations of the validation solves at most, and what they have to reach.
_MOST_STEPS = 500
_RTOL = 1e-8


@full_precision
def fit_algebraic_preconditioner(
    matrices: Sequence[Any],
    rhs: Sequence[np.ndarray] | None = None,
    *,
    key: KeyArray,
    weights: MultigridWeights | None = None,
    validation: Sequence[Any] | None = None,
    strength: float = 0.08,
    n_cg_steps: int = 8,
    max_evaluations: int = 150,
) -> Solution:
    r"""Train `AlgebraicMultigridPreconditioner`'s weights for a family of sparse matrices.

    Nelder and Mead's method minimises

    .. math:: \mathrm{mean}\, \log ( \| r_k \| / \| r_0 \| ) / k ,

    the reduction of the residual that ``n_cg_steps`` steps of preconditioned conjugate gradients
    are measured to reach: first with numbers common to all levels, then with those of each level.
    The hierarchies are built once. Afterwards the old and the new weights solve the validation
    problems to 1e-8, and the ones that need fewer iterations are returned: it never gets worse.

    Parameters
    ----------
    matrices
        Hermitian positive (semi)definite sparse matrices, of any sizes.
    rhs
        A right-hand side of each; normally distributed by default.
    key
        A typed key, for random right-hand sides.
    weights
        Where to start; the classical ``MultigridWeights()`` by default.
    validation
        Matrices to count iterations on; by default the last fifth of ``matrices`` (at least one)
        is held out.
    strength
        As in `AlgebraicMultigridPreconditioner`.
    n_cg_steps
        Steps in the objective.
    max_evaluations
        How often the objective is computed.

    Returns
    -------
    Solution
        ``value`` is the better `MultigridWeights`. ``stats`` has ``iterations_before`` and
        ``iterations_after``, means over the validation problems (of the trained weights, also when
        they are not the ones returned), and ``final_loss``.

    Raises
    ------
    ValueError
        If there are too few matrices, or ``rhs`` does not fit them, is complex where they are
        real, zero or not finite.

    Examples
    --------
    >>> import jax, scipy.sparse
    >>> lines = [
    ...     scipy.sparse.diags_array([-1.0, 2.0 + 0.01 * k, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    ...     for k, n in enumerate([150, 180, 200])
    ... ]
    >>> run = fit_algebraic_preconditioner(lines, key=jax.random.key(6), max_evaluations=20)
    >>> bool(run.stats["iterations_after"] > 0)
    True
    """
    check_count("n_cg_steps", n_cg_steps)
    check_count("max_evaluations", max_evaluations)
    if rhs is not None and len(rhs) != len(matrices):
        raise ValueError(f"`rhs` has {len(rhs)} entries for {len(matrices)} matrices.")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    start = MultigridWeights() if weights is None else weights
    systems = [
        _System(A, None if rhs is None else rhs[k], start, strength, rng)
        for k, A in enumerate(matrices)
    ]
    if validation is None:
        n_held = max(1, len(systems) // 5)
        systems, held = systems[:-n_held], systems[-n_held:]
    else:
        held = [_System(A, None, start, strength, rng) for A in validation]
    if not systems or not held:
        raise ValueError(
            f"training needs matrices and validation matrices, got {len(systems)} and {len(held)}."
        )

    def loss(raw: np.ndarray) -> float:
        candidate = _with_raw(start, raw.reshape(3, -1))
        return float(np.mean([system.log_reduction(candidate, n_cg_steps) for system in systems]))

    raw = np.stack([start.raw_lower, start.raw_upper, start.raw_scale]).astype(float)
    half = max(1, max_evaluations // 2)
    common = _nelder_mead(lambda shift: loss(raw + shift[:, None]), np.zeros(3), half)
    raw = raw + common[:, None]
    raw = _nelder_mead(loss, raw.ravel(), max_evaluations - half).reshape(3, -1)
    trained = _with_raw(start, raw)
    before = float(np.mean([system.iterations(start) for system in held]))
    after = float(np.mean([system.iterations(trained) for system in held]))
    stats = {"iterations_before": before, "iterations_after": after, "final_loss": loss(raw)}
    done: Any = RESULTS.successful
    return Solution(trained if after <= before else start, done, stats)


class _System:
    """A matrix with its hierarchy, right-hand side and nullspace."""

    def __init__(self, A: Any, b: Any, weights: Any, strength: float, rng: Any) -> None:
        self.M = AlgebraicMultigridPreconditioner(A, weights, strength=strength)
        matrix: Any = scipy.sparse.csr_array(A)
        self.matrix = matrix.astype(np.result_type(matrix.dtype, np.float64))
        n = matrix.shape[0]
        b = rng.normal(size=n) if b is None else np.asarray(b)
        if b.shape != (n,):
            raise ValueError(f"a right-hand side has shape {b.shape} for a matrix of {(n, n)}.")
        check_finite("rhs", b)
        if np.iscomplexobj(b) and self.matrix.dtype.kind != "c":
            raise ValueError(
                "a right-hand side is complex, and its matrix is real: pass real and imaginary "
                "part as two systems."
            )
        labels = constant_components(self.matrix)
        self.project = None if labels is None else ConstantNullspace(labels).project_on_host
        b = b.astype(self.matrix.dtype)
        self.b = b if self.project is None else self.project(b)
        if not self.b.any():
            raise ValueError("a right-hand side is zero (on the range of its matrix).")

    def _solve(self, weights: MultigridWeights, rtol: float, max_steps: int) -> Solution:
        return host_conjugate_gradient(
            self.matrix.__matmul__,
            self.b,
            None,
            precondition=self.M.with_weights(weights).matvec,
            rtol=rtol,
            atol=0.0,
            max_steps=max_steps,
            project=self.project,
        )

    def log_reduction(self, weights: MultigridWeights, n_steps: int) -> float:
        history = self._solve(weights, 0.0, n_steps).stats["residual_history"]
        return float(np.log(history[-1] / history[0] + 1e-14)) / n_steps

    def iterations(self, weights: MultigridWeights) -> int:
        solution = self._solve(weights, _RTOL, _MOST_STEPS)
        return int(solution.stats["num_steps"])


def _nelder_mead(function: Any, start: np.ndarray, max_evaluations: int) -> np.ndarray:
    import scipy.optimize  # here: it is slow to import, and few need it

    # Steps of one half: the numbers are logits and logarithms.
    simplex = np.concatenate([start[None], start + 0.5 * np.eye(start.size)])
    result = scipy.optimize.minimize(
        function,
        start,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": max_evaluations, "adaptive": True},
    )
    return result.x if result.fun <= function(start) else start


def _with_raw(weights: MultigridWeights, raw: np.ndarray) -> MultigridWeights:
    rows = tuple(jnp.asarray(row, jnp.float32) for row in raw)
    return eqx.tree_at(lambda w: (w.raw_lower, w.raw_upper, w.raw_scale), weights, rows)
