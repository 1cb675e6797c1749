"""Flow in a box whose lid moves: the standard test of incompressible solvers."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import RealScalar, check_count, check_positive, cites
from ..numerics._fourier import Extent, check_extent
from ._dense_poisson import DensePoisson, dirichlet_modes
from ._semilinear import as_coefficient
from ._wall_bibliography import GHIA_1982
from ._wall_flow import AbstractWallFlow, convected, wall_vorticity


@cites(GHIA_1982)
class LidDrivenCavity(AbstractWallFlow):
    r"""A closed box at rest whose lid starts to move to the right at time zero.

    The walls' vorticity follows from the stream function beside them (Jensen's formula), and the
    stream function from the vorticity by dense matrices of sines. Below a Reynolds number of some
    thousands the flow becomes stationary, with one large vortex and two small ones in the corners.

    Parameters
    ----------
    n_points
        Nodes along y and x, walls included. At a Reynolds number of 1000, 129 nodes give the
        extreme velocities within 2 % of the published ones (benchmarks/cfdbench_like.py).
    viscosity
        Kinematic viscosity.
    lid
        Speed of the lid.
    domain_extent
        Height and width; one number for a square.

    References
    ----------
    .. [1] U. Ghia, K. N. Ghia and C. T. Shin, "High-Re solutions for incompressible flow using the
       Navier-Stokes equations and a multigrid method", J. Comput. Phys. 48 (1982), 387-411.

    Examples
    --------
    >>> problem = LidDrivenCavity((33, 33), viscosity=0.01)
    >>> round(problem.reynolds, 3)
    100.0
    """

    n_points: tuple[int, int] = eqx.field(static=True)
    viscosity: Float[Array, ""]
    lid: Float[Array, ""]
    domain_extent: tuple[float, float] = eqx.field(static=True)

    def __init__(
        self,
        n_points: Sequence[int],
        *,
        viscosity: RealScalar,
        lid: RealScalar = 1.0,
        domain_extent: Extent = 1.0,
    ):
        self.n_points = check_nodes(n_points)
        check_positive("viscosity", viscosity)
        check_positive("lid", lid)
        self.viscosity = as_coefficient(viscosity)
        self.lid = as_coefficient(lid)
        height, width = check_extent(domain_extent, 2)
        self.domain_extent = (height, width)

    @property
    def speed(self) -> Float[Array, ""]:
        """The speed of the lid."""
        return self.lid

    @property
    def length(self) -> float:
        """The width."""
        return self.domain_extent[1]

    def start(self) -> Float[Array, "y x"]:
        """Return zero: the fluid is at rest."""
        return jnp.zeros((self.n_points[0] - 2, self.n_points[1] - 2))

    def stream_function(self, vorticity: Float[Array, "y x"]) -> Float[Array, "ny nx"]:
        """Return the stream function at all nodes; it is zero on the walls."""
        hy, hx = self.spacing
        solve = DensePoisson(
            dirichlet_modes(self.n_points[0] - 2, hy), dirichlet_modes(self.n_points[1] - 2, hx)
        )
        return jnp.pad(-solve(vorticity), 1)

    def tendency(self, vorticity: Float[Array, "y x"]) -> Float[Array, "y x"]:
        """Return convection and diffusion at the inner nodes."""
        hy, hx = self.spacing
        stream = self.stream_function(vorticity)
        full = jnp.pad(vorticity, 1)
        inner, lid = stream[1:-1, 1:-1], self.lid.astype(stream.dtype)
        full = full.at[0, 1:-1].set(wall_vorticity(inner[0], inner[1], hy))
        full = full.at[-1, 1:-1].set(wall_vorticity(inner[-1], inner[-2], hy, lid))
        full = full.at[1:-1, 0].set(wall_vorticity(inner[:, 0], inner[:, 1], hx))
        full = full.at[1:-1, -1].set(wall_vorticity(inner[:, -1], inner[:, -2], hx))
        return convected(stream, full, self.spacing, self.viscosity)

    def velocity(self, vorticity: Float[Array, "y x"]) -> Float[Array, "2 ny nx"]:
        """Return the velocity at all nodes: that of the lid in the top row, its ends at rest."""
        hy, hx = self.spacing
        stream = self.stream_function(vorticity)
        u = jnp.pad((stream[2:, 1:-1] - stream[:-2, 1:-1]) / (2 * hy), 1)
        v = jnp.pad((stream[1:-1, :-2] - stream[1:-1, 2:]) / (2 * hx), 1)
        return jnp.stack([u.at[-1, 1:-1].set(self.lid.astype(u.dtype)), v])


def check_nodes(n_points: Sequence[int]) -> tuple[int, int]:
    """Return the checked nodes along y and x."""
    if len(n_points) != 2:
        raise ValueError(f"`n_points` must hold two numbers, for y and x; got {tuple(n_points)}.")
    ny, nx = (check_count("n_points", n, minimum=5) for n in n_points)
    return ny, nx
