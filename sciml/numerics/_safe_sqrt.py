"""A square root that can be differentiated where it is zero."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def safe_sqrt(squared: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the square root, with the slope zero at zero instead of infinity.

    Infinity times zero would be a NaN in the gradient of a norm. A NaN is not zero and passes
    through: a forecast that blew up must not look exact.
    """
    zero = squared == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))
