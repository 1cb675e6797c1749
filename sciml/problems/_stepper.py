"""The interface of time steppers."""

import abc
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Complex

from ..core import RealScalar
from ._semilinear import AbstractSemilinearPDE

_Coefficients = TypeVar("_Coefficients")


class AbstractStepper(eqx.Module, Generic[_Coefficients]):
    """A one-step method of fixed step size for an `AbstractSemilinearPDE`.

    What depends on the equation and the step size only is computed once by ``prepare`` and given
    back at every ``step``.

    Attributes
    ----------
    order
        Order of convergence in ``dt``.
    n_evaluations
        Evaluations of the nonlinear term in a step.
    """

    order: eqx.AbstractClassVar[int]
    n_evaluations: eqx.AbstractClassVar[int]

    @abc.abstractmethod
    def prepare(
        self, problem: AbstractSemilinearPDE, dt: RealScalar, dtype: DTypeLike
    ) -> _Coefficients:
        """Return the arrays that ``step`` needs, at the precision ``dtype`` of the state."""

    @abc.abstractmethod
    def step(
        self,
        problem: AbstractSemilinearPDE,
        coefficients: _Coefficients,
        u_hat: Complex[Array, "channels *modes"],
    ) -> Complex[Array, "channels *modes"]:
        """Advance the Fourier coefficients by one step."""


def symbol_and_step(
    problem: AbstractSemilinearPDE, dt: RealScalar, dtype: DTypeLike
) -> tuple[np.ndarray | jax.Array, float | jax.Array]:
    """Return the linear symbol and the step size in float64 NumPy where both are known numbers.

    Weights made from them on the host are then right to the last digit of a float32 state.
    Under a transformation (a gradient in the viscosity, say) they are JAX arrays of ``dtype``.
    """
    symbol = problem.linear_symbol(dtype)
    if isinstance(symbol, Tracer) or isinstance(dt, Tracer):
        return symbol, jnp.asarray(dt, dtype)
    symbol = np.asarray(symbol)
    return symbol.astype(np.result_type(symbol.dtype, np.float64)), float(dt)


def as_weight(weight: np.ndarray | jax.Array, dtype: DTypeLike) -> jax.Array:
    """Return a weight at the precision of the state, complex if it is."""
    if jnp.iscomplexobj(weight):
        dtype = np.result_type(jnp.dtype(dtype), np.complex64)
    return jnp.asarray(weight, dtype)
