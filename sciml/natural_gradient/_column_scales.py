"""What parameters are scaled by before a Gauss-Newton step is damped."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def column_scales(norms: Float[Array, " parameters"], least: float) -> Float[Array, " parameters"]:
    """Return the norms of a Jacobian's columns, none far below the largest.

    A saturated neuron hardly moves the values. Damped by its own norm only, it would be sent far
    off, out of the range in which the Jacobian says anything.

    Parameters
    ----------
    norms
        One a parameter. Of zeros ones are made.
    least
        The smallest part of the largest norm that is left.
    """
    largest = jnp.max(norms)
    return jnp.where(largest > 0, jnp.maximum(norms, least * largest), jnp.ones_like(norms))
