r"""One Runge-Kutta step in function space, explicit, diagonally implicit or both.

Stage :math:`i` fits :math:`u_i - \gamma\Delta t\,I(u_i) = u_n + \Delta t\sum_{j<i}(a_{ij} E(u_j) +
\hat a_{ij} I(u_j))` with the explicit part E and the implicit part I of the right-hand side.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ._tableau import RK4, Tableau
from ._time_stepper import Carry, Report, StepContext, ended


class Split(NamedTuple):
    """The two parts of a right-hand side with their tableaus; either may be missing."""

    explicit: tuple[Callable[..., Any], Tableau] | None
    implicit: tuple[Callable[..., Any], Tableau] | None

    @property
    def parts(self):
        """Those that are there."""
        return [part for part in self if part is not None]


class _Slopes:
    """Slopes of each part at each stage, on the points and between them."""

    def __init__(self, n_parts: int):
        self.inside: list[list[Any]] = [[] for _ in range(n_parts)]
        self.check: list[list[Any]] = [[] for _ in range(n_parts)]

    def sums(self, weights):
        """Return the weighted sums on the points and between them, or zeros."""
        found = []
        for stored in (self.inside, self.check):
            terms = [
                w * k
                for ws, ks in zip(weights, stored, strict=True)
                for w, k in zip(ws, ks, strict=False)
                if w != 0
            ]
            found.append(sum(terms[1:], terms[0]) if terms else 0.0)
        return found

    def totals(self):
        """Return the whole slope of each stage."""
        return [sum(ks[1:], ks[0]) for ks in zip(*self.inside, strict=True)]


def runge_kutta_step(ctx: StepContext, carry: Carry, split: Split) -> tuple[Carry, Report]:
    """Make one step."""
    space, check, t, dt = ctx.space, ctx.check, ctx.t, ctx.dt
    parts = split.parts
    tableaus = [tableau for _, tableau in parts]
    lead = tableaus[-1]
    n = len(lead.b)
    u, u_check = space.values(carry.theta, t), check.values(carry.theta, t)
    slopes = _Slopes(len(parts))
    theta, at, missed = carry.theta, 0.0, jnp.zeros((), u.dtype)
    is_short = all(tableau.ends_with_its_last_stage for tableau in tableaus)
    cache, solved = carry.cache, None
    rows = jnp.zeros_like(u)
    for i in range(n):
        c, gamma = lead.c[i], lead.diagonal[i]
        is_last_fit = is_short and i == n - 1
        if is_last_fit and gamma == 0:
            break
        time = t + c * dt
        base, _ = slopes.sums([tableau.a[i] for tableau in tableaus])
        base = u + dt * base
        if i > 0 or gamma != 0:
            start, change = _start(ctx, carry, theta, at, c)
            if gamma == 0:
                fit = ctx.inner.improve(
                    ctx.stage(time), start, space.targets(base, time), cache, change
                )
            else:
                stage = ctx.stage(time, _implicit_map(parts[-1][0], time, gamma * dt))
                if solved is None:
                    solved = ctx.inner.prepare(stage, carry.theta, cache)
                target = space.targets(base, time)
                for _ in range(2):
                    fit = ctx.inner.improve(stage, start, target, solved, change)
                    start, solved, change = fit.theta, fit.cache, jnp.zeros_like(change)
                size = dt * space.norm(carry.slope)
                fit = ctx.inner.refit(stage, fit, target, ctx.tolerance, size)
                solved = fit.cache
            theta, at, rows = fit.theta, c, fit.rows
            if not is_last_fit:
                missed = missed + abs(lead.b[i]) * jnp.linalg.norm(rows)
        for p, (part, _) in enumerate(parts):
            slopes.check[p].append(check.slopes(theta, part, time))
            if gamma != 0 and part is parts[-1][0]:
                slopes.inside[p].append((space.values(theta, time) - base) / (gamma * dt))
            elif i == 0 and len(parts) == 1:
                slopes.inside[p].append(carry.slope)
            else:
                slopes.inside[p].append(space.slopes(theta, part, time))
    # What the implicit fits learnt of the damping goes on to the next step.
    cache = cache if solved is None else solved
    total, total_check = slopes.sums([tableau.b for tableau in tableaus])
    if not (is_short and lead.diagonal[-1] != 0):
        target = space.targets(u + dt * total, t + dt)
        start, change = _start(ctx, carry, theta, at, 1.0)
        stage = ctx.stage(t + dt)
        if solved is not None:
            cache = ctx.inner.prepare(stage, theta, cache)
            fit = ctx.inner.improve(stage, start, target, cache, change)
        else:
            size = dt * space.norm(total)
            fit = ctx.inner.finish(stage, start, target, cache, change, ctx.tolerance, size)
        theta, cache, rows = fit.theta, fit.cache, fit.rows
    slope = space.slopes(theta, ctx.rhs, t + dt)
    if is_short and lead.diagonal[-1] == 0:
        slopes.inside[0].append(slope)
        slopes.check[0].append(check.slopes(theta, ctx.rhs, t + dt))
    error = _time_error(ctx, tableaus, slopes, carry.slope, slope)
    off = check.norm(u_check + dt * total_check - check.values(theta, t + dt))
    fit_norm = jnp.linalg.norm(rows[: u.size])
    return ended(ctx, carry, theta, cache, slope, (fit_norm, missed, error, off))


def _start(ctx, carry, theta, at, c):
    """Where a fit at abscissa ``c`` starts, and the change that momentum expects from there."""
    if at > 0 and c > 0:
        start = carry.theta + (c / at) * (theta - carry.theta)
        return start, jnp.zeros_like(start)
    return theta, (c - at) * ctx.dt * carry.velocity


def _implicit_map(part, time, scale):
    def functional(u: Any, x: Array) -> Any:
        return u(x) - scale * part(time, x, u)

    return functional


def _time_error(ctx, tableaus, slopes, first, last):
    space, dt, lead = ctx.space, ctx.dt, tableaus[-1]
    if any(any(tableau.b_error) for tableau in tableaus):
        return dt * space.norm(slopes.sums([tableau.b_error for tableau in tableaus])[0])
    totals = slopes.totals()
    if lead == RK4:
        # Differences of the third and second order give, continued geometrically, the fourth.
        third = dt / 6 * space.norm(totals[3] - last)
        second = dt / 3 * space.norm(totals[2] - totals[1])
        return third * jnp.minimum(third / jnp.maximum(second, 1e-300), 1.0)
    inner = [i for i, c in enumerate(lead.c) if 0 < c < 1]
    if lead.order(lead.b) < 2 or not inner:
        return dt / 2 * space.norm(last - first)
    # The third derivative, from the slopes at the start, in a stage and at the end.
    c = lead.c[inner[0]]
    middle = totals[inner[0]]
    return dt / 6 * space.norm((last - middle) / (1 - c) - (middle - first) / c)
