"""Flow through a channel from a uniform inlet, with or without a round obstacle."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import RealScalar, check_positive, cites
from ..numerics._fourier import Extent, check_extent
from ._dense_poisson import DensePoisson, dirichlet_modes, open_modes
from ._lid_driven_cavity import check_nodes
from ._semilinear import as_coefficient
from ._wall_bibliography import ANGOT_1999
from ._wall_flow import AbstractWallFlow, convected, wall_vorticity


class Disc(eqx.Module):
    """A round obstacle.

    Parameters
    ----------
    centre
        Its distances from the bottom wall and from the inlet, ``(y, x)``.
    radius
        Its radius.
    """

    centre: tuple[float, float] = eqx.field(static=True)
    radius: float = eqx.field(static=True)

    def __init__(self, centre: Sequence[float], radius: float | int):
        check_positive("radius", radius)
        y, x = centre
        self.centre = (float(y), float(x))
        self.radius = float(radius)

    def covers(
        self, y: Float[np.ndarray, " ny"], x: Float[np.ndarray, " nx"], smoothing: float = 0.0
    ) -> Float[np.ndarray, "ny nx"]:
        """Return how much of each node the disc covers, from 0 to 1.

        Parameters
        ----------
        y, x
            Positions of the nodes.
        smoothing
            Width over which the edge falls off; 0 for a sharp edge.
        """
        distance = np.hypot(y[:, None] - self.centre[0], x[None, :] - self.centre[1])
        if smoothing == 0:
            return (distance <= self.radius).astype(float)
        return np.clip(0.5 - (distance - self.radius) / smoothing, 0, 1)


@cites(ANGOT_1999)
class ChannelFlow(AbstractWallFlow):
    r"""Flow between two walls at rest that enters on the left with uniform velocity.

    It starts impulsively, as potential flow. Walls and inlet get their vorticity from the stream
    function beside them (Jensen's formula); at the outlet the flow is parallel to the walls.
    Behind the entrance the profile becomes a parabola with its maximum at 1.5 times the inlet
    velocity. An obstacle is immersed: after each step the velocity inside is set to zero
    (penalisation in the limit of an impermeable body), with an edge of one node's width.

    Parameters
    ----------
    n_points
        Nodes along y and x, the boundary included.
    viscosity
        Kinematic viscosity.
    inlet
        Velocity at the inlet.
    domain_extent
        Height and width.
    obstacle
        A `Disc`, or None. From Reynolds numbers of some tens up, depending on the walls, vortices
        leave it in turn; ten nodes a diameter are the least.

    References
    ----------
    .. [1] P. Angot, C.-H. Bruneau and P. Fabrie, "A penalization method to take into account
       obstacles in incompressible viscous flows", Numerische Mathematik 81 (1999), 497-520.

    Examples
    --------
    >>> problem = ChannelFlow((17, 33), viscosity=0.01, domain_extent=(1.0, 4.0))
    >>> round(problem.reynolds, 3)
    100.0
    """

    n_points: tuple[int, int] = eqx.field(static=True)
    viscosity: Float[Array, ""]
    inlet: Float[Array, ""]
    domain_extent: tuple[float, float] = eqx.field(static=True)
    obstacle: Disc | None

    def __init__(
        self,
        n_points: Sequence[int],
        *,
        viscosity: RealScalar,
        inlet: RealScalar = 1.0,
        domain_extent: Extent = (1.0, 4.0),
        obstacle: Disc | None = None,
    ):
        self.n_points = check_nodes(n_points)
        check_positive("viscosity", viscosity)
        check_positive("inlet", inlet)
        self.viscosity = as_coefficient(viscosity)
        self.inlet = as_coefficient(inlet)
        height, width = check_extent(domain_extent, 2)
        self.domain_extent = (height, width)
        self.obstacle = obstacle
        if obstacle is not None:
            (y, x), r = obstacle.centre, obstacle.radius
            if not (r < y < height - r and r < x < width - r):
                raise ValueError(
                    f"the obstacle must lie inside the channel of {height:g} by {width:g}, got "
                    f"centre (y, x) = ({y:g}, {x:g}) and radius {r:g}."
                )

    @property
    def speed(self) -> Float[Array, ""]:
        """The velocity at the inlet."""
        return self.inlet

    @property
    def length(self) -> float:
        """The diameter of the obstacle, or the height of the channel."""
        return self.domain_extent[0] if self.obstacle is None else 2 * self.obstacle.radius

    def positions(self) -> tuple[Float[np.ndarray, " ny"], Float[np.ndarray, " nx"]]:
        """Return the positions of the nodes, from the bottom and from the inlet."""
        hy, hx = self.spacing
        return hy * np.arange(self.n_points[0]), hx * np.arange(self.n_points[1])

    def start(self) -> Float[Array, "y x"]:
        """Return the vorticity of potential flow: none, but a trace that breaks the symmetry."""
        y, x = self.positions()
        vorticity = np.zeros((len(y) - 2, len(x) - 2))
        if self.obstacle is not None:
            (y0, x0), r = self.obstacle.centre, self.obstacle.radius
            blob = np.hypot(y[1:-1, None] - y0 - r, x[None, 1:-1] - x0 - 2 * r) / r
            vorticity = 0.05 * float(self.inlet) / r * np.exp(-(blob**2))
        return jnp.asarray(vorticity)

    def stream_function(self, vorticity: Float[Array, "y x"]) -> Float[Array, "ny nx"]:
        """Return the stream function at all nodes; it is zero on the bottom wall."""
        hy, hx = self.spacing
        solve = DensePoisson(
            dirichlet_modes(self.n_points[0] - 2, hy), open_modes(self.n_points[1] - 1, hx)
        )
        outlet = jnp.concatenate([vorticity, vorticity[:, -1:]], axis=1)
        height = jnp.asarray(self.positions()[0][:, None], vorticity.dtype)
        deviation = jnp.pad(-solve(outlet), ((1, 1), (1, 0)))
        return deviation + self.inlet.astype(vorticity.dtype) * height

    def tendency(self, vorticity: Float[Array, "y x"]) -> Float[Array, "y x"]:
        """Return convection and diffusion at the inner nodes."""
        hy, hx = self.spacing
        stream = self.stream_function(vorticity)
        full = jnp.pad(vorticity, 1)
        full = full.at[1:-1, -1].set(vorticity[:, -1])
        inner = stream[1:-1, 1:-1]
        above = inner - self.inlet.astype(inner.dtype) * self.domain_extent[0]
        beside = inner - stream[1:-1, :1]
        full = full.at[0, 1:-1].set(wall_vorticity(inner[0], inner[1], hy))
        full = full.at[-1, 1:-1].set(wall_vorticity(above[-1], above[-2], hy))
        full = full.at[1:-1, 0].set(wall_vorticity(beside[:, 0], beside[:, 1], hx))
        return convected(stream, full, self.spacing, self.viscosity)

    def velocity(self, vorticity: Float[Array, "y x"]) -> Float[Array, "2 ny nx"]:
        """Return the velocity at all nodes, inlet and walls included."""
        hy, hx = self.spacing
        stream = self.stream_function(vorticity)
        u = (stream[2:] - stream[:-2]) / (2 * hy)
        u = jnp.pad(u.at[:, 0].set(self.inlet.astype(u.dtype)), ((1, 1), (0, 0)))
        v = jnp.pad((stream[1:-1, :-2] - stream[1:-1, 2:]) / (2 * hx), 1)
        return jnp.stack([u, v])

    def after_step(self, vorticity: Float[Array, "y x"]) -> Float[Array, "y x"]:
        """Return the vorticity after the velocity inside the obstacle was set to zero."""
        if self.obstacle is None:
            return vorticity
        hy, hx = self.spacing
        covered = self.obstacle.covers(*self.positions(), smoothing=max(hy, hx))
        u, v = -jnp.asarray(covered, vorticity.dtype)[None] * self.velocity(vorticity)
        curl_v = (v[1:-1, 2:] - v[1:-1, :-2]) / (2 * hx)
        return vorticity + curl_v - (u[2:, 1:-1] - u[:-2, 1:-1]) / (2 * hy)
