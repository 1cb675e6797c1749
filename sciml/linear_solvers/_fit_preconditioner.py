"""Training the numbers of a multigrid cycle on a family of problems, judged by iterations."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import KeyArray, Solution, check_count, check_positive
from ..numerics import StencilOperator, full_precision
from ..numerics._power_of_two import power_of_two_below
from ..problems import LinearProblem
from ._conjugate_gradient import conjugate_gradient
from ._multigrid import Hierarchy, MultigridPreconditioner, v_cycle
from ._multigrid_weights import MultigridWeights


@full_precision
def fit_preconditioner(
    problems: Sequence[LinearProblem],
    *,
    key: KeyArray,
    weights: MultigridWeights | None = None,
    validation: Sequence[LinearProblem] | None = None,
    n_steps: int = 150,
    batch_size: int = 8,
    n_cg_steps: int = 5,
    learning_rate: float = 0.1,
    progress: bool = True,
) -> Solution:
    r"""Train a multigrid preconditioner's weights for a family of problems.

    The loss is what counts in the end: the logarithm of the residual that ``n_cg_steps`` steps of
    preconditioned conjugate gradients leave,

    .. math:: \mathrm{mean}\, \log ( \| r_k \| / \| r_0 \| ) / k ,

    differentiated through the steps. The hierarchies do not depend on the weights and are built
    once. Afterwards both the old and the new weights solve the validation problems to 1e-6 in
    relative residual, and the ones that need fewer iterations are returned: it never gets worse.

    Parameters
    ----------
    problems
        Linear systems, all of one grid and one coarsening plan; right-hand sides not zero.
    key
        A typed key: the choice of batches.
    weights
        Where to start; the classical ``MultigridWeights()`` by default.
    validation
        Problems to count iterations on, of one shape each; a fifth of ``problems`` is held out by
        default.
    n_steps, batch_size, learning_rate
        Of Adam with a one-cycle schedule.
    n_cg_steps
        Steps in the loss.
    progress
        Show a progress bar.

    Returns
    -------
    Solution
        ``value`` is the better `MultigridWeights`. ``stats`` has ``iterations_before`` and
        ``iterations_after``, means over the validation problems (of the trained weights, also
        when they are not the ones returned), and ``final_loss``.

    Raises
    ------
    ValueError
        If there are too few problems, they differ in grid or plan, or a right-hand side is zero.

    Notes
    -----
    Counts to 1e-6 are reliable for problems in float64; in float32 rounding has a say in them.

    Examples
    --------
    >>> import jax
    >>> from sciml.problems import checkerboard_problem
    >>> keys = jax.random.split(jax.random.key(31), 4)
    >>> problems = [checkerboard_problem((12, 12), contrast=10.0, key=key) for key in keys]
    >>> run = fit_preconditioner(problems, n_steps=2, key=jax.random.key(32), progress=False)
    >>> sorted(run.stats)
    ['final_loss', 'iterations_after', 'iterations_before']
    """
    check_count("n_steps", n_steps)
    check_count("batch_size", batch_size)
    check_count("n_cg_steps", n_cg_steps)
    check_positive("learning_rate", learning_rate)
    if validation is None:
        n_held = max(1, len(problems) // 5)
        problems, validation = problems[:-n_held], problems[-n_held:]
    if not problems or not validation:
        raise ValueError(
            f"training needs problems and validation problems, got {len(problems)} and "
            f"{len(validation)}."
        )
    start = MultigridWeights() if weights is None else weights
    source = _Batches(problems, batch_size, key)

    def loss(model: MultigridWeights, batch: tuple, key: KeyArray) -> Float[Array, ""]:
        rates = jax.vmap(
            lambda system: log_reduction(model, system[0], system[1], system[2], n_cg_steps)
        )(batch)
        return jnp.mean(rates)

    from ..train import fit, one_cycle_adam  # here: who solves need not wait for what trains

    run = fit(
        start,
        source,
        loss=loss,
        optimizer=one_cycle_adam(learning_rate, n_steps),
        n_steps=n_steps,
        key=key,
        progress=progress,
    )
    before = mean_iterations(start, validation)
    after = mean_iterations(run.value, validation)
    stats = {
        "iterations_before": before,
        "iterations_after": after,
        "final_loss": run.stats["loss"],
    }
    return Solution(run.value if after <= before else start, run.result, stats)


@full_precision
def log_reduction(
    weights: MultigridWeights,
    operator: StencilOperator,
    hierarchy: Hierarchy,
    b: Float[Array, "*space"],
    n_cg_steps: int,
) -> Float[Array, ""]:
    """Return ``log(||r_k|| / ||b||) / k`` after ``k`` steps of preconditioned conjugate gradients.

    Parameters
    ----------
    weights
        What to judge.
    operator, hierarchy
        The operator and its levels.
    b
        Right-hand side, not zero.
    n_cg_steps
        ``k``.
    """
    info = jnp.finfo(b.dtype)
    zero, one = jnp.zeros((), b.dtype), jnp.ones((), b.dtype)
    least = float(info.eps) ** 2 * jnp.vdot(b, b)

    def step(carry, _):
        r, p, rho = carry
        # Once the residual is mere rounding it stays: further down there is 0 / 0, and before
        # that derivatives beyond the range.
        going = jnp.vdot(r, r) > least
        z = v_cycle(hierarchy, weights, r)
        rho_new = jnp.where(going, jnp.vdot(r, z), rho)
        p = z + (rho_new / rho) * p
        q = operator.mv(p)
        curvature = jnp.where(going, jnp.vdot(p, q), one)
        alpha = jnp.where(going, rho_new, zero) / (curvature + info.tiny)
        return (r - alpha * q, p, rho_new), None

    first = (b, jnp.zeros_like(b), jnp.asarray(jnp.inf, b.dtype))
    (r, _, _), _ = jax.lax.scan(step, first, None, length=n_cg_steps)
    ratio = jnp.sqrt(jnp.maximum(jnp.vdot(r, r) / jnp.vdot(b, b), info.tiny))
    return jnp.log(ratio + 1e-12) / n_cg_steps


def mean_iterations(
    weights: MultigridWeights, problems: Sequence[LinearProblem], rtol: float = 1e-6
) -> float:
    """Return how many iterations the problems take on average; failures count as the most steps.

    Parameters
    ----------
    weights
        What to judge.
    problems
        Linear systems.
    rtol
        Relative residual to reach.

    Examples
    --------
    >>> import jax
    >>> from sciml.problems import anisotropic_problem
    >>> problem = anisotropic_problem((16, 16), key=jax.random.key(31))
    >>> mean_iterations(MultigridWeights(), [problem], rtol=1e-4) < 10
    True
    """
    counts = []
    for problem in problems:
        operator, b = problem.operator, problem.right_hand_side
        solution = conjugate_gradient(
            operator,
            b,
            preconditioner=MultigridPreconditioner(operator, weights),
            rtol=rtol,
            max_steps=200,
        )
        counts.append(int(solution.stats["num_steps"]))
    return float(np.mean(counts))


class _Batches:
    """Batches of problems, each a pure function of its step; hierarchies are built once."""

    def __init__(self, problems: Sequence[LinearProblem], batch_size: int, key: KeyArray):
        first = MultigridPreconditioner(problems[0].operator, MultigridWeights())
        systems = []
        for number, problem in enumerate(problems):
            operator, b = problem.operator, problem.right_hand_side
            made = MultigridPreconditioner(operator, MultigridWeights())
            if operator.n_points != first.operator.n_points or made.plan != first.plan:
                raise ValueError(
                    f"all problems must have one grid and one coarsening plan; problem {number} "
                    f"has {operator.n_points} and {made.plan}, the first one "
                    f"{first.operator.n_points} and {first.plan}."
                )
            if not np.any(np.asarray(b)):
                raise ValueError(f"the right-hand side of problem {number} is zero.")
            # Both of size one: in other units their squares may leave the range.
            size = made.hierarchy.size
            operator = jax.tree.map(lambda entries, size=size: entries / size, operator)
            b = b / power_of_two_below(jnp.max(jnp.abs(b)))
            systems.append((operator.astype(made.dtype), made.hierarchy, b.astype(made.dtype)))
        self._arrays = eqx.filter(
            jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *systems),
            eqx.is_array,
        )
        self._n = len(systems)
        self._size = min(batch_size, self._n)
        self._seed = np.asarray(jax.random.key_data(key)).ravel().tolist()

    def __getitem__(self, step: int) -> tuple:
        rng = np.random.default_rng([*self._seed, step])
        chosen = rng.choice(self._n, self._size, replace=False)
        return jax.tree.map(lambda leaf: leaf[chosen], self._arrays)
