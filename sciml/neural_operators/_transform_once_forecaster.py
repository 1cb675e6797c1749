"""TransformOnce as a forecaster: one transform in, all snapshots of the forecast, one out."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, cites
from ..core._bibliography import POLI_2022
from ..data import AbstractNormaliser, IdentityNormaliser
from ..numerics import AbstractSpectralBasis
from ._forecaster import AbstractForecaster, check_forecast_inputs
from ._frequency_block import ModeMixing
from ._transform_once import TransformOnce


@cites(POLI_2022)
class TransformOnceForecaster(AbstractForecaster):
    """`TransformOnce` that predicts ``n_out`` snapshots at once from the last ``n_in``.

    All snapshots are channels; the network gives the changes of their coefficients since the last
    snapshot. Train it on a data set that was encoded once (`sciml.data.encode_windows`,
    `sciml.train.spectral_loss`), with the same basis and normaliser.

    Parameters
    ----------
    channels
        Channels of a snapshot.
    n_in, n_out
        Snapshots that the network sees and predicts.
    basis
        Which coefficients.
    hidden_channels, n_layers, mixing
        As in `TransformOnce`.
    context_channels
        Channels of the static fields; without any the network sees the coordinates.
    normaliser
        Scale of the data.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] M. Poli et al., "Transform once: efficient operator learning in frequency domain",
           NeurIPS 2022.

    Examples
    --------
    >>> import equinox as eqx, jax
    >>> from sciml.numerics import FourierBasis
    >>> model = TransformOnceForecaster(
    ...     1, 3, 5, FourierBasis((5, 5)), hidden_channels=6, key=jax.random.key(7))
    >>> forecast = eqx.filter_jit(lambda model, u: model(u, 4))
    >>> forecast(model, jax.numpy.ones((3, 1, 16, 16))).shape
    (4, 1, 16, 16)
    """

    network: TransformOnce
    normaliser: AbstractNormaliser
    basis: AbstractSpectralBasis
    channels: int = eqx.field(static=True)
    n_in: int = eqx.field(static=True)
    n_out: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    mixing: ModeMixing = eqx.field(static=True)
    context_channels: int = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        n_in: int,
        n_out: int,
        basis: AbstractSpectralBasis,
        *,
        hidden_channels: int = 24,
        n_layers: int = 4,
        mixing: ModeMixing = ModeMixing.GRID,
        context_channels: int = 0,
        normaliser: AbstractNormaliser | None = None,
        key: KeyArray,
    ):
        self.channels = check_count("channels", channels)
        self.n_in = check_count("n_in", n_in)
        self.n_out = check_count("n_out", n_out)
        self.basis = basis
        self.hidden_channels = hidden_channels
        self.n_layers = n_layers
        self.mixing = mixing
        self.context_channels = check_count("context_channels", context_channels, minimum=0)
        self.normaliser = IdentityNormaliser() if normaliser is None else normaliser
        self.network = TransformOnce(
            channels * n_in + context_channels,
            channels * n_out,
            basis,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            coordinates=context_channels == 0,
            mixing=mixing,
            key=key,
        )

    def spectral(
        self, z: Float[Array, "in_channels *modes"]
    ) -> Float[Array, "out_channels *modes"]:
        """Return the coefficients of the forecast: no transform is taken.

        Parameters
        ----------
        z
            Coefficients of the ``n_in`` normalised snapshots, one behind another, then those of the
            static fields.

        Returns
        -------
        Array
            Coefficients of the ``n_out`` normalised snapshots, one behind another.
        """
        last = z[(self.n_in - 1) * self.channels : self.n_in * self.channels]
        change = self.network.spectral(z)
        return change + jnp.tile(last, (self.n_out, *(1,) * (z.ndim - 1)))

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
            If ``n_steps`` is more than ``n_out`` (use `rollout`), there are fewer than ``n_in``
            snapshots, or a shape does not fit.
        """
        check_forecast_inputs(
            inputs,
            n_steps,
            context,
            channels=self.channels,
            context_channels=self.context_channels,
            # Not the number of mode axes: a `MatrixBasis` has one for any space.
            n_space=len(self.basis.product_grid),
            n_in=self.n_in,
        )
        if n_steps > self.n_out:
            raise ValueError(
                f"the model predicts n_out={self.n_out} snapshots at once, {n_steps} were asked "
                "for: feed it its forecast with `rollout(model, inputs, n_steps, window=n_out)`."
            )
        window = self.normaliser.encode(inputs[-self.n_in :])
        v = window.reshape(-1, *window.shape[2:])
        if context is not None:
            v = jnp.concatenate([v, context.astype(v.dtype)])
        z = self.spectral(self.basis.encode(v))[: n_steps * self.channels]
        u = self.basis.decode(z, inputs.shape[2:])
        return self.normaliser.decode(u.reshape(n_steps, self.channels, *inputs.shape[2:]))
