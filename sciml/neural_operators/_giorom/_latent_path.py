"""The way of particles to the latent grid, through its operator, and back."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...core import KeyArray, split_keys
from .._fno import FNO
from ._graph_neural_operator import GraphNeuralOperator
from ._latent_grid import Bounds, LatentGrid, grid_pairs
from ._particle_features import ParticleCloud, wall_distances
from ._smooth_window import window_volume

_FLOOR = 0.1


class LatentPath(eqx.Module):
    """Two graph neural operators with a Fourier neural operator on the grid between them.

    The grid's operator also sees how full the surroundings of each node are, and the distances to
    the walls. Coming back, the windows of the nodes around a particle are a partition of unity.

    Parameters
    ----------
    grid
        Sizes.
    bounds
        Ends of the box along each axis.
    walls
        Whether it has walls.
    channels
        Channels at the particles.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import jax
    >>> box = ((0.0, 1.0), (0.0, 1.0))
    >>> LatentPath(LatentGrid((8, 8)), box, True, 4, key=jax.random.key(7)).operator.n_modes
    (2, 2)
    """

    to_grid: GraphNeuralOperator
    operator: FNO
    from_grid: GraphNeuralOperator
    grid: LatentGrid
    bounds: Bounds = eqx.field(static=True)
    walls: bool = eqx.field(static=True)
    channels: int = eqx.field(static=True)

    def __init__(
        self, grid: LatentGrid, bounds: Bounds, walls: bool, channels: int, *, key: KeyArray
    ):
        self.grid, self.bounds, self.walls, self.channels = grid, bounds, walls, channels
        dim, c = len(bounds), grid.channels
        if len(grid.shape) != dim:
            raise ValueError(
                f"the latent grid must have {dim} axes, as `bounds`; got {grid.shape}."
            )
        keys = split_keys(key, 3)
        floor = _FLOOR * window_volume(grid.radius_in(bounds), dim)
        self.to_grid = GraphNeuralOperator(
            channels, c, dim, hidden_channels=2 * c, floor=floor, key=keys[0]
        )
        self.operator = FNO(
            c + 1 + (2 * dim if walls else 0),
            c,
            grid.modes(),
            hidden_channels=c,
            n_layers=grid.n_layers,
            periodic=False,
            coordinates=False,
            key=keys[1],
        )
        self.from_grid = GraphNeuralOperator(c, channels, dim, hidden_channels=2 * c, key=keys[2])

    def __call__(
        self, h: Float[Array, "n channels"], cloud: ParticleCloud, mask: Bool[Array, " n"]
    ) -> Float[Array, "n channels"]:
        """Return what the grid says at the particles.

        Parameters
        ----------
        h
            Channels at the particles.
        cloud
            Their positions and volumes.
        mask
            Which are real.
        """
        pairs = grid_pairs(self.grid, self.bounds, cloud.position, mask)
        near, dtype = pairs.neighbours, h.dtype
        nodes = jnp.asarray(self.grid.nodes_in(self.bounds), dtype)
        weight = pairs.window * cloud.volume[:, None]
        z = self.to_grid(h, pairs.offset, weight, near, n_receivers=len(nodes))
        radius = self.grid.radius_in(self.bounds)
        full = jnp.asarray(window_volume(radius, len(self.bounds)), dtype)
        channels = [z, (near.sum_over_queries(weight, len(nodes)) / full)[:, None]]
        if self.walls:
            channels.append(wall_distances(nodes, self.bounds, radius))
        field = jnp.concatenate(channels, axis=1).T.reshape(-1, *self.grid.shape)
        field = self.operator(field).reshape(self.grid.channels, -1).T
        return self.from_grid(field, -pairs.offset, pairs.window, near)
