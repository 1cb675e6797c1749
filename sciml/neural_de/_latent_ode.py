"""A latent neural ODE for irregular series with missing entries."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..core import (
    KeyArray,
    RealScalar,
    check_array,
    check_count,
    check_floating,
    check_positive,
    check_shape,
    cites,
    split_keys,
)
from ..numerics import full_precision
from ._bibliography import PAL_2021, RUBANOVA_2019
from ._checks import forward_times
from ._neural_ode import NeuralODE
from ._regularization import Regularization


class LatentField(eqx.Module):
    """A small autonomous vector field, a perceptron of tanh layers.

    Parameters
    ----------
    n_latent, hidden_channels
        Size of the state and of the hidden layers.
    key
        A typed key.
    """

    n_latent: int
    hidden_channels: int
    network: eqx.nn.MLP

    def __init__(self, n_latent: int, hidden_channels: int, *, key: KeyArray):
        self.n_latent = check_count("n_latent", n_latent)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.network = eqx.nn.MLP(n_latent, n_latent, hidden_channels, 2, jnp.tanh, key=key)

    @full_precision
    def __call__(self, t: Any, y: Array, args: Any) -> Array:
        """Return the rate of change."""
        return self.network(y)


@cites(PAL_2021, RUBANOVA_2019)
class LatentODE(eqx.Module):
    """Encode a series into a distribution of initial states, solve, decode.

    A recurrent network reads values, mask and gaps backwards in time; `NeuralODE` carries the
    latent state forwards; a perceptron gives the values back.

    Parameters
    ----------
    n_channels, n_latent, hidden_channels
        Sizes of the data, of the latent state and of the hidden layers.
    rtol, atol
        Tolerances.
    noise
        Standard deviation of the observations.
    regularization
        As in `NeuralODE`.
    key
        A typed key.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> model = LatentODE(1, n_latent=2, hidden_channels=4, key=jax.random.key(3))
    >>> mean, spread = model.encode(
    ...     jnp.ones((5, 1)), jnp.ones((5, 1), bool), jnp.linspace(0.0, 1.0, 5))
    >>> mean.shape
    (2,)
    """

    n_channels: int
    n_latent: int
    hidden_channels: int
    rtol: float
    atol: float
    noise: float
    regularization: Any
    recurrent: eqx.nn.GRUCell
    to_state: eqx.nn.Linear
    ode: NeuralODE
    decoder: eqx.nn.MLP

    def __init__(
        self,
        n_channels: int,
        *,
        n_latent: int = 4,
        hidden_channels: int = 16,
        rtol: float = 1e-4,
        atol: float = 1e-4,
        noise: float = 0.1,
        regularization: Any = None,
        key: KeyArray,
    ):
        check_positive("noise", noise)
        keys = split_keys(key, 4)
        self.n_channels = check_count("n_channels", n_channels)
        self.n_latent = check_count("n_latent", n_latent)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.rtol = rtol
        self.atol = atol
        self.noise = noise
        self.regularization = regularization
        self.recurrent = eqx.nn.GRUCell(2 * n_channels + 1, hidden_channels, key=keys[0])
        self.to_state = eqx.nn.Linear(hidden_channels, 2 * n_latent, key=keys[1])
        field = LatentField(n_latent, hidden_channels, key=keys[2])
        self.ode = NeuralODE(field, rtol=rtol, atol=atol, regularization=regularization)
        self.decoder = eqx.nn.MLP(n_latent, n_channels, hidden_channels, 1, jnp.tanh, key=keys[3])

    @full_precision
    def encode(
        self,
        values: Float[Array, "time channels"],
        mask: Bool[Array, "time channels"],
        ts: Float[Array, " time"],
    ) -> tuple[Array, Array]:
        """Return mean and standard deviation of the latent state at ``ts[0]``.

        Parameters
        ----------
        values, mask
            A series and where it was observed, shape ``(time, channels)``.
        ts
            Increasing times, shape ``(time,)``.

        Raises
        ------
        ValueError
            If sizes do not fit, or ``ts`` decreases somewhere (a run-time error where it is
            traced).
        """
        check_floating("values", values)
        check_shape("values", values, ("time", self.n_channels))
        check_shape("mask", mask, np.shape(values))
        check_shape("ts", ts, np.shape(values)[:1])
        if np.shape(values)[0] == 0:
            raise ValueError("`values` must hold one time at least, got none.")
        check_array("mask", mask)
        check_array("ts", ts)
        mask = jnp.asarray(mask)
        if mask.dtype != bool:
            raise TypeError(f"`mask` must be boolean, got {mask.dtype}.")
        # The network may be wider than the data (made under float64), and the loop has one dtype.
        values = jnp.asarray(values)
        wide = jnp.promote_types(values.dtype, self.recurrent.weight_ih.dtype)
        values, ts = values.astype(wide), jnp.asarray(forward_times(ts), wide)
        # What was not observed must not matter, whatever stands there.
        inputs = jnp.concatenate([jnp.where(mask, values, 0), mask.astype(values.dtype)], axis=1)

        def read(carry, entry):
            # A time without any observation leaves the state as it is, and the gap goes on.
            hidden, following = carry
            t, observed, row = entry
            new = self.recurrent(jnp.concatenate([row, (following - t)[None]]), hidden)
            return (jnp.where(observed, new, hidden), jnp.where(observed, t, following)), None

        observed = jnp.any(mask, axis=1)
        # The last observation has no following one: its gap is zero.
        last = jnp.max(jnp.where(observed, ts, ts[0]))
        start = (jnp.zeros(self.hidden_channels, values.dtype), last)
        (hidden, _), _ = jax.lax.scan(read, start, (ts, observed, inputs), reverse=True)
        mean, log_spread = jnp.split(self.to_state(hidden), 2)
        return mean, jnp.exp(jnp.clip(log_spread, -6.0, 3.0))

    @full_precision
    def decode(self, states: Float[Array, "*batch latent"]) -> Float[Array, "*batch channels"]:
        """Return the values that latent states stand for."""
        flat = states.reshape(-1, self.n_latent)
        return jax.vmap(self.decoder)(flat).reshape(*states.shape[:-1], self.n_channels)

    def elbo(
        self,
        values: Float[Array, "batch time channels"],
        mask: Bool[Array, "batch time channels"],
        ts: Float[Array, " time"],
        *,
        key: KeyArray,
        kl_weight: RealScalar = 1.0,
        weights: Mapping[str, Any] | None = None,
        inference: bool = False,
    ) -> tuple[Array, Regularization, dict[str, Any]]:
        """Return the negative evidence bound of a batch, per observation; regularisers; figures.

        Parameters
        ----------
        values, mask
            Series on one union of times, shape ``(batch, time, channels)``.
        ts
            That union, increasing, shape ``(time,)``.
        key
            For the latent states, and for local regularisation.
        kl_weight
            Weight of the divergence from a standard normal distribution.
        weights, inference
            As in `NeuralODE`; in inference the means are taken instead of draws.

        Returns
        -------
        tuple
            The loss, the regularisers, and ``mse``, ``kl`` and the solver's ``num_steps``.

        Raises
        ------
        ValueError
            As `encode`.
        """
        mean, spread = jax.vmap(self.encode, in_axes=(0, 0, None))(values, mask, ts)
        draw_key, solve_key = jax.random.split(key)
        noise = jax.random.normal(draw_key, mean.shape, mean.dtype)
        start = mean if inference else mean + spread * noise
        # The latent state is that at the first time of the data, whatever the model's own begin is.
        ode = eqx.tree_at(lambda ode: ode.t0, self.ode, jnp.asarray(ts)[0])
        states, penalty, stats = ode.as_one_state(
            start, ts=ts, key=solve_key, weights=weights, inference=inference
        )
        predicted = jnp.swapaxes(self.decode(states), 0, 1)
        n_seen = jnp.maximum(jnp.sum(mask), 1).astype(values.dtype)
        # Before the difference: a NaN that marks a gap would reach the derivative through it.
        wanted = jnp.where(mask, values, predicted)
        squares = jnp.sum((predicted - wanted) ** 2) / n_seen
        kl = 0.5 * jnp.sum(mean**2 + spread**2 - 1 - 2 * jnp.log(spread)) / n_seen
        loss = squares / (2 * self.noise**2) + kl_weight * kl
        return loss, penalty, {"mse": squares, "kl": kl, "num_steps": stats["num_steps"]}
