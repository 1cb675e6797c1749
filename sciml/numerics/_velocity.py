r"""Between vorticity, stream function and velocity on periodic boxes, and the Leray projection.

In two dimensions :math:`u = (\partial_y \psi, -\partial_x \psi)`, :math:`-\Delta \psi = \omega =
\partial_x u_y - \partial_y u_x`. Derivatives are those of the trigonometric interpolant, so odd
derivatives of Nyquist modes are zero (see `sciml.numerics.spectral_derivative`).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._fourier import (
    Extent,
    RealArray,
    as_real_array,
    extent_tuple,
    host_squared_wavenumber,
    host_wavenumbers,
    irfftn,
    rfftn,
    scale,
    scale_by_i,
)


def stream_function(vorticity: RealArray, domain_extent: Extent) -> Float[Array, "..."]:
    r"""Return the solution of mean zero of :math:`-\Delta \psi = \omega - \bar\omega`.

    Parameters
    ----------
    vorticity
        Shape ``(..., *space)``, as many space axes as periods. A periodic flow has vorticity of
        mean zero; a mean that is there all the same is left out.
    domain_extent
        Periods of the box.

    Returns
    -------
    Array
        The shape and dtype of ``vorticity``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> wave = jnp.sin(2 * jnp.pi * jnp.arange(8) / 8)
    >>> vorticity = jnp.broadcast_to(4 * wave[:, None], (8, 8))
    >>> psi = stream_function(vorticity, (4 * jnp.pi, 1.0))
    >>> bool(jnp.allclose(psi, 16 * wave[:, None], atol=1e-5))
    True
    """
    extent = extent_tuple(domain_extent)
    vorticity = as_real_array("vorticity", vorticity, len(extent))
    n_points = vorticity.shape[-len(extent) :]
    vorticity_hat = rfftn(vorticity, len(extent))
    inverse = _inverse_or_zero(host_squared_wavenumber(n_points, extent))
    return irfftn(scale(inverse, vorticity_hat), n_points)


def velocity_from_vorticity(
    vorticity: RealArray, domain_extent: Extent, mean_velocity: tuple[float, float] = (0.0, 0.0)
) -> Float[Array, "..."]:
    """Return the velocity of a two-dimensional flow.

    Parameters
    ----------
    vorticity
        Shape ``(..., 1, x, y)``.
    domain_extent
        Periods along x and y.
    mean_velocity
        The mean flow, which the vorticity does not know.

    Returns
    -------
    Array
        Free of divergence, shape ``(..., 2, x, y)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> y = 2 * jnp.pi * jnp.arange(8) / 8
    >>> shear = jnp.broadcast_to(-jnp.cos(y), (1, 8, 8))
    >>> velocity = velocity_from_vorticity(shear, (2 * jnp.pi, 2 * jnp.pi))
    >>> bool(jnp.allclose(velocity[0, 0], jnp.sin(y), atol=1e-6))
    True
    """
    extent = _check_dims(domain_extent, (2,))
    vorticity = _as_vector_field("vorticity", vorticity, 1, extent)
    n_points = vorticity.shape[-2:]
    kx, ky = host_wavenumbers(n_points, extent, True)
    inverse = _inverse_or_zero(host_squared_wavenumber(n_points, extent))
    vorticity_hat = rfftn(vorticity, 2)
    velocity_hat = scale_by_i(np.stack([ky * inverse, -kx * inverse]), vorticity_hat)
    mean = jnp.asarray(mean_velocity, vorticity.dtype)
    return irfftn(velocity_hat, n_points) + mean.reshape((1,) * (vorticity.ndim - 3) + (2, 1, 1))


def vorticity_from_velocity(velocity: RealArray, domain_extent: Extent) -> Float[Array, "..."]:
    """Return the curl of a velocity in two or three dimensions.

    Parameters
    ----------
    velocity
        Shape ``(..., 2, x, y)`` or ``(..., 3, x, y, z)``.
    domain_extent
        Periods; their number chooses the dimension.

    Returns
    -------
    Array
        Shape ``(..., 1, x, y)`` or ``(..., 3, x, y, z)``.
    """
    extent = _check_dims(domain_extent, (2, 3))
    d = len(extent)
    velocity = _as_vector_field("velocity", velocity, d, extent)
    n_points = velocity.shape[-d:]
    u_hat = rfftn(velocity, d)
    components = [jnp.take(u_hat, axis, axis=-d - 1) for axis in range(d)]
    k = host_wavenumbers(n_points, extent, True)

    def derivative(component: int, axis: int) -> Array:
        return scale_by_i(k[axis], components[component])

    pairs = [(0, 1)] if d == 2 else [(1, 2), (2, 0), (0, 1)]
    curl = [derivative(j, i) - derivative(i, j) for i, j in pairs]
    return irfftn(jnp.stack(curl, axis=-d - 1), n_points)


def divergence(velocity: RealArray, domain_extent: Extent) -> Float[Array, "..."]:
    """Return the divergence of a vector field.

    Parameters
    ----------
    velocity
        Shape ``(..., d, *space)`` in ``d`` dimensions.
    domain_extent
        Periods of the box.

    Returns
    -------
    Array
        Shape ``(..., 1, *space)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x, y = jnp.meshgrid(*2 * [2 * jnp.pi * jnp.arange(8) / 8], indexing="ij")
    >>> velocity, extent = jnp.stack([jnp.sin(x), jnp.cos(x)]), (2 * jnp.pi, 2 * jnp.pi)
    >>> bool(jnp.allclose(divergence(velocity, extent), jnp.cos(x), atol=1e-5))
    True
    """
    extent = extent_tuple(domain_extent)
    d = len(extent)
    velocity = _as_vector_field("velocity", velocity, d, extent)
    n_points = velocity.shape[-d:]
    u_hat = rfftn(velocity, d)
    terms = scale_by_i(_wave_vector(n_points, extent), u_hat)
    return irfftn(jnp.sum(terms, axis=-d - 1, keepdims=True), n_points)


def leray_project(velocity: RealArray, domain_extent: Extent) -> Float[Array, "..."]:
    r"""Project a vector field onto those without divergence, orthogonally in every H^s.

    .. math:: \hat u_k \leftarrow \hat u_k - k\, (k \cdot \hat u_k) / |k|^2

    Parameters
    ----------
    velocity
        Shape ``(..., d, *space)`` in ``d`` = 2 or 3 dimensions.
    domain_extent
        Periods of the box.

    Returns
    -------
    Array
        The shape and dtype of ``velocity``. The mean flow is kept: a constant has no divergence.

    Examples
    --------
    A gradient is projected to zero.

    >>> import jax.numpy as jnp
    >>> x = 2 * jnp.pi * jnp.arange(8) / 8
    >>> gradient = jnp.stack([jnp.tile(jnp.sin(x)[:, None], (1, 8)), jnp.zeros((8, 8))])
    >>> bool(jnp.abs(leray_project(gradient, (6.2831853, 6.2831853))).max() < 1e-6)
    True
    """
    extent = _check_dims(domain_extent, (2, 3))
    d = len(extent)
    velocity = _as_vector_field("velocity", velocity, d, extent)
    n_points = velocity.shape[-d:]
    u_hat = rfftn(velocity, d)
    # Zero Nyquist wavenumbers here too, or the result would not be free of the divergence that
    # the odd derivatives measure.
    k = _wave_vector(n_points, extent)
    inverse = _inverse_or_zero(np.sum(k**2, axis=0, keepdims=True))
    along = jnp.sum(scale(k, u_hat), axis=-d - 1, keepdims=True)
    return irfftn(u_hat - scale(k * inverse, along), n_points)


def _wave_vector(n_points: tuple[int, ...], extent: tuple[float, ...]) -> np.ndarray:
    return np.stack(np.broadcast_arrays(*host_wavenumbers(n_points, extent, True)))


def _inverse_or_zero(squared: np.ndarray) -> np.ndarray:
    return np.divide(1.0, squared, out=np.zeros_like(squared), where=squared > 0)


def _check_dims(domain_extent: Extent, allowed: tuple[int, ...]) -> tuple[float, ...]:
    extent = extent_tuple(domain_extent)
    if len(extent) not in allowed:
        raise ValueError(
            f"`domain_extent` must hold {' or '.join(map(str, allowed))} periods, one per space "
            f"axis; got {domain_extent!r}."
        )
    return extent


def _as_vector_field(
    name: str, field: RealArray, n_components: int, extent: tuple[float, ...]
) -> Float[Array, "..."]:
    d = len(extent)
    field = as_real_array(name, field, d + 1)
    if field.shape[-d - 1] != n_components:
        raise ValueError(
            f"axis {field.ndim - d - 1} of `{name}` must hold {n_components} component(s) before "
            f"{d} space axes; got shape {field.shape}."
        )
    return field
