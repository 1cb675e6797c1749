r"""Multistep methods: one fit a step. Weights follow from the times, so steps may differ.

With nodes :math:`s_j = (t_j - t_n)/\Delta t` weights solve small Vandermonde systems.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..core import check_count
from ._runge_kutta_steppers import DiagonallyImplicit, Explicit
from ._tableau import Tableau
from ._time_stepper import AbstractStepper, Carry, Report, StepContext, ended

# Crouzeix's method of order 3, to start BDF3.
_G = 0.5 + 3**0.5 / 6
_CROUZEIX = Tableau(((), (1 - 2 * _G,)), (_G, _G), (0.5, 0.5), (0.0, 0.0), (_G, 1 - _G))


class AdamsBashforth(AbstractStepper):
    """Explicit multistep method: one fit and one factor a step. RK4 makes the first steps.

    Parameters
    ----------
    order
        1 to 4.

    Raises
    ------
    ValueError
        If the order is another.

    Examples
    --------
    >>> AdamsBashforth(3).n_past
    2
    """

    order: int = eqx.field(static=True)

    def __init__(self, order: int = 3):
        self.order = _order(order, 4)

    @property
    def error_order(self) -> int:
        """The power of the step with which the estimated error falls."""
        return self.order + 1

    @property
    def n_past(self) -> int:
        """How many earlier states a step needs."""
        return self.order - 1

    @property
    def starter(self) -> AbstractStepper:
        """The classical RK4."""
        return Explicit()

    def step(self, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
        """Make one step."""
        space, check, t, dt = ctx.space, ctx.check, ctx.t, ctx.dt
        nodes, times, thetas = _nodes(ctx, carry)
        powers = jnp.arange(1.0, self.order + 2, dtype=nodes.dtype)
        weights = _weights(nodes, 1 / powers[:-1])
        slopes = jnp.stack([carry.slope, *_past_slopes(ctx, space, thetas, times)])
        u = space.values(carry.theta, t)
        inside = u + dt * (weights @ slopes)
        stage, target = ctx.stage(t + dt), space.targets(inside, t + dt)
        start, change = carry.theta + dt * carry.velocity, jnp.zeros_like(carry.theta)
        size = space.norm(inside - u)
        fit = ctx.inner.finish(stage, start, target, carry.cache, change, ctx.tolerance, size)
        slope = space.slopes(fit.theta, ctx.rhs, t + dt)
        # The implicit method of one order more, at the point that was reached.
        longer = jnp.concatenate([jnp.ones_like(nodes[:1]), nodes])
        corrector = _weights(longer, 1 / powers)
        corrected = u + dt * (corrector @ jnp.concatenate([slope[None], slopes]))
        seen = _past_slopes(ctx, check, [carry.theta, *thetas], [t, *times])
        seen = jnp.stack(seen)
        wanted = check.values(carry.theta, t) + dt * (weights @ seen)
        off = check.norm(wanted - check.values(fit.theta, t + dt))
        zero = jnp.zeros((), u.dtype)
        errors = (jnp.linalg.norm(fit.rows[: u.size]), zero, space.norm(corrected - inside), off)
        return ended(ctx, carry, fit.theta, fit.cache, slope, errors)


class BackwardDifferentiation(AbstractStepper):
    """Implicit multistep method (BDF): one fit and one factor a step, for stiff equations.

    Parameters
    ----------
    order
        1 to 3.

    Raises
    ------
    ValueError
        If the order is another.

    Examples
    --------
    >>> BackwardDifferentiation(2).error_order
    3
    """

    order: int = eqx.field(static=True)

    def __init__(self, order: int = 2):
        self.order = _order(order, 3)

    @property
    def error_order(self) -> int:
        """The power of the step with which the estimated error falls."""
        return self.order + 1

    @property
    def n_past(self) -> int:
        """How many earlier states a step needs."""
        return self.order - 1

    @property
    def starter(self) -> AbstractStepper:
        """A diagonally implicit method of the same order."""
        return DiagonallyImplicit(_CROUZEIX if self.order == 3 else None)

    def step(self, ctx: StepContext, carry: Carry) -> tuple[Carry, Report]:
        """Make one step."""
        space, check, t, dt = ctx.space, ctx.check, ctx.t, ctx.dt
        nodes, times, thetas = _nodes(ctx, carry)
        nodes = jnp.concatenate([jnp.ones_like(nodes[:1]), nodes])
        slopes_at = jnp.arange(self.order + 1, dtype=nodes.dtype)
        weights = _weights(nodes, slopes_at)
        beta = 1 / weights[0]

        def functional(u: Any, x: Array) -> Any:
            return u(x) - beta * dt * ctx.rhs(t + dt, x, u)

        def known(at):
            values = [at.values(carry.theta, t)]
            values += [at.values(th, s) for th, s in zip(thetas, times, strict=True)]
            return -beta * sum(w * v for w, v in zip(weights[1:], values, strict=True))

        stage, inside = ctx.stage(t + dt, functional), known(space)
        target = space.targets(inside, t + dt)
        theta, zero = carry.theta + dt * carry.velocity, jnp.zeros_like(carry.theta)
        cache = ctx.inner.prepare(stage, theta, carry.cache)
        for _ in range(2):
            fit = ctx.inner.improve(stage, theta, target, cache, zero)
            theta, cache = fit.theta, fit.cache
        size = dt * space.norm(carry.slope)
        fit = ctx.inner.refit(stage, fit, target, ctx.tolerance, size)
        theta, cache = fit.theta, fit.cache
        slope = space.slopes(theta, ctx.rhs, t + dt)
        # The derivative of the next order, from differences of the slopes.
        top = _weights(nodes, jnp.zeros_like(nodes).at[-1].set(1))
        slopes = [slope, carry.slope, *_past_slopes(ctx, space, thetas, times)]
        difference = top @ jnp.stack(slopes)
        scale = beta * math.factorial(self.order) / (self.order + 1)
        u = check.field(theta, t + dt)
        found = jax.vmap(lambda x: functional(u, x))(check.points.x).reshape(-1)
        errors = (
            jnp.linalg.norm(fit.rows[: inside.size]),
            jnp.zeros((), theta.dtype),
            scale * dt * space.norm(difference),
            check.norm(known(check) - found),
        )
        return ended(ctx, carry, theta, cache, slope, errors)


def _order(order: int, most: int) -> int:
    order = check_count("order", order)
    if order > most:
        raise ValueError(f"`order` must be at most {most}, got {order}.")
    return order


def _nodes(ctx, carry):
    """Return the scaled times of the present and the past, and the past's times and parameters."""
    times = list(carry.past_times)
    now = jnp.reshape(ctx.t, (1,))
    return (jnp.concatenate([now, carry.past_times]) - now) / ctx.dt, times, list(carry.past)


def _weights(nodes, moments):
    """Return the weights with ``sum w_j s_j^m = moments[m]``."""
    powers = nodes[None] ** jnp.arange(len(nodes), dtype=nodes.dtype)[:, None]
    return jnp.linalg.solve(powers, moments.astype(nodes.dtype))


def _past_slopes(ctx, space, thetas, times):
    return [space.slopes(th, ctx.rhs, s) for th, s in zip(thetas, times, strict=True)]
