"""What a regulariser sees of one step of a solver, and how figures of steps become one number."""

import abc
import enum
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..core import real_dtype


class Reduction(enum.Enum):
    """How the figures of the accepted steps are put together."""

    SUM = "sum"
    MEAN = "mean"
    MAX = "max"


class StepWeight(enum.Enum):
    """What a step's figure is multiplied with: its size (``DT``), or nothing (``ONE``)."""

    DT = "dt"
    ONE = "one"


class StepInfo(eqx.Module):
    """One step of a solver, in the solver's own time, which always increases.

    Attributes
    ----------
    t0, t1, h
        Begin, end and size of the step; ``h`` gets no gradient.
    y0, y1, y_error
        States at both ends and the error estimate, pytrees of one structure.
    k
        Stages times the step size, stacked along a first axis; None if the solver keeps none.
    terms, args, solver
        What is solved, and by which solver.
    rtol, atol, norm
        Tolerances and norm of the step size controller; None if it has none.
    """

    t0: Any
    t1: Any
    h: Any
    y0: PyTree
    y1: PyTree
    y_error: PyTree
    k: PyTree
    terms: PyTree
    args: PyTree
    solver: diffrax.AbstractSolver
    rtol: Any
    atol: Any
    norm: Callable[[PyTree], Any] | None


class AbstractStepRegularizer(eqx.Module):
    """A figure of each accepted step, differentiable with respect to what is learned.

    Attributes
    ----------
    weight, reduction
        What each figure is multiplied with, and how the steps are put together.
    """

    weight: eqx.AbstractVar[StepWeight]
    reduction: eqx.AbstractVar[Reduction]

    @abc.abstractmethod
    def init(self, y0: PyTree[Array]) -> PyTree[Array]:
        """Return what is remembered from step to step, of fixed shapes and dtypes."""

    @abc.abstractmethod
    def measure(self, step: StepInfo, memory: PyTree[Array]) -> tuple[Any, PyTree[Array]]:
        """Return the figure of one step, a scalar, and what is remembered after it."""


def check_enum(name: str, value: Any, kind: type[enum.Enum]) -> None:
    """Raise ``TypeError`` unless ``value`` is a member of the enumeration ``kind``."""
    if not isinstance(value, kind):
        members = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
        raise TypeError(f"`{name}` must be one of {members}; got {value!r}.")


def state_dtype(y: PyTree) -> Any:
    """Return the real dtype of figures of the state ``y``."""
    leaves = jax.tree.leaves(y)
    if not leaves:
        return real_dtype()
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*leaves)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(
            "regularisation needs a real state, got a complex one. Pass real and imaginary parts "
            "as separate arrays."
        )
    return dtype if jnp.issubdtype(dtype, jnp.floating) else real_dtype()


def finite_or(replacement: PyTree, y: PyTree) -> PyTree:
    """Return ``y`` with non-finite entries replaced: such steps are rejected, gradients are not."""
    return jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(new), new, old), y, replacement)
