"""Losses of forecasters: the mean over a batch of a relative error in space and time."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import KeyArray, Trajectory
from ..core._forecast_batch import ForecastBatch
from ..numerics import relative_l2, spectral_relative_l2


class ForecastLoss(eqx.Module):
    """The mean over a batch of an error between forecast and truth.

    The model is called as ``model(inputs, n_out, context=context)`` under `jax.vmap`.

    Parameters
    ----------
    error
        ``error(prediction, truth) -> scalar`` for one trajectory ``(time, channels, *space)``.

    Examples
    --------
    The H1 error in space, which weighs small scales more, on the unit square:

    >>> from sciml.numerics import relative_h1
    >>> loss = ForecastLoss(lambda prediction, truth: relative_h1(prediction, truth, (1.0, 1.0)))
    """

    error: Callable[[Trajectory, Trajectory], Float[Array, ""]] = relative_l2

    def __call__(
        self, model: Callable[..., Trajectory], window: ForecastBatch, key: KeyArray
    ) -> Float[Array, ""]:
        """Return the mean error of ``model`` on ``window``; ``key`` is not used."""
        del key
        truth = jnp.asarray(window.targets)
        n_out = truth.shape[1]

        def forecast(inputs: Array, context: Array | None) -> Trajectory:
            return model(inputs, n_out, context=context)

        in_axes = (0, None if window.context is None else 0)
        prediction = jax.vmap(forecast, in_axes)(jnp.asarray(window.inputs), window.context)
        if prediction.shape != truth.shape:
            raise ValueError(
                "the model must return forecasts of the shape of the targets, (batch, time, "
                f"channels, *space) = {truth.shape}; got {prediction.shape}."
            )
        return jnp.mean(jax.vmap(self.error)(prediction, truth))


def forecast_loss(
    model: Callable[..., Trajectory], window: ForecastBatch, key: KeyArray
) -> Float[Array, ""]:
    """Return the mean over the batch of the relative L2 error in space and time.

    Parameters
    ----------
    model
        Called as ``model(inputs, n_out, context=context)`` for each sample of the batch.
    window
        A batch with ``inputs``, ``targets`` and ``context``, as `sciml.data.Window`.
    key
        Not used.

    Returns
    -------
    Array
        A scalar. `ForecastLoss` takes other errors.

    Raises
    ------
    ValueError
        If the forecast does not have the shape of the targets.
    """
    return ForecastLoss(relative_l2)(model, window, key)


@runtime_checkable
class SpectralBatch(Protocol):
    """What `spectral_loss` needs of a batch; `sciml.data.EncodedBatch` is one.

    ``inputs`` and ``targets`` are coefficients ``(batch, channels, *modes)``, ``tail`` is
    ``(batch,)``.
    """

    @property
    def inputs(self) -> Any: ...

    @property
    def targets(self) -> Any: ...

    @property
    def tail(self) -> Any: ...


@runtime_checkable
class SpectralModel(Protocol):
    """A model that maps coefficients to coefficients; `TransformOnce` is one."""

    def spectral(self, z: Any) -> Any: ...


def spectral_loss(model: SpectralModel, batch: SpectralBatch, key: KeyArray) -> Float[Array, ""]:
    """Return the mean over the batch of the relative L2 error of the decoded output.

    It is computed on the coefficients, without a transform, and exact: what the basis cannot hold
    of a target is part of the error.

    Parameters
    ----------
    model
        Called as ``model.spectral(inputs)`` for each sample of the batch.
    batch
        A batch of encoded fields, as `sciml.data.EncodedBatch`.
    key
        Not used.

    Returns
    -------
    Array
        A scalar.

    Raises
    ------
    ValueError
        If the output does not have the shape of the targets.
    """
    del key
    truth = jnp.asarray(batch.targets)
    prediction = jax.vmap(model.spectral)(jnp.asarray(batch.inputs))
    if prediction.shape != truth.shape:
        raise ValueError(
            "the model must return coefficients of the shape of the targets, (batch, channels, "
            f"*modes) = {truth.shape}; got {prediction.shape}."
        )
    return jnp.mean(jax.vmap(spectral_relative_l2)(prediction, truth, jnp.asarray(batch.tail)))
