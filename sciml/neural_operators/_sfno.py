r"""Spatiotemporal Fourier neural operator (Cao et al. 2025, "Spectral-Refiner").

The model maps a window of snapshots to a function of space and *time*, a Fourier series on a few
latent time nodes, and evaluates it at the physical times that the caller asks for.

Where it departs from the published code, and why (more, and figures, in docs/numerics.md):

- Transforms are forward-normalised and output times are physical, so that the number of output
  steps does not change the amplitude (the published model halves it when the steps double).
- The latent nodes cover the horizon and a buffer behind it, in which the series turns back to its
  start; without one errors are larger.
- The input window enters through the last snapshot and its rate of change (a least-squares fit
  over the window, the first Taylor coefficients in time), instead of through a Fourier series over
  a window that is not periodic. Any number of input snapshots will do.
- The output is :math:`\omega(t) = \omega(0) + (t / H)\, q(t)`: exact at ``t = 0``.
- No coordinates that break periodicity: position enters through ``context`` (the forcing).
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, check_key, check_positive, cites, split_keys
from ..core._bibliography import CAO_2025, LI_2021
from ..data import AbstractNormaliser, IdentityNormaliser
from ..nn import (
    ChannelLinear,
    ChannelMLP,
    FourierLayer,
    SpectralConv,
    apply_stack,
    make_stack,
)
from ..numerics import (
    fourier_series_matrix,
    full_precision,
    trigonometric_interpolation_matrix,
    truncated_irfftn,
)
from ._forecaster import AbstractForecaster, check_forecast_inputs

# Start near persistence: an untrained network must not swamp the last snapshot.
_INITIAL_OUTPUT_SCALE = 0.1

# Constant, ramp, and two harmonics of the latent time.
_TIME_FEATURES = 5


@cites(CAO_2025, LI_2021)
class SpatiotemporalFNO(AbstractForecaster):
    r"""Forecast a trajectory as a Fourier series in space and time.

    Lift the last snapshot and its rate of change to ``hidden_channels`` at
    ``latent_steps`` time nodes, apply ``n_layers - 1`` Fourier layers over time and space, and
    end in a spectral layer ``output`` (the one that a posteriori refinement tunes) beside a
    pointwise projection.

    Parameters
    ----------
    channels
        Channels of a snapshot.
    dt
        Physical time between the input snapshots.
    horizon
        Physical time that a forecast covers at most.
    n_modes
        Modes of latent time, then of each space axis.
    hidden_channels
        Width of the layers.
    n_layers
        Spectral layers, the output layer included.
    latent_steps
        Time nodes, the buffer included; at least ``2 n_modes[0] - 1``.
    buffer_steps
        Latent nodes behind the horizon.
    n_history
        Taylor coefficients in time that enter, fitted to the input window: 1 is the last snapshot
        alone, 2 adds the rate of change, 3 the curvature. Higher ones sharpen a single forecast a
        little and amplify the errors of one that is fed back. Shorter inputs leave them at zero.
    context_channels
        Channels of the static fields (the forcing).
    output_modes
        Modes of the output layer; all time modes and the space modes of ``n_modes`` by default.
    normaliser
        Scale of the data; fit it on the training set.
    key
        PRNG key of the initial weights.

    Raises
    ------
    ValueError
        If a length is not positive, ``latent_steps`` does not hold the time modes, or
        ``buffer_steps`` leaves no node for the horizon.

    References
    ----------
    .. [1] S. Cao, F. Brarda, R. Li and Y. Xi, "Spectral-Refiner: accurate fine-tuning of
           spatiotemporal Fourier neural operator for turbulent flows", ICLR 2025.

    Examples
    --------
    >>> import jax
    >>> model = SpatiotemporalFNO(1, dt=0.2, horizon=8.0, n_modes=(4, 4, 4), hidden_channels=6,
    ...                           latent_steps=10, key=jax.random.key(7))
    >>> window = jax.numpy.ones((10, 1, 16, 16))
    >>> model(window, 40).shape
    (40, 1, 16, 16)
    >>> model(window, 10, dt_out=0.8).shape   # the same forecast, sampled every fourth step
    (10, 1, 16, 16)
    """

    lifting: ChannelLinear
    time_embedding: ChannelLinear
    lifting_mlp: ChannelMLP
    lifting_spectral: SpectralConv
    layers: tuple[FourierLayer, ...]
    projection: ChannelMLP
    output: SpectralConv
    normaliser: AbstractNormaliser
    channels: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    horizon: float = eqx.field(static=True)
    n_modes: tuple[int, ...] = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    latent_steps: int = eqx.field(static=True)
    buffer_steps: int = eqx.field(static=True)
    n_history: int = eqx.field(static=True)
    context_channels: int = eqx.field(static=True)
    output_modes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        *,
        dt: float,
        horizon: float,
        n_modes: Sequence[int] = (6, 12, 12),
        hidden_channels: int = 20,
        n_layers: int = 4,
        latent_steps: int = 12,
        buffer_steps: int = 2,
        n_history: int = 2,
        context_channels: int = 0,
        output_modes: Sequence[int] | None = None,
        normaliser: AbstractNormaliser | None = None,
        key: KeyArray,
    ):
        check_positive("dt", dt)
        check_positive("horizon", horizon)
        check_key(key)
        self.channels = check_count("channels", channels)
        self.dt = float(dt)
        self.horizon = float(horizon)
        self.n_modes = tuple(check_count(f"n_modes[{i}]", m) for i, m in enumerate(n_modes))
        if len(self.n_modes) < 2:
            raise ValueError(
                f"`n_modes` needs the modes of time and of each space axis, got {self.n_modes}."
            )
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.n_layers = check_count("n_layers", n_layers, minimum=2)
        self.latent_steps = check_count("latent_steps", latent_steps)
        self.buffer_steps = check_count("buffer_steps", buffer_steps, minimum=0)
        self.n_history = check_count("n_history", n_history)
        self.context_channels = check_count("context_channels", context_channels, minimum=0)
        all_time_modes = (latent_steps + 1) // 2
        if output_modes is None:
            output_modes = (all_time_modes, *self.n_modes[1:])
        self.output_modes = tuple(
            check_count(f"output_modes[{i}]", m) for i, m in enumerate(output_modes)
        )
        for name, modes in (("n_modes", self.n_modes), ("output_modes", self.output_modes)):
            if modes[0] > all_time_modes:
                raise ValueError(
                    f"`{name}` keeps {modes[0]} time modes, which need 2 * {modes[0]} - 1 = "
                    f"{2 * modes[0] - 1} latent nodes; latent_steps is {latent_steps}."
                )
        if buffer_steps >= latent_steps:
            raise ValueError(
                f"`buffer_steps` {buffer_steps} leaves none of the {latent_steps} latent nodes "
                "for the horizon."
            )
        self.normaliser = IdentityNormaliser() if normaliser is None else normaliser

        width, space_modes = hidden_channels, self.n_modes[1:]
        keys = split_keys(key, 7)
        self.lifting = ChannelLinear(channels * n_history + context_channels, width, key=keys[0])
        self.lifting_spectral = SpectralConv(width, width, space_modes, key=keys[1])
        self.lifting_mlp = ChannelMLP(width, width, 2 * width, key=keys[2])
        self.time_embedding = ChannelLinear(_TIME_FEATURES, width, key=keys[3])
        self.layers = make_stack(
            lambda key: FourierLayer(width, self.n_modes, 2 * width, key=key),
            n_layers - 1,
            keys[4],
        )
        projection = ChannelMLP(width, channels, 2 * width, key=keys[5])
        output = SpectralConv(width, channels, self.output_modes, key=keys[6])
        self.projection, self.output = eqx.tree_at(
            lambda pair: (pair[0].second.weight, pair[1].weight),
            (projection, output),
            replace_fn=lambda weight: _INITIAL_OUTPUT_SCALE * weight,
        )

    @property
    def period(self) -> float:
        """Physical period of the Fourier series in time: the horizon and the buffer."""
        return self.horizon * self.latent_steps / (self.latent_steps - self.buffer_steps)

    def __call__(
        self,
        inputs: Float[Array, "n_in channels *space"],
        n_steps: int,
        *,
        context: Float[Array, "context_channels ..."] | None = None,
        dt: float | None = None,
        dt_out: float | None = None,
    ) -> Float[Array, "n_steps channels *space"]:
        """Return the snapshots at ``dt_out, 2 dt_out, ..., n_steps dt_out`` after the last input.

        Parameters
        ----------
        inputs
            Any number of snapshots, the last one at time zero.
        n_steps
            Number of snapshots to return.
        context
            Static fields on the grid of ``inputs``.
        dt
            Physical time between the inputs, if it is not the one the model was built with.
        dt_out
            Physical time between the outputs; ``dt`` of the model by default.

        Raises
        ------
        ValueError
            If a shape does not fit, the grid cannot hold the modes, or the forecast would go
            beyond ``horizon`` (`rollout` chains forecasts).
        """
        inputs = jnp.asarray(inputs)  # float64 of NumPy becomes what JAX is set to
        dt = self.dt if dt is None else dt
        dt_out = self.dt if dt_out is None else dt_out
        check_positive("dt", dt)
        check_positive("dt_out", dt_out)
        check_forecast_inputs(
            inputs,
            n_steps,
            context,
            channels=self.channels,
            context_channels=self.context_channels,
            n_space=len(self.n_modes) - 1,
        )
        if n_steps * dt_out > self.horizon * (1 + 1e-6):
            raise ValueError(
                f"{n_steps} steps of {dt_out:g} end at t = {n_steps * dt_out:g}, beyond the "
                f"model's horizon {self.horizon:g}. Ask for at most "
                f"{int(self.horizon * (1 + 1e-6) / dt_out)} steps, or chain forecasts with "
                "`sciml.neural_operators.rollout`."
            )
        times = dt_out * jnp.arange(1, n_steps + 1, dtype=inputs.dtype)
        normalised = self.normaliser.encode(inputs)
        # Without the figures of the normaliser, which would make a program of each data set.
        plain = jax.tree.map(
            lambda node: IdentityNormaliser() if _is_normaliser(node) else node,
            self,
            is_leaf=_is_normaliser,
        )
        return self.normaliser.decode(_forecast(plain, normalised, context, float(dt), times))

    def latent(
        self,
        normalised: Float[Array, "n_in channels *space"],
        context: Float[Array, "context_channels ..."] | None,
        dt: float,
    ) -> Float[Array, "hidden_channels latent_steps *space"]:
        """Return the features at the latent time nodes, everything but the output layer."""
        history = _taylor_coefficients(normalised, self.n_history, self.horizon / dt)
        v = history.reshape(-1, *history.shape[2:])
        if context is not None:
            v = jnp.concatenate([v, context.astype(v.dtype)])
        v = self.lifting(v)
        v = v + self.lifting_mlp(self.lifting_spectral(v))
        embedding = self.time_embedding(_time_features(self.latent_steps, v.dtype))
        v = v[:, None] + embedding.reshape(*embedding.shape, *(1,) * (v.ndim - 1))
        return apply_stack(self.layers, jax.nn.gelu(v))

    @full_precision
    def evaluate(
        self,
        latent: Float[Array, "hidden_channels latent_steps *space"],
        times: Float[Array, " n_steps"],
    ) -> Float[Array, "n_steps channels *space"]:
        """Return the normalised change since the last input at physical ``times``."""
        positions = times / self.period
        coefficients = self.output.mix(self.output.coefficients(latent))
        series = fourier_series_matrix(positions, self.output_modes[0])
        spectral = truncated_irfftn(
            jnp.einsum("tk,ck...->tc...", series, coefficients), latent.shape[2:]
        )
        interpolation = trigonometric_interpolation_matrix(positions, self.latent_steps)
        pointwise = jnp.einsum("tj,cj...->tc...", interpolation, self.projection(latent))
        ramp = (times / self.horizon).reshape(-1, *(1,) * (latent.ndim - 1))
        return ramp * (spectral + pointwise)

    def widen_output(self, output_modes: Sequence[int]) -> "SpatiotemporalFNO":
        """Return the same function with room for more modes in the output layer.

        Raises
        ------
        ValueError
            If an axis would lose modes, or time would have more than the latent nodes hold.
        """
        wide = SpatiotemporalFNO(
            self.channels,
            dt=self.dt,
            horizon=self.horizon,
            n_modes=self.n_modes,
            hidden_channels=self.hidden_channels,
            n_layers=self.n_layers,
            latent_steps=self.latent_steps,
            buffer_steps=self.buffer_steps,
            n_history=self.n_history,
            context_channels=self.context_channels,
            output_modes=output_modes,
            normaliser=self.normaliser,
            key=jax.random.key(0),
        )
        parts = lambda m: (  # noqa: E731
            m.lifting, m.lifting_spectral, m.lifting_mlp, m.time_embedding, m.layers, m.projection,
            m.output,
        )  # fmt: skip
        *kept, output = parts(self)
        return eqx.tree_at(parts, wide, (*kept, output.widen(wide.output_modes)))


SFNO = SpatiotemporalFNO
"""The paper's abbreviation. It is not the spherical Fourier neural operator."""


def _is_normaliser(node: object) -> bool:
    return isinstance(node, AbstractNormaliser)


# Compiled also where the caller does not: operation by operation a first call takes ten times as
# long. It is transparent to an outer jit, vmap or grad.
@eqx.filter_jit
def _forecast(
    model: SpatiotemporalFNO,
    normalised: Float[Array, "n_in channels *space"],
    context: Float[Array, "context_channels ..."] | None,
    dt: float,
    times: Float[Array, " n_steps"],
) -> Float[Array, "n_steps channels *space"]:
    change = model.evaluate(model.latent(normalised, context, dt), times)
    return normalised[-1:] + change


@full_precision
def _taylor_coefficients(
    u: Float[Array, "n_in channels *space"], n_terms: int, steps_per_horizon: float
) -> Float[Array, "n_terms channels *space"]:
    """Return the Taylor coefficients in time at the last snapshot, in units of the horizon.

    They are those of the polynomial through the last snapshot that fits all others best (least
    squares): term ``k`` is the change that it alone makes over the horizon. The fit uses the
    whole window, because differences of its last snapshots would amplify the error of a forecast
    that is fed back, by ``steps_per_horizon ** k``. Terms for which there are too few snapshots
    are 0.
    """
    n_before = len(u) - 1
    degree = min(n_terms - 1, n_before)
    terms = u[-1:]
    if degree:
        times = np.arange(-n_before, 0) / steps_per_horizon
        fit = np.linalg.pinv(times[:, None] ** np.arange(1, degree + 1))
        changes = jnp.tensordot(jnp.asarray(fit, u.dtype), u[:-1] - u[-1:], axes=1)
        terms = jnp.concatenate([terms, changes])
    missing = n_terms - 1 - degree
    return jnp.pad(terms, [(0, missing), *[(0, 0)] * (u.ndim - 1)])


def _time_features(n_nodes: int, dtype: DTypeLike) -> Float[Array, "features nodes"]:
    position = jnp.arange(n_nodes, dtype=dtype) / n_nodes
    angle = 2 * jnp.pi * position
    waves = [wave(harmonic * angle) for harmonic in (1, 2) for wave in (jnp.sin, jnp.cos)]
    return jnp.stack([position, *waves])
