"""A norm in any unit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._power_of_two import power_of_two_below
from ._safe_sqrt import safe_sqrt


def scaled_norm(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Return the Euclidean norm, also where squares of entries would leave the range of the dtype.

    Its slope at zero is zero.
    """
    unit = power_of_two_below(jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0.0)))
    return unit * safe_sqrt(jnp.sum(jnp.square(x / unit)))
