"""Spectral convolution: a learned linear map per Fourier mode (Li et al. 2021, eq. 5)."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from ..core import KeyArray, check_count, check_shape, cites
from ..core._bibliography import LI_2021
from ..numerics import full_precision, truncated_irfftn, truncated_rfftn
from ._initial_weights import spectral_weights


@cites(LI_2021)
class SpectralConv(eqx.Module):
    r"""Mix channels mode by mode: :math:`\hat q_k = R_k \hat v_k` for the low modes, else zero.

    It works in any dimension, on any grid with enough points and from one grid to another; the
    coefficients are forward-normalised, so the amplitude of the output depends on neither grid.
    Weights start in float32 and are cast to the dtype of the input. An input in half precision is
    transformed as such, but its coefficients are summed and mixed in float32.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    n_modes
        Modes ``m`` an axis: frequencies below ``m`` in absolute value are kept. The last axis
        uses the half spectrum.
    key
        PRNG key of the initial weights: centred normal, scaled so that a band-limited input
        keeps its variance.

    References
    ----------
    .. [1] Z. Li et al., "Fourier neural operator for parametric partial differential equations",
           ICLR 2021.

    Examples
    --------
    >>> import jax
    >>> layer = SpectralConv(2, 3, (4, 4), key=jax.random.key(7))
    >>> layer(jax.numpy.ones((2, 16, 16))).shape
    (3, 16, 16)
    """

    # Modes first and inputs last: each mode's product then reads its weights as they lie, forward
    # and backward, and no transposed copy of what may be most of a model is ever made.
    weight: Float[Array, "*modes out_channels 2 in_channels"]
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_modes: Sequence[int],
        *,
        key: KeyArray,
    ):
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.n_modes = tuple(check_count(f"n_modes[{axis}]", m) for axis, m in enumerate(n_modes))
        shape = (in_channels, out_channels, *_kept(self.n_modes), 2)
        # Real and imaginary parts share the variance 1 / in_channels of a complex weight.
        scale = 1 / math.sqrt(2 * in_channels)
        last = len(shape) - 1
        self.weight = spectral_weights(key, shape, scale, (*range(2, last), 1, last, 0))

    def __call__(
        self, v: Float[Array, "in_channels *space"], *, n_points: Sequence[int] | None = None
    ) -> Float[Array, "out_channels *space_out"]:
        """Return the convolution of ``v``, on the grid of ``v`` or on ``n_points``.

        Raises
        ------
        ValueError
            If the number of channels or axes differs, or an axis has fewer than ``2 m - 1``
            points.
        """
        mixed = self.mix(self.coefficients(v))
        return truncated_irfftn(mixed, n_points or v.shape[1:], dtype=v.dtype)

    def coefficients(
        self, v: Float[Array, "in_channels *space"]
    ) -> Complex[Array, "in_channels *modes"]:
        """Return the Fourier coefficients of ``v`` that the layer keeps."""
        axes = tuple(f"space_{axis}" for axis in range(len(self.n_modes)))
        check_shape("v", v, (self.in_channels, *axes))
        return truncated_rfftn(v, self.n_modes)

    @full_precision
    def mix(
        self, coefficients: Complex[Array, "in_channels *modes"]
    ) -> Complex[Array, "out_channels *modes"]:
        """Return the mixed coefficients, the layer's output before the inverse transform."""
        weight = self.weight.astype(jnp.finfo(coefficients.dtype).dtype)
        modes = coefficients.shape[1:]
        weight = weight.reshape(-1, self.out_channels, 2 * self.in_channels)
        real, imag = (f(coefficients).reshape(self.in_channels, -1) for f in (jnp.real, jnp.imag))
        # Real and imaginary part of a product as real products: (modes, parts and in, out parts).
        parts = jnp.stack([jnp.stack([real, -imag]), jnp.stack([imag, real])], axis=-1)
        parts = jnp.transpose(parts, (2, 0, 1, 3)).reshape(-1, 2 * self.in_channels, 2)
        # Weights come first: no product, forward or backward, then reads them across.
        mixed = lax.dot_general(weight, parts, (((2,), (1,)), ((0,), (0,))))
        # Of `split`, the derivative is one concatenation; that of indexing is a sum of padded ones.
        real, imag = lax.split(jnp.transpose(mixed, (2, 1, 0)), (1, 1))
        return lax.complex(real, imag).reshape(self.out_channels, *modes)

    def widen(self, n_modes: Sequence[int]) -> "SpectralConv":
        """Return the same function with room for more modes, whose weights start at zero.

        Raises
        ------
        ValueError
            If an axis would lose modes.
        """
        n_modes = tuple(n_modes)
        if len(n_modes) != len(self.n_modes) or any(
            new < old for new, old in zip(n_modes, self.n_modes, strict=False)
        ):
            raise ValueError(f"cannot widen n_modes={self.n_modes} to {n_modes}: modes would go.")
        pad = [(new - old, new - old) for new, old in zip(n_modes, self.n_modes, strict=True)]
        pad[-1] = (0, n_modes[-1] - self.n_modes[-1])
        wide = SpectralConv(
            self.in_channels,
            self.out_channels,
            n_modes,
            key=jax.random.key(0),
        )
        weight = jnp.pad(self.weight, [*pad, (0, 0), (0, 0), (0, 0)])
        return eqx.tree_at(lambda layer: layer.weight, wide, weight)


def _kept(n_modes: tuple[int, ...]) -> tuple[int, ...]:
    return (*(2 * m - 1 for m in n_modes[:-1]), n_modes[-1])
