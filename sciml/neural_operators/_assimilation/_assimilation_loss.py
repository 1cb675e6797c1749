"""The unrolled loss of data assimilation: random measurements, random first guesses."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from ...core import KeyArray, Trajectory, check_count, check_floating, check_non_negative, cites
from ...core._forecast_batch import ForecastBatch
from ._assimilator import AbstractAssimilator
from ._bibliography import SINGH_2024


def simulate_measurements(
    observe: Any,
    truth: Trajectory,
    *,
    availability: float | Float[Array, ""],
    noise_std: float | int,
    key: KeyArray,
) -> tuple[Float[Array, "time measurements"], Bool[Array, " time"]]:
    """Return noisy measurements of a known trajectory, and at which times there are some.

    Parameters
    ----------
    observe
        What is measured.
    truth
        The trajectory, ``(time, channels, *space)``.
    availability
        Probability, between 0 and 1, that a time has measurements.
    noise_std
        Standard deviation of the Gaussian error of each measurement.
    key
        PRNG key.

    Returns
    -------
    tuple
        Measurements of all times, also those that the mask hides, and the mask.

    Raises
    ------
    ValueError
        If ``availability`` is no probability or ``noise_std`` is negative.

    Examples
    --------
    >>> import jax
    >>> from sciml.neural_operators import PointSensors
    >>> y, mask = simulate_measurements(
    ...     PointSensors.every((16,), 4), jax.numpy.ones((5, 1, 16)), availability=0.5,
    ...     noise_std=0.1, key=jax.random.key(7))
    >>> y.shape, mask.shape
    ((5, 4), (5,))
    """
    check_floating("truth", truth)
    check_non_negative("noise_std", noise_std)
    check_non_negative("availability", availability)
    if not isinstance(availability, Tracer) and float(availability) > 1:
        raise ValueError(f"`availability` is a probability, at most 1; got {float(availability)}.")
    noise_key, mask_key = jax.random.split(key)
    y = jax.vmap(observe)(truth)
    y = y + noise_std * jax.random.normal(noise_key, y.shape, y.dtype)
    mask = jax.random.bernoulli(mask_key, availability, (truth.shape[0],))
    return y, mask


# Of the mean square: nothing is gained by a snapshot whose error is far below this.
_LEAST_ERROR = 3e-4


@cites(SINGH_2024)
class AssimilationLoss(eqx.Module):
    r"""Mean relative L2 error of analyses and forecasts over an unrolled window.

    .. math:: \frac{\|z^a - z\|}{\|z\|} + \mu \frac{\|z^f - z\|}{\|z\|}
              + \lambda \sqrt{\frac{n}{p}} \, \frac{\|M (y - C z^a)\|}{\|z\|}
              + \nu \, \overline{\log \bigl(e^a_k (e^f_k)^\mu\bigr)}

    with norms over the window. The root of the squares keeps the well-observed samples, whose
    errors are small, from being drowned by the free forecasts. The last term, the mean logarithm of
    the relative errors of single snapshots, goes on where the root stops: it counts a tenth less
    error as much in the steady state of a well-observed run as in the first snapshots after a wrong
    guess. On Kuramoto-Sivashinsky with all measurements it takes the mean square error to a third,
    and raises it where one time in ten is measured.

    Each sample of a batch draws its own availability, from 0 (a free forecast) to 1, noise, and
    first guess: the truth moved towards another state, of the batch or zero, by one of
    ``initial_errors``; a batch of one has no other state than zero. So one loss trains the
    predictor to stay bounded and the gain to take what comes. It is for `sciml.train.fit` with
    windows of one input snapshot: ``dataset.windows(1, n_unrolled, ...)``.

    Parameters
    ----------
    noise_std
        Standard deviation of the measurements' error, in the unit of the field.
    initial_errors
        How far first guesses are moved, between 0 (the truth) and 1 (another state).
    max_availability
        Largest probability of a measurement; 0 trains the predictor alone.
    forecast_weight
        :math:`\mu`.
    measurement_weight
        :math:`\lambda`, with as much weight for ``p`` measurements as for ``n`` field values.
    log_weight
        :math:`\nu`; 0.5 where long, well-observed runs are to be followed closely.
    full_share
        Share of the samples that are given ``max_availability`` itself, which a uniform draw never
        gives.
    checkpoint
        As in the call of the models.

    Examples
    --------
    >>> loss = AssimilationLoss(0.1, initial_errors=(0.05, 1.0))
    """

    noise_std: float = eqx.field(static=True)
    initial_errors: tuple[float, ...] = eqx.field(static=True)
    max_availability: float = eqx.field(static=True)
    forecast_weight: float = eqx.field(static=True)
    measurement_weight: float = eqx.field(static=True)
    log_weight: float = eqx.field(static=True)
    full_share: float = eqx.field(static=True)
    checkpoint: bool = eqx.field(static=True)

    def __init__(
        self,
        noise_std: float | int,
        *,
        initial_errors: tuple[float, ...] = (0.05, 0.3, 1.0),
        max_availability: float | int = 1.0,
        forecast_weight: float | int = 0.5,
        measurement_weight: float | int = 0.0,
        log_weight: float | int = 0.0,
        full_share: float | int = 0.0,
        checkpoint: bool = False,
    ):
        check_non_negative("noise_std", noise_std)
        check_non_negative("forecast_weight", forecast_weight)
        check_non_negative("measurement_weight", measurement_weight)
        check_non_negative("log_weight", log_weight)
        check_non_negative("max_availability", max_availability)
        check_count("number of initial_errors", len(initial_errors))
        for name, values in (
            ("initial_errors", initial_errors),
            ("max_availability", (max_availability,)),
            ("full_share", (full_share,)),
        ):
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"`{name}` must lie between 0 and 1, got {values}.")
        self.noise_std = float(noise_std)
        self.initial_errors = tuple(float(level) for level in initial_errors)
        self.max_availability = float(max_availability)
        self.forecast_weight = float(forecast_weight)
        self.measurement_weight = float(measurement_weight)
        self.log_weight = float(log_weight)
        self.full_share = float(full_share)
        self.checkpoint = checkpoint

    def __call__(
        self, model: AbstractAssimilator[Any], window: ForecastBatch, key: KeyArray
    ) -> Float[Array, ""]:
        """Return the mean over the batch.

        Raises
        ------
        ValueError
            If the windows do not have exactly one input snapshot.
        """
        first, truth = jnp.asarray(window.inputs), jnp.asarray(window.targets)
        if first.shape[1] != 1:
            raise ValueError(
                "`AssimilationLoss` takes windows with one input snapshot, as "
                f"`dataset.windows(1, n_unrolled)` makes them; got {first.shape[1]}."
            )
        keys = jax.random.split(key, len(truth))
        others = jnp.roll(first[:, 0], 1, axis=0)
        if len(first) == 1:
            # Its neighbour is the sample itself, which moves no guess: zero is what is left.
            others = jnp.zeros_like(others)
        one = jax.vmap(lambda z0, other, truth, key: self._one(model, z0, other, truth, key))
        return jnp.mean(one(first[:, 0], others, truth, keys))

    def _one(self, model, z0, other, truth, key) -> Float[Array, ""]:
        key, level_key, zero_key, share_key = jax.random.split(key, 4)
        levels = jnp.asarray(self.initial_errors, truth.dtype)
        level = levels[jax.random.randint(level_key, (), 0, len(self.initial_errors))]
        other = jnp.where(jax.random.bernoulli(zero_key), other, 0)
        guess = z0 + level * (other - z0)
        share = self.max_availability * jax.random.uniform(share_key, (), truth.dtype)
        if self.full_share:
            is_full = jax.random.bernoulli(jax.random.fold_in(share_key, 1), self.full_share)
            share = jnp.where(is_full, jnp.asarray(self.max_availability, share.dtype), share)
        y, mask = simulate_measurements(
            model.observe, truth, availability=share, noise_std=self.noise_std, key=key
        )
        analyses, forecasts = model(guess, y, mask, checkpoint=self.checkpoint)
        # A trajectory of zeros has no relative error: it counts by its absolute one.
        scale = jnp.sum(truth**2)
        scale = jnp.where(scale > 0, scale, 1)
        loss = _root(jnp.sum((analyses - truth) ** 2) / scale)
        loss = loss + self.forecast_weight * _root(jnp.sum((forecasts - truth) ** 2) / scale)
        if self.log_weight:
            logs = _log_error(analyses, truth, scale)
            logs = logs + self.forecast_weight * _log_error(forecasts, truth, scale)
            loss = loss + self.log_weight * logs
        if self.measurement_weight:
            missed = jnp.where(mask[:, None], y - jax.vmap(model.observe)(analyses), 0)
            ratio = truth[0].size / y.shape[1]
            loss = loss + self.measurement_weight * _root(ratio * jnp.sum(missed**2) / scale)
        return loss


def _log_error(found: Trajectory, truth: Trajectory, scale: Float[Array, ""]) -> Float[Array, ""]:
    """Return the mean logarithm of the snapshots' errors over the mean size of the truth."""
    squares = jnp.sum((found - truth) ** 2, axis=tuple(range(1, truth.ndim)))
    relative = squares * truth.shape[0] / scale
    return 0.5 * jnp.mean(jnp.log(relative + _LEAST_ERROR))


def _root(x: Float[Array, ""]) -> Float[Array, ""]:
    """Return the square root, with a finite slope at zero."""
    return jnp.sqrt(x + jnp.finfo(x.dtype).eps ** 2)
