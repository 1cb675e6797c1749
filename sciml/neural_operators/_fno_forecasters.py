"""The two ways in which Li et al. (2021) forecast with an FNO: step by step, and all at once."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, cites
from ..core._bibliography import LI_2021
from ..data import AbstractNormaliser, IdentityNormaliser
from ._fno import FNO
from ._forecaster import AbstractForecaster, check_forecast_inputs


@cites(LI_2021)
class AutoregressiveFNO(AbstractForecaster):
    """FNO in space that predicts the next snapshot and is fed its own output ("FNO-2d").

    The ``n_in`` last snapshots enter as channels; the network gives the change to the next one.
    Gradients run through all steps.

    Parameters
    ----------
    channels
        Channels of a snapshot.
    n_in
        Snapshots that the network sees.
    n_modes
        Modes a space axis.
    hidden_channels, n_layers
        Width and depth of the network.
    context_channels
        Channels of the static fields.
    normaliser
        Scale of the data.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] Z. Li et al., "Fourier neural operator for parametric partial differential equations",
           ICLR 2021, section 5.3.

    Examples
    --------
    >>> import jax
    >>> model = AutoregressiveFNO(1, 3, (4, 4), hidden_channels=6, key=jax.random.key(7))
    >>> model(jax.numpy.ones((3, 1, 16, 16)), 5).shape
    (5, 1, 16, 16)
    """

    network: FNO
    normaliser: AbstractNormaliser
    channels: int = eqx.field(static=True)
    n_in: int = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    context_channels: int = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        n_in: int,
        n_modes: Sequence[int],
        *,
        hidden_channels: int = 20,
        n_layers: int = 4,
        context_channels: int = 0,
        normaliser: AbstractNormaliser | None = None,
        key: KeyArray,
    ):
        self.channels = check_count("channels", channels)
        self.n_in = check_count("n_in", n_in)
        self.n_modes = tuple(n_modes)
        self.hidden_channels = hidden_channels
        self.n_layers = n_layers
        self.context_channels = check_count("context_channels", context_channels, minimum=0)
        self.normaliser = IdentityNormaliser() if normaliser is None else normaliser
        self.network = FNO(
            channels * n_in + context_channels,
            channels,
            n_modes,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            coordinates=context_channels == 0,
            key=key,
        )

    def __call__(
        self,
        inputs: Float[Array, "n_in channels *space"],
        n_steps: int,
        *,
        context: Float[Array, "context_channels ..."] | None = None,
    ) -> Float[Array, "n_steps channels *space"]:
        """Return the ``n_steps`` snapshots after ``inputs``, of which the last ``n_in`` are used.

        Raises
        ------
        ValueError
            If there are fewer than ``n_in`` snapshots or a shape does not fit.
        """
        _check(self, inputs, n_steps, context, n_space=len(self.n_modes))
        window = self.normaliser.encode(inputs[-self.n_in :])
        return self.normaliser.decode(_forecast(self.network, window, int(n_steps), context))


# Compiled once for all calls, with the network as an argument: a scan alone would be compiled, and
# kept, in each of them.
@eqx.filter_jit
def _forecast(network: FNO, window: Array, n_steps: int, context: Array | None) -> Array:
    def step(window, _):
        v = window.reshape(-1, *window.shape[2:])
        if context is not None:
            v = jnp.concatenate([v, context.astype(v.dtype)])
        following = window[-1] + network(v)
        return jnp.concatenate([window[1:], following[None]]), following

    return jax.lax.scan(step, window, None, length=n_steps)[1]


@cites(LI_2021)
class SpaceTimeFNO(AbstractForecaster):
    """FNO in space and time that predicts all snapshots in one call ("FNO-3d").

    The ``n_in`` last snapshots enter as channels, repeated along the time axis of the output,
    with time as a coordinate; the network gives the change since the last snapshot. The time
    axis is not periodic and is extended by a quarter.

    Parameters
    ----------
    channels
        Channels of a snapshot.
    n_in
        Snapshots that the network sees.
    n_modes
        Modes of time, then of each space axis; the number of output steps must hold the first.
    hidden_channels, n_layers, context_channels, normaliser, key
        As in `AutoregressiveFNO`.

    References
    ----------
    .. [1] Z. Li et al., "Fourier neural operator for parametric partial differential equations",
           ICLR 2021, section 5.3.

    Examples
    --------
    >>> import jax
    >>> model = SpaceTimeFNO(1, 3, (4, 4, 4), hidden_channels=6, key=jax.random.key(7))
    >>> model(jax.numpy.ones((3, 1, 16, 16)), 10).shape
    (10, 1, 16, 16)
    """

    network: FNO
    normaliser: AbstractNormaliser
    channels: int = eqx.field(static=True)
    n_in: int = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    context_channels: int = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        n_in: int,
        n_modes: Sequence[int],
        *,
        hidden_channels: int = 20,
        n_layers: int = 4,
        context_channels: int = 0,
        normaliser: AbstractNormaliser | None = None,
        key: KeyArray,
    ):
        self.channels = check_count("channels", channels)
        self.n_in = check_count("n_in", n_in)
        self.n_modes = tuple(n_modes)
        if len(self.n_modes) < 2:
            raise ValueError(
                f"`n_modes` needs the modes of time and of each space axis, got {self.n_modes}."
            )
        self.hidden_channels = hidden_channels
        self.n_layers = n_layers
        self.context_channels = check_count("context_channels", context_channels, minimum=0)
        self.normaliser = IdentityNormaliser() if normaliser is None else normaliser
        self.network = FNO(
            channels * n_in + context_channels,
            channels,
            n_modes,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            periodic=(False, *(True,) * (len(self.n_modes) - 1)),
            key=key,
        )

    def __call__(
        self,
        inputs: Float[Array, "n_in channels *space"],
        n_steps: int,
        *,
        context: Float[Array, "context_channels ..."] | None = None,
    ) -> Float[Array, "n_steps channels *space"]:
        """Return the ``n_steps`` snapshots after ``inputs``, of which the last ``n_in`` are used.

        The network learns the horizon it was trained on: another ``n_steps`` means the same
        horizon sampled more or less finely, not a longer forecast (use `rollout` for that).

        Raises
        ------
        ValueError
            If there are fewer than ``n_in`` snapshots, ``n_steps`` cannot hold the time modes, or
            a shape does not fit.
        """
        _check(self, inputs, n_steps, context, n_space=len(self.n_modes) - 1)
        window = self.normaliser.encode(inputs[-self.n_in :])
        v = window.reshape(-1, *window.shape[2:])
        if context is not None:
            v = jnp.concatenate([v, context.astype(v.dtype)])
        v = jnp.broadcast_to(v[:, None], (v.shape[0], n_steps, *v.shape[1:]))
        change = jnp.moveaxis(self.network(v), 1, 0)
        return self.normaliser.decode(window[-1:] + change)


def _check(
    model: AutoregressiveFNO | SpaceTimeFNO,
    inputs: Array,
    n_steps: int,
    context: Array | None,
    *,
    n_space: int,
) -> None:
    check_forecast_inputs(
        inputs,
        n_steps,
        context,
        channels=model.channels,
        context_channels=model.context_channels,
        n_space=n_space,
        n_in=model.n_in,
    )
