"""Neural operator with data assimilation (Singh et al. 2024): predict, then correct."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Bool, Float

from ...core import Field, cites
from ._assimilator import AbstractFieldAssimilator, innovation
from ._bibliography import SINGH_2024
from ._observation import AbstractObservation


@cites(SINGH_2024)
class NODA(AbstractFieldAssimilator):
    r"""Follow a system by a learned predictor and a learned, gated gain.

    .. math:: z^f_k = \Phi(z^a_{k-1}), \qquad
              z^a_k = z^f_k + K(z^f_k, M_k)\bigl[C^* M_k (y_k - C z^f_k)\bigr]

    The gain is linear in the innovation, so that a time without measurements, or one that the
    forecast got right, is not corrected at all. The state of the recursion is the analysis alone:
    cutting a run in two gives the same numbers. Train it unrolled, with `AssimilationLoss`; a
    predictor that was only trained on single steps blows up within hundreds of them.

    Parameters
    ----------
    predictor
        The model of a step, such as `ResidualPredictor` or `SemilinearStep`.
    observe
        What is measured: `PointSensors`, `Averaging` or `FullField`.
    gain
        ``gain(z, e, density)``, such as `GatedGain`.

    Notes
    -----
    The authors' code was not published; this follows the description. Where the published method
    learns an observation operator even though it is known, ours is given (`Averaging` can learn).

    References
    ----------
    .. [1] A. Singh et al., "Learning semilinear neural operators: A unified recursive framework
       for prediction and data assimilation", ICLR 2024.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sciml.neural_operators import FNO, GatedGain, PointSensors, ResidualPredictor
    >>> keys = jax.random.split(jax.random.key(7))
    >>> predictor = ResidualPredictor(FNO(1, 1, (4,), hidden_channels=6, key=keys[0]))
    >>> gain = GatedGain(1, (4,), hidden_channels=6, key=keys[1])
    >>> model = NODA(predictor, PointSensors.every((16,), 4), gain)
    >>> mask = jnp.array([True, False, True])
    >>> analyses, forecasts = model(jnp.zeros((1, 16)), jnp.ones((3, 4)), mask)
    >>> analyses.shape, bool((analyses[1] == forecasts[1]).all())
    ((3, 1, 16), True)
    """

    predictor: Callable[..., Array]
    observe: AbstractObservation
    gain: Any

    def __init__(self, predictor: Callable[..., Array], observe: AbstractObservation, gain: Any):
        self.predictor = predictor
        self.observe = observe
        self.gain = gain

    def correct(
        self,
        state: Field,
        y: Float[Array, " measurements"],
        mask: Bool[Array, " measurements"],
    ) -> Field:
        """Return the forecast ``state`` corrected by the measurements that ``mask`` allows."""
        e, density = innovation(self.observe, state, y, mask)
        return state + self.gain(state, e, density)
