"""The prediction of NODA: the state plus what a neural operator says of its change."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ...core import Field, RealScalar, check_positive, cites
from ...data import AbstractNormaliser, IdentityNormaliser
from ._bibliography import SINGH_2024


@cites(SINGH_2024)
class ResidualPredictor(eqx.Module):
    r"""One step in time by a network: :math:`z + W(z)`.

    With a reference step ``dt`` the network sees the step as one more channel, ``dt / reference``,
    and the change is multiplied by it; such a predictor takes irregular times.

    Parameters
    ----------
    network
        Any map of fields to fields, for instance `FNO`; with a reference step it has one input
        channel more than output channels.
    dt
        The reference step, in physical time. None for a predictor of one fixed step.
    normaliser
        Scale of the data.

    References
    ----------
    .. [1] A. Singh et al., "Learning semilinear neural operators", ICLR 2024.

    Examples
    --------
    >>> import jax
    >>> from sciml.neural_operators import FNO
    >>> network = FNO(2, 1, n_modes=(4,), hidden_channels=6, key=jax.random.key(7))
    >>> step = ResidualPredictor(network, dt=0.5)
    >>> step(jax.numpy.ones((1, 16)), 0.25).shape
    (1, 16)
    """

    network: Callable[[Array], Array]
    normaliser: AbstractNormaliser
    dt: float | None = eqx.field(static=True)

    def __init__(
        self,
        network: Callable[[Array], Array],
        *,
        dt: float | int | None = None,
        normaliser: AbstractNormaliser | None = None,
    ):
        if dt is not None:
            check_positive("dt", dt)
        self.network = network
        self.normaliser = IdentityNormaliser() if normaliser is None else normaliser
        self.dt = None if dt is None else float(dt)

    def __call__(self, z: Field, dt: RealScalar | None = None) -> Field:
        """Return the state one step later.

        Raises
        ------
        ValueError
            If ``dt`` is given to a predictor without a reference step, or is not positive.
        """
        encoded = self.normaliser.encode(z[None])[0]
        if self.dt is None:
            if dt is not None:
                raise ValueError(
                    "this predictor was built for one fixed step and takes no `dt`: build it with "
                    "`ResidualPredictor(network, dt=...)` and a network with one more input."
                )
            change = self.network(encoded)
        else:
            if dt is not None:
                check_positive("dt", dt)
            ratio = jnp.asarray(self.dt if dt is None else dt, z.dtype) / self.dt
            clock = jnp.broadcast_to(ratio, (1, *z.shape[1:]))
            change = ratio * self.network(jnp.concatenate([encoded, clock]))
        return self.normaliser.decode((encoded + change)[None])[0]
