"""What a time stepper of a march is given, and what it returns."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ._function_space import FunctionSpace
from ._inner_solver import AbstractInnerSolver
from ._stage_map import StageMap


class StepContext(eqx.Module):
    """One step's surroundings.

    Attributes
    ----------
    space
        The network on the points of the fits.
    check
        The same on a few other points.
    rhs
        ``rhs(t, x, u)``.
    t, dt
        Where the step starts, and its length.
    inner
        How stages are fitted.
    tolerance
        L2 norm of a fit that is good enough.
    """

    space: FunctionSpace
    check: FunctionSpace
    rhs: Callable[..., Any]
    t: Any
    dt: Any
    inner: AbstractInnerSolver
    tolerance: Any

    def stage(self, t: Any, functional: Callable[..., Any] | None = None) -> StageMap:
        """Return the map that is fitted at a time; the value, or ``functional(u, x)``."""
        return StageMap(self.space, t, functional)


class Carry(eqx.Module):
    """What goes from a step to the next.

    Attributes
    ----------
    theta
        Parameters.
    slope
        The right-hand side on the points, flat.
    cache
        Of the inner solver.
    velocity
        Change of the parameters a unit of time, in the last step.
    past, past_times
        Earlier parameters, the latest first, and their times; for multistep methods.
    """

    theta: Array
    slope: Array
    cache: Any
    velocity: Array
    past: Array
    past_times: Array


class Report(eqx.Module):
    """Absolute L2 norms of one step; of the boundary the root mean square."""

    fit: Array
    stage: Array
    time_error: Array
    off_grid: Array
    boundary: Array
    change: Array


class AbstractStepper(eqx.Module):
    """How one step of a march is made."""

    @property
    @abc.abstractmethod
    def error_order(self) -> int:
        """The power of the step with which the estimated error falls."""

    @property
    @abc.abstractmethod
    def n_past(self) -> int:
        """How many earlier states a step needs; the first steps are those of `starter`."""

    @property
    @abc.abstractmethod
    def starter(self) -> "AbstractStepper":
        """What makes the first steps; itself, if it needs no earlier state."""

    @abc.abstractmethod
    def step(self, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
        """Make one step.

        Parameters
        ----------
        ctx
            Its surroundings.
        carry
            What the last one left.
        """


def ended(
    ctx: StepContext, carry: Carry, theta: Array, cache: Any, slope: Array, errors: Any
) -> tuple[Carry, Report]:
    """Return what a step leaves; ``errors`` are the norms of fit, stages, time and off the grid."""
    boundary = ctx.space.boundary_residual(theta, ctx.t + ctx.dt)
    velocity = (theta - carry.theta) / ctx.dt
    past, times = carry.past, carry.past_times
    if past.shape[0] > 0:
        past = jnp.concatenate([carry.theta[None], past[:-1]])
        times = jnp.concatenate([jnp.reshape(ctx.t, (1,)), times[:-1]])
    change = ctx.dt * ctx.space.norm(slope)
    fit, stage, time_error, off_grid = errors
    report = Report(fit, stage, time_error, off_grid, boundary, change)
    return Carry(theta, slope, cache, velocity, past, times), report
