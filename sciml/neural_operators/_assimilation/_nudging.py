"""Nudging: draw the forecast towards the measurements by a fixed gain."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...core import Field, RealScalar, check_non_negative, check_positive, cites
from ._assimilator import AbstractFieldAssimilator, innovation
from ._bibliography import HOKE_1976
from ._observation import AbstractObservation
from ._spread import spread


@cites(HOKE_1976)
class Nudging(AbstractFieldAssimilator):
    r"""The classical rival with one or two numbers to tune on validation data.

    .. math:: z^a = z^f + \gamma \, S_\ell \, C^* M (y - C z^f)

    ``S`` spreads an innovation over its surroundings by Gaussian weights of a given length; where
    sensors overlap, it takes their weighted mean. Without a length, only the measured points are
    corrected, and gain 1 with a fully observed field copies the measurements.

    Parameters
    ----------
    predictor
        The model of a step.
    observe
        What is measured.
    gain
        :math:`\gamma`, from 0 (open loop) to about 1. It is not trained.
    length
        Standard deviation of the weights in grid points, or None. Periodic grids only.

    References
    ----------
    .. [1] J. E. Hoke and R. A. Anthes, "The initialization of numerical models by a
       dynamic-initialization technique", Monthly Weather Review 104 (1976), 1551-1556.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.neural_operators import FullField
    >>> model = Nudging(jnp.negative, FullField((4,)), 1.0)
    >>> analyses, _ = model(jnp.zeros((1, 4)), jnp.ones((2, 4)), jnp.array([True, False]))
    >>> analyses[:, 0, 0]
    Array([ 1., -1.], dtype=float32)
    """

    predictor: Callable[..., Array]
    observe: AbstractObservation
    gain: Float[Array, ""]
    length: float | None = eqx.field(static=True)

    def __init__(
        self,
        predictor: Callable[..., Array],
        observe: AbstractObservation,
        gain: RealScalar,
        *,
        length: float | int | None = None,
    ):
        check_non_negative("gain", gain)
        if length is not None:
            check_positive("length", length)
        self.predictor = predictor
        self.observe = observe
        self.gain = jnp.asarray(gain)
        self.length = None if length is None else float(length)

    def correct(
        self,
        state: Field,
        y: Float[Array, " measurements"],
        mask: Bool[Array, " measurements"],
    ) -> Field:
        """Return ``state`` drawn towards the measurements that ``mask`` allows."""
        e, density = innovation(self.observe, state, y, mask)
        if self.length is not None:
            means, weights = spread(e, density, (self.length,))
            # Beside all sensors the mean is of the nearest one, however far: its weight decides.
            e = means[0] * jnp.minimum(weights[0], 1)
        return state + jax.lax.stop_gradient(self.gain).astype(state.dtype) * e
