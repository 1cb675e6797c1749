"""The regular grid on which the latent operator of a GIOROM acts."""

import itertools
import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...core import check_count, check_positive
from ...numerics import Neighbours, lattice_neighbours
from ._smooth_window import safe_length, smooth_window

Bounds = tuple[tuple[float, float], ...]


class LatentGrid(eqx.Module):
    """Size of the latent grid and of the Fourier neural operator on it.

    Parameters
    ----------
    shape
        Nodes along each axis of the box, the ends included; at least two.
    radius
        How far particles and nodes see each other, in physical units. By default the largest
        spacing of the nodes, or a little over half the diagonal of a cell if that is more.
    n_modes
        Modes along each axis; by default a third of the nodes.
    channels
        Channels at the nodes.
    n_layers
        Fourier layers.

    Examples
    --------
    >>> LatentGrid((16, 16)).radius_in(((0.0, 1.5), (0.0, 1.5)))
    0.1
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    radius: float | None = eqx.field(static=True)
    n_modes: tuple[int, ...] | None = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)

    def __init__(
        self,
        shape: Sequence[int] = (16, 16),
        *,
        radius: float | None = None,
        n_modes: Sequence[int] | None = None,
        channels: int = 16,
        n_layers: int = 2,
    ):
        self.shape = tuple(check_count("shape", n, minimum=2) for n in shape)
        if radius is not None:
            check_positive("radius", radius)
        self.radius = radius
        self.n_modes = None if n_modes is None else tuple(n_modes)
        if self.n_modes is not None and len(self.n_modes) != len(self.shape):
            raise ValueError(
                f"`n_modes` must have one number for each of the {len(self.shape)} axes of "
                f"`shape`, got {self.n_modes}."
            )
        self.channels = check_count("channels", channels)
        self.n_layers = check_count("n_layers", n_layers)

    def spacing_in(self, bounds: Bounds) -> tuple[float, ...]:
        """Return the distance of the nodes along each axis of a box.

        Parameters
        ----------
        bounds
            Ends of each axis.
        """
        pairs = zip(bounds, self.shape, strict=True)
        return tuple((high - low) / (n - 1) for (low, high), n in pairs)

    def radius_in(self, bounds: Bounds) -> float:
        """Return the radius in a box, checked: from every place in it a node can be seen.

        Parameters
        ----------
        bounds
            Ends of each axis.

        Raises
        ------
        ValueError
            If ``radius`` is too small; the message has the least one.
        """
        spacing = self.spacing_in(bounds)
        half_diagonal = math.sqrt(sum(length**2 for length in spacing)) / 2
        if self.radius is None:
            return max(*spacing, 1.05 * half_diagonal)
        if self.radius <= half_diagonal:
            raise ValueError(
                f"`radius` = {self.radius:g} of the latent grid leaves holes: nodes stand "
                f"{' x '.join(f'{length:.4g}' for length in spacing)} apart, so it must exceed "
                f"half the diagonal of a cell, {half_diagonal:.4g}. Take radius="
                f"{1.05 * half_diagonal:.4g} or more, or more nodes."
            )
        return self.radius

    def modes(self) -> tuple[int, ...]:
        """Return the modes along each axis."""
        if self.n_modes is not None:
            return self.n_modes
        return tuple(max(1, n // 3) for n in self.shape)

    def nodes_in(self, bounds: Bounds) -> np.ndarray:
        """Return the positions of the nodes in a box, ``(n_nodes, dim)``.

        Parameters
        ----------
        bounds
            Ends of each axis.
        """
        axes = (np.linspace(*ends, n) for ends, n in zip(bounds, self.shape, strict=True))
        return np.array(list(itertools.product(*axes)))


class GridPairs(eqx.Module):
    """Particles and the nodes they see.

    Attributes
    ----------
    neighbours
        For each particle its nodes.
    offset
        Particle minus node over the radius, ``(n, k, dim)``.
    window
        The window of each pair, ``(n, k)``.
    """

    neighbours: Neighbours
    offset: Float[Array, "n k dim"]
    window: Float[Array, "n k"]


def grid_pairs(
    grid: LatentGrid,
    bounds: Bounds,
    position: Float[Array, "n dim"],
    mask: Bool[Array, " n"],
) -> GridPairs:
    """Return the pairs of particles and nodes within the radius."""
    radius = grid.radius_in(bounds)
    low = tuple(ends[0] for ends in bounds)
    near = lattice_neighbours(
        position, low, grid.spacing_in(bounds), grid.shape, radius, queries_mask=mask
    )
    nodes = jnp.asarray(grid.nodes_in(bounds), position.dtype)
    offset = (position[:, None] - near.gather(nodes)) / jnp.asarray(radius, position.dtype)
    offset = jnp.where(near.mask[..., None], offset, jnp.zeros((), position.dtype))
    window = smooth_window(safe_length(offset, near.mask), 1.0)
    return GridPairs(near, offset, jnp.where(near.mask, window, jnp.zeros((), window.dtype)))
