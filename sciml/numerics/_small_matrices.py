"""Rotations and singular values of many small matrices, in closed form where that exists."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import check_array, check_floating
from ._full_precision import full_precision


@full_precision
def polar_rotation(a: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Return the rotation nearest to each matrix, also where a determinant is negative.

    Parameters
    ----------
    a
        Square matrices, 2 x 2 in closed form. Of a zero matrix the answer is the identity.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> polar_rotation(jnp.array([[0.0, -3.0], [2.0, 0.0]])).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    _check_square(a)
    if a.shape[-1] == 2:
        a = a / _size(a)  # the squares of tiny entries would vanish
        c, s = a[..., 0, 0] + a[..., 1, 1], a[..., 1, 0] - a[..., 0, 1]
        # The zero matrix has no nearest rotation: any will do, here the identity.
        c = jnp.where((c == 0) & (s == 0), jnp.ones_like(c), c)
        length = jnp.sqrt(c**2 + s**2)
        c, s = c / length, s / length
        return jnp.stack([jnp.stack([c, -s], -1), jnp.stack([s, c], -1)], -2)
    u, _, v = signed_svd(a)
    return u @ jnp.swapaxes(v, -1, -2)


@full_precision
def signed_svd(
    a: Float[Array, "*batch d d"],
) -> tuple[Float[Array, "*batch d d"], Float[Array, "*batch d"], Float[Array, "*batch d d"]]:
    """Return rotations U, V and values s with ``a = U diag(s) V^T``; one value may be negative.

    Parameters
    ----------
    a
        Square matrices, 2 x 2 in closed form.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> _, values, _ = signed_svd(jnp.array([[0.0, 2.0], [3.0, 0.0]]))
    >>> values.tolist()
    [3.0, -2.0]
    """
    _check_square(a)
    if a.shape[-1] == 2:
        size = _size(a)
        a = a / size
        r = polar_rotation(a)
        s = jnp.swapaxes(r, -1, -2) @ a  # symmetric
        angle = 0.5 * jnp.arctan2(2 * s[..., 0, 1], s[..., 0, 0] - s[..., 1, 1])
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        v = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
        half = (s[..., 0, 0] + s[..., 1, 1]) / 2
        radius = jnp.sqrt(((s[..., 0, 0] - s[..., 1, 1]) / 2) ** 2 + s[..., 0, 1] ** 2)
        values = size[..., 0] * jnp.stack([half + radius, half - radius], -1)
        return r @ v, values, v
    u, s, vt = jnp.linalg.svd(a)
    v = jnp.swapaxes(vt, -1, -2)
    # Rotations on both sides: the last direction takes the sign.
    sign_u, sign_v = jnp.sign(jnp.linalg.det(u)), jnp.sign(jnp.linalg.det(v))
    u = u.at[..., :, -1].multiply(sign_u[..., None])
    v = v.at[..., :, -1].multiply(sign_v[..., None])
    return u, s.at[..., -1].multiply(sign_u * sign_v), v


def _check_square(a: Float[Array, "*batch d d"]) -> None:
    check_array("a", a)
    check_floating("a", a)
    shape = a.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] == 0:
        raise ValueError(f"`a` must hold square matrices on its last two axes, got shape {shape}.")


def _size(a: Float[Array, "*batch d d"]) -> Float[Array, "*batch 1 1"]:
    """Return a power of two near the largest entry, 1 of a zero matrix; it has no gradient."""
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(a), axis=(-2, -1), keepdims=True))
    # Products with a power of two are exact.
    power = jnp.ldexp(jnp.ones_like(size), jnp.frexp(size)[1])
    return jnp.where(size == 0, jnp.ones_like(size), power)
