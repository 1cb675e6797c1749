"""Ensemble Kalman filter in its serial square-root form (Whitaker and Hamill 2002)."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...core import Field, RealScalar, check_finite, check_positive, check_shape, cites
from ...numerics import full_precision
from ._assimilator import AbstractAssimilator, call_predictor
from ._bibliography import EVENSEN_1994, WHITAKER_2002
from ._observation import AbstractObservation


@cites(WHITAKER_2002, EVENSEN_1994)
class EnsembleKalmanFilter(AbstractAssimilator[Array]):
    r"""The classical filter: the spread of an ensemble says how much to believe a measurement.

    Measurements are taken one after the other. With the anomalies :math:`X` of the members, the
    anomalies :math:`h` of what they say of a measurement, and the noise variance :math:`r`,

    .. math::
        k = \rho \circ \frac{X h}{h \cdot h + (m - 1) r}, \qquad
        \bar x \leftarrow \bar x + k (y - \bar h), \qquad X \leftarrow X - \alpha k h^T, \quad
        \alpha = \frac{1}{1 + \sqrt{(m-1) r / (h \cdot h + (m-1) r)}}

    No noise is drawn, so that the same call gives the same answer. Each step costs as many
    predictions as there are members.

    Parameters
    ----------
    predictor
        The model of a step.
    observe
        What is measured.
    noise_std
        Standard deviation of the measurements' error.
    perturbations
        What is added to the first guess to make the members, ``(member, channels, *space)``: draws
        of how wrong it may be, for instance states of the training data less their mean. Their
        mean is removed.
    taper
        How far each measurement reaches, ``(measurements, *space)`` with values from 0 to 1, as
        `PointSensors.taper` gives it. With fewer members than unknowns it is needed.
    inflation
        Factor of the anomalies after each prediction, 1 or above, for what the model itself gets
        wrong.

    References
    ----------
    .. [1] J. S. Whitaker and T. M. Hamill, "Ensemble data assimilation without perturbed
       observations", Monthly Weather Review 130 (2002), 1913-1924.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.neural_operators import FullField
    >>> model = EnsembleKalmanFilter(
    ...     lambda z: z, FullField((1,)), 1.0, jnp.array([[[-1.0]], [[1.0]]]))
    >>> analyses, _ = model(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.array([True]))
    >>> round(float(analyses[0, 0, 0]), 4)  # variances 2 and 1
    0.6667
    """

    predictor: Callable[..., Array]
    observe: AbstractObservation
    perturbations: Float[Array, "member channels *space"]
    taper: Float[Array, "measurements *space"] | None
    noise_std: float = eqx.field(static=True)
    inflation: float = eqx.field(static=True)

    def __init__(
        self,
        predictor: Callable[..., Array],
        observe: AbstractObservation,
        noise_std: float | int,
        perturbations: Float[Array | np.ndarray, "member channels *space"],
        *,
        taper: Float[Array | np.ndarray, "measurements *space"] | None = None,
        inflation: float | int = 1.0,
    ):
        check_positive("noise_std", noise_std)
        check_positive("inflation", inflation)
        if inflation < 1:
            raise ValueError(f"`inflation` must be at least 1, got {inflation!r}.")
        field = (observe.n_channels, *observe.n_points)
        sizes = check_shape("perturbations", perturbations, ("member", *field))
        if sizes["member"] < 2:
            raise ValueError("`perturbations` must hold at least two members, got fewer.")
        check_finite("perturbations", perturbations)
        if taper is not None:
            check_shape("taper", taper, (observe.n_measurements, *observe.n_points))
            check_finite("taper", taper)
            if not bool(jnp.all((jnp.asarray(taper) >= 0) & (jnp.asarray(taper) <= 1))):
                raise ValueError("`taper` must hold values from 0 to 1.")
        self.predictor = predictor
        self.observe = observe
        self.perturbations = jnp.asarray(perturbations)
        self.taper = None if taper is None else jnp.asarray(taper, self.perturbations.dtype)
        self.noise_std = float(noise_std)
        self.inflation = float(inflation)

    def start(self, z0: Field) -> Float[Array, "member channels *space"]:
        """Return the members: the first guess plus the perturbations without their mean."""
        perturbations = jax.lax.stop_gradient(self.perturbations).astype(z0.dtype)
        return z0[None] + (perturbations - jnp.mean(perturbations, axis=0, keepdims=True))

    def predict(self, state: Array, dt: RealScalar | None = None) -> Array:
        """Return the members one step later, their anomalies inflated."""
        members = jax.vmap(lambda z: call_predictor(self.predictor, z, dt))(state)
        mean = jnp.mean(members, axis=0, keepdims=True)
        return mean + self.inflation * (members - mean)

    @full_precision
    def correct(
        self,
        state: Array,
        y: Float[Array, " measurements"],
        mask: Bool[Array, " measurements"],
    ) -> Array:
        """Return the members after the measurements that ``mask`` allows."""
        check_shape("y", y, (self.observe.n_measurements,))
        check_shape("mask", mask, (self.observe.n_measurements,))
        n_members = state.shape[0]
        noise = (n_members - 1) * self.noise_std**2
        taper = None if self.taper is None else jax.lax.stop_gradient(self.taper)
        y = jnp.where(mask, y.astype(state.dtype), 0)

        def take(members, entry):
            index, y, seen, taper = entry
            mean = jnp.mean(members, axis=0)
            anomalies = members - mean[None]
            said = jax.vmap(self.observe)(members)[:, index]
            h = said - jnp.mean(said)
            total = jnp.maximum(jnp.sum(h * h) + noise, jnp.finfo(h.dtype).tiny)
            gain = jnp.tensordot(h, anomalies, axes=1) / total
            if taper is not None:
                gain = gain * taper.astype(gain.dtype)[None]
            shrink = 1 / (1 + jnp.sqrt(noise / total))
            mean = mean + gain * (y - jnp.mean(said))
            h = h.reshape(-1, *(1,) * gain.ndim)
            # What is not seen leaves the members as they are, to the last bit.
            return jnp.where(seen, mean[None] + anomalies - shrink * h * gain[None], members), None

        index = jnp.arange(self.observe.n_measurements)
        members, _ = jax.lax.scan(take, state, (index, y, mask, taper))
        return members

    def estimate(self, state: Array) -> Field:
        """Return the mean of the members."""
        return jnp.mean(state, axis=0)


EnKF = EnsembleKalmanFilter
"""The usual abbreviation."""
