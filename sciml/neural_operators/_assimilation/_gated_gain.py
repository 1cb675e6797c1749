"""The correction of NODA: a state-dependent gain that is linear in the innovation."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import Field, KeyArray, check_count, check_positive, check_shape, cites, split_keys
from ...data import AbstractNormaliser, IdentityNormaliser
from ...nn import LayerForm, SpectralConv
from .._fno import FNO
from ._bibliography import SINGH_2024
from ._spread import spread

# Where the gates start: near a nudging by half of the first weighted mean, which already works.
_DIRECT, _FIRST_MEAN, _SMALL = -3.0, 0.5, 0.1


@cites(SINGH_2024)
class GatedGain(eqx.Module):
    r"""Learned gain :math:`K(z, M)[e]`, linear in the innovation ``e``.

    .. math::
        K(z, M)[e] = \sigma(g_0) \, e + \sum_\ell \tanh(g_\ell) \, S_\ell e
                     + \sum_r \tanh(a_r) \, (R * (\tanh(b) \, S_1 e))_r

    with gates :math:`g, a, b` that a small `FNO` computes from the forecast ``z`` and the mask
    ``M`` of the sensors that report, weighted means :math:`S_\ell e` of the innovations around
    each point, and a learned convolution ``R`` without bias. So an innovation of zero, or no
    sensor, gives a correction of exactly zero, and the gates decide how much of the innovation to
    believe where; they start near nudging by half of the first mean. The published gain is known
    from a description only; this is our form of it.

    Parameters
    ----------
    channels
        Channels of the field.
    n_modes
        Modes an axis of the gates' network and of the convolution.
    lengths
        Lengths of the weighted means, in grid points: from half the distance between sensors up.
    hidden_channels, n_layers
        Width and depth of the gates' network.
    rank
        Terms of the convolution.
    normaliser
        Scale of the data, for the gates' network.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] A. Singh et al., "Learning semilinear neural operators", ICLR 2024.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> gain = GatedGain(1, (4,), hidden_channels=6, key=jax.random.key(7))
    >>> z, mask = jnp.ones((1, 16)), jnp.ones((1, 16))
    >>> float(jnp.abs(gain(z, jnp.zeros((1, 16)), mask)).max())
    0.0
    """

    gates: FNO
    convolution: SpectralConv
    normaliser: AbstractNormaliser
    channels: int = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)
    lengths: tuple[float, ...] = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    rank: int = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        n_modes: Sequence[int],
        *,
        lengths: Sequence[float | int] = (2.0, 4.0),
        hidden_channels: int = 16,
        n_layers: int = 2,
        rank: int = 4,
        normaliser: AbstractNormaliser | None = None,
        key: KeyArray,
    ):
        self.channels = check_count("channels", channels)
        self.n_modes = tuple(n_modes)
        for length in lengths:
            check_positive("lengths", length)
        if not len(lengths):
            raise ValueError("`lengths` must hold at least one length.")
        self.lengths = tuple(float(length) for length in lengths)
        self.hidden_channels = hidden_channels
        self.n_layers = n_layers
        self.rank = check_count("rank", rank)
        self.normaliser = IdentityNormaliser() if normaliser is None else normaliser
        gates_key, convolution_key = split_keys(key)
        n_gates = channels * (1 + len(self.lengths) + 2 * rank)
        gates = FNO(
            2 * channels,
            n_gates,
            n_modes,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            coordinates=False,
            form=LayerForm.PLAIN,
            key=gates_key,
        )
        last = gates.projection.second.weight
        self.gates = eqx.tree_at(lambda m: m.projection.second.weight, gates, _SMALL * last)
        self.convolution = SpectralConv(
            rank * channels, rank * channels, n_modes, key=convolution_key
        )

    def __call__(self, z: Field, e: Field, density: Field) -> Field:
        """Return the correction.

        Parameters
        ----------
        z
            The forecast.
        e
            The innovations as a field: the adjoint of what was measured less what was forecast,
            zero where nothing is known.
        density
            The adjoint of the mask: where sensors report.

        Raises
        ------
        ValueError
            If the shapes differ from one another or from ``channels``.
        """
        axes = tuple(f"space_{i}" for i in range(len(self.n_modes)))
        check_shape("z", z, (self.channels, *axes))
        check_shape("e", e, z.shape)
        check_shape("density", density, z.shape)
        density = density.astype(z.dtype)
        means, _ = spread(e, density, self.lengths)
        seen = jnp.concatenate([self.normaliser.encode(z[None])[0], density])
        gates = self.gates(seen).reshape(-1, *z.shape)
        direct, mean_gates, before, after = jnp.split(
            gates, (1, 1 + len(self.lengths), 1 + len(self.lengths) + self.rank)
        )
        offsets = [_FIRST_MEAN, *(0.0 for _ in self.lengths[1:])]
        offsets = jnp.asarray(offsets, z.dtype).reshape(-1, *(1,) * z.ndim)
        mean_gates = jnp.tanh(mean_gates + offsets)
        correction = jax.nn.sigmoid(direct[0] + _DIRECT) * e + jnp.sum(mean_gates * means, axis=0)
        return correction + self._convolved(means[0], jnp.tanh(before), jnp.tanh(after))

    def _convolved(
        self,
        mean: Field,
        before: Float[Array, "rank channels *space"],
        after: Float[Array, "rank channels *space"],
    ) -> Field:
        v = (before * mean[None]).reshape(-1, *mean.shape[1:])
        return jnp.sum(after * self.convolution(v).reshape(after.shape), axis=0)
