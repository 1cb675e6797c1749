"""How an iterative routine ended: the ``RESULTS`` enumeration and the ``Solution`` record.

``RESULTS`` extends optimistix's enumeration, which itself extends lineax's, so that a failure
deep inside a linear or nonlinear solve surfaces with its own words
(``RESULTS.promote(lineax_result)``).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, PyTree


class RESULTS(optx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """Outcomes of every iterative routine of sciml; ``successful`` is the only good one.

    The members of ``lineax.RESULTS`` and ``optimistix.RESULTS`` are members here too.
    """

    diverged = (
        "The solution blew up: a non-finite value appeared while stepping in time. "
        "Take a smaller `dt`, a stepper with a larger stability region (for instance "
        "`ETDRK4`), or more grid points."
    )
    nonfinite_loss = (
        "A non-finite loss or gradient appeared during training. The parameters from "
        "before that step were kept. Try a smaller learning rate or gradient clipping."
    )
    refinement_stagnated = (
        "The residual stopped falling before it reached the tolerance: it is at round-off, or the "
        "method found no way down from where it is. Loosen `rtol`, take shorter windows "
        "(`window=`), or start from a better prediction."
    )
    refinement_budget_spent = (
        "The refinement used up its steps before the residual reached the tolerance. Raise the "
        "method's limits, loosen `rtol`, or take shorter windows (`window=`)."
    )
    refinement_windows_disagree = (
        "Each window was refined, but joined together their residual is larger than that of the "
        "prediction, which is returned: the formulas of the residual differ at the ends of "
        "windows. Take longer windows (`window=`), or refine all snapshots at once."
    )
    nonfinite_residual = (
        "The residual of the prediction is not finite: the equation's terms overflow, or a step "
        "of the residual's stepper blows up. Take more `substeps`, or check the prediction's units."
    )
    least_squares_stalled = (
        "No step makes the sum of squares smaller, and its gradient is not zero: the rows are not "
        "smooth there, or rounding hides the way. Scale the rows, take float64, or start elsewhere."
    )
    least_squares_not_a_minimum = (
        "The gradient is zero where the solve started, but the sum of squares falls to its sides: "
        "a maximum or a saddle, which is returned. Start (`w0`) elsewhere."
    )
    nonfinite_rows = (
        "The rows of the least-squares problem are not finite at its start, which is returned. "
        "Start (`w0`) where the residual is defined, or guard its singularities."
    )
    rank_deficient = (
        "The rows do not determine all unknowns: there are fewer independent rows than unknowns, "
        "or basis functions that depend on each other. The point found is stationary, and not the "
        "only one. Add points, drop columns, or set a ridge."
    )
    no_descent = (
        "No direction makes the merit function smaller: the gradients of the constraints depend "
        "on each other there, or rounding hides the way. Look at the constraint norm, drop "
        "redundant constraints, or start elsewhere."
    )
    not_a_minimum = (
        "The point satisfies the first-order conditions, but the objective falls from there along "
        "the constraints: it is a saddle or a maximum. Start elsewhere."
    )
    inconsistent_constraints = (
        "The exact conditions contradict each other, or are not linear in the unknowns: no "
        "coefficients satisfy them all. They are met in the sense of least squares."
    )
    not_a_contraction = (
        "The map is no contraction: a row of |gamma a| sums to 1 or more, or a gamma is negative. "
        "Normalise the rows and keep every gamma in [0, 1)."
    )
    index_out_of_range = (
        "An index of a node is negative, or not below the number of nodes. Check `rows` and "
        "`columns`, or the senders and receivers of the graph."
    )
    residual_at_rounding = (
        "Rounding keeps the residual above the tolerance, however many steps are taken. Loosen "
        "`rtol`, or take float64."
    )
    isolated_source = (
        "A node inside the network has a source and no link: nothing carries its flow away. Hold "
        "the node, give it a link, or take its source out."
    )
    fit_failed = (
        "The network could not be fitted to the function within the tolerance. Take more points or "
        "parameters, another seed, a smaller step, or more steps of the fit."
    )
    tangent_deficient = (
        "The network's tangent space misses the right-hand side: no change of the parameters "
        "follows it. A symmetric initialisation (zero biases) does this: take random biases, a "
        "larger network, or fit the initial condition first."
    )
    march_not_finite = (
        "A value became non-finite while the network was marched. Take a smaller `dt` or an "
        "implicit stepper, and check that the equation is well posed."
    )
    march_step_too_short = (
        "The march's step became too short to go on: the solution may blow up, or no step meets "
        "the tolerance. Look at the state so far; raise `atol`, or take a wider network."
    )
    march_step_limit = "The march used up its steps. Raise `max_steps` or take a larger `dt`."
    march_budget_spent = (
        "The march used up its seconds. Go on from the network and time that were returned."
    )
    neighbour_overflow = (
        "A particle had more neighbours than there were places for, and some were left out. Raise "
        "`capacity`, or leave it out and let the call find one; check that the motion is sound."
    )
    particles_not_finite = (
        "A position became non-finite while particles were moved. Train with more noise, or check "
        "that the first frames are like those of the training."
    )
    particles_diverged = (
        "Particles blew up, passed a cell in a step, or left the grid. Raise `substeps`, or close "
        "the walls."
    )
    particles_left_grid = (
        "A particle left the box that the latent grid covers. Take larger `bounds`, or walls."
    )
    interrupted = "The run was interrupted before its last step; resume it with `resume=True`."


class Solution(eqx.Module):
    """What an iterative routine returns.

    Attributes
    ----------
    value
        The answer. It is the best one at hand when ``result`` is not successful.
    result
        A member of `RESULTS`; ``RESULTS[result]`` is its message.
    stats
        Named figures of the run: steps, function evaluations, history on request.
    """

    value: PyTree[Any]
    result: RESULTS
    stats: dict[str, PyTree[ArrayLike]]


def results_where(
    condition: Bool[Array, ""] | bool, on_true: RESULTS, on_false: RESULTS
) -> RESULTS:
    """Return ``on_true`` where ``condition`` holds, otherwise ``on_false``; works under jit.

    Parameters
    ----------
    condition
        A boolean, concrete or traced.
    on_true, on_false
        Members of `RESULTS`.
    """
    return RESULTS.where(jnp.asarray(condition), on_true, on_false)


def is_successful(result: RESULTS) -> Bool[Array, "*batch"]:
    """Return where ``result`` is ``RESULTS.successful``; works under jit and vmap.

    Parameters
    ----------
    result
        One result, or a batch of them as `jax.vmap` makes it.

    Returns
    -------
    Array
        Booleans in the shape of the batch.
    """
    return result == RESULTS.successful


def throw_if_failed(solution: Solution, cause: str = "") -> Solution:
    """Raise ``RuntimeError`` with the message of a failed result, also under ``jax.jit``.

    Parameters
    ----------
    solution
        The record to look at. Its result may be batched (made under ``jax.vmap``).
    cause
        A sentence that says what went wrong where; it precedes the enumeration's message.

    Returns
    -------
    Solution
        ``solution`` itself when it is successful.

    Raises
    ------
    RuntimeError
        If ``solution.result`` is concrete and not successful; of a batch the first failure is
        told. Under ``jax.jit`` the check is threaded through ``equinox.error_if``: it raises
        when the program runs, with ``cause`` or otherwise the enumeration's message.
    """
    failed = jnp.logical_not(is_successful(solution.result))
    if isinstance(failed, Tracer):
        if cause:
            value = eqx.error_if(solution.value, failed, cause)
        else:
            value = solution.result.error_if(solution.value, failed)
        return Solution(value, solution.result, solution.stats)
    if not bool(jnp.any(failed)):
        return solution
    if failed.ndim > 0:
        first = int(jnp.argmax(failed))
        result = jax.tree.map(lambda index: index.reshape(-1)[first], solution.result)
        count = f"{int(jnp.sum(failed))} of {failed.size} failed, the first at index {first}:"
        cause = f"{cause} {count}".strip()
    else:
        result = solution.result
    raise RuntimeError(f"{cause} {RESULTS[result]}".strip())
