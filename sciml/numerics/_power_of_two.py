"""Powers of two, by which a system is scaled without rounding before its squares are summed."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def power_of_two_below(size: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the powers of two just below ``size`` (1 where there is none): scaling is exact."""
    mantissa, exponent = jnp.frexp(size)
    info = jnp.finfo(size.dtype)
    # The inverse of the scale must be a normal number too.
    exponent = jnp.clip(exponent - 1, info.minexp + 1, -info.minexp - 2)
    usable = jnp.isfinite(mantissa) & (mantissa > 0)
    one = jnp.ones((), size.dtype)
    return jnp.where(usable, jnp.ldexp(one, exponent), one)
