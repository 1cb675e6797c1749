r"""GIOROM: particles talk to neighbours, and through a small grid to everyone.

.. math::

    h = E(\text{features}), \quad h \leftarrow I_k(h), \quad
    z = G_{\text{in}} h, \quad z' = F z, \quad h \leftarrow h + G_{\text{out}} z', \quad
    h \leftarrow I_k(h), \quad \hat a = D h + L\,\text{features}

with interaction operators :math:`I_k`, graph neural operators :math:`G`, a Fourier neural
operator :math:`F` on the latent grid, and perceptrons :math:`E, D`. All sums are quadratures with
a fixed physical radius, so one model serves samples of different density. The reference has no
skip around the grid, feeds raw velocities, and changes the radius with the density.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ...core import KeyArray, check_count, check_key, cites, split_keys
from ...data import ParticleNormaliser
from ...nn import PointMLP
from ...nn._initial_weights import normal_weights
from ._bibliography import VISWANATH_2024
from ._interaction_operator import InteractionOperator
from ._latent_grid import Bounds, LatentGrid
from ._latent_path import LatentPath
from ._particle_features import ParticleCloud, n_node_channels
from ._particle_stepper import AbstractParticleStepper, set_stepper_fields

_TYPE_CHANNELS = 4


@cites(VISWANATH_2024)
class GraphInteractionStepper(AbstractParticleStepper):
    """GIOROM: learned motion of a few hundred sampled particles of a body or a fluid.

    Parameters
    ----------
    normaliser
        Scales of the training data, and their ``dt``.
    bounds
        Ends of the box along each axis. The latent grid covers it.
    radius
        How far particles see each other, in physical units: two to four times their distance in
        the sparsest sample. The model keeps it at any density.
    window
        Velocities that are looked at; a window has ``window + 1`` frames.
    n_types
        Number of particle types.
    walls
        Whether the box has walls. Without them the model commutes with shifts: those by whole
        cells of the latent grid to rounding, others nearly.
    hidden_channels
        Channels at each particle.
    n_layers
        Interaction operators before and after the grid.
    latent
        The grid and its operator; None leaves it out.
    key
        PRNG key of the initial weights.

    Raises
    ------
    ValueError
        If the latent grid leaves holes, its dimension differs, or a number is out of range.

    References
    ----------
    .. [1] H. Viswanath et al., "Reduced-Order Neural Operators: Learning Lagrangian Dynamics on
           Highly Sparse Graphs", 2024.

    Examples
    --------
    >>> import jax
    >>> from sciml.data import ParticleNormaliser
    >>> normaliser = ParticleNormaliser((0, 0), (1, 1), (0, -9.8), (3, 3), dt=0.01)
    >>> model = GraphInteractionStepper(
    ...     normaliser, ((0, 1), (0, 1)), radius=0.2, hidden_channels=8,
    ...     latent=LatentGrid((8, 8), channels=4), key=jax.random.key(7),
    ... )
    >>> model.dim, model.window
    (2, 5)
    """

    types: Float[Array, "n_types type_channels"]
    encode: PointMLP
    before: tuple[InteractionOperator, ...]
    through_grid: LatentPath | None
    after: tuple[InteractionOperator, ...]
    decode: PointMLP
    linear: PointMLP
    normaliser: ParticleNormaliser
    bounds: Bounds = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    window: int = eqx.field(static=True)
    n_types: int = eqx.field(static=True)
    walls: bool = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_layers: tuple[int, int] = eqx.field(static=True)
    latent: LatentGrid | None

    def __init__(
        self,
        normaliser: ParticleNormaliser,
        bounds: Sequence[Sequence[float | int]] | np.ndarray,
        *,
        radius: float,
        window: int = 5,
        n_types: int = 1,
        walls: bool = True,
        hidden_channels: int = 64,
        n_layers: tuple[int, int] = (2, 2),
        latent: LatentGrid | None = LatentGrid(),  # noqa: B008 - a module is immutable
        key: KeyArray,
    ):
        check_key(key)
        set_stepper_fields(self, normaliser, bounds, radius, window, n_types, walls)
        self.hidden_channels = width = check_count("hidden_channels", hidden_channels)
        first, second = n_layers
        self.n_layers = (
            check_count("n_layers[0]", first, minimum=0),
            check_count("n_layers[1]", second, minimum=0),
        )
        self.latent = latent
        dim = self.dim
        keys = iter(split_keys(key, 5 + first + second))
        n_features = n_node_channels(dim, self.window, self.walls) + _TYPE_CHANNELS
        self.types = normal_weights(next(keys), (self.n_types, _TYPE_CHANNELS), 1.0)
        self.encode = PointMLP((n_features, width, width), key=next(keys))
        pair_channels = 2 * dim + 1
        self.before = tuple(
            InteractionOperator(width, pair_channels, key=next(keys)) for _ in range(first)
        )
        grid_key = next(keys)
        self.through_grid = (
            None
            if latent is None
            else LatentPath(latent, self.bounds, self.walls, width, key=grid_key)
        )
        self.after = tuple(
            InteractionOperator(width, pair_channels, key=next(keys)) for _ in range(second)
        )
        self.decode = PointMLP((width, width, dim), key=next(keys))
        self.linear = PointMLP((n_features, dim), key=next(keys))

    def scaled_acceleration(
        self, cloud: ParticleCloud, particle_type: Int[Array, " n"], mask: Bool[Array, " n"]
    ) -> Float[Array, "n dim"]:
        """Return the acceleration in units of its deviation, its mean subtracted.

        Parameters
        ----------
        cloud
            Features of the window.
        particle_type
            Type of each particle.
        mask
            Which particles are real.
        """
        kinds = self.types.astype(cloud.nodes.dtype)[particle_type]
        features = jnp.concatenate([cloud.nodes, kinds], axis=1)
        h = self.encode(features)
        for layer in self.before:
            h = layer(h, cloud)
        if self.through_grid is not None:
            h = h + self.through_grid(h, cloud, mask)
        for layer in self.after:
            h = layer(h, cloud)
        return self.decode(h) + self.linear(features)


GIOROM = GraphInteractionStepper
"""The paper's abbreviation."""
