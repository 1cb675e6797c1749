"""A guard for the routines that need double precision; sciml itself never flips the switch."""

import jax.numpy as jnp


def require_float64(purpose: str) -> None:
    """Raise ``ValueError`` with the remedy unless JAX computes in float64.

    Parameters
    ----------
    purpose
        What needs double precision; it opens the sentence of the error.
    """
    if not float64_enabled():
        raise ValueError(
            f"{purpose} needs float64, and JAX computes in float32 now. Turn it on with "
            "`jax.config.update('jax_enable_x64', True)` before the first array is made, set "
            "the environment variable JAX_ENABLE_X64=1, or wrap the call in "
            "`with jax.enable_x64(True):`."
        )


def float64_enabled() -> bool:
    """Return whether JAX keeps float64 arrays as they are."""
    return jnp.result_type(float) == jnp.float64


def real_dtype() -> jnp.dtype:
    """Return JAX's default real dtype: float64 where it is enabled, otherwise float32."""
    return jnp.result_type(float)
