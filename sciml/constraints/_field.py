"""The field that a constraint layer gives: a function of the coordinates, and how it was found."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from ..core import RESULTS, Solution, check_array, is_successful, throw_if_failed
from ..numerics import full_precision
from ._basis import AbstractBasis
from ._points import Points
from ._residual import AbstractResidual
from ._routers import AbstractRouter


class ConstrainedField(eqx.Module):
    r""":math:`u(x) = \ell(x) + \sum_k \varphi_k(x) \sum_j w_{kj} b_j(x)`, with its diagnostics.

    A pytree and a plain function of ``x``: call it under `jax.vmap` and `jax.grad`, hand it to
    other code.

    Attributes
    ----------
    basis, router, parameters
        What the field is made of. Without a router there is one expert.
    w
        Coefficients, ``(experts, n)``.
    result
        How the solve of each expert ended, members of `sciml.core.RESULTS`.
    stats
        For each expert ``n_steps``, ``n_newton_steps``, ``stationarity``, ``residual_norm`` (root
        of the weighted mean squares), ``condition_number``, ``converged``, ``exact_defect``
        (largest row of the exact blocks), ``basis_rank``, and ``degenerate`` (an inequality is at
        its bound, neither broken nor slack: derivatives are those of one side).
    """

    basis: AbstractBasis
    router: AbstractRouter | None
    parameters: PyTree[Any]
    w: Float[Array, "experts n"]
    result: RESULTS
    stats: dict[str, Array]

    @full_precision
    def __call__(self, x: Float[Array, " d"]) -> Array:
        """Return the value at a point: a number for one field, else one for each."""
        check_array("x", x)
        if x.ndim == 0 and jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError("the point `x` must have an axis of coordinates, got a number.")
        reason = self.basis.has_shape_of_points(x[None])
        if reason:
            raise ValueError(f"the point `x` {reason}.")
        values = jnp.stack([self.jet(x[None], (f,))[f][0] for f in self.basis.fields])
        return values[0] if len(self.basis.fields) == 1 else values

    @full_precision
    def jet(self, points: Array, needs: tuple[str, ...]) -> dict[str, Array]:
        """Return derivatives by name, each with the shape of the list of points.

        Where parts of the domain meet without overlap, the field jumps, and derivatives are those
        on either side.

        Parameters
        ----------
        points
            ``(*points, d)`` coordinates, or indices of a `GridBasis`.
        needs
            Names such as ``("u", "u_xx")``.
        """
        check_array("points", points)
        return _jet(self.basis, self.router, self.w, points, self.parameters, tuple(needs))

    @full_precision
    def residual(self, block: AbstractResidual, points: Array | Points) -> Float[Array, "m rows"]:
        """Return the rows of a block at any points, for instance for the loss of the network.

        Parameters
        ----------
        block
            A residual, of the layer or another one.
        points
            As for the layer.
        """
        points = points if isinstance(points, Points) else Points(points)
        jets = self.jet(points.positions, block.needs)
        return _rows(block, self.basis, jets, points, self.parameters)

    @property
    def ok(self) -> Bool[Array, " experts"]:
        """Which experts were solved: converged, full rank, exact conditions kept."""
        return is_successful(self.result)

    def check(self) -> "ConstrainedField":
        """Return the field itself; raise ``RuntimeError`` if any expert failed, and say how."""
        throw_if_failed(
            Solution(self.w, self.result, {}), "the constraint was not met by all experts;"
        )
        return self


# Each is one program when it is called outside `jax.jit`.
@eqx.filter_jit
def _jet(basis, router, w, points, parameters, needs):
    weights = None if router is None else router.weights
    return basis.combination(w, weights, points, parameters, needs)


@eqx.filter_jit
def _rows(block, basis, jets, points, parameters):
    x = basis.positions(points.positions)
    return jax.vmap(lambda jet, x, q: block.item(jet, x, q, parameters))(jets, x, points.quadrature)
