r"""Energy natural gradient descent: Gauss-Newton on the residuals of a stationary equation.

With rows :math:`r(\theta)` and Jacobian :math:`J` the energy has the Gram matrix :math:`G = J^T J`,
and the natural gradient is :math:`G^+ J^T r`. Here :math:`J` has unit columns, and
:math:`\rho^2 I` is added.
"""

import enum
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from ..core import check_count, check_non_negative, check_positive, cites
from ..numerics import full_precision
from ._column_scales import column_scales
from ._residual_method import AbstractResidualMethod, StepReport
from ._residual_term import ResidualProblem
from ._stationary_bibliography import GUZMAN_2025, MUELLER_2023

# Columns shorter than this part of the longest one are not scaled up to unit length.
_LEAST_SCALE = 1e-4


class GramForm(enum.Enum):
    """Which of the two equal linear systems is solved."""

    smaller = "smaller"
    """The one with fewer unknowns."""
    parameters = "parameters"
    """``J^T J + rho^2 I``, one unknown a parameter."""
    kernel = "kernel"
    """``J J^T + rho^2 I``, one unknown a row (Woodbury's identity)."""


class _State(eqx.Module):
    """What a step leaves for the next one."""

    damping: Array
    step: Array


@cites(MUELLER_2023, GUZMAN_2025)
class EnergyNaturalGradient(AbstractResidualMethod):
    r"""Energy natural gradient descent, with optional momentum (SPRING), for `minimise_residuals`.

    The direction is :math:`\phi = \mu \phi' - J^T (J J^T + \rho^2 I)^{-1} (r + \mu J \phi')` with
    the last direction :math:`\phi'`, columns of :math:`J` scaled to unit length. The step's length
    is the best of :math:`1, 1/2, 1/4, \ldots`; if none lowers the loss, or the direction is not
    finite, the parameters stay, the momentum is dropped and the damping grows tenfold. Otherwise
    it falls to a third after a long step (1 or 1/2), to ``damping`` at the least, and triples after
    one below 1/4. The published method keeps it; small networks then stall.

    Parameters
    ----------
    damping
        The least :math:`\rho`, relative to the unit columns.
    momentum
        :math:`\mu`, from 0 to below 1; for points that change. Zero is ENGD, and in the kernel form
        ENGD-W.
    initial_damping
        What the first step takes for :math:`\rho`, if it is larger.
    form
        Which system is solved; both give the same step.
    n_step_sizes
        How many step lengths are tried.
    max_damping
        Where the run is given up.

    Raises
    ------
    ValueError
        If a number is out of its range.

    References
    ----------
    Mueller and Zeinhofer, "Achieving high accuracy with PINNs via energy natural gradient descent",
    2023; Guzman-Cordero et al., "Improving energy natural gradient descent through Woodbury,
    momentum, and randomization", 2025.

    Examples
    --------
    >>> EnergyNaturalGradient(damping=1e-6, form=GramForm.kernel).momentum
    0.0
    """

    damping: float
    momentum: float
    initial_damping: float
    form: GramForm = eqx.field(static=True)
    n_step_sizes: int = eqx.field(static=True)
    max_damping: float

    def __init__(
        self,
        damping: float = 1e-6,
        *,
        momentum: float = 0.0,
        initial_damping: float = 1e-2,
        form: GramForm = GramForm.smaller,
        n_step_sizes: int = 31,
        max_damping: float = 10.0,
    ):
        check_positive("damping", damping)
        check_positive("initial_damping", initial_damping)
        check_positive("max_damping", max_damping)
        check_non_negative("momentum", momentum)
        if not momentum < 1:
            raise ValueError(f"`momentum` must be below 1, got {momentum}.")
        if max_damping < damping:
            raise ValueError(
                f"`max_damping` must be at least `damping`, got {max_damping} and {damping}."
            )
        if not isinstance(form, GramForm):
            raise TypeError(f"`form` must be a member of GramForm, got {form!r}.")
        self.damping = float(damping)
        self.momentum = float(momentum)
        self.initial_damping = float(initial_damping)
        self.form = form
        self.n_step_sizes = check_count("n_step_sizes", n_step_sizes)
        self.max_damping = float(max_damping)

    def init(self, problem: ResidualProblem, theta: Float[Array, " parameters"]) -> Any:
        """Return the state at the start: the least damping, no momentum."""
        del problem
        start = jnp.maximum(
            jnp.asarray(self.damping, theta.dtype), jnp.asarray(self.initial_damping, theta.dtype)
        )
        return _State(start, jnp.zeros_like(theta))

    def step(
        self, problem: ResidualProblem, theta: Float[Array, " parameters"], state: Any
    ) -> tuple[Float[Array, " parameters"], Any, StepReport]:
        """Take one natural-gradient step with its line search."""
        rows = problem.rows(theta)
        columns = problem.transposed_jacobian(theta)
        loss = 0.5 * jnp.sum(rows**2)
        direction, stationarity = natural_direction(
            columns, rows, state.damping, self.momentum * state.step, self.form
        )
        sizes = 0.5 ** jnp.arange(self.n_step_sizes, dtype=theta.dtype)
        losses = jax.vmap(lambda size: problem.loss(theta + size * direction))(sizes)
        losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        best = jnp.argmin(losses)
        went_down = losses[best] < loss
        step = jnp.where(went_down, sizes[best] * direction, jnp.zeros_like(direction))
        is_stuck = jnp.logical_not(went_down) & (state.damping >= self.max_damping)
        # Full steps call for less damping, cut ones for more: the linear model reaches less far.
        factor = jnp.where(best <= 1, 1 / 3, jnp.where(best <= 2, 1.0, 3.0))
        factor = jnp.where(went_down, factor, 10.0).astype(theta.dtype)
        after = _State(
            jnp.clip(state.damping * factor, self.damping, self.max_damping),
            jnp.where(went_down, direction, jnp.zeros_like(direction)),
        )
        return theta + step, after, StepReport(loss, stationarity, is_stuck)


@full_precision
def natural_direction(
    columns: Float[Array, "parameters rows"],
    rows: Float[Array, " rows"],
    damping: Float[Array, ""],
    start: Float[Array, " parameters"],
    form: GramForm,
) -> tuple[Float[Array, " parameters"], Float[Array, ""]]:
    """Return the damped Gauss-Newton direction near ``start``, and how stationary the point is.

    Parameters
    ----------
    columns
        The transposed Jacobian.
    rows
        The residuals.
    damping
        Relative to unit columns.
    start
        The step that is damped towards; zero without momentum.
    form
        Which system is solved.
    """
    lengths = jnp.linalg.norm(columns, axis=1)
    norms = column_scales(lengths, _LEAST_SCALE)
    unit = columns / norms[:, None]
    length = jnp.linalg.norm(rows)
    cosines = jnp.abs(unit @ rows) / jnp.where(length > 0, length, jnp.ones_like(length))
    left = rows + start @ columns
    n_parameters, n_rows = columns.shape
    is_kernel = form is GramForm.kernel or (form is GramForm.smaller and n_rows < n_parameters)
    gram = unit.T @ unit if is_kernel else unit @ unit.T
    gram = gram + damping**2 * jnp.eye(len(gram), dtype=gram.dtype)
    factor = cho_factor(gram)
    change = unit @ cho_solve(factor, left) if is_kernel else cho_solve(factor, unit @ left)
    # Residuals on which no parameter has an influence are no minimum: a dead network.
    is_dead = (jnp.max(lengths) == 0) & (length > 0)
    return start - change / norms, jnp.where(is_dead, jnp.inf, jnp.max(cosines))
