r"""The functions of exponential integrators, without cancellation.

.. math:: \varphi_1(z) = \frac{e^z - 1}{z}, \quad
          \varphi_{j+1}(z) = \frac{\varphi_j(z) - 1/j!}{z}, \quad \varphi_j(0) = \frac{1}{j!}

For ``|z| < 1`` the recurrence loses all digits, and the Taylor series is summed instead; beyond
it loses two bits at most.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

# |z|^17 / 20! < 1e-18: enough for float64 on the unit disc.
_N_TERMS = 17


def phi_functions(z: np.ndarray | jax.Array) -> tuple[np.ndarray | jax.Array, ...]:
    """Return phi_1, phi_2 and phi_3 of a real or complex array, in NumPy or JAX like ``z``.

    Examples
    --------
    >>> import numpy as np
    >>> [round(float(phi), 6) for phi in phi_functions(np.zeros(()))]
    [1.0, 0.5, 0.166667]
    """
    xp = jnp if isinstance(z, jax.Array) else np
    small = abs(z) < 1
    # Each branch sees only arguments that suit it, so neither overflows nor divides by zero: the
    # gradient of the branch not taken would otherwise be a NaN.
    z_small = xp.where(small, z, xp.zeros_like(z))
    z_large = xp.where(small, xp.ones_like(z), z)
    series = z_small * 0 + 1 / math.factorial(_N_TERMS + 3)
    for n in reversed(range(_N_TERMS)):
        series = series * z_small + 1 / math.factorial(n + 3)
    phi_3_small = series
    phi_2_small = z_small * phi_3_small + 0.5
    phi_1_small = z_small * phi_2_small + 1.0
    phi_1_large = xp.expm1(z_large) / z_large
    phi_2_large = (phi_1_large - 1.0) / z_large
    phi_3_large = (phi_2_large - 0.5) / z_large
    return (
        xp.where(small, phi_1_small, phi_1_large),
        xp.where(small, phi_2_small, phi_2_large),
        xp.where(small, phi_3_small, phi_3_large),
    )
