"""What learned and classical data assimilation share: predict, correct, repeat."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from ...core import Field, RealScalar, Trajectory, check_floating, check_shape
from ...numerics import full_precision
from ._observation import AbstractObservation

_State = TypeVar("_State")


class AbstractAssimilator(eqx.Module, Generic[_State]):
    r"""A method that follows a system by a model and by sparse, noisy measurements.

    .. math:: z^f_k = \Phi(z^a_{k-1}), \qquad z^a_k = z^f_k + K \, M_k (y_k - C z^f_k)

    Learned and classical methods have this one call, so that they can be compared with the same
    model :math:`\Phi` and the same measurements.

    Attributes
    ----------
    predictor
        The model: ``predictor(z)``, or ``predictor(z, dt)`` for irregular times.
    observe
        What is measured.
    """

    predictor: eqx.AbstractVar[Any]
    observe: eqx.AbstractVar[AbstractObservation]

    @abc.abstractmethod
    def start(self, z0: Field) -> _State:
        """Return the state of the recursion that begins at the field ``z0``."""

    @abc.abstractmethod
    def predict(self, state: _State, dt: RealScalar | None = None) -> _State:
        """Return the state one step later, before its measurements are looked at."""

    @abc.abstractmethod
    def correct(
        self,
        state: _State,
        y: Float[Array, " measurements"],
        mask: Bool[Array, " measurements"],
    ) -> _State:
        """Return the state after the measurements ``y`` where ``mask`` says that there are some."""

    @abc.abstractmethod
    def estimate(self, state: _State) -> Field:
        """Return the field that the state stands for."""

    @full_precision
    def __call__(
        self,
        z0: Field,
        y: Float[Array | np.ndarray, "time measurements"],
        mask: Bool[Array | np.ndarray, "..."],
        *,
        dt: Float[Array | np.ndarray, " time"] | None = None,
        checkpoint: bool = False,
    ) -> tuple[Trajectory, Trajectory]:
        """Follow the system through all measurements, in one compiled scan.

        Parameters
        ----------
        z0
            First guess at the time before the first measurement.
        y
            Measurements at each time; what stands where ``mask`` is false does not matter and may
            be NaN.
        mask
            Which measurements there are: one boolean each, or one a time for all sensors.
        dt
            Physical time from one entry to the next, if the predictor takes it.
        checkpoint
            Keep the states only and compute the rest again in the backward pass.

        Returns
        -------
        tuple
            The analyses (after the measurements of each time) and the forecasts (before), each
            ``(time, channels, *space)``.

        Raises
        ------
        ValueError
            If a shape does not fit, there is no time, a step is not positive, or a measurement
            that ``mask`` declares available is not finite.
        TypeError
            If ``mask`` is not boolean or ``z0`` not floating-point.
        """
        y, mask = self._check(z0, y, mask, dt)
        steps = None if dt is None else jnp.asarray(dt, z0.dtype)
        return _recursion(self, z0, y, mask, steps, bool(checkpoint))

    def _check(self, z0: Any, y: Any, mask: Any, dt: Any) -> tuple[Array, Array]:
        check_floating("z0", z0)
        check_floating("y", y)
        check_shape("z0", z0, (self.observe.n_channels, *self.observe.n_points))
        n_measurements = self.observe.n_measurements
        n_times = check_shape("y", y, ("time", n_measurements))["time"]
        if n_times == 0:
            raise ValueError("`y` must hold at least one time, got none.")
        if mask.dtype != bool:
            raise TypeError(
                f"`mask` must be boolean (true where there is a measurement), got {mask.dtype}."
            )
        if mask.ndim == 1:
            mask = mask[:, None]
            check_shape("mask", mask[:, 0], (n_times,))
        else:
            check_shape("mask", mask, (n_times, n_measurements))
        mask = jnp.broadcast_to(jnp.asarray(mask), (n_times, n_measurements))
        if not any(isinstance(array, Tracer) for array in (y, mask)):
            bad = np.asarray(mask) & ~np.isfinite(np.asarray(y))
            if bad.any():
                time, sensor = (int(i) for i in np.argwhere(bad)[0])
                raise ValueError(
                    f"`y` has {int(bad.sum())} non-finite measurements that `mask` declares "
                    f"available; the first is at time {time}, measurement {sensor}. Set the mask "
                    "to false there."
                )
        if dt is not None:
            check_shape("dt", dt, (n_times,))
            if not isinstance(dt, Tracer) and not np.all(np.asarray(dt) > 0):
                raise ValueError(f"`dt` must hold positive steps, got {np.asarray(dt).min()!r}.")
        # An entry without a measurement may be NaN, also in gradients: it ends here.
        return jnp.where(mask, jnp.asarray(y, z0.dtype), 0), mask


# Compiled once for all calls, with the method as an argument.
@eqx.filter_jit
def _recursion(method, z0, y, mask, steps, checkpoint):
    def advance(state, entries):
        y, mask, step = entries
        forecast = method.predict(state, step)
        analysis = method.correct(forecast, y, mask)
        return analysis, (method.estimate(analysis), method.estimate(forecast))

    if checkpoint:
        advance = jax.checkpoint(advance)
    return jax.lax.scan(advance, method.start(z0), (y, mask, steps))[1]


class AbstractFieldAssimilator(AbstractAssimilator[Field]):
    """A method that keeps no more than the field: its state is the analysis."""

    def start(self, z0: Field) -> Field:
        """Return ``z0``."""
        return z0

    def predict(self, state: Field, dt: RealScalar | None = None) -> Field:
        """Return the forecast of the next field."""
        return call_predictor(self.predictor, state, dt)

    def estimate(self, state: Field) -> Field:
        """Return the state itself."""
        return state


def innovation(
    observe: AbstractObservation,
    z: Field,
    y: Float[Array, " measurements"],
    mask: Bool[Array, " measurements"],
) -> tuple[Field, Field]:
    """Return ``C* M (y - C z)`` and ``C* M 1`` as fields; what is masked does not matter."""
    check_shape("y", y, (observe.n_measurements,))
    check_shape("mask", mask, (observe.n_measurements,))
    if mask.dtype != bool:
        raise TypeError(f"`mask` must be boolean, got {mask.dtype}.")
    known = jnp.where(mask, y.astype(z.dtype), 0)
    difference = jnp.where(mask, known - observe(z), 0)
    return observe.adjoint(difference), observe.adjoint(mask.astype(z.dtype))


def call_predictor(predictor: Any, z: Field, dt: RealScalar | None) -> Field:
    """Return ``predictor(z)``, or ``predictor(z, dt)`` where there is a step."""
    return predictor(z) if dt is None else predictor(z, dt)
