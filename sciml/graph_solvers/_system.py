"""The map h = phi(W h + b) on the edges of a graph, and what certifies a fixed point of it."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class ContractionSystem(eqx.Module):
    """The map ``h -> phi(W h + b)``, with one sparse matrix ``W`` for each head.

    Parameters
    ----------
    weights
        The entries of ``W``, shape ``(n_edges, heads)``; entries at one place add up.
    bias
        ``b``, shape ``(n_nodes, heads)``.
    rows, columns
        Where the entries stand, shape ``(n_edges,)``.
    factor
        A bound on the Lipschitz constant in the norm of the certificate.
    activation
        A pointwise function whose slope stays within [-1, 1]; None for a linear map.
    transposed
        Whether the columns of ``W``, not its rows, sum to ``factor`` at most. The norm is then
        the sum over the nodes instead of the largest entry; of the heads the largest counts.
    """

    weights: Float[Array, "n_edges heads"]
    bias: Float[Array, "n_nodes heads"]
    rows: Int[Array, " n_edges"]
    columns: Int[Array, " n_edges"]
    factor: Float[Array, ""]
    activation: Callable[[Array], Array] | None = eqx.field(static=True, default=None)
    transposed: bool = eqx.field(static=True, default=False)

    def norm(self, h: Float[Array, "n_nodes heads"]) -> Float[Array, ""]:
        """Return the norm in which the map contracts."""
        size = jnp.abs(h)
        return jnp.max(jnp.sum(size, axis=0) if self.transposed else size, initial=0.0)

    def product(self, h: Float[Array, "n_nodes heads"]) -> Float[Array, "n_nodes heads"]:
        """Return ``W h``."""
        return jax.ops.segment_sum(self.weights * h[self.columns], self.rows, len(self.bias))

    def apply(self, h: Float[Array, "n_nodes heads"]) -> Float[Array, "n_nodes heads"]:
        """Return ``phi(W h + b)``."""
        z = self.product(h) + self.bias
        return z if self.activation is None else self.activation(z)

    def tolerance(
        self, h: Float[Array, "n_nodes heads"], rtol: float, atol: float
    ) -> Float[Array, ""]:
        """Return what the residual must not exceed: that of the error, times one minus factor.

        It is at least what rounding leaves in a residual (16 units in the last place).
        """
        size = self.norm(h)
        margin = jnp.maximum(1 - self.factor, jnp.zeros((), h.dtype))
        return jnp.maximum(margin * (atol + rtol * size), 16 * jnp.finfo(h.dtype).eps * size)

    def residual_norm(self, h: Float[Array, "n_nodes heads"]) -> Float[Array, ""]:
        """Return the norm of ``phi(W h + b) - h``."""
        return self.norm(self.apply(h) - h)

    def converged(
        self, h: Float[Array, "n_nodes heads"], residual: Float[Array, ""], rtol: float, atol: float
    ) -> Bool[Array, ""]:
        """Return whether a residual meets the tolerance."""
        return residual <= self.tolerance(h, rtol, atol)
