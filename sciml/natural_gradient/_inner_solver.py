r"""How a network is fitted to the function of a stage: damped natural gradients and their cache.

The factor of one Gauss-Newton matrix serves many iterations ("chords"): those of the fit that it
was made for and of the next step's stages. No iteration that raises a residual is kept.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ..core import check_count, check_non_negative, check_positive
from ._damped_factor import AbstractFactor, damped_factor
from ._energy_natural_gradient import GramForm
from ._stage_map import StageMap

# Lengths that are tried of each step.
_CHORD_SIZES = (1.0, 0.3, 0.1)
_REFIT_SIZES = (1.0, 0.5, 0.25, 0.1, 0.03)
# Residuals below this part of the function are good enough for any step.
_FLOOR = 1e-7
# Damping after failures ends here.
_RHO_MAX = 1e-2


class Fit(eqx.Module):
    """What a fit ended with.

    Attributes
    ----------
    theta
        Parameters.
    rows
        Weighted residual.
    cache
        For the next fit.
    """

    theta: Float[Array, " parameters"]
    rows: Float[Array, " rows"]
    cache: Any


class AbstractInnerSolver(eqx.Module):
    """How stages are fitted.

    A march calls `prepare` at its start (and where points change), `improve` for each stage and
    `finish` for each step; the cache, a pytree of arrays, goes from one to the next.
    """

    @abc.abstractmethod
    def prepare(self, stage: StageMap, theta: Float[Array, " parameters"], cache: Any) -> Any:
        """Return a cache for fits of this map near ``theta``.

        Parameters
        ----------
        stage
            What is fitted.
        theta
            Parameters.
        cache
            Of another map, or None at the start of a march.
        """

    @abc.abstractmethod
    def pack(self, cache: Any) -> Any:
        """Return the arrays from which `unpack` makes the cache again; small, for a checkpoint.

        Parameters
        ----------
        cache
            From `prepare` or a fit.
        """

    @abc.abstractmethod
    def unpack(self, stage: StageMap, packed: Any) -> Any:
        """Return the cache that was packed.

        Parameters
        ----------
        stage
            What was fitted.
        packed
            From `pack`.
        """

    @abc.abstractmethod
    def improve(
        self,
        stage: StageMap,
        theta: Float[Array, " parameters"],
        target: Float[Array, " rows"],
        cache: Any,
        momentum: Float[Array, " parameters"],
    ) -> Fit:
        """Fit with what the cache holds.

        Parameters
        ----------
        stage
            What is fitted.
        theta
            Where to start.
        target
            The rows to reach.
        cache
            From `prepare` or a fit.
        momentum
            A guess of the change; used by solvers with momentum.
        """

    @abc.abstractmethod
    def finish(
        self,
        stage: StageMap,
        theta: Float[Array, " parameters"],
        target: Float[Array, " rows"],
        cache: Any,
        momentum: Float[Array, " parameters"],
        tolerance: Float[Array, ""],
        size: Float[Array, ""],
    ) -> Fit:
        """Fit well, renew the cache, and try again where the residual is above a tolerance.

        Parameters
        ----------
        stage, theta, target, cache, momentum
            As in `improve`.
        tolerance
            The most the L2 norm of the residual should be; infinite if there is none.
        size
            L2 norm of the step's change.
        """

    @abc.abstractmethod
    def refit(
        self,
        stage: StageMap,
        fit: Fit,
        target: Float[Array, " rows"],
        tolerance: Float[Array, ""],
        size: Float[Array, ""],
    ) -> Fit:
        """Go on with a fit of `improve` whose residual is above a tolerance.

        Parameters
        ----------
        stage, target, tolerance, size
            As in `finish`.
        fit
            What was found.
        """


class FactorCache(eqx.Module):
    """A factor, the damping in it and the parameters where it was made.

    With the last two it can be made again: a checkpoint stores no factor.
    """

    factor: AbstractFactor
    rho: Array
    anchor: Array
    next_rho: Array


class DampedGaussNewton(AbstractInnerSolver):
    r"""Damped natural gradients with a factor that is used again.

    Parameters
    ----------
    rho
        Damping relative to unit columns; four times as much after a step that it failed, down to
        it again after those that it served.
    rho_min
        Its floor: less damping fits the points better and the function worse.
    chords
        Iterations with each factor, of a stage.
    refits
        The most further factors in a step whose residual is above the tolerance, with damping that
        adapts (Levenberg-Marquardt).
    fit_rtol
        The tolerance, relative to the step's change; an adaptive march asks for half of what its
        fits may miss instead.
    momentum
        :math:`\mu` of SPRING, below 1: each change is damped towards :math:`\mu` times the one
        before. For points that are drawn anew.
    form
        Which Gram matrix.
    linear_solver
        Of lineax; None is the Cholesky factorisation of the Gram matrix. `lineax.QR`, `SVD`,
        `LSMR` and `Normal` take the damped rows; others the Gram matrix of the parameters.

    Raises
    ------
    ValueError
        If a number is out of its range.

    Examples
    --------
    >>> DampedGaussNewton(rho=1e-7).rho
    1e-05
    """

    rho: float = eqx.field(static=True)
    rho_min: float = eqx.field(static=True)
    chords: int = eqx.field(static=True)
    refits: int = eqx.field(static=True)
    fit_rtol: float = eqx.field(static=True)
    momentum: float = eqx.field(static=True)
    form: GramForm = eqx.field(static=True)
    linear_solver: lx.AbstractLinearSolver | None

    def __init__(
        self,
        rho: float = 3e-5,
        *,
        rho_min: float = 1e-5,
        chords: int = 3,
        refits: int = 10,
        fit_rtol: float = 1e-3,
        momentum: float = 0.0,
        form: GramForm = GramForm.smaller,
        linear_solver: lx.AbstractLinearSolver | None = None,
    ):
        check_positive("rho", rho)
        check_non_negative("rho_min", rho_min)
        check_non_negative("momentum", momentum)
        check_positive("fit_rtol", fit_rtol)
        if not momentum < 1:
            raise ValueError(f"`momentum` must be below 1, got {momentum}.")
        if refits < 0:
            raise ValueError(f"`refits` must not be negative, got {refits}.")
        if not isinstance(form, GramForm):
            raise TypeError(f"`form` must be a member of GramForm, got {form!r}.")
        self.rho, self.rho_min = float(max(rho, rho_min)), float(rho_min)
        self.chords, self.refits = check_count("chords", chords), int(refits)
        self.fit_rtol, self.momentum = float(fit_rtol), float(momentum)
        self.form, self.linear_solver = form, linear_solver

    def factor(self, columns: Array, rho: Array) -> AbstractFactor:
        """Return the factor of a transposed Jacobian.

        Parameters
        ----------
        columns
            ``(parameters, rows)``.
        rho
            Damping.
        """
        return damped_factor(columns, rho, self.form, self.linear_solver)

    def prepare(self, stage: StageMap, theta: Array, cache: Any) -> FactorCache:
        """Return the factor at ``theta``."""
        rho = jnp.asarray(self.rho, theta.dtype) if cache is None else cache.next_rho
        return FactorCache(self.factor(stage.columns(theta), rho), rho, theta, rho)

    def pack(self, cache: Any) -> tuple[Array, Array, Array]:
        """Return the damping and the parameters of the factor."""
        return cache.rho, cache.anchor, cache.next_rho

    def unpack(self, stage: StageMap, packed: Any) -> FactorCache:
        """Return the cache with its factor."""
        rho, anchor, next_rho = packed
        return FactorCache(self.factor(stage.columns(anchor), rho), rho, anchor, next_rho)

    def improve(
        self, stage: StageMap, theta: Array, target: Array, cache: Any, momentum: Array
    ) -> Fit:
        """Iterate with the factor of the cache."""
        theta, rows = self._chords(stage, cache.factor, theta, target, momentum, self.chords)
        return Fit(theta, rows, cache)

    def finish(
        self,
        stage: StageMap,
        theta: Array,
        target: Array,
        cache: Any,
        momentum: Array,
        tolerance: Array,
        size: Array,
    ) -> Fit:
        """Iterate with the old factor and with a new one, which is kept."""
        rho = cache.next_rho
        theta, _ = self._chords(stage, cache.factor, theta, target, momentum, 2)
        anchor, factor = theta, self.factor(stage.columns(theta), rho)
        theta, rows = self._chords(stage, factor, theta, target, jnp.zeros_like(theta), self.chords)
        fit = Fit(theta, rows, FactorCache(factor, rho, anchor, rho))
        return self.refit(stage, fit, target, tolerance, size)

    def refit(self, stage: StageMap, fit: Fit, target: Array, tolerance: Array, size: Array) -> Fit:
        """Take steps with further factors, and choose the damping of the next one."""
        theta, rows, cache = fit.theta, fit.rows, fit.cache
        floor = _FLOOR * jnp.linalg.norm(stage.space.weigh_rows(target))
        own = jnp.maximum(self.fit_rtol * size, floor)
        tolerance = jnp.where(jnp.isfinite(tolerance), tolerance, own)
        served = jnp.linalg.norm(rows) <= tolerance
        rho = cache.rho
        most = max(self.rho, _RHO_MAX)
        next_rho = jnp.clip(jnp.where(served, rho / 2, rho * 4), self.rho, most)
        if self.refits > 0:
            theta, rows = self._damped_steps(stage, theta, target, rows, rho, tolerance)
        return Fit(theta, rows, FactorCache(cache.factor, rho, cache.anchor, next_rho))

    def _damped_steps(self, stage, theta, target, rows, rho, tolerance):
        """Take damped steps with fresh factors until the residual is below the tolerance."""

        def goes_on(state):
            i, _, rows, rho = state
            return (i < self.refits) & (jnp.linalg.norm(rows) > tolerance) & (rho < 1.0)

        def body(state):
            i, th, rows, rho = state
            direction = self.factor(stage.columns(th), rho).direction(rows)
            th, rows, size = _best_step(stage, th, target, rows, direction, _REFIT_SIZES)
            factor = jnp.where(size >= 0.5, 1 / 3, jnp.where(size >= 0.25, 1.0, 3.0))
            rho = jnp.maximum(rho * jnp.where(size > 0, factor, 10.0), self.rho)
            return i + 1, th, rows, rho

        state = (jnp.asarray(0), theta, rows, 10 * rho)
        return jax.lax.while_loop(goes_on, body, state)[1:3]

    def _chords(self, stage, factor, theta, target, change, n):
        """Return the parameters after ``n`` iterations, none of which raises the residual."""

        def body(_, state):
            th, r, change = state
            if self.momentum == 0:
                step = factor.direction(r)
            else:
                start = self.momentum * change
                step = start + factor.direction(r - start @ factor.columns)
            new, r_new, size = _best_step(stage, th, target, r, step, _CHORD_SIZES)
            return new, r_new, jnp.where(size > 0, size * step, jnp.zeros_like(step))

        start = (theta, stage.residual(theta, target), change)
        theta, rows, _ = jax.lax.fori_loop(0, n, body, start)
        return theta, rows


def _best_step(stage, theta, target, rows, direction, sizes):
    """Return parameters, rows and length of the best step; of none, if all raise the residual."""
    sizes = jnp.asarray(sizes, theta.dtype)
    tried = jax.vmap(lambda size: stage.residual(theta + size * direction, target))(sizes)
    squares = jnp.sum(tried**2, axis=1)
    squares = jnp.where(jnp.isfinite(squares), squares, jnp.inf)
    best = jnp.argmin(squares)
    is_better = squares[best] < jnp.sum(rows**2)
    size = jnp.where(is_better, sizes[best], jnp.zeros_like(sizes[0]))
    # Not a product with zero: the direction may not be finite.
    theta = jnp.where(is_better, theta + size * direction, theta)
    return theta, jnp.where(is_better, tried[best], rows), size


class RandomSubsets(AbstractInnerSolver):
    """The published inner solver: undamped least squares in a fresh random part of the parameters.

    It accepts every step. Kept for comparison: on small networks it stalls where
    `DampedGaussNewton` goes on.

    Parameters
    ----------
    size
        Parameters in a subset.
    iterations
        Subsets of a fit.
    seed
        Of the subsets.

    Examples
    --------
    >>> RandomSubsets(300).iterations
    5
    """

    size: int = eqx.field(static=True)
    iterations: int = eqx.field(static=True)
    seed: int = eqx.field(static=True)

    def __init__(self, size: int, *, iterations: int = 5, seed: int = 0):
        self.size = check_count("size", size)
        self.iterations = check_count("iterations", iterations)
        self.seed = int(seed)

    def prepare(self, stage: StageMap, theta: Array, cache: Any) -> Array:
        """Return the key of the next subset, as raw data."""
        if self.size > theta.size:
            raise ValueError(f"`size` is {self.size}, and there are {theta.size} parameters.")
        return jax.random.key_data(jax.random.key(self.seed)) if cache is None else cache

    def pack(self, cache: Any) -> Array:
        """Return the key."""
        return cache

    def unpack(self, stage: StageMap, packed: Any) -> Array:
        """Return the key."""
        del stage
        return jnp.asarray(packed, jnp.uint32)

    def improve(
        self, stage: StageMap, theta: Array, target: Array, cache: Any, momentum: Array
    ) -> Fit:
        """Take the steps of one fit."""
        del momentum

        def body(_, state):
            th, key = state
            key, now = jax.random.split(key)
            chosen = jax.random.choice(now, th.size, (self.size,), False)
            rows = stage.columns(th)[chosen].T
            step = jnp.linalg.lstsq(rows, stage.residual(th, target))[0]
            return th.at[chosen].add(step), key

        key = jax.random.wrap_key_data(cache)
        theta, key = jax.lax.fori_loop(0, self.iterations, body, (theta, key))
        return Fit(theta, stage.residual(theta, target), jax.random.key_data(key))

    def finish(
        self,
        stage: StageMap,
        theta: Array,
        target: Array,
        cache: Any,
        momentum: Array,
        tolerance: Array,
        size: Array,
    ) -> Fit:
        """Take the steps of one fit."""
        del tolerance, size
        return self.improve(stage, theta, target, cache, momentum)

    def refit(self, stage: StageMap, fit: Fit, target: Array, tolerance: Array, size: Array) -> Fit:
        """Return the fit: the published solver does not judge it."""
        del stage, target, tolerance, size
        return fit
