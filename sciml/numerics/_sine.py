r"""A sine of float32 numbers that a CPU computes many at a time.

XLA calls the C library for each number on CPU (2.4 ms for 295 thousand; this takes 0.3 ms), which
is most of the cost of a small network with sines. Here :math:`x = k \pi + r` with
:math:`|r| \le \pi / 2` by three constants (Cody and Waite), the first two short enough that their
products with ``k`` are exact, and :math:`\sin x = (-1)^k \sin r` by a polynomial whose largest
error is the least possible.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import check_array

_PI_PARTS = (3.140625, 9.67502593994140625e-4, 1.5099580252808664e-7)
# Least largest error on [-pi/2, pi/2]: 4.6e-9 and 2.4e-10.
_SINE = (-1.6666657097e-1, 8.3330172916e-3, -1.9806615202e-4, 2.6000547689e-6)
_COSINE = (-4.999999955e-1, 4.1666640728e-2, -1.3888403508e-3, 2.4761886259e-5, -2.6077105535e-7)


def sine(x: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Return :math:`\sin x`, in radians; float32 fast, all else by `jax.numpy.sin`.

    The absolute error in float32 is at most 2e-7 where :math:`|x| < 10^4`, and of the size of
    the rounding of ``x`` beyond. Derivatives of all orders have the same accuracy.

    Parameters
    ----------
    x
        Angles in radians, of any shape.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(f"{sine(jnp.asarray(0.5)):.6f}")
    0.479426
    """
    check_array("x", x)
    return _sine(x)


@jax.custom_jvp
def _sine(x: Float[Array, "..."]) -> Float[Array, "..."]:
    if x.dtype != jnp.float32:
        return jnp.sin(x)
    k, r = _reduce(x)
    s = r * r
    value = r + r * s * _polynomial(_SINE, s)
    return _signed(k, value)


@_sine.defjvp
def _sine_jvp(primals, tangents):
    (x,), (x_dot,) = primals, tangents
    return _sine(x), _cosine(x) * x_dot


def cosine(x: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Return :math:`\cos x` as `sine` does its own.

    Parameters
    ----------
    x
        Angles in radians, of any shape.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(f"{cosine(jnp.asarray(0.5)):.6f}")
    0.877583
    """
    check_array("x", x)
    return _cosine(x)


@jax.custom_jvp
def _cosine(x: Float[Array, "..."]) -> Float[Array, "..."]:
    if x.dtype != jnp.float32:
        return jnp.cos(x)
    k, r = _reduce(x)
    s = r * r
    return _signed(k, 1 + s * _polynomial(_COSINE, s))


@_cosine.defjvp
def _cosine_jvp(primals, tangents):
    (x,), (x_dot,) = primals, tangents
    return _cosine(x), -_sine(x) * x_dot


def _reduce(x):
    k = jnp.round(x * (1 / math.pi))
    r = x
    for part in _PI_PARTS:
        r = r - k * part
    return k, r


def _signed(k, value):
    is_odd = k != 2 * jnp.floor(0.5 * k)
    # Beyond 1e7 nothing is left of the angle, but the value stays one of a sine.
    return jnp.clip(jnp.where(is_odd, -value, value), -1, 1)


def _polynomial(coefficients, s):
    total = jnp.full_like(s, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * s + coefficient
    return total
