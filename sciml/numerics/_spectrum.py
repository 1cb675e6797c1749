"""Energy against wavenumber, in shells that miss nothing."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._fourier import (
    Extent,
    RealArray,
    as_real_array,
    extent_tuple,
    host_half_spectrum_weights,
    host_squared_wavenumber,
    lift,
    rfftn,
)


def energy_spectrum(
    field: RealArray, domain_extent: Extent
) -> tuple[Float[Array, " shells"], Float[Array, "..."]]:
    r"""Return the energy of a field in shells of wavenumber.

    .. math:: E_j = \frac{1}{2} \sum_{|k| \in S_j} |\hat u_k|^2, \quad
              S_j = [(j - \tfrac12) k_0, (j + \tfrac12) k_0), \quad k_0 = 2 \pi / \max_i L_i

    Every mode belongs to a shell, those in the corners of the spectrum too, so the shells sum to
    half the mean square of the field.

    Parameters
    ----------
    field
        Shape ``(..., channels, *space)``: a velocity for the kinetic energy, a vorticity for the
        enstrophy. Channels are summed.
    domain_extent
        Periods of the box.

    Returns
    -------
    wavenumber
        Centres :math:`j k_0` of the shells from 0 on, shape ``(shells,)``.
    energy
        Energy of each shell, not divided by its width, shape ``(..., shells)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x = jnp.arange(16) / 16
    >>> wave = jnp.cos(2 * jnp.pi * 3 * x)[None]
    >>> wavenumber, energy = energy_spectrum(wave, 1.0)
    >>> int(jnp.argmax(energy)), round(float(energy.sum()), 4)
    (3, 0.25)
    """
    extent = extent_tuple(domain_extent)
    d = len(extent)
    field = as_real_array("field", field, d + 1)
    n_points = field.shape[-d:]
    unit = 2 * np.pi / max(extent)
    radius = np.sqrt(host_squared_wavenumber(n_points, extent)) / unit
    # Round half up, with room for the last bit of the root: modes of one length share a shell.
    shell = np.floor(radius + 0.5 + 1e-9).astype(np.int64)
    n_shells = int(shell.max()) + 1

    u_hat = rfftn(field, d)
    weights = np.broadcast_to(0.5 * host_half_spectrum_weights(n_points[-1]), shell.shape)
    density = lift(weights, u_hat) * (jnp.square(u_hat.real) + jnp.square(u_hat.imag))
    density = jnp.sum(density, axis=-d - 1).reshape(*field.shape[: -d - 1], shell.size)
    energy = jnp.zeros((*density.shape[:-1], n_shells), density.dtype)
    energy = energy.at[..., jnp.asarray(shell.ravel())].add(density)
    return jnp.asarray(unit * np.arange(n_shells), density.dtype), energy
