r"""Two-dimensional flow between walls in vorticity and stream function.

.. math:: \omega_t + u \omega_x + v \omega_y = \nu \Delta \omega, \qquad \Delta \psi = -\omega,
          \qquad u = \psi_y, \quad v = -\psi_x
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from ..core import (
    RESULTS,
    RealScalar,
    Solution,
    check_count,
    check_positive,
    real_dtype,
    results_where,
    throw_if_failed,
)

# Part of the stability limit of the classical Runge-Kutta method that a step uses.
_SAFETY = 0.7


class AbstractWallFlow(eqx.Module):
    r"""An incompressible flow on a rectangle, on nodes that include the walls.

    Fields have the axes ``(y, x)``, row 0 at the bottom, as in image data and in CFDBench; the
    velocity has the channels ``(u, v)``, along x and along y. Second differences in space; the
    velocity is a central difference of the stream function, so that its central divergence is
    zero to round-off.

    Attributes
    ----------
    n_points
        Nodes along y and x, the boundary included.
    domain_extent
        Height and width.
    viscosity
        Kinematic viscosity.
    """

    n_points: eqx.AbstractVar[tuple[int, int]]
    domain_extent: eqx.AbstractVar[tuple[float, float]]
    viscosity: eqx.AbstractVar[Float[Array, ""]]

    @property
    @abc.abstractmethod
    def speed(self) -> Float[Array, ""]:
        """The velocity of the lid or of the inlet."""

    @property
    @abc.abstractmethod
    def length(self) -> float:
        """The length in the Reynolds number."""

    @property
    def reynolds(self) -> float:
        """Speed times length over viscosity."""
        return float(self.speed) * self.length / float(self.viscosity)

    @abc.abstractmethod
    def start(self) -> Float[Array, "y x"]:
        """Return the vorticity of the unknown nodes at time zero."""

    @abc.abstractmethod
    def tendency(self, vorticity: Float[Array, "y x"]) -> Float[Array, "y x"]:
        """Return the time derivative of the vorticity of the unknown nodes."""

    @abc.abstractmethod
    def velocity(self, vorticity: Float[Array, "y x"]) -> Float[Array, "2 y x"]:
        """Return the velocity at all nodes, boundary values included."""

    def after_step(self, vorticity: Float[Array, "y x"]) -> Float[Array, "y x"]:
        """Return the vorticity after what happens between steps: here nothing."""
        return vorticity

    @property
    def spacing(self) -> tuple[float, float]:
        """Distance between nodes along y and x."""
        return (
            self.domain_extent[0] / (self.n_points[0] - 1),
            self.domain_extent[1] / (self.n_points[1] - 1),
        )

    def largest_step(self) -> float:
        """Return a time step within the stability limit of diffusion and convection."""
        hy, hx = self.spacing
        diffusion = 4 * float(self.viscosity) * (1 / hy**2 + 1 / hx**2)
        convection = 1.5 * float(self.speed) * (1 / hy + 1 / hx)
        return _SAFETY * 2.78 / math.hypot(diffusion, convection)


def march_flow(
    problem: AbstractWallFlow,
    *,
    dt: RealScalar,
    n_frames: int,
    substeps: int | None = None,
    throw: bool = True,
) -> Solution:
    """Record the velocity of a flow that starts impulsively, by the classical Runge-Kutta method.

    Parameters
    ----------
    problem
        The flow, for instance `LidDrivenCavity`.
    dt
        Physical time between frames.
    n_frames
        Frames after the first.
    substeps
        Steps between frames; by default as many as stability asks for.
    throw
        Raise when the solution blows up. Otherwise look at ``result``.

    Returns
    -------
    Solution
        ``value`` holds the velocity, ``(n_frames + 1, 2, y, x)``, the start first; ``stats`` has
        ``substeps``, ``n_steps`` and ``rate_of_change``, the largest change of velocity over the
        last frame, relative to the speed and per unit of time: near zero in a stationary flow.

    Raises
    ------
    TypeError
        If ``problem`` is no wall flow.
    ValueError
        If ``dt`` or a count is not positive, or ``substeps`` is missing under ``jax.jit``.
    RuntimeError
        If the solution blows up and ``throw`` is true.

    Notes
    -----
    Derivatives are forward ones (`jax.jvp`): `jax.grad` does not go through the loop over substeps.

    Examples
    --------
    >>> from sciml.problems import LidDrivenCavity, march_flow
    >>> problem = LidDrivenCavity((17, 17), viscosity=0.01)
    >>> march_flow(problem, dt=0.5, n_frames=3).value.shape
    (4, 2, 17, 17)
    """
    if not isinstance(problem, AbstractWallFlow):
        raise TypeError(f"`problem` must be a flow between walls, got {problem!r}.")
    check_positive("dt", dt)
    n_frames = check_count("n_frames", n_frames)
    if substeps is None:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((problem, dt))):
            raise ValueError("give `substeps` where `problem` or `dt` are traced by jax.")
        substeps = max(1, math.ceil(float(dt) / problem.largest_step()))
    substeps = check_count("substeps", substeps)
    start = problem.start().astype(real_dtype())
    step = jnp.asarray(dt / substeps, start.dtype)
    # An array, so that flows of one grid share a program whatever their steps.
    count = jnp.asarray(substeps, jnp.int32)
    value, n_finite = _march(problem, step, count, start, n_frames)
    change = jnp.max(jnp.abs(value[-1] - value[-2])) / (problem.speed.astype(value.dtype) * dt)
    diverged = n_finite < n_frames
    solution = Solution(
        value,
        results_where(diverged, RESULTS.diverged, RESULTS.successful),  # pyright: ignore[reportArgumentType]
        {"substeps": substeps, "n_steps": n_frames * substeps, "rate_of_change": change},
    )
    if not throw:
        return solution
    cause = f"`march_flow` on {problem.n_points} nodes at Reynolds number {problem.reynolds:.4g}"
    if not isinstance(n_finite, Tracer):
        cause += f" blew up after frame {int(n_finite)} of {n_frames}; raise `substeps`."
    return throw_if_failed(solution, cause)


@eqx.filter_jit
def _march(
    problem: AbstractWallFlow,
    step: Float[Array, ""],
    substeps: Int[Array, ""],
    start: Float[Array, "y x"],
    n_frames: int,
) -> tuple[Float[Array, "time 2 ny nx"], Int[Array, ""]]:
    def advance(_, w):
        k1 = problem.tendency(w)
        k2 = problem.tendency(w + step / 2 * k1)
        k3 = problem.tendency(w + step / 2 * k2)
        k4 = problem.tendency(w + step * k3)
        return problem.after_step(w + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4))

    def frame(carry, _):
        w, n_finite = carry
        w = jax.lax.fori_loop(0, substeps, advance, w)
        n_finite = n_finite + jnp.isfinite(jnp.sum(jnp.abs(w))).astype(n_finite.dtype)
        return (w, n_finite), problem.velocity(w)

    carry = (start, jnp.asarray(0, jnp.int32))
    (_, n_finite), frames = jax.lax.scan(frame, carry, None, length=n_frames)
    return jnp.concatenate([problem.velocity(start)[None], frames]), n_finite


def convected(
    stream: Float[Array, "y x"],
    vorticity: Float[Array, "y x"],
    spacing: tuple[float, float],
    viscosity: Float[Array, ""],
) -> Float[Array, "inner_y inner_x"]:
    """Return convection and diffusion at the inner nodes from both fields at all nodes."""
    hy, hx = spacing
    u = (stream[2:, 1:-1] - stream[:-2, 1:-1]) / (2 * hy)
    v = (stream[1:-1, :-2] - stream[1:-1, 2:]) / (2 * hx)
    w_y = (vorticity[2:, 1:-1] - vorticity[:-2, 1:-1]) / (2 * hy)
    w_x = (vorticity[1:-1, 2:] - vorticity[1:-1, :-2]) / (2 * hx)
    inner = vorticity[1:-1, 1:-1]
    laplacian = (vorticity[2:, 1:-1] - 2 * inner + vorticity[:-2, 1:-1]) / hy**2 + (
        vorticity[1:-1, 2:] - 2 * inner + vorticity[1:-1, :-2]
    ) / hx**2
    return viscosity.astype(u.dtype) * laplacian - u * w_x - v * w_y


def wall_vorticity(
    first: Float[Array, " nodes"],
    second: Float[Array, " nodes"],
    spacing: float,
    speed: RealScalar = 0,
) -> Float[Array, " nodes"]:
    """Return the vorticity on a wall, to second order (Jensen's formula).

    Parameters
    ----------
    first, second
        The stream function, less its value on the wall, one and two nodes away.
    spacing
        Distance of the nodes.
    speed
        Tangential speed of the wall, counted as that of the lid of a cavity.
    """
    return (second - 8 * first) / (2 * spacing**2) - 3 * speed / spacing
