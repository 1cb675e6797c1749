"""Regularisers that are integrals over time: Taylor energy, kinetic energy, Jacobian norm."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.experimental.jet import jet
from jaxtyping import Array, PyTree

from ..core import KeyArray, check_count, check_key, cites
from ._bibliography import FINLAY_2020, KELLY_2020
from ._step_regularizer import state_dtype

# What `jet` raises without a rule: for a primitive, and for functions with their own derivative
# (JAX 0.10, JAX 0.12).
_NO_RULE = (
    KeyError,
    NotImplementedError,
    jax.errors.UnexpectedTracerError,
    AttributeError,
)


class AbstractQuadrature(eqx.Module):
    """An integrand along the solution, added to the equation as one more unknown (`augment`)."""

    @abc.abstractmethod
    def integrand(self, field: Callable[..., Any], t: Any, y: PyTree, args: PyTree) -> Any:
        """Return the integrand at ``t``, a scalar; ``field(t, y, args)`` is the vector field."""


@cites(FINLAY_2020)
class KineticEnergy(AbstractQuadrature):
    """The mean square of the field, ``mean(f^2)``, over all entries of the state."""

    def integrand(self, field: Callable[..., Any], t: Any, y: PyTree, args: PyTree) -> Any:
        """Return the mean square of the field."""
        return _mean_square(field(t, y, args))


@cites(FINLAY_2020)
class JacobianFrobenius(AbstractQuadrature):
    """An unbiased estimate of the squared Frobenius norm of the field's Jacobian over its size.

    It is ``mean((eps^T df/dy)^2)``, the mean over the entries of the state.

    Parameters
    ----------
    key
        A typed key for the signs ``eps``, which stay the same during a solve. Take a new one for
        each training step.
    """

    key: KeyArray

    def __init__(self, *, key: KeyArray):
        check_key(key)
        self.key = key

    def integrand(self, field: Callable[..., Any], t: Any, y: PyTree, args: PyTree) -> Any:
        """Return the mean square of a product with the transposed Jacobian."""
        image, pullback = jax.vjp(lambda y: field(t, y, args), y)
        leaves, structure = jax.tree.flatten(image)
        keys = jax.random.split(self.key, max(len(leaves), 1))
        signs = [
            jax.random.rademacher(key, leaf.shape, leaf.dtype)
            for key, leaf in zip(keys, leaves, strict=False)
        ]
        return _mean_square(pullback(jax.tree.unflatten(structure, signs))[0])


@cites(KELLY_2020)
class TaylorEnergy(AbstractQuadrature):
    """The mean square of the solution's derivative of some order (TayNODE), by Taylor mode.

    Where Taylor mode of JAX lacks a rule for the field (``softplus``, ``relu``, ``arctan``), nested
    forward mode gives the same, at a cost that doubles with each order instead of growing by one
    more term.

    Parameters
    ----------
    order
        2 or 3 in the paper; 1 is `KineticEnergy`.
    """

    order: int

    def __init__(self, order: int = 2):
        self.order = check_count("order", order)

    def integrand(self, field: Callable[..., Any], t: Any, y: PyTree, args: PyTree) -> Any:
        """Return the mean square of the derivative."""
        t = jnp.asarray(t, state_dtype(y))
        leaves, structure = jax.tree.flatten((t, y))

        # Time is one more unknown, whose derivative is 1.
        def flow(*leaves):
            t, y = jax.tree.unflatten(structure, leaves)
            return tuple(jax.tree.leaves((jnp.ones_like(t), field(t, y, args))))

        # Outside `try`: what the field itself raises is not taken for a rule that is missing.
        series = [(first,) for first in flow(*leaves)]
        try:
            for _ in range(self.order - 1):
                first, higher = jet(flow, tuple(leaves), [list(s) for s in series])
                series = [(f, *h) for f, h in zip(first, higher, strict=True)]
            rates = [s[self.order - 1] for s in series]
        except _NO_RULE:
            rates = _nested(flow, self.order)(*leaves)
        return _mean_square(list(rates[1:]))


def _nested(flow: Callable[..., Any], order: int) -> Callable[..., Any]:
    """Return the derivative of some order along a flow, by forward mode in forward mode."""
    if order == 1:
        return flow
    lower = _nested(flow, order - 1)
    return lambda *leaves: jax.jvp(lower, leaves, tuple(flow(*leaves)))[1]


def augment(
    term: diffrax.ODETerm, y0: PyTree, quadratures: Mapping[str, AbstractQuadrature]
) -> tuple[diffrax.ODETerm, PyTree, Callable[[PyTree], Any]]:
    """Add integrals over time to an equation; they do not influence the steps.

    Solved backwards in time (``t1 < t0``) the integrals of positive quantities are negative: change
    their sign before they are added to a loss.

    Parameters
    ----------
    term, y0
        The equation and its initial state.
    quadratures
        Integrands by name.

    Returns
    -------
    tuple
        The equation of ``(y, integrals)``, its initial state, and a norm for
        ``PIDController(norm=...)`` that leaves the integrals out.

    Raises
    ------
    TypeError
        If ``term`` is no ``diffrax.ODETerm``.

    Examples
    --------
    >>> import diffrax, jax.numpy as jnp
    >>> term = diffrax.ODETerm(lambda t, y, args: jnp.full_like(y, 2.0))
    >>> term, y0, norm = augment(term, jnp.zeros(3), {"kinetic": KineticEnergy()})
    >>> solution = diffrax.diffeqsolve(
    ...     term, diffrax.Tsit5(), 0.0, 1.0, 0.1, y0,
    ...     stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-5, norm=norm))
    >>> round(float(solution.ys[1]["kinetic"][-1]), 5)
    4.0
    """
    if not isinstance(term, diffrax.ODETerm):
        raise TypeError(f"`augment` takes a `diffrax.ODETerm`, got {type(term).__name__}.")
    zero = jnp.zeros((), state_dtype(y0))
    extended = _WithIntegrals(term.vf, dict(quadratures))
    return diffrax.ODETerm(extended), (y0, dict.fromkeys(quadratures, zero)), norm_of_state


class _WithIntegrals(eqx.Module):
    """Field and integrands together; a module, so that adjoints see their parameters."""

    field: Any
    quadratures: dict[str, Any]

    def __call__(self, t, state, args):
        y, integrals = state
        rates = {
            name: jnp.asarray(q.integrand(self.field, t, y, args), integrals[name].dtype)
            for name, q in self.quadratures.items()
        }
        return self.field(t, y, args), rates


def norm_of_state(augmented: PyTree) -> Array:
    """Return the root mean square of the state alone, without the integrals beside it.

    Parameters
    ----------
    augmented
        State and integrals, as `augment` puts them together.
    """
    return optx.rms_norm(augmented[0])


def _mean_square(tree: PyTree) -> Any:
    return optx.rms_norm(tree) ** 2
