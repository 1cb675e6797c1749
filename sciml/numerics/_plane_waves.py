r"""Real Fourier coefficients of a field as complex amplitudes of plane waves, and back.

A real series in :math:`d` coordinates has, for each frequency, :math:`2^d` products of cosines and
sines. They are :math:`2^{d-1}` pairs of opposite plane waves, and the change between the two is
orthogonal. A shift of the field turns the phase of each wave, a derivative multiplies it by an
imaginary number: what commutes with shifts is a complex factor for each wave. Complex numbers are
kept as pairs of real ones, so that every precision is possible.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def wave_shape(n_modes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the waves: signs of all frequencies but the first, then frequencies."""
    return (2 ** (len(n_modes) - 1), *(m // 2 + 1 for m in n_modes))


def to_plane_waves(z: Float[Array, "channels *modes"]) -> Float[Array, "2 channels waves"]:
    """Return real and imaginary parts of the amplitudes of all waves.

    Waves that do not exist, or have no sine (the highest of an even number of modes), have zeros.
    """
    waves = [_cosines_and_sines(z, 1)]
    for axis in range(2, z.ndim):
        split = []
        for real, imaginary in waves:
            r0, r1 = _cosines_and_sines(real, axis)
            i0, i1 = _cosines_and_sines(imaginary, axis)
            split += [(r0 - i1, i0 + r1), (r0 + i1, i0 - r1)]
        waves = split
    scale = 2.0 ** (-0.5 * (z.ndim - 2))
    parts = [jnp.stack(part, axis=1).reshape(len(z), -1) for part in zip(*waves, strict=True)]
    return scale * jnp.stack(parts)


def from_plane_waves(
    amplitudes: Float[Array, "2 channels waves"], n_modes: Sequence[int]
) -> Float[Array, "channels *modes"]:
    """Return the real coefficients of waves: the inverse, and the transpose, of the other."""
    n_signs, *frequencies = wave_shape(n_modes)
    shape = (2, amplitudes.shape[1], n_signs, *frequencies)
    parts = 2.0 ** (-0.5 * (len(n_modes) - 1)) * amplitudes.reshape(shape)
    waves = [(parts[0, :, i], parts[1, :, i]) for i in range(n_signs)]
    for axis in range(len(n_modes), 1, -1):
        joined = []
        for (r0, i0), (r1, i1) in zip(waves[::2], waves[1::2], strict=True):
            m = n_modes[axis - 1]
            real = _interleaved(r0 + r1, i0 - i1, axis, m)
            joined.append((real, _interleaved(i0 + i1, r1 - r0, axis, m)))
        waves = joined
    return _interleaved(*waves[0], 1, n_modes[0])


def n_waves(n_modes: Sequence[int]) -> int:
    """Return the number of waves."""
    return math.prod(wave_shape(n_modes))


def _cosines_and_sines(z: Array, axis: int) -> tuple[Array, Array]:
    """Split the order 1, cos, sin, cos, sin, ... of an axis; the constant has a sine of zero."""
    z = jnp.moveaxis(z, axis, 0)
    none = jnp.zeros_like(z[:1])
    last = [none] if len(z) % 2 == 0 else []
    cosines = jnp.concatenate([z[:1], z[1::2]])
    sines = jnp.concatenate([none, z[2::2], *last])
    return jnp.moveaxis(cosines, 0, axis), jnp.moveaxis(sines, 0, axis)


def _interleaved(cosines: Array, sines: Array, axis: int, m: int) -> Array:
    cosines, sines = (jnp.moveaxis(part, axis, 0) for part in (cosines, sines))
    pairs = jnp.stack([cosines[1:], sines[1:]], axis=1).reshape(-1, *cosines.shape[1:])
    return jnp.moveaxis(jnp.concatenate([cosines[:1], pairs])[:m], 0, axis)
