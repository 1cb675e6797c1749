"""Stiffness of each step: from two stages at one abscissa (Shampine), or by power iteration."""

import enum
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, PyTree

from ..core import check_positive, cites
from ..numerics import full_precision
from ._bibliography import PAL_2021, SHAMPINE_1977
from ._step_regularizer import (
    AbstractStepRegularizer,
    Reduction,
    StepInfo,
    StepWeight,
    check_enum,
    finite_or,
)

# Differences of stages below this many units of rounding say nothing about the field.
_ROUNDING = 10.0


class StiffnessMethod(enum.Enum):
    """How stiffness is estimated: by two stages, by power iteration, or whichever can be."""

    AUTO = "auto"
    STAGES = "stages"
    POWER = "power"


@cites(PAL_2021, SHAMPINE_1977)
class StiffnessEstimate(AbstractStepRegularizer):
    """An estimate of the largest eigenvalue of the field's Jacobian that a step meets.

    Stages: ``S_j = ||f_x - f_y|| / ||z_x - z_y||`` of two stages at one abscissa, which cost
    nothing more. Tsit5, Dopri5, Dopri8 and Kvaerno3-5 have such stages. Power iteration: one
    product with the Jacobian of the drift a step, of a direction that is kept from step to step;
    for every other solver, and for stochastic equations. The gradient follows the direction back
    through the steps (one more product with the transposed Jacobian a step): it is that of the
    value as computed, and that of the eigenvalue once the direction has converged. Of a complex
    pair the value is a norm that swings about the modulus unless the Jacobian is normal, and so
    does its gradient; the mean over many steps is near both.

    Parameters
    ----------
    weight, reduction
        As in `ErrorEstimate`; ``reduction=Reduction.MAX, weight=StepWeight.ONE`` is the published
        code's.
    method
        ``AUTO`` takes stages where the solver has them.
    normalize
        A divisor; 3.5068, the extent of Tsit5's stability region, in the published code.
    n_iterations
        Power iterations a step.
    norm
        Of a state; the Euclidean norm by default. The published code's solver has since taken the
        maximum norm (``optimistix.max_norm``). With `augment`, one of the equation's own state:
        ``lambda y: optimistix.two_norm(y[0])``. It needs a derivative where it is zero, as those
        of optimistix have.

    Examples
    --------
    >>> StiffnessEstimate(StepWeight.ONE, Reduction.MAX).method
    <StiffnessMethod.AUTO: 'auto'>
    """

    weight: StepWeight
    reduction: Reduction
    method: StiffnessMethod
    normalize: float
    n_iterations: int
    norm: Callable[[PyTree], Any] | None

    def __init__(
        self,
        weight: StepWeight = StepWeight.DT,
        reduction: Reduction = Reduction.SUM,
        *,
        method: StiffnessMethod = StiffnessMethod.AUTO,
        normalize: float = 1.0,
        n_iterations: int = 1,
        norm: Callable[[PyTree], Any] | None = None,
    ):
        check_enum("weight", weight, StepWeight)
        check_enum("reduction", reduction, Reduction)
        check_enum("method", method, StiffnessMethod)
        check_positive("normalize", normalize)
        check_positive("n_iterations", n_iterations)
        self.weight = weight
        self.reduction = reduction
        self.method = method
        self.normalize = normalize
        self.n_iterations = n_iterations
        self.norm = norm

    def init(self, y0: PyTree[Array]) -> PyTree[Array]:
        """Return the first direction of the power iteration."""
        if self.method is StiffnessMethod.STAGES:
            return None
        leaves, structure = jax.tree.flatten(y0)
        keys = jax.random.split(jax.random.key(9071), max(len(leaves), 1))
        draws = [
            jax.random.normal(key, jnp.shape(leaf), jnp.result_type(leaf))
            for key, leaf in zip(keys, leaves, strict=False)
        ]
        direction = jax.tree.unflatten(structure, draws)
        size = self._norm(direction)
        return jax.tree.map(lambda d: d / size, direction)

    def _norm(self, y: PyTree[Array]) -> Any:
        return (optx.two_norm if self.norm is None else self.norm)(y)

    def measure(self, step: StepInfo, memory: PyTree[Array]) -> tuple[Any, PyTree[Array]]:
        """Return the stiffness of a step and the next direction."""
        pair = None if self.method is StiffnessMethod.POWER else stage_pair(step.solver)
        if pair is None and self.method is StiffnessMethod.STAGES:
            raise ValueError(
                f"{type(step.solver).__name__} has no two stages at one abscissa. Take "
                "`method=StiffnessMethod.POWER`, or Tsit5, Dopri5, Dopri8 or Kvaerno3-5."
            )
        if pair is None or step.k is None:
            value, memory = self._by_power_iteration(step, memory)
        else:
            value = _by_stages(step, pair, self._norm)
        return value / self.normalize, memory

    def _by_power_iteration(self, step: StepInfo, direction: PyTree[Array]):
        y1 = finite_or(step.y0, step.y1)
        drift = _drift(step)
        size = jnp.zeros(())
        for _ in range(self.n_iterations):
            _, image = jax.jvp(drift, (y1,), (direction,))
            image = finite_or(direction, image)
            size = self._norm(image)
            safe = jnp.where(size > 0, size, 1)
            direction = jax.tree.map(
                lambda new, old, size=size, safe=safe: jnp.where(size > 0, new / safe, old),
                image,
                direction,
            )
        return size, direction


def stage_pair(solver: diffrax.AbstractSolver) -> tuple[int, int, np.ndarray] | None:
    """Return the last two stages of ``solver`` at one abscissa, and the difference of their rows.

    None if there are none, or the solver has no Butcher tableau of its own.
    """
    tableau = getattr(solver, "tableau", None)
    if not isinstance(tableau, diffrax.ButcherTableau):
        return None
    n_stages = len(tableau.b_sol)
    abscissae = np.concatenate([[tableau.c1], tableau.c])
    rows = np.zeros((n_stages, n_stages))
    for i, row in enumerate(tableau.a_lower):
        rows[i + 1, : i + 1] = row
    if tableau.a_diagonal is not None:
        rows += np.diag(tableau.a_diagonal)
    for j in range(n_stages - 1, 0, -1):
        for i in range(j - 1, -1, -1):
            if abscissae[i] == abscissae[j] and np.any(rows[j] != rows[i]):
                return i, j, rows[j] - rows[i]
    return None


@full_precision
def _by_stages(step: StepInfo, pair: tuple[int, int, np.ndarray], norm) -> Any:
    if not jax.tree.leaves(step.y0):
        return jnp.zeros(())
    i, j, row = pair
    k = finite_or(jax.tree.map(jnp.zeros_like, step.k), step.k)
    along = jax.tree.map(lambda x: jnp.tensordot(jnp.asarray(row, x.dtype), x, axes=1), k)
    change = jax.tree.map(lambda x: x[j] - x[i], k)
    distance = norm(along)
    size = jnp.maximum(norm(step.y0), optx.two_norm(jax.vmap(norm)(k)))
    is_meaningful = distance > _ROUNDING * jnp.finfo(distance.dtype).eps * size
    with jax.numpy_dtype_promotion("standard"):
        below = jnp.where(is_meaningful, step.h * distance, 1).astype(distance.dtype)
    return jnp.where(is_meaningful, norm(change) / below, 0)


def _drift(step: StepInfo):
    """Return the deterministic part of the field at the end of the step."""
    if isinstance(step.terms, diffrax.MultiTerm):
        terms = step.terms.terms
    else:
        terms = (step.terms,)
    # `diffeqsolve` wraps each term, to run time forwards.
    smooth = [t for t in terms if isinstance(getattr(t, "term", t), diffrax.ODETerm)]
    if not smooth:
        raise ValueError(
            "power iteration needs a deterministic part of the field: one `diffrax.ODETerm`, by "
            "itself or in a `MultiTerm`."
        )

    def drift(y):
        parts = [term.vf(step.t1, y, step.args) for term in smooth]
        return jax.tree.map(lambda *leaves: sum(leaves[1:], start=leaves[0]), *parts)

    return drift
