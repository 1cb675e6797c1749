"""The interface between equations and steppers: stiff linear part, mild nonlinear part."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float, Inexact

from ..core import Field, RealScalar, real_dtype
from ..numerics import irfftn, rfftn
from ..numerics._fourier import scale


class AbstractSemilinearPDE(eqx.Module):
    r"""A periodic equation whose linear part is diagonal in Fourier space.

    .. math:: \frac{d \hat u_k}{dt} = L(k)\, \hat u_k + N(\hat u)_k

    States are real fields ``(channels, *space)`` without a batch axis (use ``jax.vmap``), and
    coefficients are those of `sciml.numerics.rfftn`: forward-normalised, half spectrum on the
    last axis. To add an equation, give the fields below and the two abstract methods; every
    stepper and `solve` then work on it.

    Attributes
    ----------
    n_channels
        Number of channels of the state.
    n_points
        Points along each space axis.
    domain_extent
        Period along each space axis.
    """

    n_channels: eqx.AbstractVar[int]
    n_points: eqx.AbstractVar[tuple[int, ...]]
    domain_extent: eqx.AbstractVar[tuple[float, ...]]

    @abc.abstractmethod
    def linear_symbol(self, dtype: DTypeLike) -> Inexact[Array, "..."]:
        """Return ``L(k)``, real or complex, shape ``(1 or channels, *modes)``.

        Parameters
        ----------
        dtype
            The real dtype of the state.
        """

    @abc.abstractmethod
    def nonlinear_term(
        self, u_hat: Complex[Array, "channels *modes"]
    ) -> Complex[Array, "channels *modes"]:
        """Return ``N(u_hat)``: everything that is not the linear part, forcing included."""

    def nonlinear_growth(self, u_hat: Complex[Array, "channels *modes"]) -> Float[Array, ""]:
        r"""Return how fast the nonlinear term can drive another solution away from ``u``.

        That is a number :math:`g` with

        .. math:: \langle N(u + e) - N(u), e \rangle \le g \|e\|^2 \quad \text{for all } e

        in L2, the only thing that a computable error bound needs to know of the equation
        (`sciml.neural_operators.estimate`). An equation that does not give it has infinity here,
        and infinite bounds.
        """
        return jnp.asarray(jnp.inf, jnp.finfo(u_hat.dtype).dtype)

    def rhs(self, u_hat: Complex[Array, "channels *modes"]) -> Complex[Array, "channels *modes"]:
        """Return the time derivative ``L u_hat + N(u_hat)`` of the coefficients."""
        symbol = self.linear_symbol(jnp.finfo(u_hat.dtype).dtype)
        return scale(symbol, u_hat) + self.nonlinear_term(u_hat)

    def to_spectral(self, u: Field) -> Complex[Array, "channels *modes"]:
        """Return the coefficients of a state."""
        return rfftn(u, len(self.n_points))

    def to_physical(
        self, u_hat: Complex[Array, "channels *modes"]
    ) -> Float[Array, "channels *space"]:
        """Return the state at the grid points."""
        return irfftn(u_hat, self.n_points)


def as_coefficient(value: RealScalar) -> Float[Array, ""]:
    """Return a coefficient as a JAX scalar; one that is a JAX scalar already keeps its dtype."""
    return value if isinstance(value, jax.Array) else jnp.asarray(value, real_dtype())
