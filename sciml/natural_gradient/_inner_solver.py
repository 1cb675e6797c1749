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
    ) -> Fit:
        """Fit well, renew the cache, and try again where the residual is above a tolerance.

        Parameters
        ----------
        stage, theta, target, cache, momentum
            As in `improve`.
        tolerance
            L2 norm of the residual; infinite if there is none.
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
        Further factors in a step whose residual is above the tolerance: that of an adaptive march
        (half of its ``atol``), or ``fit_atol``.
    fit_atol
        L2 norm of a step's residual that is good enough.
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
    fit_atol: float | None = eqx.field(static=True)
    momentum: float = eqx.field(static=True)
    form: GramForm = eqx.field(static=True)
    linear_solver: lx.AbstractLinearSolver | None

    def __init__(
        self,
        rho: float = 3e-5,
        *,
        rho_min: float = 1e-5,
        chords: int = 3,
        refits: int = 1,
        fit_atol: float | None = None,
        momentum: float = 0.0,
        form: GramForm = GramForm.smaller,
        linear_solver: lx.AbstractLinearSolver | None = None,
    ):
        check_positive("rho", rho)
        check_non_negative("rho_min", rho_min)
        check_non_negative("momentum", momentum)
        if fit_atol is not None:
            check_positive("fit_atol", fit_atol)
        if not momentum < 1:
            raise ValueError(f"`momentum` must be below 1, got {momentum}.")
        if refits < 0:
            raise ValueError(f"`refits` must not be negative, got {refits}.")
        if not isinstance(form, GramForm):
            raise TypeError(f"`form` must be a member of GramForm, got {form!r}.")
        self.rho, self.rho_min = float(max(rho, rho_min)), float(rho_min)
        self.chords, self.refits = check_count("chords", chords), int(refits)
        self.fit_atol, self.momentum = fit_atol, float(momentum)
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
    ) -> Fit:
        """Iterate with the old factor and with a new one, which is kept."""
        rho = cache.next_rho
        theta, _ = self._chords(stage, cache.factor, theta, target, momentum, 2)
        anchor, factor = theta, self.factor(stage.columns(theta), rho)
        before = jnp.linalg.norm(stage.residual(theta, target))
        theta, rows = self._chords(stage, factor, theta, target, jnp.zeros_like(theta), 2)
        served = jnp.linalg.norm(rows) < before
        next_rho = jnp.clip(jnp.where(served, rho / 2, rho * 4), self.rho, _RHO_MAX)
        if self.fit_atol is not None:
            tolerance = jnp.asarray(self.fit_atol, theta.dtype)
        for _ in range(self.refits):
            theta, rows = jax.lax.cond(
                jnp.linalg.norm(rows) > tolerance, self._again, lambda _s, th, _t, r, _p: (th, r),
                stage, theta, target, rows, next_rho,
            )  # fmt: skip
        return Fit(theta, rows, FactorCache(factor, rho, anchor, next_rho))

    def _again(self, stage, theta, target, rows, rho):
        del rows
        factor = self.factor(stage.columns(theta), rho)
        return self._chords(stage, factor, theta, target, jnp.zeros_like(theta), 2)

    def _chords(self, stage, factor, theta, target, change, n):
        """Return the parameters after ``n`` iterations, none of which raises the residual."""

        def body(_, state):
            th, r, change = state
            if self.momentum == 0:
                step = factor.direction(r)
            else:
                start = self.momentum * change
                step = start + factor.direction(r - start @ factor.columns)
            new = th + step
            r_new = stage.residual(new, target)
            is_better = jnp.sum(r_new**2) < jnp.sum(r**2)
            return (
                jnp.where(is_better, new, th),
                jnp.where(is_better, r_new, r),
                jnp.where(is_better, step, jnp.zeros_like(step)),
            )

        start = (theta, stage.residual(theta, target), change)
        theta, rows, _ = jax.lax.fori_loop(0, n, body, start)
        return theta, rows


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
    ) -> Fit:
        """Take the steps of one fit."""
        del tolerance
        return self.improve(stage, theta, target, cache, momentum)
