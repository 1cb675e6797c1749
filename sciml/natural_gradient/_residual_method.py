"""Methods that lower a sum of squared residuals: what they share, and optax's as baselines."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ._residual_term import ResidualProblem


class StepReport(NamedTuple):
    """What a method tells about the parameters a step began with."""

    loss: Array
    stationarity: Array
    """Largest cosine between the residual and a column of the Jacobian; infinite if unknown."""
    is_stuck: Array
    """No step goes down from here, and the method has nothing else to try."""


class AbstractResidualMethod(eqx.Module):
    """How `minimise_residuals` takes a step."""

    @abc.abstractmethod
    def init(self, problem: ResidualProblem, theta: Float[Array, " parameters"]) -> Any:
        """Return the state of a run.

        Parameters
        ----------
        problem
            The network and its terms.
        theta
            Where the run starts.
        """

    @abc.abstractmethod
    def step(
        self, problem: ResidualProblem, theta: Float[Array, " parameters"], state: Any
    ) -> tuple[Float[Array, " parameters"], Any, StepReport]:
        """Return new parameters, the new state, and a report on the old parameters.

        Parameters
        ----------
        problem
            The network and its terms.
        theta
            The parameters now.
        state
            From `init` or the last step.
        """


class GradientMethod(AbstractResidualMethod):
    """Any optax optimiser on the same loss: the baseline of natural gradients.

    Parameters
    ----------
    optimizer
        An optax gradient transformation; ``optax.lbfgs()`` gets the function for its line search.

    Raises
    ------
    TypeError
        If it is no gradient transformation.

    Examples
    --------
    >>> import optax
    >>> method = GradientMethod(optax.adam(1e-3))
    """

    optimizer: optax.GradientTransformation

    def __init__(self, optimizer: optax.GradientTransformation):
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(
                "`optimizer` must be an optax gradient transformation such as "
                f"`optax.adam(1e-3)`, got {type(optimizer).__name__}."
            )
        self.optimizer = optimizer

    def init(self, problem: ResidualProblem, theta: Float[Array, " parameters"]) -> Any:
        """Return the optimiser's state."""
        del problem
        with jax.numpy_dtype_promotion("standard"):
            return self.optimizer.init(theta)

    def step(
        self, problem: ResidualProblem, theta: Float[Array, " parameters"], state: Any
    ) -> tuple[Float[Array, " parameters"], Any, StepReport]:
        """Take one step of the optimiser."""
        loss, gradient = jax.value_and_grad(problem.loss)(theta)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            update = optax.with_extra_args_support(self.optimizer).update
            change, state = update(
                gradient, state, theta, value=loss, grad=gradient, value_fn=problem.loss
            )
        unknown = jnp.asarray(jnp.inf, loss.dtype)
        return (
            theta + jnp.asarray(change).astype(theta.dtype),
            state,
            StepReport(loss, unknown, jnp.array(False)),
        )
