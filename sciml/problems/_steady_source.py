"""A forcing that is constant in time, kept as Fourier coefficients in real pairs.

Real pairs, since complex leaves break gradients (rule S4); in Fourier space, so that no step
transforms the constant forcing again.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from ..core import check_finite, check_floating, check_shape
from ..numerics import rfftn


def forcing_pairs(
    forcing: Float[Array | np.ndarray, "..."] | None, n_points: tuple[int, ...]
) -> Float[Array, "1 *modes 2"] | None:
    """Return the coefficients of a forcing ``(1, *n_points)`` after checking it; None stays None.

    Raises
    ------
    TypeError, ValueError
        If it is not real floating-point, on another grid, or not finite.
    """
    if forcing is None:
        return None
    check_floating("forcing", forcing)
    check_shape("forcing", forcing, (1, *n_points))
    check_finite("forcing", forcing)
    forcing_hat = rfftn(forcing, len(n_points))
    return jnp.stack([forcing_hat.real, forcing_hat.imag], axis=-1)


def from_pairs(pairs: Float[Array, "*modes 2"]) -> Complex[Array, "*modes"]:
    """Return the complex numbers of real pairs."""
    return jax.lax.complex(pairs[..., 0], pairs[..., 1])
